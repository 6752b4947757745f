//! A bare loop: counts words until it is done, a stop is asked for, or its time is over.
//!
//! `cargo run -p safepoint-examples --bin bare_loop -- 5` gives it five seconds; Ctrl-C stops it sooner.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::process::ExitCode;
use std::time::Duration;

use safepoint::shutdown::Shutdown;

fn main() -> safepoint::Result<ExitCode> {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let shutdown = Shutdown::builder().install()?;
    let token = shutdown.token();
    let limit = token.time_limit(Duration::from_secs(seconds.unwrap_or(60)))?;

    println!(
        "counting for {:.0} s at most; Ctrl-C stops sooner",
        limit.remaining().as_secs_f64()
    );
    let mut pages = 0u64;
    let mut words = 0u64;
    while let Some(unit) = token.unit("page") {
        // A stop that comes between these two lines waits: the two numbers always belong together.
        pages += 1;
        words += words_on(pages);
        unit.commit();
    }

    let report = shutdown.finish();
    println!("{report}");
    println!("{words} words on {pages} pages");
    Ok(ExitCode::from(report.exit_code()))
}

/// Stands for the work: some arithmetic on the page's number.
fn words_on(page: u64) -> u64 {
    (0..20_000).fold(page, |sum, word| (sum ^ word).rotate_left(7)) % 500
}
