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
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::{Mailbox, SIGNALS, Verdict};

/// How many shutdowns may have handlers at a time in one process.
pub(super) const POOL: usize = 32;

static MAILBOXES: [AtomicPtr<Mailbox>; POOL] = [const { AtomicPtr::new(ptr::null_mut()) }; POOL];

/// Handlers that may be looking at a mailbox right now.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// The function that was there before ours, 0 for none, and whether it takes three arguments.
static EARLIER: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];
static EARLIER_TAKES_THREE: [AtomicBool; SIGNALS] = [const { AtomicBool::new(false) }; SIGNALS];

static REGISTER: Mutex<Register> = Mutex::new(Register {
    signals: [const { None }; SIGNALS],
    replaced: [false; SIGNALS],
});

struct Register {
    signals: [Option<Taken>; SIGNALS],
    /// Another library took the signal while it was ours, and may call our handler from its own.
    replaced: [bool; SIGNALS],
}

/// A signal that is ours.
struct Taken {
    users: usize,
    before: libc::sigaction,
}

/// What became of the handlers at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let mut installed = Self {
            mailbox: Arc::clone(mailbox),
            place,
            signals: Vec::new(),
        };
        let mut register = register();
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
        // SeqCst, here and in the handler: either a handler sees the empty place, or it is seen here under way.
        let pointer = MAILBOXES[self.place].swap(ptr::null_mut(), Ordering::SeqCst);
        if std::process::id() != self.mailbox.pid() {
            // In a fork, a handler that was under way on another thread stays so for ever: the copy is left to the end of the process.
            return;
        }
        while UNDER_WAY.load(Ordering::SeqCst) != 0 {
            // A handler takes about a microsecond.
            std::thread::yield_now();
        }
        // SAFETY: the pointer came from `Arc::into_raw` in `install`; this swap took it out of the pool, and no handler that read it is
        // under way.
        drop(unsafe { Arc::from_raw(pointer) });
    }
}

fn register() -> MutexGuard<'static, Register> {
    REGISTER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Register {
    fn take(&mut self, signal: i32) -> io::Result<()> {
        let slot = slot(signal)?;
        if let Some(taken) = &mut self.signals[slot] {
            taken.users += 1;
            return Ok(());
        }
        let before = current(signal)?;
        let ours = handler();
        // A handler that replaced ours once may call ours: calling it in turn would never end.
        let is_callable = ![libc::SIG_DFL, libc::SIG_IGN, ours].contains(&before.sa_sigaction)
            && !self.replaced[slot];
        EARLIER_TAKES_THREE[slot].store(before.sa_flags & libc::SA_SIGINFO != 0, Ordering::Relaxed);
        // Release: pairs with the acquire in the handler, for the line above.
        EARLIER[slot].store(
            if is_callable { before.sa_sigaction } else { 0 },
            Ordering::Release,
        );
        // SAFETY: zeroed memory is a valid `sigaction`.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = ours;
        // As signal-hook and tokio do: interrupted system calls go on, and a small alternate stack is used where there is one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
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
        let is_ours = current(signal).is_ok_and(|action| action.sa_sigaction == handler());
        taken.users -= 1;
        if taken.users == 0 {
            let before = taken.before;
            self.signals[slot] = None;
            if is_ours {
                // It was accepted before; there is nothing else to do about a refusal.
                let _ = set(signal, &before);
                EARLIER[slot].store(0, Ordering::Release);
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
    UNDER_WAY.fetch_add(1, Ordering::SeqCst);
    let mut verdict = Verdict::Delivered;
    for place in &MAILBOXES {
        let mailbox = place.load(Ordering::SeqCst);
        // SAFETY: a pointer in the pool is of a live mailbox (invariant 2): it is dropped only after it was taken out and `UNDER_WAY` was 0.
        if let Some(mailbox) = unsafe { mailbox.as_ref() }
            && mailbox.deliver(signal) == Verdict::Default
        {
            verdict = Verdict::Default;
        }
    }
    UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    if verdict == Verdict::Default {
        // Async-signal-safe by its documentation.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    call_earlier(signal, info, context);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn call_earlier(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Ok(slot) = usize::try_from(signal) else {
        return;
    };
    let Some(earlier) = EARLIER.get(slot) else {
        return;
    };
    // Acquire: pairs with the release in `take`.
    let earlier = earlier.load(Ordering::Acquire);
    if earlier == 0 {
        return;
    }
    if EARLIER_TAKES_THREE[slot].load(Ordering::Relaxed) {
        type Three = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: sigaction(2) gave this address as a handler with SA_SIGINFO, which is a function of this type.
        let earlier = unsafe { mem::transmute::<usize, Three>(earlier) };
        earlier(signal, info, context);
    } else {
        // SAFETY: sigaction(2) gave this address as a handler without SA_SIGINFO, which is a function of this type.
        let earlier = unsafe { mem::transmute::<usize, extern "C" fn(libc::c_int)>(earlier) };
        earlier(signal);
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
