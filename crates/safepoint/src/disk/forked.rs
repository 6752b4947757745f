//! Writes memory as it is now to a file, while the caller goes on changing it: a fork of this process has the same memory, copied page by
//! page only where somebody writes to it.
//!
//! What the child does is what POSIX allows after a fork in a program with threads: it computes, makes system calls, and leaves. It
//! allocates nothing, takes no lock, runs no destructor and hears no signal, and it ends by itself when its parent is gone.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, pidfd_open,
    pidfd_send_signal, waitid, waitpid,
};

use super::fresh::FreshFile;
use crate::error::{Error, ErrorKind, Result};

/// One write of the child: slices that follow each other in the file.
#[derive(Debug)]
pub struct ForkedWrite<'a> {
    /// Where the first slice goes, in bytes from the file's start.
    pub offset: u64,
    /// What goes there.
    pub slices: Vec<&'a [u8]>,
}

/// A child that writes a copy of memory.
#[derive(Debug)]
pub struct Forked {
    child: OwnedFd,
    board: Board,
    is_over: bool,
}

/// How far the child is: the number of writes that were made, and an error number; then a checksum for each write.
const HEAD: usize = 2;

/// Memory that the two processes share.
#[derive(Debug)]
struct Board {
    words: NonNull<AtomicU32>,
    count: usize,
}

#[expect(unsafe_code, reason = "it owns a mapping, as a box owns memory")]
// SAFETY: the mapping belongs to the value alone, and its words are atomic.
unsafe impl Send for Board {}
#[expect(unsafe_code, reason = "it owns a mapping, as a box owns memory")]
// SAFETY: as above.
unsafe impl Sync for Board {}

impl Board {
    fn new(count: usize) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "mmap(2) gives an address")]
        // SAFETY: the kernel chooses a place that nobody has; the pages hold zeros, which are atomics.
        let memory = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                count * size_of::<AtomicU32>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )?
        };
        let words = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { words, count })
    }

    fn words(&self) -> &[AtomicU32] {
        #[expect(unsafe_code, reason = "the mapping is a slice")]
        // SAFETY: the mapping has `count` words and lives as long as the value.
        unsafe {
            std::slice::from_raw_parts(self.words.as_ptr(), self.count)
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "munmap(2) takes an address")]
        // SAFETY: the mapping was made by `new` with this length, and nobody has a reference to it any more.
        let _ = unsafe {
            munmap(
                self.words.as_ptr().cast(),
                self.count * size_of::<AtomicU32>(),
            )
        };
    }
}

impl Forked {
    /// Forks, and lets the child make `writes` to `file`, computing `checksum` of what each one writes. `checksum` is called with the slices of
    /// a write in order, each with the sum so far, from 0; it must neither allocate nor lock nor panic.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when there can be no further process.
    pub fn begin(
        file: &FreshFile,
        writes: &[ForkedWrite<'_>],
        checksum: fn(u32, &[u8]) -> u32,
    ) -> Result<Self> {
        let cannot = |error: io::Error| {
            Error::new(ErrorKind::Io, "cannot fork to save a copy of memory").with_source(error)
        };
        let board = Board::new(HEAD + writes.len()).map_err(cannot)?;
        let parent = std::process::id();
        let forked = without_signals(|| {
            #[expect(unsafe_code, reason = "fork(2) is what this file is for")]
            // SAFETY: the child runs `child` only, which does what is allowed after a fork, and never returns.
            match unsafe { libc::fork() } {
                0 => child(file.file(), writes, checksum, &board, parent),
                -1 => Err(io::Error::last_os_error()),
                pid => Ok(pid),
            }
        });
        let pid = forked.map_err(cannot)?;
        let pid = Pid::from_raw(pid).ok_or_else(|| cannot(io::ErrorKind::Other.into()))?;
        let child = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| {
            // Without a descriptor nobody could wait for it. It is our child, so its number is still its own; one that is gone is gone.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            cannot(error.into())
        })?;
        Ok(Self {
            child,
            board,
            is_over: false,
        })
    }

    /// Waits for the child, and returns the checksum of each write.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when a write failed, or when the child was killed.
    pub fn finish(mut self) -> Result<Vec<u32>> {
        self.wait();
        let words = self.board.words();
        let sums = &words[HEAD..];
        match (
            words[0].load(Ordering::Acquire),
            words[1].load(Ordering::Acquire),
        ) {
            (_, error) if error != 0 => {
                let source = io::Error::from_raw_os_error(error.cast_signed());
                Err(Error::new(ErrorKind::Io, "cannot write a copy of memory").with_source(source))
            }
            (made, _) if made as usize == sums.len() => {
                Ok(sums.iter().map(|sum| sum.load(Ordering::Relaxed)).collect())
            }
            (made, _) => Err(Error::new(
                ErrorKind::Io,
                format!(
                    "the process that wrote a copy of memory ended after {made} of {} writes",
                    sums.len()
                ),
            )
            .with_hint("something killed it, for want of memory perhaps; save without a fork")),
        }
    }

    fn wait(&mut self) {
        while let Err(rustix::io::Errno::INTR) =
            poll(&mut [PollFd::new(&self.child, PollFlags::IN)], None)
        {}
        // Who reaps all children may have been faster.
        let _ = waitid(
            WaitId::PidFd(self.child.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
        self.is_over = true;
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if !self.is_over {
            // What it writes is not wanted any more.
            let _ = pidfd_send_signal(&self.child, Signal::KILL);
            self.wait();
        }
    }
}

/// Runs `work` with every signal blocked on this thread, so that a child begins with none that could reach it.
fn without_signals<T>(work: impl FnOnce() -> T) -> T {
    #[expect(
        unsafe_code,
        reason = "pthread_sigmask(3) works on memory that it is given"
    )]
    // SAFETY: both sets live on this stack; `before` is written before it is read, as the first call cannot fail with these arguments.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let result = work();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result
    }
}

/// The life of the child.
fn child(
    file: &File,
    writes: &[ForkedWrite<'_>],
    checksum: fn(u32, &[u8]) -> u32,
    board: &Board,
    parent: u32,
) -> ! {
    let words = board.words();
    for (number, write) in writes.iter().enumerate() {
        // The file has no name yet, so what nobody waits for is gone with us.
        if rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned())
            != parent
        {
            break;
        }
        let mut sum = 0;
        let mut at = write.offset;
        for slice in &write.slices {
            sum = checksum(sum, slice);
            if let Err(error) = put(file, slice, at) {
                words[1].store(error.cast_unsigned(), Ordering::Release);
                leave();
            }
            at += slice.len() as u64;
        }
        words[HEAD + number].store(sum, Ordering::Relaxed);
        words[0].fetch_add(1, Ordering::Release);
    }
    leave()
}

/// Writes all of a slice, or says the error's number.
fn put(file: &File, mut bytes: &[u8], mut at: u64) -> std::result::Result<(), i32> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(libc::EIO),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.raw_os_error()),
        }
    }
    Ok(())
}

fn leave() -> ! {
    #[expect(unsafe_code, reason = "std's exit runs what belongs to the parent")]
    // SAFETY: it never returns, and touches no memory.
    unsafe {
        libc::_exit(0)
    }
}
