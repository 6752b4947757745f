//! Who owns a job now.

use super::layout::JobPath;
use crate::disk::{self, StateDir};
use crate::error::{Error, Result};
use crate::owner::{self, Claim, OWNER_LOCK, Owner, Ownership};

/// Takes the job.
///
/// # Errors
///
/// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when a live process owns it: the message says which.
pub(crate) fn take(path: &JobPath) -> Result<Ownership> {
    match Ownership::take(&path.dir().join(OWNER_LOCK))? {
        Claim::Ours(ours) => Ok(ours),
        Claim::Theirs(owner) => Err(refusal(path, &owner)),
    }
}

/// The error for a job that has a live owner.
pub(super) fn refusal(path: &JobPath, owner: &Owner) -> Error {
    let hint = format!(
        "wait for it, or stop it with `safepoint stop {}`",
        path.name
    );
    owner.refusal(&format!("job `{}`", path.name), hint)
}

/// The live owner of a job, if it has one.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when the lock cannot be looked at.
pub fn current_owner(path: &JobPath) -> Result<Option<Owner>> {
    owner::current(&path.dir().join(OWNER_LOCK))
}

/// Moves the directory of a job to `<name>.previous`, in place of an earlier one, so that the job can begin anew. `before` is done while the old directory is ours.
///
/// # Errors
///
/// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when a live process owns it; [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be moved.
pub(crate) fn move_aside(
    path: &JobPath,
    before: impl FnOnce(&StateDir) -> Result<()>,
) -> Result<()> {
    let old = path.open()?;
    let owned = take(path)?;
    before(&old)?;
    let aside = path.root.join(format!("{}.previous", path.name));
    disk::remove_tree(&aside)?;
    disk::rename(old.path(), &aside)?;
    drop(owned);
    Ok(())
}
