//! The calls of this room that the compiler cannot check.

#![expect(
    unsafe_code,
    reason = "a descriptor known by its number only, a thread's signal mask, and signals without a name"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Signal;

/// A descriptor of our own for what `number` stands for; EBADF when that is nothing.
pub(super) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with these arguments touches no memory, and does nothing to the descriptor but to look whether there is one.
    let new = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl(2) has just made this descriptor, and nobody else has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Keeps the descriptor `number` to this process: programs that it starts do not get it.
pub(super) fn keep_from_children(number: RawFd) -> io::Result<()> {
    // SAFETY: fcntl(2) with these arguments touches no memory; the descriptor stays open, for whoever uses it.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets writes of this thread to a pipe without readers fail instead of ending the process, where SIGPIPE is not ignored anyway.
pub(super) fn block_sigpipe() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset(3) makes a valid set of the memory it is given, to which the next call adds a valid signal; the third call reads
    // it, and changes nothing but this thread's mask.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// The signal of this number: a named one, or one of those that programs give a meaning of their own (SIGRTMIN to SIGRTMAX).
pub(super) fn signal(number: i32) -> Option<Signal> {
    if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) {
        // SAFETY: the signal exists, and it is none of those that the C library keeps to itself: these are below its SIGRTMIN.
        return Some(unsafe { Signal::from_raw_unchecked(number) });
    }
    Signal::from_named_raw(number)
}
