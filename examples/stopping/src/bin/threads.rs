//! Threads: two producers, an intake of bounded size, three workers. A stop closes the intake, the workers empty it, and what they cannot is
//! handed back to be saved.
//!
//! `cargo run -p safepoint-examples --bin threads`, then Ctrl-C.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use safepoint::shutdown::{Drain, Order, Shutdown};

const CAPACITY: NonZeroUsize = NonZeroUsize::new(64).expect("more than none");

fn main() -> safepoint::Result<ExitCode> {
    let (saved, to_save) = std::sync::mpsc::channel();
    let shutdown = Shutdown::builder()
        .grace(Duration::from_secs(10))
        .hook(Order::Save, "left-over orders", move |_| {
            let orders: Vec<u64> = to_save.try_iter().collect();
            println!(
                "{} orders left over, saved for the next start",
                orders.len()
            );
        })
        .install()?;
    let token = shutdown.token();
    let intake = Drain::new(&token, CAPACITY);

    let mut threads = Vec::new();
    for producer in 0..2u64 {
        let intake = intake.clone();
        let tracker = token.tracker(format!("producer {producer}"));
        threads.extend(tracker.thread(move |_| {
            let mut accepted = 0;
            loop {
                // Refused once a stop was asked for: the order is handed back.
                match intake.push(accepted * 2 + producer) {
                    Ok(()) => accepted += 1,
                    Err(refused) => return (accepted, refused.into_item()),
                }
            }
        })?);
    }
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let intake = intake.clone();
            std::thread::spawn(move || intake.serve(ship))
        })
        .collect();

    println!("shipping; Ctrl-C stops");
    token.wait();
    let drained = intake.finish(Duration::from_secs(5));
    let mut accepted = 0;
    let mut left_over = drained.left_over;
    for thread in threads {
        // A producer that panicked would have taken its last order with it.
        if let Ok((pushed, handed_back)) = thread.join() {
            accepted += pushed;
            left_over.push(handed_back);
        }
    }
    let unshipped = left_over.len();
    for order in left_over {
        // The hook that receives them lives until the finish.
        let _ = saved.send(order);
    }
    for worker in workers {
        // A worker function that panics ends its order, not its worker.
        let _ = worker.join();
    }
    let report = shutdown.finish();
    println!("{report}");
    println!(
        "{accepted} accepted, {} shipped, {} too large, {unshipped} left over",
        drained.done, drained.failed
    );
    Ok(ExitCode::from(report.exit_code()))
}

/// Stands for the work. An error of one order does not end its worker.
fn ship(order: u64) -> Result<(), String> {
    let parcel = (0..200_000).fold(order, |sum, step| (sum ^ step).rotate_left(9));
    if parcel % 1000 == 0 {
        return Err(format!("order {order} does not fit"));
    }
    Ok(())
}
