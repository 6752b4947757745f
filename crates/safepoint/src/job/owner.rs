//! Who owns a job now.

use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::layout::{JobPath, OWNER_LOCK};
use crate::clock::{Clock, rfc_3339, wall_ms};
use crate::disk::{LockAttempt, OwnerLock};
use crate::error::{Error, ErrorKind, Result};
use crate::process::is_alive;

/// How long the lock of a dead owner may stay held. A child that it was starting when it was killed shares its descriptors until the
/// command is executed, which on a busy machine takes a while. So when the lock is ours, all its children can be told by their
/// environment. Somebody who looks whether the job has an owner holds the lock for a moment, too.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the owner of a job says of itself in `owner.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Its process.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// When it took the job, RFC 3339.
    pub since: String,
    /// What the job is at: `running` or `paused_rate_limit`.
    pub status: String,
}

impl Owner {
    /// This process.
    pub(super) fn this_process() -> Self {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Self {
            pid: std::process::id(),
            host,
            since: rfc_3339(wall_ms()),
            status: "running".into(),
        }
    }

    /// Whether the process may still be at work; that of another host is taken to be. In a container that was started again, an
    /// earlier owner can have had our own number.
    fn is_alive(&self) -> bool {
        let us = Self::this_process();
        match i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            Some(pid) => self.host != us.host || (self.pid != us.pid && is_alive(pid)),
            None => false,
        }
    }

    fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

/// The job, taken for this process.
pub(super) struct Ownership {
    lock: OwnerLock,
    owner: Owner,
}

impl Ownership {
    /// Takes the job.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when a live process owns it: the message says which.
    pub(super) fn take(path: &JobPath) -> Result<Self> {
        let clock = Clock::start();
        let give_up_at = clock.now() + PATIENCE;
        loop {
            let owner = match OwnerLock::try_take(&path.dir().join(OWNER_LOCK))? {
                LockAttempt::Taken(mut lock) => {
                    let owner = Owner::this_process();
                    lock.describe(&serde_json::to_vec(&owner).unwrap_or_default())?;
                    return Ok(Self { lock, owner });
                }
                LockAttempt::Held(bytes) => Owner::parse(&bytes),
            };
            if owner.is_alive() || clock.now() >= give_up_at {
                return Err(Self::refusal(path, &owner));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The error for a job that has a live owner.
    pub(super) fn refusal(path: &JobPath, owner: &Owner) -> Error {
        Error::new(
            ErrorKind::Busy,
            format!(
                "job `{}` is owned by process {} on `{}` since {}",
                path.name, owner.pid, owner.host, owner.since
            ),
        )
        .with_hint(format!(
            "wait for it, or stop it with `safepoint stop {}`",
            path.name
        ))
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Says what the job is at, for `status`.
    pub(super) fn set_status(&mut self, status: &str) {
        status.clone_into(&mut self.owner.status);
        // Others see the old word for a while if this fails; the work does not depend on it.
        let _ = self
            .lock
            .describe(&serde_json::to_vec(&self.owner).unwrap_or_default());
    }
}

/// The live owner of a job, if it has one.
///
/// # Errors
///
/// [`ErrorKind::Io`] when the lock cannot be looked at.
pub fn current_owner(path: &JobPath) -> Result<Option<Owner>> {
    if !path.dir().join(OWNER_LOCK).exists() {
        return Ok(None);
    }
    Ok(match OwnerLock::try_take(&path.dir().join(OWNER_LOCK))? {
        LockAttempt::Taken(_) => None,
        LockAttempt::Held(bytes) => Some(Owner::parse(&bytes)),
    })
}
