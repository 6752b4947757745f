//! Stop long-running work at any moment and go on exactly where it was.
//!
//! A *safepoint* is a place in a program where stopping loses nothing. This crate gives programs such places:
//!
//! - [`shutdown`], alone with `default-features = false`: one tree of tokens for threads and futures, stop requests with their reasons, units that a
//!   stop waits for, ordered hooks within a grace period, and a report that names what held the stop up.
//! - [`job`] (feature `job`, on by default): a job of many items whose results are durable the moment they are told, so that whatever ends the
//!   program, the same call goes on with the items that are left. The command `safepoint run` is this with a terminal around it.
//! - [`checkpoint`] (feature `checkpoint`, on by default): large or small states saved as often as pays, the newest that is whole found again; and results
//!   of data preparation kept by key.
//! - [`health`] (feature `health`): what a program says of itself over HTTP: alive, ready, how far it is; and how it is asked to stop.
//! - [`steps`] (feature `steps`, on by default): named pieces of a program that run once, and effects that are not repeated by mistake.
//!
//! # Example
//!
//! ```
//! use safepoint::shutdown::{Order, Shutdown};
//!
//! # fn main() -> safepoint::Result<()> {
//! # let mut ledger = Vec::new();
//! let shutdown = Shutdown::builder()
//!     .hook(Order::Save, "ledger", |share| println!("{:?} left to save", share.remaining()))
//!     .install()?; // from here on SIGINT, SIGTERM and SIGHUP are stop requests
//! let token = shutdown.token();
//! for record in 0..1000 {
//!     let Some(unit) = token.unit("record") else { break }; // `None` once a stop was asked for
//!     ledger.push(record); // a stop that comes now waits for the end of the unit
//!     unit.commit();
//! }
//! let report = shutdown.finish(); // waits for units, runs the hooks, puts the signal handlers back
//! println!("{report}");
//! # assert_eq!(report.units.committed, 1000);
//! # Ok(())
//! # }
//! ```
//!
//! A first signal is a graceful request, a second one gives up what is in progress, a third one ends the process at once. That of a job of many items is in
//! [`job`]; programs with threads, rayon, tokio and axum, and a bare loop are in the repository's `examples/stopping`.
//!
//! # Map
//!
//! | module | what it owns | there |
//! |---|---|---|
//! | [`shutdown`] | tokens, units, hooks, tracked work, limits, signals, the report; no files, no processes | always |
//! | [`children`] | child processes that are told of a stop, and the other end of that line | always |
//! | [`clock`] | the only reader of time | always |
//! | [`systemd`] | `READY`, `STOPPING`, more time while units make progress, the watchdog | feature `systemd` |
//! | [`on_tokio`] | tracked spawning, `CancellationToken` in both directions | feature `tokio` |
//! | [`health`] | alive, ready, status, metrics and a stop over HTTP | feature `health` |
//! | [`job`] | the runner: input, items, attempts, results | feature `job` |
//! | [`supervise`] | one long process: its guard, the steps of its stop, restarts, limits | feature `job` |
//! | [`checkpoint`] | generations of state in files, the newest that is whole found after any crash; a [cache](checkpoint::cache) of results | feature `checkpoint` |
//! | [`steps`] | steps of a program that run once, effects that are not repeated by mistake | feature `steps` |
//! | [`queue`] | a durable [queue](Queue) of items with leases; the items and steps of jobs, in SQLite | feature `queue`, `job` or `steps` |
//! | [`process`] | children in groups, ended and reaped as groups | feature `job` |
//! | [`disk`] | the only room that touches the file system | feature `job` |
//!
//! Being asked to stop is an outcome, never an error. Errors are one type, [`Error`], to be decided on by [`ErrorKind`].
//!
//! # Guarantees
//!
//! Of a stop:
//!
//! 1. A unit is refused, or the stop waits for it: never neither. A unit that was not committed is rolled back, also by a panic.
//! 2. Phases only advance. A parent's request reaches every child, also those made later; a child's request never reaches its parent.
//! 3. No wake-up is lost: who waits for a phase is woken when it is reached, thread or future.
//! 4. A hook that hangs, fails or panics is named in the report and keeps none of those after it from running.
//! 5. A signal handler only touches atomics and writes to a descriptor. When the shutdown ends, the handlers that were there before are there again.
//! 6. The last rung of the ladder works also when the program's own code hangs on the thread that looks after the signals.
//!
//! Of a job:
//!
//! 7. A result that was told survives a kill of the process and a power cut.
//! 8. An item has at most one result, written in one transaction with its acknowledgement.
//! 9. An attempt that a stop ended is neither done nor failed: its item runs again, uncounted.
//! 10. One process owns a job; the lock of a dead owner is free at once, and what it left running is ended first.
//! 11. State that cannot be read, or is of another job, is refused by kind; it is never a reason to begin anew.
//!
//! Of checkpoints:
//!
//! 12. A state whose save returned survives a kill and a power cut. A crash in the middle leaves the old state or the new one, never neither.
//! 13. Nothing is returned that did not pass a checksum. What is damaged is passed over and told; when all is damaged, that is an error.
//! 14. A disk that fails or is full costs no earlier state than those that make room for a newer one, never the newest two, and the next save may succeed.
//! 15. One process writes a directory of checkpoints; any number may read it meanwhile.
//!
//! Of steps:
//!
//! 16. When a step returns a result, that result is durable, and is what every later run gets without running it.
//! 17. A step that was cut off, failed or panicked is not recorded. A name that is asked for twice in a run is refused before its body runs.
//! 18. The body of an effect begins after its intent is durable; in doubt it is repeated only if its author or a person said so.
//!
//! Of the [cache](checkpoint::cache):
//!
//! 19. Of all who ask for an entry at once, in threads and processes, one computes it. An error, a panic or a kill of that one leaves the entry to the next.
//! 20. What is returned passed every checksum and has the key and the fingerprint asked for; what does not is computed anew, and told.
//!
//! Of a [supervised command](supervise):
//!
//! 21. Nothing that it started outlives it, also when this process or its guard is killed.
//! 22. How it ended is passed on; after a stop request 0 is a success only if it said that it was done.
//!
//! Of [health] over HTTP:
//!
//! 23. `/health` answers as long as the process lives, whatever clients send and however long checks and the subject hang; the program is looked at once a second at most.
//! 24. `/ready` says 503 from the moment of the stop request on. A stop is carried out for this machine, or for who has the token, and never for a page of another origin.
//!
//! Of [items] of a program's own:
//!
//! 25. What a `sync` or the close returned for survives a kill and a power cut; a stop repeats nothing.
//! 26. An item that is done is never open again, and one that was dropped without a word is as it was. Results of other items are refused, not taken over.
//!
//! Of a [queue](Queue):
//!
//! 27. A push and an acknowledgement that returned survive a kill and a power cut. An item is acknowledged at most once, by the latest of its leases.
//! 28. An item whose consumer ended without saying so is claimed again, and is dead after its last attempt. What was claimed and not begun counts at most once.
//!
//! # Not guaranteed
//!
//! - That code which does not look is stopped: no thread is killed. What outlives the grace period is named and left behind, and ends with the process.
//! - That a forgotten unit (`mem::forget`) ever ends: the stop waits for it until its time is over.
//! - That a child token sees a signal at once: the root's flag is up before the handler returns, a child's some tens of microseconds later.
//! - Anything after a fork without exec but the flag; see [`Shutdown`].
//! - That an item of a queue is worked on once: one whose lease expired may be in two hands. Only one of them can acknowledge it.
//! - That an attempt of a job runs once: one that was running, or had ended within the last few milliseconds, when the process was killed runs again.
//!   Attempts get an idempotency key that stays the same for that reason.
//! - Anything on a disk that lies about its syncs.
//! - That a process which left its group *and* its session *and* cleared its environment is found after a `kill -9` of the runner.
//! - Any system but Linux (5.4 or later, for pidfds).
//!
//! # Beside other crates
//!
//! | | stops what | why | waits for | hooks | stuck work | signals | systems |
//! |---|---|---|---|---|---|---|---|
//! | [`shutdown`] | threads and futures, children | first request, all recorded | units that refuse entry, tracked work | ordered, within a grace period | named with age and thread | ladder, restored | Linux |
//! | `tokio-util` `CancellationToken`, `TaskTracker` | futures, children | | tracked tasks | | | | all |
//! | `swansong` | threads and futures, iterators, streams, readers, children | | guards | | by place, with age | | all |
//! | `async-shutdown` | futures | one reason of any type | delay tokens | | | | all |
//! | `tokio-graceful` | tokio tasks | | guards, with a limit | | | a future of your choice | all |
//! | `tokio-graceful-shutdown` | tokio subsystems, nested | first error | subsystems, with a limit | | | SIGINT, SIGTERM | all |
//! | `ctrlc`, `signal-hook` | | | | | | their subject | all, Unix |
//!
//! Take `tokio-util` when all you need is to stop futures: you have it already. `swansong` wraps streams, readers and writers so that they end by
//! themselves, contains no unsafe code, and runs everywhere. `signal-hook` handles any signal in any way; this crate uses it for the names and default actions of
//! signals. Take this one when a stop has reasons, an order, a deadline, and somebody who will ask what it was waiting for. The book's page on
//! benchmarks has all of them in one run.
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | shutdowns with handlers in one process | 32 |
//! | a unit's name that is kept | 40 bytes; units nested deeper than 8 on a thread count, but have no name |
//! | units in a report that held the stop up | the last 1000 |
//! | an item | 16 MiB (`job::MAX_ITEM`); a longer one is dead without being loaded |
//! | an item as one argument | 128 KiB (the kernel's) |
//! | standard output of an attempt that is kept | 1 MiB (`job::MAX_OUTPUT`), then a mark |
//! | standard error kept with a failure | the last 4 KiB (`job::MAX_STDERR_TAIL`) |
//! | a worker's answer | 16 MiB (`job::MAX_ANSWER`) |
//! | a job's name | 100 bytes of `[A-Za-z0-9._-]` (`job::MAX_NAME`) |
//! | results that wait for one sync | 4096, or 16 MiB |
//! | a key of a cache's entry, its fingerprint as JSON | 1000 bytes (`checkpoint::cache::MAX_KEY`), 64 KiB (`checkpoint::cache::MAX_FINGERPRINT`) |
//! | content of an item of a program's own that is kept whole, its result | 4 KiB (`items::MAX_CONTENT`), 16 MiB (`items::MAX_RESULT`) |
//! | a step's whole name, an effect's key | 200 bytes (`steps::MAX_NAME`) |
//! | connections of a server, streams of events | 256 (`health::MAX_CONNECTIONS`), 8 (`health::MAX_STREAMS`) |
//! | a request's line and headers, its body | 16 KiB and 32 headers within 2 s, 16 KiB within 5 s |
//! | a result of a step or effect, as JSON | 16 MiB (`steps::MAX_RESULT`) |
//! | a payload or result of a queue's item, its key | 16 MiB (`queue::MAX_PAYLOAD`), 1000 bytes (`queue::MAX_QUEUE_KEY`) |

