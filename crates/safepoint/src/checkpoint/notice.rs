//! What a store tells while it works.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::metadata::Generation;

/// A generation that could not be loaded, so that an older one was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// What the state is called.
    pub name: String,
    /// Its number; for the end of a journal that cannot be read, the number that was expected there.
    pub generation: Generation,
    /// Why, as a sentence fragment.
    pub why: String,
    /// Where the file is now, if it was put aside.
    pub quarantined: Option<PathBuf>,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "generation {} of `{}` was skipped: {}",
            self.generation, self.name, self.why
        )?;
        match &self.quarantined {
            Some(path) => write!(f, " (now `{}`)", path.display()),
            None => Ok(()),
        }
    }
}

/// What a store tells while it works; each is a line of text, too.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A damaged generation was passed over.
    Skipped(Skipped),
    /// There was too little room for a save, so older generations were removed before their time.
    MadeRoom {
        /// What the state is called.
        name: String,
        /// What was removed.
        removed: Vec<Generation>,
    },
    /// A write failed, and the state is being written anew from memory.
    WritingAnew {
        /// What the state is called.
        name: String,
        /// The failure, in one line.
        why: String,
    },
    /// A generation that has to go could not be removed; the save itself is done.
    NotPruned {
        /// What the state is called.
        name: String,
        /// The failure, in one line.
        why: String,
    },
    /// A state of other settings was taken, because that was accepted.
    AcceptedChange {
        /// What differs, in one line.
        what: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(skipped) => skipped.fmt(f),
            Self::MadeRoom { name, removed } => {
                let removed: Vec<_> = removed.iter().map(Generation::to_string).collect();
                let removed = removed.join(", ");
                write!(
                    f,
                    "the disk is nearly full: removed generations {removed} of `{name}`"
                )
            }
            Self::WritingAnew { name, why } => {
                write!(f, "`{name}` is written anew after a failure: {why}")
            }
            Self::NotPruned { name, why } => {
                write!(
                    f,
                    "an old generation of `{name}` could not be removed: {why}"
                )
            }
            Self::AcceptedChange { what } => write!(f, "accepted: {what}"),
        }
    }
}

/// Who hears of notices.
pub(super) struct Observer<N = Notice>(Option<Arc<Tell<N>>>);

type Tell<N> = dyn Fn(&N) + Send + Sync;

impl<N> Observer<N> {
    pub(super) fn new(tell: impl Fn(&N) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(super) fn tell(&self, notice: &N) {
        if let Some(tell) = &self.0 {
            tell(notice);
        }
    }
}

impl<N> Default for Observer<N> {
    fn default() -> Self {
        Self(None)
    }
}

impl<N> Clone for Observer<N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<N> fmt::Debug for Observer<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Observer"
        } else {
            "nobody"
        })
    }
}
