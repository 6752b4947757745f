//! Whether the program's own checks hold.

use std::time::Duration;

use super::exposition::Exposition;
use super::kept::Kept;
use crate::shutdown::Ending;

/// A check of readiness.
#[derive(Debug)]
pub(super) struct Check {
    name: String,
    /// Why it fails, if it does.
    failure: Kept<Option<String>>,
}

impl Check {
    pub(super) fn new<R: Ending>(
        name: String,
        check: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self {
        Self {
            failure: Kept::new("check", move || check().failure()),
            name,
        }
    }
}

/// Whether all checks hold; those that are not fresh run at the same time, and one that takes longer than `limit` does not hold.
pub(super) async fn hold(checks: &[Check], limit: Duration) -> bool {
    for check in checks {
        check.failure.begin();
    }
    let all = async {
        for check in checks {
            if !matches!(check.failure.get(limit).await.as_deref(), Some(None)) {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(limit, all).await.unwrap_or(false)
}

/// How each check came out when it was last looked at; those that never were are left out.
pub(super) fn metrics(checks: &[Check], exposition: &mut Exposition) {
    let mut family = exposition.gauge("safepoint_check", "Whether a check of readiness held last.");
    for check in checks {
        if let Some(failure) = check.failure.last() {
            let holds = if failure.is_none() { 1.0 } else { 0.0 };
            family.value(&[("check", &check.name)], holds);
        }
    }
}
