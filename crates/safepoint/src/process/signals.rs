//! Sets of signals, and what this process does with signals now.

#![expect(
    unsafe_code,
    reason = "sigaction(2) and pthread_sigmask(3) work on memory that they are given"
)]

use std::mem::MaybeUninit;
use std::ptr;

/// A set of signals, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(u64);

impl SignalSet {
    /// The set with `signal` as well; a number that is no signal changes nothing.
    pub fn with(self, signal: i32) -> Self {
        Self(self.0 | bit(signal))
    }

    /// Whether `signal` is in the set.
    pub fn has(self, signal: i32) -> bool {
        self.0 & bit(signal) != 0
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The signals in it, ascending.
    pub fn iter(self) -> impl Iterator<Item = i32> {
        (1..=64).filter(move |signal| self.has(*signal))
    }

    /// The signals that this process ignores now. Ask before handlers are installed: what was ignored from the start a child is to ignore, too.
    pub fn ignored() -> Self {
        (1..=64).fold(Self::default(), |set, signal| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: with a null new action sigaction(2) only writes the current one into the memory given; zeroed memory is a valid `sigaction` where it fails.
            let action = unsafe {
                libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
                action.assume_init()
            };
            if action.sa_sigaction == libc::SIG_IGN {
                set.with(signal)
            } else {
                set
            }
        })
    }

    /// Blocks these signals on this thread, and on those that it starts from now on.
    ///
    /// A thread that blocks SIGTTOU may write to a terminal from the background, where it would be stopped otherwise. Source: termios(3), `TOSTOP`.
    pub fn block(self) {
        // SAFETY: the set is of this stack, and filled before it is read.
        unsafe {
            let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
            libc::sigemptyset(&raw mut set);
            for signal in self.iter() {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        }
    }

    /// The signals that are blocked on this thread now.
    pub fn blocked() -> Self {
        let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: with a null new mask pthread_sigmask(3) only writes the current one into the memory given; sigismember(3) reads it.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
            let mask = mask.assume_init();
            (1..=64)
                .filter(|signal| libc::sigismember(&raw const mask, *signal) == 1)
                .fold(Self::default(), Self::with)
        }
    }
}

fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).map_or(0, |place| 1_u64.checked_shl(place).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let set = SignalSet::default()
            .with(1)
            .with(64)
            .with(15)
            .with(0)
            .with(65);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 15, 64]);
        assert!(!set.has(0) && !set.has(65) && !set.has(-3));
    }

    #[test]
    fn rust_ignores_sigpipe() {
        assert!(SignalSet::ignored().has(libc::SIGPIPE));
    }
}
