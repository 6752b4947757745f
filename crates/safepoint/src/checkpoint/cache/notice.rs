//! What a cache tells while it works.

use std::fmt;
use std::path::PathBuf;

/// What a cache tells beside its results; each is a line of text, too.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// There was an entry that could not be used: damaged, unreadable, or of another type.
    ComputedAnew {
        /// Its key.
        key: String,
        /// Its file.
        path: PathBuf,
        /// Why, in one line.
        why: String,
    },
    /// A value was computed and returned, and could not be kept.
    NotKept {
        /// Its key.
        key: String,
        /// Why, in one line.
        why: String,
    },
    /// An entry could not be locked, so others may compute it as well.
    NotLocked {
        /// Its key.
        key: String,
        /// Why, in one line.
        why: String,
    },
    /// Entries that have to go could not be found or removed.
    NotEvicted {
        /// Why, in one line.
        why: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ComputedAnew { key, path, why } => {
                let (key, path) = (key.escape_debug(), path.display());
                write!(f, "`{key}` is computed anew, `{path}` is of no use: {why}")
            }
            Self::NotKept { key, why } => {
                write!(f, "`{}` is not kept: {why}", key.escape_debug())
            }
            Self::NotLocked { key, why } => write!(
                f,
                "`{}` may be computed by others, too, as it cannot be locked: {why}",
                key.escape_debug()
            ),
            Self::NotEvicted { why } => {
                write!(f, "the cache is larger than it may be: {why}")
            }
        }
    }
}
