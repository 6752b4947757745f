//! A pool: rayon goes over many records; a stop lets those that were begun finish, begins no other, and says how many are left.
//!
//! `cargo run --release -p safepoint-examples --bin pool`, then Ctrl-C.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use safepoint::shutdown::Shutdown;

const RECORDS: u64 = 2_000_000;

fn main() -> safepoint::Result<ExitCode> {
    let shutdown = Shutdown::builder().install()?;
    let token = shutdown.token();

    println!("hashing {RECORDS} records; Ctrl-C stops");
    let sum = AtomicU64::new(0);
    let all = (0..RECORDS).into_par_iter().try_for_each(|record| {
        // `None` once a stop was asked for: no extra one begins.
        let unit = token.unit("record")?;
        sum.fetch_xor(hash(record), Ordering::Relaxed);
        unit.commit();
        Some(())
    });

    let report = shutdown.finish();
    println!("{report}");
    let hashed = report.units.committed;
    let left = RECORDS - hashed;
    println!(
        "{hashed} records hashed, {left} left; their sum is {:016x}",
        sum.into_inner()
    );
    Ok(ExitCode::from(if all.is_some() {
        0
    } else {
        report.exit_code()
    }))
}

/// Stands for the work.
fn hash(record: u64) -> u64 {
    (0..20_000).fold(record, |sum, step| {
        (sum ^ step).rotate_left(11).wrapping_mul(31)
    })
}
