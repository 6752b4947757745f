//! Job control: whether we have the terminal, and Ctrl-Z, where the process stops itself after its children.

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Signal, getpid, kill_process};

/// Whether our process group is the one in the foreground of `terminal`. False of what is no terminal.
pub fn is_in_foreground(terminal: impl AsFd) -> bool {
    #[expect(
        unsafe_code,
        reason = "in a new PID namespace both numbers may be 0, which no safe function of ours gives"
    )]
    // SAFETY: system calls on numbers.
    unsafe {
        let foreground = libc::tcgetpgrp(terminal.as_fd().as_raw_fd());
        foreground >= 0 && foreground == libc::getpgrp()
    }
}

/// Stops this process until somebody continues it (`fg`, SIGCONT). Returns after that.
pub fn stop_self() {
    // SIGSTOP rather than SIGTSTP: our own handler for the latter would only be called again.
    let _ = kill_process(getpid(), Signal::STOP);
}
