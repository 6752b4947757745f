//! The life of the guard, and of the child until it is executed.

#![expect(
    unsafe_code,
    reason = "fork(2), execve(2) and what happens between them is what this file is for"
)]

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

use super::GuardedProgram;
use super::line::{Order, Said};
use crate::process::procfs::{self, is_own_proc, processes};
use crate::process::signals::SignalSet;

/// All that the guard needs, made before the fork.
pub(super) struct Start<'a> {
    pub(super) program: &'a GuardedProgram<'a>,
    pub(super) arguments: &'a [*const c_char],
    pub(super) environment: &'a [*const c_char],
    pub(super) line: RawFd,
    /// The parent's process group; 0 where that is another PID namespace's.
    pub(super) group: i32,
}

/// What tools show as the guard's name. Not the program's: who kills all processes of that name leaves the guard to clean up.
const NAME: &[u8] = b"guard\0";

/// How often a tree that is being killed is looked at.
const LOOK_MS: i32 = 5;

/// The process group of this process; 0 where that is another PID namespace's.
pub(super) fn own_group() -> i32 {
    // SAFETY: a system call without arguments.
    unsafe { libc::getpgrp() }
}

/// Forks the guard.
pub(super) fn fork(start: &Start<'_>) -> io::Result<Pid> {
    // SAFETY: both sets live on this stack. The fork runs `guard` only, which does what is allowed there, and never returns.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        // The guard begins with all signals blocked, so none of this process's handlers ever runs in it.
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = libc::fork();
        if pid == 0 {
            guard(start);
        }
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        if pid < 0 {
            return Err(error);
        }
        Pid::from_raw(pid).ok_or(error)
    }
}

/// The guard's life.
fn guard(start: &Start<'_>) -> ! {
    // SAFETY: system calls on numbers and on memory of this stack.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0);
        let leaves_group = start.program.own_group || start.group != 0;
        if leaves_group {
            // Who kills the group of the parent leaves the guard to clean up.
            libc::setpgid(0, 0);
        }
        let mut pipe = [0; 2];
        let us = libc::getpid();
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            fail(start.line, errno());
        }
        let child = libc::fork();
        if child == 0 {
            execute(start, us, pipe[1]);
        }
        if child < 0 {
            fail(start.line, errno());
        }
        if start.program.own_group {
            // The child does so, too: whoever comes first, it is done before a signal can be sent to the group.
            libc::setpgid(child, child);
        }
        libc::close(pipe[1]);
        let mut code = 0_i32;
        let read = libc::read(pipe[0], (&raw mut code).cast(), size_of::<i32>());
        if read == size_of::<i32>().cast_signed() {
            libc::waitpid(child, ptr::null_mut(), 0);
            fail(start.line, code);
        }
        let signals = signal_descriptor();
        if signals < 0 {
            let code = errno();
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, ptr::null_mut(), 0);
            fail(start.line, code);
        }
        // Nothing of the parent's stays open here, but the line (0) and the descriptor of signals (1).
        libc::dup2(start.line, 0);
        libc::dup2(signals, 1);
        close_from(2);
        let Some(child) = Pid::from_raw(child) else {
            leave()
        };
        say(0, Said::Started(child));
        Watch {
            child,
            own_group: start.program.own_group,
            is_alive: true,
            kills: false,
        }
        .keep()
    }
}

