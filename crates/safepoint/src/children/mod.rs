//! Stopping other processes: the children of a program are told of its stop, as groups, and a child is told of its parent's.
//!
//! [`Children`] starts a `std::process::Command` and carries each phase of its token to the child, by signals and by a *stop descriptor*:
//! the read end of a pipe whose number is in the environment variable [`STOP_FD_VARIABLE`]. Any language can ask it with one poll(2) or
//! select(2), and it tells of the parent's death too, also by `kill -9`. [`Parent`] is the other side of it.
//!
//! | | while running | Draining | Terminating | `kill_after` later, or Stopped |
//! |---|---|---|---|---|
//! | stop descriptor | says nothing | readable | hang-up | |
//! | signal to the group | | the stop signal (SIGTERM) | SIGTERM | SIGKILL |
//!
//! The page "The stop descriptor" of the book has the protocol for authors of children.
//!
//! # Invariants
//!
//! 1. A child leads a process group of its own: the terminal's Ctrl-C reaches only us, and a signal to it reaches its children.
//! 2. A group is signalled only while its leader is unreaped, so that its number cannot be another's. Reaping and signalling are done under one lock.
//! 3. A child ends as a group: when its leader has ended, what is left of the group is killed, then the leader is reaped.
//! 4. The write end of a stop descriptor is close-on-exec from its first moment on, so no child keeps another's from hanging up.
//! 5. A child is tracked work: `finish` waits for it and names it; how it ended is known before the stop stops waiting for it.
//!
//! Lock order: the lock of the children, then the clock's; nothing of the caller's is called under either.
//!
//! # Not guaranteed
//!
//! - After a `kill -9` of the parent, and after the third stop signal, a child that looks at no stop descriptor lives on.
//!   `PR_SET_PDEATHSIG` is not used: it follows the thread that started the child, not the process, it does not reach grandchildren, and an exec of
//!   a set-user-ID program clears it. [`Children::kill_all`] is for [`Builder::last_act`](crate::shutdown::Builder::last_act).
//! - Each child costs two descriptors here, so the limit of open files is the limit of children.
//! - A process that leaves its group (setsid) gets no signals of ours. It keeps the stop descriptor, unless it closes it.
//! - A fork without exec, elsewhere in the program, copies the write ends: the hang-up then waits for that process too.
//! - If something else in the program waits for all children (`waitpid(-1)`), how a child ended is lost; [`Child::wait`] says so.
//!
//! Deliberately absent: files, the environment of this process, and anything from the job runner's `process`, which starts children by
//! the thousand and needs no descriptor for each.

mod child;
mod entry;
mod parent;
mod raw;
mod spawn;
mod stop_pipe;
mod watch;
mod watcher;

pub use child::Child;
pub use parent::Parent;
pub use spawn::{Children, DEFAULT_KILL_AFTER};
pub use stop_pipe::STOP_FD_VARIABLE;
pub use watch::Watch;
