//! Stop long-running work at any moment and go on exactly where it was.
//!
//! A *safepoint* is a place in a program where stopping loses nothing. This crate gives a batch of many items such places: each
//! item's result is durable the moment it is told, and whatever ends the program (Ctrl-C, SIGTERM, a limit, `kill -9`, a power cut),
//! the same call goes on with the items that are left. The command `safepoint run` is this crate with a terminal around it.
//!
//! # Example
//!
//! ```
//! use safepoint::job::{Definition, Delivery, Handle, JobPath, Options, Run, Unobserved, Untold, run};
//! use safepoint::shutdown::Shutdown;
//!
//! # fn main() -> safepoint::Result<()> {
//! # let directory = tempfile::tempdir().expect("a directory");
//! # let input = directory.path().join("words.txt");
//! # #[expect(clippy::disallowed_methods, reason = "an example's input")]
//! # std::fs::write(&input, "one\ntwo\n").expect("written");
//! # let state = directory.path().join(".safepoint");
//! let definition = Definition {
//!     inputs: vec![input],
//!     format: None,
//!     key_field: None,
//!     command: vec!["echo".into(), "{}".into()],
//!     delivery: Delivery::Arguments,
//! };
//! let shutdown = Shutdown::builder().install()?; // Ctrl-C and SIGTERM are stop requests from here on
//! let report = run(Run {
//!     path: &JobPath::new(&state, "words")?,
//!     definition: &definition,
//!     options: &Options::default(),
//!     handle: Handle::new(1)?,
//!     token: shutdown.token(),
//!     observer: &mut Unobserved,
//!     results: Box::new(Untold),
//! })?;
//! assert_eq!(report.counts.done, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module | what it owns |
//! |---|---|
//! | [`shutdown`] | stop requests, phases, signals; no files, no processes; always there |
//! | [`job`] | the runner: input, items, attempts, results (feature `job`, on by default) |
//! | [`queue`] | durable items in SQLite |
//! | [`process`] | children in groups, ended and reaped as groups |
//! | [`disk`] | the only room that touches the file system |
//! | [`clock`] | the only reader of time |
//!
//! Being asked to stop is an outcome, never an error. Errors are one type, [`Error`], to be decided on by [`ErrorKind`].
//!
//! # Guarantees
//!
//! 1. A result that was told survives a kill of the process and a power cut.
//! 2. An item has at most one result, written in one transaction with its acknowledgement.
//! 3. An attempt that a stop ended is neither done nor failed: its item runs again, uncounted.
//! 4. One process owns a job; the lock of a dead owner is free at once, and what it left running is ended first.
//! 5. State that cannot be read, or is of another job, is refused by kind; it is never a reason to begin anew.
//!
//! # Not guaranteed
//!
//! - That an attempt runs once: one that was running, or had ended within the last few milliseconds, when the process was killed runs
//!   again. Attempts get an idempotency key that stays the same for that reason.
//! - Anything on a disk that lies about its syncs.
//! - That a process which left its group *and* its session *and* cleared its environment is found after a `kill -9` of the runner.
//! - Any system but Linux (5.3 or later, for pidfds).
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | an item | 16 MiB ([`job::MAX_ITEM`]); a longer one is dead without being loaded |
//! | an item as one argument | 128 KiB (the kernel's) |
//! | standard output of an attempt that is kept | 1 MiB ([`job::MAX_OUTPUT`]), then a mark |
//! | standard error kept with a failure | the last 4 KiB ([`job::MAX_STDERR_TAIL`]) |
//! | a worker's answer | 16 MiB ([`job::MAX_ANSWER`]) |
//! | a job's name | 100 bytes of `[A-Za-z0-9._-]` ([`job::MAX_NAME`]) |
//! | results that wait for one sync | 4096, or 16 MiB |

#[cfg(not(target_os = "linux"))]
compile_error!("safepoint needs Linux: it relies on pidfds, epoll and /proc");

pub mod children;
pub mod clock;
#[cfg(feature = "job")]
pub mod disk;
mod error;
#[cfg(feature = "job")]
pub mod job;
#[cfg(feature = "tokio")]
pub mod on_tokio;
#[cfg(feature = "job")]
pub mod process;
#[cfg(feature = "job")]
pub mod queue;
pub mod shutdown;
#[cfg(feature = "systemd")]
pub mod systemd;

pub use error::{Error, ErrorKind, Result};
pub use shutdown::Shutdown;
