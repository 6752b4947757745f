//! The asymmetric barrier between entering a unit and asking whether any is open.
//!
//! Who enters a unit stores "I am in" and then loads the phase; who stops stores the phase and then loads "is anybody in". For at least one
//! of the two to see the other, each needs its store ordered before its load: a full barrier on both sides. Entering happens millions
//! of times for each stop, so the price moves to the stop: [`light`] holds back the compiler only, and [`heavy`] has the kernel run a full
//! barrier on every processor that runs a thread of this process (`membarrier(2)`, `PRIVATE_EXPEDITED`, Linux 4.14). Where the
//! kernel or a sandbox refuses that, `light` becomes a full fence too.
//!
//! In the models both are sequentially consistent fences, which is what `membarrier(2)` documents the pair to amount to; the litmus test
//! below tries the real pair on the real processor, next to a control that has no barrier.
//!
//! Sources: membarrier(2); P1202, "Asymmetric Fences" (ISO C++ committee).

#![cfg_attr(
    not(safepoint_loom),
    expect(unsafe_code, reason = "membarrier(2) has no safe wrapper")
)]

use std::sync::atomic::Ordering;

#[cfg(not(safepoint_loom))]
pub(super) use real::{heavy, light, prepare};

#[cfg(safepoint_loom)]
pub(super) use modelled::{heavy, light, prepare};

#[cfg(all(test, safepoint_loom))]
pub(super) use modelled::weakened;

/// What a full barrier is. Anything weaker orders a store before a later load for nobody; the models fail with it.
const FULL: Ordering = Ordering::SeqCst;

#[cfg(not(safepoint_loom))]
mod real {
    use super::FULL;
    use std::sync::atomic::{AtomicU8, Ordering, compiler_fence, fence};

    const UNKNOWN: u8 = 0;
    const ASYMMETRIC: u8 = 1;
    const SYMMETRIC: u8 = 2;

    /// Which of the two ways this process goes; decided once, before the first unit.
    static WAY: AtomicU8 = AtomicU8::new(UNKNOWN);

    /// Decides for this process. Every tree calls it before its first unit can be entered.
    pub(in crate::shutdown) fn prepare() {
        // Relaxed: a second thread that does not see the decision makes the same one.
        if WAY.load(Ordering::Relaxed) != UNKNOWN {
            return;
        }
        let registered = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        let way = if registered && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
            ASYMMETRIC
        } else {
            SYMMETRIC
        };
        // Relaxed: a tree is handed to other threads by something that orders this store before.
        let _ = WAY.compare_exchange(UNKNOWN, way, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The frequent side: orders earlier stores before later loads, towards a thread that runs [`heavy`].
    #[inline]
    pub(in crate::shutdown) fn light() {
        if WAY.load(Ordering::Relaxed) == ASYMMETRIC {
            compiler_fence(FULL);
        } else {
            fence(FULL);
        }
    }

    /// The rare side: a full barrier here and on every processor that runs this process. About 1 µs on two processors.
    pub(in crate::shutdown) fn heavy() {
        fence(FULL);
        if WAY.load(Ordering::Relaxed) == ASYMMETRIC
            && !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
        {
            // A sandbox was entered meanwhile, or a fork lost the registration: registering again runs a barrier of its own.
            let registered = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
            if !(registered && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
                // From now on everybody pays; who is between its store and its load right now is given time to get past it.
                WAY.store(SYMMETRIC, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        fence(FULL);
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: membarrier(2) takes three integers and touches no memory of the caller's.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

#[cfg(safepoint_loom)]
mod modelled {
    use super::FULL;
    use crate::shutdown::sync::fence;
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    thread_local! {
        /// The strength of the frequent side; loom's threads are all on this one.
        static LIGHT: Cell<Ordering> = const { Cell::new(FULL) };
    }

    pub(in crate::shutdown) fn prepare() {}

    pub(in crate::shutdown) fn light() {
        fence(LIGHT.get());
    }

    pub(in crate::shutdown) fn heavy() {
        fence(FULL);
    }

    /// Runs `models` with a frequent side that orders its store before nobody's load: the control, which must fail.
    #[cfg(test)]
    pub(in crate::shutdown) fn weakened(models: impl FnOnce()) {
        LIGHT.set(Ordering::AcqRel);
        models();
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};

    /// How often the real pair is tried.
    const ROUNDS: u32 = 20_000;

    /// How often the control is tried at most; on x86 it fails about once in a thousand rounds, if both sides have a processor.
    const CONTROL: u32 = 50_000;

    /// Lets its two sides go on at the same time, as near as two processors get to it: they spin. `std`'s barrier lets them out one after the other.
    #[derive(Default)]
    struct Line([Arrived; 2]);

    /// Apart from the other's.
    #[derive(Default)]
    #[repr(align(128))]
    struct Arrived(AtomicU32);

    impl Line {
        fn wait(&self, side: usize, number: u32) {
            self.0[side].0.store(number, Ordering::SeqCst);
            let mut spins = 0u32;
            while self.0[1 - side].0.load(Ordering::SeqCst) < number {
                spins += 1;
                if spins.is_multiple_of(200) {
                    // The other side may be in need of this processor.
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// Store buffering: each of two threads stores its own flag and then loads the other's. Counts the rounds in which both saw nothing, and ends after
    /// `enough` of them.
    fn both_missed(rounds: u32, enough: u32, frequent: fn(), rare: fn()) -> u32 {
        let flags = [const { Arrived(AtomicU32::new(0)) }; 2];
        let seen = [const { Arrived(AtomicU32::new(0)) }; 2];
        let line = Line::default();
        let side = |side: usize, barrier: fn()| {
            let mut missed = 0;
            for round in 1..=rounds {
                line.wait(side, 3 * round);
                // The two may be apart by some nanoseconds; one waits a little longer from round to round, to meet the other.
                for _ in 0..(round % 64) * u32::from(side == 0) {
                    std::hint::black_box(round);
                }
                flags[side].0.store(round, Ordering::Relaxed);
                barrier();
                let saw = flags[1 - side].0.load(Ordering::Relaxed);
                seen[side].0.store(saw, Ordering::Relaxed);
                line.wait(side, 3 * round + 1);
                let neither = seen
                    .iter()
                    .all(|saw| saw.0.load(Ordering::Relaxed) != round);
                missed += u32::from(neither);
                line.wait(side, 3 * round + 2);
                if missed == enough {
                    break;
                }
            }
            missed
        };
        std::thread::scope(|scope| {
            scope.spawn(|| side(0, frequent));
            side(1, rare)
        })
    }

    #[test]
    fn one_of_the_two_sides_always_sees_the_other() {
        prepare();
        assert_eq!(both_missed(ROUNDS, u32::MAX, light, heavy), 0);
        // The controls: what this would say if there were no barrier, and if the rare side had one for itself only. On one processor, or on busy
        // ones where the two sides hardly ever run at once, they say nothing; the models have a control that always fails.
        let none = || compiler_fence(FULL);
        for rare in [none, || fence(FULL)] {
            if both_missed(CONTROL, 1, none, rare) == 0 {
                skipped("the control of the litmus test showed nothing here");
            }
        }
    }

    #[expect(clippy::print_stderr, reason = "a test that was not run says so")]
    fn skipped(why: &str) {
        eprintln!("skipped: {why}");
    }
}