/// The child, until it is executed. A failure is an error number in the pipe.
unsafe fn execute(start: &Start<'_>, guard: i32, pipe: RawFd) -> ! {
    // SAFETY: as in `guard`; the arrays of pointers end with a null and outlive the call, for this is a copy of the caller's memory.
    unsafe {
        let program = start.program;
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != guard {
            leave();
        }
        // Out of the way of the number that the control descriptor gets.
        let pipe = libc::fcntl(pipe, libc::F_DUPFD_CLOEXEC, 16);
        if program.own_group {
            libc::setpgid(0, 0);
        } else if start.group != 0 {
            libc::setpgid(0, start.group);
        }
        let outputs = [(program.stdout, 1), (program.stderr, 2)];
        for (source, target) in outputs {
            if source.is_some_and(|source| libc::dup2(source.as_raw_fd(), target) < 0) {
                refuse(pipe);
            }
        }
        if let Some((control, number)) = program.control
            && !install(control, number)
        {
            refuse(pipe);
        }
        // What is caught becomes the default by the execution; what this process ignores does not.
        for signal in 1..=64 {
            let action = if program.ignored.has(signal) {
                libc::SIG_IGN
            } else {
                libc::SIG_DFL
            };
            libc::signal(signal, action);
        }
        set_mask(program.blocked);
        libc::execve(
            program.program.as_ptr(),
            start.arguments.as_ptr(),
            start.environment.as_ptr(),
        );
        refuse(pipe);
    }
}

/// Gives the child `control` under `number`, open over the execution.
unsafe fn install(control: BorrowedFd<'_>, number: RawFd) -> bool {
    // SAFETY: system calls on numbers.
    unsafe {
        if control.as_raw_fd() == number {
            libc::fcntl(number, libc::F_SETFD, 0) >= 0
        } else {
            libc::dup2(control.as_raw_fd(), number) >= 0
        }
    }
}

unsafe fn refuse(pipe: RawFd) -> ! {
    let code = errno();
    // SAFETY: writes four bytes of this stack.
    unsafe {
        libc::write(pipe, (&raw const code).cast(), size_of::<i32>());
    }
    leave()
}

/// The guard at work.
struct Watch {
    child: Pid,
    own_group: bool,
    /// The child is not reaped, so its number is its own.
    is_alive: bool,
    /// Everything is to be killed.
    kills: bool,
}

impl Watch {
    fn keep(mut self) -> ! {
        loop {
            if self.reap() {
                say(0, Said::Empty);
                leave();
            }
            if self.kills && self.kill() {
                say(0, Said::Empty);
                leave();
            }
            let wait = if self.kills { LOOK_MS } else { -1 };
            let mut asked = [descriptor(0), descriptor(1)];
            // SAFETY: the array is of this stack and has two entries. An error is taken as a look at everything.
            unsafe {
                libc::poll(asked.as_mut_ptr(), 2, wait);
            }
            if asked[1].revents != 0 {
                // What has ended is asked for above; here the descriptor only becomes quiet.
                drain(1);
            }
            if asked[0].revents != 0 {
                self.obey();
            }
        }
    }

    /// Reaps what has ended, and says whether nothing is left.
    fn reap(&mut self) -> bool {
        loop {
            let mut status = 0;
            // SAFETY: writes a number of this stack.
            let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            match ended {
                0 => return false,
                -1 if errno() == libc::EINTR => {}
                -1 => return true,
                pid if pid == self.child.as_raw_nonzero().get() => {
                    self.is_alive = false;
                    say(0, Said::Ended(status));
                }
                _ => {}
            }
        }
    }

    /// Carries out what was ordered. The end of the line is the end of the parent.
    fn obey(&mut self) {
        let mut bytes = [0_u8; 8];
        // SAFETY: reads at most eight bytes into this stack.
        let read = unsafe { libc::recv(0, bytes.as_mut_ptr().cast(), 8, libc::MSG_DONTWAIT) };
        if read != 8 {
            if read < 0 && [libc::EAGAIN, libc::EINTR].contains(&errno()) {
                return;
            }
            self.kills = true;
            return;
        }
        match Order::unpack(bytes) {
            Order::Child(signal) => self.signal_child(signal),
            Order::Group(signal) => self.signal_group(signal),
            Order::Tree(libc::SIGKILL) => self.kills = true,
            Order::Tree(signal) if is_own_proc() => {
                for pid in procfs::descendants_of(own_pid()) {
                    send(pid, signal);
                }
            }
            Order::Tree(signal) => signal_namespace(signal),
        }
    }

    fn signal_child(&self, signal: i32) {
        if self.is_alive {
            send(self.child, signal);
        }
    }

