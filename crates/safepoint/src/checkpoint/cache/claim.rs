//! An entry in two moves, for callers whose computation is no closure: one that suspends, or of another language.

use super::name::Wanted;
use super::turns::Turn;
use super::{Cache, Fingerprint};
use crate::checkpoint::loaded::{Checkpoint, Places, Target};
use crate::checkpoint::state::State;
use crate::clock::Clock;
use crate::disk::LockFile;
use crate::error::Result;

/// What asking for an entry led to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Claimed {
    /// It is there.
    Kept(Box<Checkpoint>),
    /// It is to be computed, by whoever has this.
    Ours(Claim),
    /// Somebody else computes it: ask again.
    Theirs,
}

/// The right to compute an entry. [`Cache::keep_claimed`] keeps what comes of it; dropped without, the next one who asks computes.
#[derive(Debug)]
pub struct Claim {
    wanted: Wanted,
    since: Clock,
    // In this order: the lock goes before the turn.
    _lock: Option<LockFile>,
    _turn: Turn,
}

impl Cache {
    /// Asks for an entry without waiting for others that compute it. `choose` picks the memory for its buffers, as in
    /// [`CheckpointReader::latest_with`](crate::checkpoint::CheckpointReader::latest_with); an error of it of kind
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) or [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) means that the entry is of no use, and
    /// it is computed anew.
    ///
    /// Who computes an entry and asks for that very entry meanwhile is told [`Claimed::Theirs`] for ever.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the key or the fingerprint is too long.
    ///
    /// # Cancel safety
    ///
    /// It does not wait. A claim that is dropped leaves nothing behind.
    pub fn claim<'t>(
        &self,
        key: &str,
        fingerprint: &Fingerprint,
        mut choose: impl FnMut(&Checkpoint) -> Result<Vec<Target<'t>>>,
    ) -> Result<Claimed> {
        let wanted = Wanted::new(key, fingerprint)?;
        let mut look = || {
            self.look(&wanted, |file| {
                self.read(file, &mut Places::Chosen(&mut choose))
            })
        };
        // What is wrong with it is told later, by the one who computes.
        if let Ok(Some(kept)) = look() {
            return Ok(Claimed::Kept(Box::new(kept)));
        }
        let Some(turn) = self.turns.try_take(&wanted) else {
            return Ok(Claimed::Theirs);
        };
        let lock = match LockFile::try_take(&self.place.lock(&wanted.name)) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Ok(Claimed::Theirs),
            Err(error) => {
                self.tell_not_locked(&wanted, &error);
                None
            }
        };
        match look() {
            Ok(Some(kept)) => return Ok(Claimed::Kept(Box::new(kept))),
            Ok(None) => {}
            Err(error) => self.tell_computed_anew(&wanted, &error),
        }
        Ok(Claimed::Ours(Claim {
            wanted,
            since: Clock::start(),
            _lock: lock,
            _turn: turn,
        }))
    }

    /// Keeps what was computed. A value that cannot be kept is told ([`Notice::NotKept`](super::Notice::NotKept)), and is no less a value.
    ///
    /// # Durability
    ///
    /// When this returns without a notice, the entry survives a kill and a power cut.
    pub fn keep_claimed(&self, claim: Claim, state: &State<'_>) {
        super::Counters::count(&self.counters.computed);
        self.keep_or_tell(&claim.wanted, Ok(state.clone()), &claim.since);
        drop(claim);
    }
}
