//! Settings of a [`Health`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::answer::Health;
use super::check::Check;
use super::secret::Secret;
use super::subject::Subject;
use crate::shutdown::{Ending, ShutdownToken};

/// How long a check may take, unless told otherwise: less than the second after which Kubernetes gives a probe up.
pub const CHECK_LIMIT: Duration = Duration::from_millis(800);

/// Settings of a [`Health`]; see [`Health::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    pub(super) token: ShutdownToken,
    pub(super) checks: Vec<Check>,
    pub(super) check_limit: Duration,
    pub(super) subject: Option<Arc<dyn Subject>>,
    pub(super) access: Access,
}

impl Builder {
    pub(super) fn new(token: &ShutdownToken) -> Self {
        Self {
            token: token.clone(),
            checks: Vec::new(),
            check_limit: CHECK_LIMIT,
            subject: None,
            access: Access::default(),
        }
    }

    /// Adds a check of readiness: while it returns an error, panics or takes longer than the [limit](Self::check_limit), `/ready` says `not_ready`.
    ///
    /// It runs on a thread of its own when somebody asks, and not again for a second. One that hangs is not started again until it returns.
    pub fn check<R: Ending>(
        mut self,
        name: impl Into<String>,
        check: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Check::new(name.into(), check));
        self
    }

    /// How long all checks together may take. Default [`CHECK_LIMIT`].
    pub fn check_limit(mut self, limit: Duration) -> Self {
        self.check_limit = limit;
        self
    }

    /// Whom `/status` and `/metrics` are about. Without one they tell of the stop alone.
    pub fn subject(mut self, subject: Arc<dyn Subject>) -> Self {
        self.subject = Some(subject);
        self
    }

    /// The token that `POST /shutdown` needs, from wherever it comes. Without one it is refused to everybody but this machine.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.access.secret = Some(secret);
        self
    }

    /// Another name under which the server may be asked, besides `localhost` and any IP address; without a port.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.access.hosts.push(name.into());
        self
    }

    /// The health, [not ready](Health::set_ready) yet.
    pub fn build(self) -> Health {
        Health::new(self)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("checks", &self.checks)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