    fn signal_group(&self, signal: i32) {
        if self.own_group {
            if self.is_alive {
                // SAFETY: a system call on numbers; the group's leader is unreaped, so the number is the group's.
                unsafe {
                    libc::kill(-self.child.as_raw_nonzero().get(), signal);
                }
            }
            return;
        }
        self.signal_child(signal);
        // The group is our parent's as well: only what descends from the child is meant.
        let Some(group) = procfs::stat(self.child).map(|stat| stat.group) else {
            return;
        };
        for pid in procfs::descendants_of(own_pid()) {
            if pid != self.child && procfs::stat(pid).is_some_and(|stat| stat.group == group) {
                send(pid, signal);
            }
        }
    }

    /// Kills all direct children. What they leave behind becomes a direct child, and is killed in the next round. Says whether that is all that can be done.
    fn kill(&self) -> bool {
        if self.is_alive {
            if self.own_group {
                self.signal_group(libc::SIGKILL);
            }
            send(self.child, libc::SIGKILL);
        }
        if !is_own_proc() {
            signal_namespace(libc::SIGKILL);
            // Below another than process 1, what is left cannot be found.
            return !self.is_alive && !is_below_process_1();
        }
        let us = own_pid();
        for pid in processes() {
            if procfs::stat(pid).is_some_and(|stat| Pid::from_raw(stat.parent) == Some(us)) {
                // A child of ours that is not reaped: the number is its own.
                send(pid, libc::SIGKILL);
            }
        }
        false
    }
}

/// Signals all processes of this PID namespace but its first one and us, if the first one is our parent: then all of them end with it anyway.
fn signal_namespace(signal: i32) {
    if is_below_process_1() {
        // SAFETY: a system call on numbers.
        unsafe {
            libc::kill(-1, signal);
        }
    }
}

fn is_below_process_1() -> bool {
    // SAFETY: a system call without arguments.
    unsafe { libc::getppid() == 1 }
}

fn own_pid() -> Pid {
    rustix::process::getpid()
}

fn send(pid: Pid, signal: i32) {
    // SAFETY: a system call on numbers. Errors are that it is gone, or not ours to signal.
    unsafe {
        libc::kill(pid.as_raw_nonzero().get(), signal);
    }
}

fn descriptor(number: RawFd) -> libc::pollfd {
    libc::pollfd {
        fd: number,
        events: libc::POLLIN,
        revents: 0,
    }
}

/// A descriptor that is readable when a child has ended.
fn signal_descriptor() -> RawFd {
    // SAFETY: the set is of this stack, and filled before it is read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
    }
}

fn drain(number: RawFd) {
    let mut bytes = [0_u8; 1024];
    // SAFETY: reads into memory of this stack; the descriptor does not block.
    while unsafe { libc::read(number, bytes.as_mut_ptr().cast(), bytes.len()) } > 0 {}
}

fn set_mask(signals: SignalSet) {
    // SAFETY: the set is of this stack, and filled before it is read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals.iter() {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Closes every descriptor from `first` on.
fn close_from(first: libc::c_uint) {
    // SAFETY: nothing of this process's memory owns a descriptor that is used from here on. Before Linux 5.9 there is no such call.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) == 0 {
            return;
        }
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let end = libc::c_uint::try_from(limit.rlim_cur).unwrap_or(u32::MAX);
        for number in first..end.min(1 << 20) {
            libc::close(number.cast_signed());
        }
    }
}

fn say(line: RawFd, said: Said) {
    let bytes = said.pack();
    // SAFETY: sends eight bytes of this stack. Who is not there hears nothing.
    unsafe {
        libc::send(line, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL);
    }
}

fn fail(line: RawFd, code: i32) -> ! {
    say(line, Said::Failed(code));
    leave()
}

fn errno() -> i32 {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() }
}

fn leave() -> ! {
    // SAFETY: it never returns, and touches no memory: std's exit would run what belongs to the parent.
    unsafe { libc::_exit(0) }
}
