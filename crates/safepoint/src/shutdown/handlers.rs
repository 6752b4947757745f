//! The process's signal handlers: one function for all signals, a fixed pool of mailboxes it delivers to, and what was there before.
//!
//! Not signal-hook's registry, because that one never gives a signal back: its handler stays when the last action is gone, and a shutdown that
//! ends must leave the process as it found it.
//!
//! Invariants:
//!
//! 1. The handler is async-signal-safe: it walks a static array of pointers and calls [`Mailbox::deliver`].
//! 2. A mailbox in the pool is alive: it is taken out first, and dropped only when no handler is under way any more.
//! 3. `REGISTER` is the only place that calls sigaction(2) for a signal that is not being delivered.
//!
//! A handler that was there before is called after ours (tokio's, Python's); `SIG_DFL` and `SIG_IGN` are replaced. When another library has put its
//! handler in the place of ours meanwhile, it is left there when we go, and [`Handlers::Replaced`] says so.

#![expect(
    unsafe_code,
    reason = "sigaction(2), the handler, and the pointers it reads are outside what the compiler can check"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::{Mailbox, SIGNALS, Verdict};

/// How many shutdowns may have handlers at a time in one process.
pub(super) const POOL: usize = 32;

static MAILBOXES: [AtomicPtr<Mailbox>; POOL] = [const { AtomicPtr::new(ptr::null_mut()) }; POOL];

/// Handlers that may be looking at a mailbox right now.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// The handler that was there before ours, if it was a function.
static EARLIER: [AtomicPtr<Earlier>; SIGNALS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS];

/// A handler of somebody else's. Never freed, for a handler of ours may be on its way to it; there is one for each time that a signal with such a handler is taken.
struct Earlier {
    address: usize,
    takes_three: bool,
}

/// Where the last arrival of each signal came from, as a number of [`Origin`].
static ORIGINS: [AtomicU8; SIGNALS] = [const { AtomicU8::new(0) }; SIGNALS];

/// Where a signal came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Another process, or not known.
    Process,
    /// The kernel: of SIGINT, SIGQUIT, SIGTSTP and SIGWINCH that means the terminal, which sends them to all processes of the group in its foreground. SIGHUP it sends
    /// to the leader of the session alone.
    Kernel,
    /// This process itself.
    Own,
}

/// Where the last arrival of a signal that a shutdown of this process listens to came from. Source: sigaction(2), `si_code` and `si_pid`.
pub fn last_origin(signal: i32) -> Origin {
    let slot = usize::try_from(signal).unwrap_or(SIGNALS);
    // Relaxed: a lone number; who was woken by the signal comes after the bell's system call.
    match ORIGINS
        .get(slot)
        .map(|origin| origin.load(Ordering::Relaxed))
    {
        Some(1) => Origin::Kernel,
        Some(2) => Origin::Own,
        _ => Origin::Process,
    }
}

/// How often each signal came to the handler, in this process and those that it was forked from.
static ARRIVALS: [AtomicU32; SIGNALS] = [const { AtomicU32::new(0) }; SIGNALS];

/// How often a signal has come to the handler of this library in this process, modulo 2³². A handler of another kind that runs after ours, as an interpreter's does, can tell
/// by it whether a signal was seen here: it is not, when something has set a handler since that does not call ours.
pub fn arrivals(signal: i32) -> u32 {
    let slot = usize::try_from(signal).unwrap_or(SIGNALS);
    // Relaxed: whoever was told of the signal by the handler that is called after ours comes after the count.
    ARRIVALS
        .get(slot)
        .map_or(0, |count| count.load(Ordering::Relaxed))
}

/// Whether the handler in force for a signal is ours.
fn has_handler(signal: i32) -> bool {
    // sigaction(2) is async-signal-safe.
    current(signal).is_ok_and(|action| action.sa_sigaction == handler())
}

static REGISTER: Mutex<Register> = Mutex::new(Register {
    signals: [const { None }; SIGNALS],
    replaced: [false; SIGNALS],
    pid: 0,
});

