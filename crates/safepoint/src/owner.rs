//! Who owns a directory of state now, and how it is taken.
//!
//! Invariants:
//!
//! 1. Of all live processes that ask for a directory, at most one has it; the kernel takes it from a dead one at once.
//! 2. Who is refused is told by whom; never by the name of one that has let go.

use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, rfc_3339, timespec, wall_ms};
use crate::disk::{LockAttempt, OwnerLock};
use crate::error::{Error, ErrorKind, Result};

/// The lock file of a directory of state.
pub(crate) const OWNER_LOCK: &str = "owner.lock";

/// How long the lock of a dead owner may stay held. A child that it was starting when it was killed shares its descriptors until the
/// command is executed, which on a busy machine takes a while. So when the lock is ours, all its children can be told by their
/// environment. Somebody who looks whether the directory has an owner holds the lock for a moment, too, and says nothing of itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the owner of a directory says of itself in `owner.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Its process.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// When it took the directory, RFC 3339.
    pub since: String,
    /// What it is at: `running`, or `paused_rate_limit` for a job.
    pub status: String,
}

impl Owner {
    /// This process.
    pub(crate) fn this_process() -> Self {
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

    /// False of one that has said nothing of itself yet, or only looks.
    fn is_known(&self) -> bool {
        self.pid != 0
    }

    fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// The error for `what` ("job `words`") that has this owner.
    pub(crate) fn refusal(&self, what: &str, hint: String) -> Error {
        let message = if self.is_known() {
            format!(
                "{what} is owned by process {} on `{}` since {}",
                self.pid, self.host, self.since
            )
        } else {
            format!("{what} is owned by a process that does not say who it is")
        };
        Error::new(ErrorKind::Busy, message).with_hint(hint)
    }
}

/// Whether there is such a process and it can still do something: the descriptor of a zombie is readable.
fn is_alive(pid: Pid) -> bool {
    pidfd_open(pid, PidfdFlags::empty()).is_ok_and(|process| {
        let mut asked = [PollFd::new(&process, PollFlags::IN)];
        matches!(poll(&mut asked, Some(&timespec(Duration::ZERO))), Ok(0))
    })
}

/// A directory, taken for this process until this value is dropped.
#[derive(Debug)]
pub(crate) struct Ownership {
    lock: OwnerLock,
    owner: Owner,
}

/// What asking for a directory led to.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is ours.
    Ours(Ownership),
    /// It belongs to a live process.
    Theirs(Owner),
}

impl Ownership {
    /// Takes the directory whose lock file is `lock`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the lock file cannot be made or written.
    pub(crate) fn take(lock: &Path) -> Result<Claim> {
        let clock = Clock::start();
        let give_up_at = clock.now() + PATIENCE;
        loop {
            let theirs = match OwnerLock::try_take(lock)? {
                LockAttempt::Taken(mut lock) => {
                    let owner = Owner::this_process();
                    lock.describe(&serde_json::to_vec(&owner).unwrap_or_default())?;
                    return Ok(Claim::Ours(Self { lock, owner }));
                }
                LockAttempt::Held(bytes) => Owner::parse(&bytes),
            };
            if theirs.is_alive() || clock.now() >= give_up_at {
                return Ok(Claim::Theirs(theirs));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Says what the owner is at, for those who look.
    pub(crate) fn set_status(&mut self, status: &str) {
        status.clone_into(&mut self.owner.status);
        // Others see the old word for a while if this fails; the work does not depend on it.
        let _ = self
            .lock
            .describe(&serde_json::to_vec(&self.owner).unwrap_or_default());
    }
}

/// The live owner of the directory whose lock file is `lock`, if it has one.
///
/// # Errors
///
/// [`ErrorKind::Io`] when the lock cannot be looked at.
pub(crate) fn current(lock: &Path) -> Result<Option<Owner>> {
    if !lock.exists() {
        return Ok(None);
    }
    let clock = Clock::start();
    let give_up_at = clock.now() + PATIENCE;
    loop {
        let owner = match OwnerLock::try_take(lock)? {
            LockAttempt::Taken(_) => return Ok(None),
            LockAttempt::Held(bytes) => Owner::parse(&bytes),
        };
        // Another who looks, or an owner that is about to say who it is.
        if owner.is_known() || clock.now() >= give_up_at {
            return Ok(Some(owner));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who looks, and the file that an owner before them has let go of, which lives on.
    fn looked_at(folder: &tempfile::TempDir) -> (std::path::PathBuf, OwnerLock) {
        let path = folder.path().join(OWNER_LOCK);
        let taken = || match OwnerLock::try_take(&path).unwrap() {
            LockAttempt::Taken(lock) => lock,
            LockAttempt::Held(_) => panic!("nobody else has it"),
        };
        let mut before = taken();
        let lives_on = Owner {
            pid: std::os::unix::process::parent_id(),
            ..Owner::this_process()
        };
        assert!(lives_on.is_alive());
        before
            .describe(&serde_json::to_vec(&lives_on).unwrap())
            .unwrap();
        drop(before);
        let looking = taken();
        (path, looking)
    }

    #[test]
    fn who_asks_while_somebody_looks_gets_the_directory_and_is_not_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, looking) = looked_at(&folder);
        std::thread::scope(|threads| {
            let taking = threads.spawn(|| Ownership::take(&path).unwrap());
            let asking = threads.spawn(|| current(&path).unwrap());
            // It ends by one that looks; however late that is, none of them may have been told of the owner before.
            drop(looking);
            let taken = taking.join().unwrap();
            assert!(matches!(&taken, Claim::Ours(_)), "{taken:?}");
            let told = asking.join().unwrap();
            assert!(
                told.is_none_or(|owner| owner.pid == std::process::id()),
                "of an earlier owner"
            );
        });
    }

    #[test]
    fn who_looks_for_long_is_no_owner_that_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _looking) = looked_at(&folder);
        let Claim::Theirs(nobody) = Ownership::take(&path).unwrap() else {
            panic!("it is held");
        };
        let error = nobody.refusal("`words`", "wait".into());
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(
            error.to_string().contains("does not say who it is"),
            "{error}"
        );
    }
}
