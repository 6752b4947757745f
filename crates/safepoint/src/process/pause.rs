//! Ctrl-Z: the process stops itself after its children.

use rustix::process::{Signal, getpid, kill_process};

/// Stops this process until somebody continues it (`fg`, SIGCONT). Returns after that.
pub fn stop_self() {
    // SIGSTOP rather than SIGTSTP: our own handler for the latter would only be called again.
    let _ = kill_process(getpid(), Signal::STOP);
}
