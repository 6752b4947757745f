//! From a request to the first and the last of many async tasks that wait for it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;

use tokio::runtime::Handle;

use crate::stopwatch::{process_evictions, thread_cpu_ns, wall_ns};

/// What one request did.
#[derive(Clone, Copy, Debug)]
pub struct Woken {
    /// From just before the request until the first of them ran.
    pub first_ns: u64,
    /// Until the last of them ran.
    pub last_ns: u64,
    /// What both threads computed until then: the one that asked, in asking, and the runtime's.
    pub cpu_ns: u64,
    /// No thread of this process had to leave its processor to somebody else meanwhile.
    pub is_undisturbed: bool,
}

#[derive(Default)]
struct Seen {
    waiting: AtomicUsize,
    woken: AtomicUsize,
    first_ns: AtomicU64,
}

/// Starts `count` of what `stopping` makes on a runtime of one thread, lets all of them wait and the thread go to sleep, and then asks for
/// the stop from the calling one.
///
/// Each thread reads its own processor time: of a thread that runs elsewhere, the kernel only knows what it had at the last tick.
///
/// Only the first and the last of them read a clock, so that reading clocks is no part of the time.
///
/// # Panics
///
/// When the runtime ends before its tasks do.
pub fn woken<F>(
    runtime: &Handle,
    count: usize,
    mut stopping: impl FnMut() -> F,
    request: impl FnOnce(),
) -> Woken
where
    F: Future<Output = ()> + Send + 'static,
{
    let seen = Arc::new(Seen::default());
    let (tell, told) = mpsc::channel();
    for _ in 0..count {
        let (seen, tell) = (Arc::clone(&seen), tell.clone());
        let stopping = stopping();
        runtime.spawn(async move {
            announced(stopping, &seen.waiting).await;
            // Relaxed: the channel orders the first one's time before the end.
            let before = seen.woken.fetch_add(1, Ordering::AcqRel);
            if before == 0 {
                seen.first_ns.store(wall_ns(), Ordering::Relaxed);
            }
            if before + 1 == count {
                // The other end waits for just this.
                let _ = tell.send((wall_ns(), thread_cpu_ns()));
            }
        });
    }
    while seen.waiting.load(Ordering::Relaxed) < count {
        std::thread::yield_now();
    }
    runtime.spawn(async move { tell.send((wall_ns(), thread_cpu_ns())) });
    let (_, cpu_before) = told.recv().expect("the runtime runs what is spawned");
    while !is_asleep(runtime) {
        std::thread::yield_now();
    }
    let evictions = process_evictions();
    let cpu_asking = thread_cpu_ns();
    let began = wall_ns();
    request();
    let cpu_asking = thread_cpu_ns() - cpu_asking;
    let (last, cpu_after) = told.recv().expect("the last one tells its time");
    let is_undisturbed = process_evictions() == evictions;
    // The first one may still be between its count and its clock.
    while seen.first_ns.load(Ordering::Relaxed) == 0 {
        std::hint::spin_loop();
    }
    Woken {
        first_ns: seen.first_ns.load(Ordering::Relaxed).saturating_sub(began),
        last_ns: last.saturating_sub(began),
        cpu_ns: cpu_asking + (cpu_after - cpu_before),
        is_undisturbed,
    }
}

/// Awaits `stopping`, and counts that it waits when it has been polled once.
async fn announced(stopping: impl Future<Output = ()>, waiting: &AtomicUsize) {
    let mut stopping = pin!(stopping);
    let mut is_counted = false;
    std::future::poll_fn(|context| {
        let poll = stopping.as_mut().poll(context);
        if poll == Poll::Pending && !is_counted {
            is_counted = true;
            waiting.fetch_add(1, Ordering::Relaxed);
        }
        poll
    })
    .await;
}

/// Whether every worker of the runtime is parked.
fn is_asleep(runtime: &Handle) -> bool {
    let metrics = runtime.metrics();
    // It counts up when a worker parks and when it wakes.
    (0..metrics.num_workers()).all(|worker| metrics.worker_park_unpark_count(worker) % 2 == 1)
}