struct Register {
    signals: [Option<Taken>; SIGNALS],
    /// Another library took the signal while it was ours, and may call our handler from its own.
    replaced: [bool; SIGNALS],
    /// The process that the users are counted in: a fork begins anew.
    pid: u32,
}

/// A signal that is ours.
struct Taken {
    users: usize,
    before: libc::sigaction,
}

/// What became of the handlers at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handlers {
    /// There were none: the shutdown was built without signals.
    None,
    /// Those that were there before are there again.
    Restored,
    /// Another library had put its own in the place of ours for these signals; they were left there.
    Replaced(Vec<i32>),
}

/// A mailbox in the pool; dropping it puts everything back.
pub(super) struct Installed {
    mailbox: Arc<Mailbox>,
    place: usize,
    signals: Vec<i32>,
}

impl Installed {
    /// Puts `mailbox` into the pool and takes `signals`. An inherited ignored SIGHUP (nohup) is left alone.
    pub(super) fn install(mailbox: &Arc<Mailbox>, signals: &[i32]) -> io::Result<Self> {
        let pointer = Arc::into_raw(Arc::clone(mailbox)).cast_mut();
        let place = MAILBOXES.iter().position(|place| {
            // SeqCst: with `UNDER_WAY`, see `drop`.
            place
                .compare_exchange(
                    ptr::null_mut(),
                    pointer,
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                )
                .is_ok()
        });
        let Some(place) = place else {
            // SAFETY: the pointer came from `Arc::into_raw` above and was given to nobody.
            drop(unsafe { Arc::from_raw(pointer) });
            return Err(io::Error::other(format!(
                "{POOL} shutdowns have handlers in this process already"
            )));
        };
        forget_the_parents();
        let mut installed = Self {
            mailbox: Arc::clone(mailbox),
            place,
            signals: Vec::new(),
        };
        let mut register = register();
        register.come_here();
        for &signal in signals {
            if installed.signals.contains(&signal)
                || (signal == libc::SIGHUP && current(signal)?.sa_sigaction == libc::SIG_IGN)
            {
                continue;
            }
            register.take(signal)?;
            installed.signals.push(signal);
        }
        drop(register);
        Ok(installed)
    }

    /// Puts the earlier handlers back.
    pub(super) fn restore(mut self) -> Handlers {
        self.put_back()
    }

