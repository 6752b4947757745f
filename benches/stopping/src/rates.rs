//! The time of an operation that is far shorter than reading a clock.
//!
//! A loop around it is timed by the thread that runs it, once every thread has arrived: not how threads are started.
//!
//! Two threads on a machine that is busy with other work run one after the other more often than at the same time, and then a lock or a
//! counter that they share costs next to nothing. So a figure counts only if it is [undisturbed](Rate::is_undisturbed), and is taken
//! again otherwise.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::stopwatch::{thread_cpu_ns, thread_evictions, wall_ns};
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
    /// All threads ran at the same time, but for a tenth at most, and none had to leave its processor to somebody else.
    pub is_undisturbed: bool,
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

/// As [`unit()`], but the unit is lent to what happens in between, so that it has to be in memory and not only in registers.
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

/// One thread's loop.
struct Timed {
    began: u64,
    ended: u64,
    cpu: u64,
    evictions: i64,
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
        let evictions = thread_evictions();
        let (began, cpu) = (wall_ns(), thread_cpu_ns());
        run(&tool, times);
        Timed {
            began,
            ended: wall_ns(),
            cpu: thread_cpu_ns() - cpu,
            evictions: thread_evictions() - evictions,
        }
    };
    let timed: Vec<Timed> = thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|_| {
                let tool = tool.clone();
                scope.spawn(|| one(tool))
            })
            .collect();
        let joined = started.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|timed| timed.expect("the loop runs to its end"))
            .collect()
    });
    let operations = count(u64::from(threads) * times);
    let first_began = timed.iter().map(|timed| timed.began).min().unwrap_or(0);
    let last_began = timed.iter().map(|timed| timed.began).max().unwrap_or(0);
    let first_ended = timed.iter().map(|timed| timed.ended).min().unwrap_or(0);
    let last_ended = timed.iter().map(|timed| timed.ended).max().unwrap_or(0);
    let together = first_ended.saturating_sub(last_began);
    Rate {
        wall_ns: count(timed.iter().map(|timed| timed.ended - timed.began).sum()) / operations,
        cpu_ns: count(timed.iter().map(|timed| timed.cpu).sum()) / operations,
        is_undisturbed: count(together) >= 0.9 * count(last_ended - first_began)
            && timed.iter().all(|timed| timed.evictions == 0),
    }
}

/// Takes the figure of a new tool again until it is undisturbed, or patience is over: then it is what it is.
pub fn measure_undisturbed<T: Tool>(threads: u32, times: u64, run: fn(&T, u64)) -> Rate {
    const PATIENCE: u32 = 100;
    // A new one each time, so that where in memory it happens to be does not decide.
    let mut rate = measure(&T::new(), threads, times, run);
    for _ in 1..PATIENCE {
        if rate.is_undisturbed {
            break;
        }
        rate = measure(&T::new(), threads, times, run);
    }
    rate
}

/// How many operations last `sample_ns` on `threads`.
pub fn calibrate<T: Tool>(threads: u32, sample_ns: u64, run: fn(&T, u64)) -> u64 {
    const PILOT: u64 = 5_000;
    let pilot = measure_undisturbed(threads, PILOT, run).wall_ns.max(0.01);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of operations, far below the limit"
    )]
    let times = (count(sample_ns) / pilot) as u64;
    times.max(1)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds and counts of a benchmark are far below 2^52"
)]
fn count(whole: u64) -> f64 {
    whole as f64
}
