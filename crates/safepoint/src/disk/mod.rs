//! The only room that touches the file system.
//!
//! Invariants:
//!
//! 1. A file that is replaced is old or new after a crash, never neither and never half ([`replace`]).
//! 2. A state directory is private to its user (0700, files 0600) and is opened without following a link.
//! 3. One process owns a directory at a time ([`OwnerLock`]); the lock of a dead owner is free at once.
//!
//! Deliberately absent: time, and any word of what the files mean.

mod append;
mod dir;
mod filesystem;
mod forked;
mod fresh;
mod input;
mod lock;
mod lock_file;
#[cfg(feature = "health")]
mod private;
mod random_access;
mod replace;
mod reserve;
#[cfg(feature = "health")]
mod socket;
mod stored;
mod turns;
mod watch;

pub use append::{AppendFile, RotatingLog};
pub use dir::{
    FileStatus, StateDir, is_link, list_dirs, list_files, modified_ms, remove_tree, size,
    status_of_files,
};
pub use filesystem::{FilesystemKind, free_bytes};
pub use forked::{Forked, ForkedWrite};
pub use fresh::{FreshFile, FreshWriter};
pub use input::{FileIdentity, InputFile, open_input};
pub use lock::{LockAttempt, OwnerLock};
pub use lock_file::LockFile;
#[cfg(feature = "health")]
pub use private::{make_private, read_private};
pub use random_access::RandomAccessFile;
pub use replace::{rename, replace, show, swap_into, sync_dir};
pub use reserve::Reserve;
#[cfg(feature = "health")]
pub use socket::NamedSocket;
pub use stored::StoredFile;
pub use turns::{Turn, Turns};
pub use watch::FileWatch;