    fn put_back(&mut self) -> Handlers {
        let mut register = register();
        if register.pid != self.mailbox.pid() {
            // A fork's copy of its parent's, after the fork has installed one of its own.
            return Handlers::None;
        }
        let mut replaced = Vec::new();
        for signal in self.signals.drain(..) {
            if !register.give_back(signal) {
                replaced.push(signal);
            }
        }
        if replaced.is_empty() {
            Handlers::Restored
        } else {
            Handlers::Replaced(replaced)
        }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.put_back();
        if std::process::id() != self.mailbox.pid() {
            // In a fork the place may be another's by now, and a handler that was under way on another thread stays so for ever: the copy is left to the end of
            // the process.
            let ours = Arc::as_ptr(&self.mailbox).cast_mut();
            let _ = MAILBOXES[self.place].compare_exchange(
                ours,
                ptr::null_mut(),
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
            return;
        }
        // SeqCst, here and in the handler: either a handler sees the empty place, or it is seen here under way.
        let pointer = MAILBOXES[self.place].swap(ptr::null_mut(), Ordering::SeqCst);
        while UNDER_WAY.load(Ordering::SeqCst) != 0 {
            // A handler takes about a microsecond.
            std::thread::yield_now();
        }
        // SAFETY: the pointer came from `Arc::into_raw` in `install`; this swap took it out of the pool, and no handler that read it is
        // under way.
        drop(unsafe { Arc::from_raw(pointer) });
    }
}

/// Takes the mailboxes of the parent out of the pool of a fork: nobody there looks into them, and they have the default action done.
fn forget_the_parents() {
    let pid = std::process::id();
    let mut is_fork = false;
    for place in &MAILBOXES {
        let mailbox = place.load(Ordering::SeqCst);
        // SAFETY: a pointer in the pool is of a live mailbox (invariant 2); one of the parent's is never freed here.
        if unsafe { mailbox.as_ref() }.is_some_and(|mailbox| mailbox.pid() != pid) {
            is_fork = true;
            // Lost if its place was given to another meanwhile, which is then not the parent's.
            let _ = place.compare_exchange(
                mailbox,
                ptr::null_mut(),
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
        }
    }
    if is_fork {
        // Handlers that were under way on the parent's other threads stay so in the copy.
        UNDER_WAY.store(0, Ordering::SeqCst);
    }
}

fn register() -> MutexGuard<'static, Register> {
    REGISTER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Register {
    /// Forgets the users that only the parent has.
    fn come_here(&mut self) {
        let pid = std::process::id();
        if self.pid != pid {
            self.pid = pid;
            for taken in self.signals.iter_mut().flatten() {
                taken.users = 0;
            }
        }
    }

    fn take(&mut self, signal: i32) -> io::Result<()> {
        let slot = slot(signal)?;
        if let Some(taken) = &mut self.signals[slot]
            && taken.users > 0
        {
            taken.users += 1;
            return Ok(());
        }
        // Nobody's here, or a fork's copy of its parent's, which the fork may have replaced since.
        let before = match self.signals[slot].take() {
            Some(left_over) if has_handler(signal) => left_over.before,
            _ => current(signal)?,
        };
        let ours = handler();
        // A handler that replaced ours once may call ours: calling it in turn would never end.
        let is_callable = ![libc::SIG_DFL, libc::SIG_IGN, ours].contains(&before.sa_sigaction)
            && !self.replaced[slot];
        let earlier = is_callable.then(|| {
            Box::into_raw(Box::new(Earlier {
                address: before.sa_sigaction,
                takes_three: before.sa_flags & libc::SA_SIGINFO != 0,
            }))
        });
        // Release: pairs with the acquire in the handler, for what is pointed to.
        EARLIER[slot].store(earlier.unwrap_or(ptr::null_mut()), Ordering::Release);
        // SAFETY: zeroed memory is a valid `sigaction`.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = ours;
        // As signal-hook and tokio do, a small alternate stack is used where there is one, and interrupted system calls go on; unless the handler that is called
        // after ours was set to interrupt them: Python's would not be heard in a `read` otherwise.
        let restart = if is_callable {
            before.sa_flags & libc::SA_RESTART
        } else {
            libc::SA_RESTART
        };
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | restart;
        set(signal, &action)?;
        self.signals[slot] = Some(Taken { users: 1, before });
        Ok(())
    }

    /// Whether the signal's handler was still ours, or is still needed.
    fn give_back(&mut self, signal: i32) -> bool {
        let Ok(slot) = slot(signal) else { return true };
        let Some(taken) = &mut self.signals[slot] else {
            return true;
        };
        let is_ours = has_handler(signal);
        taken.users = taken.users.saturating_sub(1);
        if taken.users == 0 {
            let before = taken.before;
            self.signals[slot] = None;
            if is_ours {
                // It was accepted before; there is nothing else to do about a refusal.
                let _ = set(signal, &before);
                EARLIER[slot].store(ptr::null_mut(), Ordering::Release);
            } else {
                // The earlier handler is still called: the other library's may call ours.
                self.replaced[slot] = true;
            }
        }
        is_ours
    }
}

/// The address of our handler, as sigaction(2) wants it.
fn handler() -> libc::sighandler_t {
    handle as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the address of this thread's errno is always valid.
    let errno = unsafe { *libc::__errno_location() };
    note(signal, info);
    UNDER_WAY.fetch_add(1, Ordering::SeqCst);
    let mut verdict = Verdict::Nobody;
    for place in &MAILBOXES {
        let mailbox = place.load(Ordering::SeqCst);
        // SAFETY: a pointer in the pool is of a live mailbox (invariant 2): it is dropped only after it was taken out and `UNDER_WAY` was 0.
        if let Some(mailbox) = unsafe { mailbox.as_ref() } {
            verdict = verdict.max(mailbox.deliver(signal));
        }
    }
    UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    if verdict == Verdict::Default {
        die_by(signal);
    }
    let was_called = call_earlier(signal, info, context);
    if verdict == Verdict::Nobody && !was_called && is_left_behind(signal) {
        die_by(signal);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Notes that a signal came, and from where. Async-signal-safe.
fn note(signal: i32, info: *mut libc::siginfo_t) {
    /// `SI_KERNEL` of `<asm-generic/siginfo.h>`.
    const SI_KERNEL: libc::c_int = 0x80;
    let slot = usize::try_from(signal).unwrap_or(SIGNALS);
    // SAFETY: null, if another library's handler called ours without it, or what the kernel gave the handler.
    let info = unsafe { info.as_ref() };
    // SAFETY: the number of the sending process is there for this code.
    let sender = |info: &libc::siginfo_t| unsafe { info.si_pid() };
    let origin = match info {
        Some(info) if info.si_code == SI_KERNEL => 1,
        Some(info)
            if info.si_code == libc::SI_USER
                && sender(info).cast_unsigned() == std::process::id() =>
        {
            2
        }
        _ => 0,
    };
    if let Some(count) = ARRIVALS.get(slot) {
        // Relaxed: see `arrivals`.
        count.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(place) = ORIGINS.get(slot) {
        // Relaxed: see `last_origin`.
        place.store(origin, Ordering::Relaxed);
    }
}

/// Whether our handler is in force for `signal` though no shutdown has it: another library took the signal while it was ours, and gave it back to us after we
/// had gone. What the process would do without either of us is the default action.
fn is_left_behind(signal: i32) -> bool {
    has_handler(signal)
}

fn call_earlier(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) -> bool {
    let slot = usize::try_from(signal).unwrap_or(SIGNALS);
    let Some(earlier) = EARLIER.get(slot) else {
        return false;
    };
    // SAFETY: null, or a record that is never freed. Acquire: pairs with the release in `take`.
    let Some(earlier) = (unsafe { earlier.load(Ordering::Acquire).as_ref() }) else {
        return false;
    };
    if earlier.takes_three {
        type Three = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: sigaction(2) gave this address as a handler with SA_SIGINFO, which is a function of this type.
        let earlier = unsafe { mem::transmute::<usize, Three>(earlier.address) };
        earlier(signal, info, context);
    } else {
        // SAFETY: sigaction(2) gave this address as a handler without SA_SIGINFO, which is a function of this type.
        let earlier =
            unsafe { mem::transmute::<usize, extern "C" fn(libc::c_int)>(earlier.address) };
        earlier(signal);
    }
    true
}

/// Ends the process by `signal`'s default action; by SIGKILL where that is not to end it. Process 1 exits with 128 + `signal`. Async-signal-safe.
pub(super) fn die_by(signal: i32) {
    // SAFETY: zeroed memory is a valid `sigaction` and a valid set; with `SIG_DFL` no handler is installed. sigaction(2), sigprocmask(2) and raise(3) are
    // async-signal-safe, and the pointers are to locals.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
        libc::raise(signal);
        libc::raise(libc::SIGKILL);
        // Only process 1 of a PID namespace gets here: no signal of its own ends it.
        libc::_exit(128 + signal);
    }
}

fn slot(signal: i32) -> io::Result<usize> {
    let slot = usize::try_from(signal)
        .ok()
        .filter(|slot| (1..SIGNALS).contains(slot));
    slot.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// What the process does on `signal` now.
fn current(signal: i32) -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with a null new action, sigaction(2) only writes the current one into the memory given, which is large enough.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed memory is a valid `sigaction`, and the call has filled it in.
    Ok(unsafe { action.assume_init() })
}

fn set(signal: i32, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: `action` is either ours, whose handler is async-signal-safe, or one that the process had before.
    if unsafe { libc::sigaction(signal, action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets children be waited for: SIGCHLD inherited as ignored would have the kernel reap those whose end somebody waits for.
pub(super) fn unignore_sigchld() -> io::Result<()> {
    let mut action = current(libc::SIGCHLD)?;
    if action.sa_sigaction == libc::SIG_IGN {
        action.sa_sigaction = libc::SIG_DFL;
        set(libc::SIGCHLD, &action)?;
    }
    Ok(())
}
