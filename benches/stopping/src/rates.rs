//! The time of an operation that is far shorter than reading a clock.
//!
//! A loop around it is timed by the thread that runs it, once every thread has arrived: what is measured is two threads at the same
//! time, not one after the other, and not how threads are started.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::stopwatch::{thread_cpu_ns, wall_ns};
use crate::tools::{Check, Children, Tool, Units};

/// Enough that a thread has been given its shard, slot or cache by everyone who hands such things out.
const WARM_UP: u64 = 100;

/// The mean time of one operation on one thread, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// By the clock on the wall.
    pub wall_ns: f64,
    /// By the time that the thread had a processor: less while it waits for a lock in the kernel, so a tool cannot hide there.
    pub cpu_ns: f64,
}

/// Asks `times` whether to stop.
///
/// The loop ends at once if it is to, as such a loop does; the compiler can neither leave the check out nor take it once.
///
/// # Panics
///
/// When the tool says that a stop was asked for, which nobody has done.
#[inline(never)]
pub fn check<T: Check>(tool: &T, times: u64) {
    for _ in 0..times {
        assert!(!tool.is_stopping(), "nobody asked for a stop");
    }
}

/// Enters and leaves a unit `times`.
///
/// In between is what the compiler must take for work that reads and writes all memory others can reach: otherwise a counter that goes
/// up and down again could be left alone. The unit itself is shown to nobody, as in a program that only holds it.
///
/// See [`lent_unit`] for the other case.
#[inline(never)]
pub fn unit<T: Units>(tool: &T, times: u64) {
    for turn in 0..times {
        let unit = tool.enter();
        black_box(turn);
        T::leave(unit);
    }
}

/// As [`unit`], but the unit is lent to what happens in between, so that it has to be in memory and not only in registers.
#[inline(never)]
pub fn lent_unit<T: Units>(tool: &T, times: u64) {
    for _ in 0..times {
        let unit = tool.enter();
        black_box(&unit);
        T::leave(unit);
    }
}

/// Makes and drops a child `times`.
#[inline(never)]
pub fn child<T: Children>(tool: &T, times: u64) {
    for _ in 0..times {
        let child = tool.child();
        black_box(&child);
    }
}

/// Runs a loop of `times` on each of `threads`, which have a clone of the same tool each.
///
/// # Panics
///
/// When the loop does.
pub fn measure<T: Tool>(tool: &T, threads: u32, times: u64, run: fn(&T, u64)) -> Rate {
    let arrived = AtomicUsize::new(0);
    let expected = threads as usize;
    let one = |tool: T| {
        run(&tool, WARM_UP);
        // Relaxed: the meeting orders nothing but the start of the loops.
        arrived.fetch_add(1, Ordering::Relaxed);
        while arrived.load(Ordering::Relaxed) < expected {
            std::hint::spin_loop();
        }
        let (wall, cpu) = (wall_ns(), thread_cpu_ns());
        run(&tool, times);
        (wall_ns() - wall, thread_cpu_ns() - cpu)
    };
    let (wall, cpu) = thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|_| {
                let tool = tool.clone();
                scope.spawn(|| one(tool))
            })
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().expect("the loop runs to its end"))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    let operations = per(u64::from(threads) * times);
    Rate {
        wall_ns: per(wall) / operations,
        cpu_ns: per(cpu) / operations,
    }
}

/// How many operations last `sample_ns` on `threads`.
pub fn calibrate<T: Tool>(tool: &T, threads: u32, sample_ns: u64, run: fn(&T, u64)) -> u64 {
    const PILOT: u64 = 20_000;
    let pilot = measure(tool, threads, PILOT, run).wall_ns.max(0.01);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of operations, far below the limit"
    )]
    let times = (per(sample_ns) / pilot) as u64;
    times.max(1)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds and counts of a benchmark are far below 2^52"
)]
fn per(count: u64) -> f64 {
    count as f64
}