#[cfg(not(target_os = "linux"))]
compile_error!("safepoint needs Linux: it relies on pidfds, epoll and /proc");

mod bell;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
pub mod children;
pub mod clock;
#[cfg(feature = "state")]
pub mod disk;
mod error;
#[cfg(feature = "health")]
pub mod health;
#[cfg(feature = "job")]
pub mod items;
#[cfg(feature = "job")]
pub mod job;
#[cfg(feature = "tokio")]
pub mod on_tokio;
#[cfg(any(feature = "job", feature = "checkpoint", feature = "steps"))]
#[cfg_attr(
    not(feature = "job"),
    expect(
        dead_code,
        unreachable_pub,
        reason = "only the runner looks at other owners and says what it is at"
    )
)]
mod owner;
#[cfg(feature = "job")]
pub mod process;
#[cfg(not(feature = "job"))]
mod process;
#[cfg(feature = "queue")]
pub mod queue;
pub mod shutdown;
#[cfg(feature = "steps")]
pub mod steps;
#[cfg(feature = "job")]
pub mod supervise;
#[cfg(feature = "systemd")]
pub mod systemd;

#[cfg(feature = "checkpoint")]
pub use checkpoint::CheckpointStore;
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "queue")]
pub use queue::Queue;
pub use shutdown::Shutdown;
#[cfg(feature = "steps")]
pub use steps::Steps;

/// The code of the README and of the book's page on embedding, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/src/guides/embedding.md")]
#[cfg_attr(feature = "checkpoint", doc = include_str!("../../../docs/src/guides/checkpoints.md"))]
#[cfg_attr(feature = "checkpoint", doc = include_str!("../../../docs/src/guides/cache.md"))]
#[cfg_attr(feature = "health", doc = include_str!("../../../docs/src/guides/http.md"))]
#[cfg_attr(feature = "queue", doc = include_str!("../../../docs/src/guides/queue.md"))]
#[cfg_attr(feature = "steps", doc = include_str!("../../../docs/src/guides/steps.md"))]
mod book {}
