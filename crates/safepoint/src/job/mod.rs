//! The runner: input, items, workers, results.
//!
//! [`run`] takes a [`Definition`] (what decides the results) and [`Options`] (what decides the speed), and works until every item is
//! settled or a stop was carried out. The same call resumes a job. The state of a job is one directory ([`JobPath`]).
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
//! # Invariants
//!
//! 1. Nothing is changed before the definition and the input were checked against what the job knows of them.
//! 2. A result is told only after it is durable.
//! 3. When [`run`] returns, no child of it lives.
//!
//! Deliberately absent: the terminal, the environment and exit codes, which are the command's.

mod capture;
mod child_view;
mod control;
mod definition;
mod dispatcher;
mod durations;
mod events;
mod handle;
pub mod history;
mod in_progress;
mod input;
mod layout;
#[cfg(feature = "health")]
mod live;
mod notice;
mod options;
mod owner;
mod protocol;
mod publish;
mod report;
mod runner;
#[cfg(feature = "health")]
mod samples;
mod sink;
mod status;
mod status_object;
mod template;
mod wake;
mod work;

pub use crate::owner::Owner;
pub use capture::{MAX_OUTPUT, MAX_STDERR_TAIL};
pub use child_view::ChildView;
pub(crate) use control::Control;
pub use control::request_stop;
pub use definition::{Definition, Delivery, Format, quote};
pub use durations::Durations;
pub(crate) use events::Events;
pub use handle::{Gauge, Handle};
pub(crate) use in_progress::InProgressFile;
pub use in_progress::{Entry, InProgressView};
pub use input::{CHUNK_ITEMS, MAX_ITEM};
pub(crate) use layout::LOGS;
pub use layout::{JobPath, MAX_NAME};
#[cfg(feature = "health")]
pub use live::{Live, STATUS_SCHEMA};
pub use notice::{InProgress, Notice, Observer, Unobserved};
pub use options::{MaxFailures, Options, Order};
pub use owner::current_owner;
pub(crate) use owner::{move_aside, take as take_job};
pub use protocol::MAX_ANSWER;
pub use publish::component;
pub use report::{Outcome, Report};
pub use runner::{Run, preview, run};
pub use sink::{Done, ResultSink, Untold};
pub(crate) use status::gone;
pub use status::{Listed, Status, clean, list, retry, view};
pub use status_object::{Tally, rate};
