//! Steps recorded and skipped, beside SQLite alone and beside a file that is appended to and synced, in one run.
//!
//! The tools take turns in each round, in the same directory of one disk. `--short` makes one quick round, `--only TEXT`
//! leaves out what does not contain it, `--dir DIR` chooses the disk.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot work has to end"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;

use rusqlite::{Connection, params};
use safepoint::{Error, Steps};

const THREADS: usize = 8;

/// How often a tool does what it does in a round, and the seconds that this takes.
type Timed = (usize, f64);

struct Tool {
    what: &'static str,
    unit: Unit,
    run: fn(&Path, usize) -> Timed,
    /// A full round; a short one does a hundredth.
    count: usize,
    rates: Vec<f64>,
}

#[derive(Clone, Copy)]
enum Unit {
    PerSecond,
    Microseconds,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut rounds, mut divisor, mut disk) = (5, 1, std::env::temp_dir());
    let mut only = String::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--short" => (rounds, divisor) = (1, 100),
            "--only" => only = arguments.next().unwrap_or_default(),
            "--dir" => disk = PathBuf::from(arguments.next().unwrap_or_default()),
            _ => {} // `cargo bench` adds `--bench`
        }
    }
    let tool = |what, unit, run, count| Tool {
        what,
        unit,
        run,
        count,
        rates: Vec::new(),
    };
    let mut tools = [
        tool(
            "steps, 8 threads",
            Unit::PerSecond,
            |place, count| steps(place, count, THREADS),
            40_000,
        ),
        tool(
            "steps, 1 thread",
            Unit::PerSecond,
            |place, count| steps(place, count, 1),
            4_000,
        ),
        tool(
            "SQLite alone, 1 thread, one commit a row",
            Unit::PerSecond,
            |place, count| sqlite(place, count, 1),
            4_000,
        ),
        tool(
            "SQLite alone, 1 thread, 8 rows a commit",
            Unit::PerSecond,
            |place, count| sqlite(place, count, 8),
            32_000,
        ),
        tool(
            "SQLite alone, 1 thread, 1000 rows a commit",
            Unit::PerSecond,
            |place, count| sqlite(place, count, 1000),
            200_000,
        ),
        tool(
            "a file, 1 thread, one fdatasync a line",
            Unit::PerSecond,
            |place, count| file(place, count, 1),
            4_000,
        ),
        tool(
            "a file, 1 thread, one fdatasync for 8 lines",
            Unit::PerSecond,
            |place, count| file(place, count, 8),
            32_000,
        ),
        tool(
            "steps, complete already, 1 thread",
            Unit::Microseconds,
            |place, count| skip(place, count, 1),
            50_000,
        ),
        tool(
            "steps, complete already, 8 threads",
            Unit::Microseconds,
            |place, count| skip(place, count, THREADS),
            50_000,
        ),
    ];
    for round in 1..=rounds {
        for tool in tools.iter_mut().filter(|tool| tool.what.contains(&only)) {
            let place = tempfile::tempdir_in(&disk).unwrap();
            let count = (tool.count / divisor).max(THREADS);
            let (done, seconds) = (tool.run)(place.path(), count);
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = done as f64 / seconds;
            tool.rates.push(rate);
        }
        eprintln_round(round, rounds);
    }
    println!("| what | median | best of {rounds} |\n|---|---|---|");
    for tool in tools.iter_mut().filter(|tool| !tool.rates.is_empty()) {
        tool.rates.sort_by(f64::total_cmp);
        let (median, best) = (
            tool.rates[tool.rates.len() / 2],
            tool.rates[tool.rates.len() - 1],
        );
        let shown = |rate: f64| match tool.unit {
            Unit::PerSecond => format!("{rate:.0}/s"),
            Unit::Microseconds => format!("{:.1} µs", 1e6 / rate),
        };
        println!("| {} | {} | {} |", tool.what, shown(median), shown(best));
    }
}

fn eprintln_round(round: usize, rounds: usize) {
    // Nobody is left to tell where it cannot be written.
    let _ = writeln!(std::io::stderr(), "round {round} of {rounds}");
}

fn join(running: Vec<std::thread::ScopedJoinHandle<'_, ()>>) {
    for thread in running {
        thread.join().unwrap();
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

/// Each thread records steps of its own scope; a result is a small object, as programs have.
fn steps(place: &Path, count: usize, threads: usize) -> Timed {
    let steps = Steps::open(place.join("steps")).unwrap();
    let each = count / threads;
    let together = Barrier::new(threads + 1);
    let mut taken = 0.0;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (tier, together) = (steps.scope(format!("T{thread}")), &together);
                scope.spawn(move || {
                    together.wait();
                    for number in 0..each {
                        let body = || Ok::<_, Error>((number, "a result of some length"));
                        let owned = || body().map(|(number, text)| (number, text.to_owned()));
                        assert!(tier.step(format!("run-{number}"), owned).unwrap().is_some());
                    }
                })
            })
            .collect();
        together.wait();
        taken = seconds(|| join(running));
    });
    steps.close().unwrap();
    (each * threads, taken)
}

/// All steps are complete when the time begins.
fn skip(place: &Path, count: usize, threads: usize) -> Timed {
    const KEPT: usize = 2_000;
    let kept = KEPT.min(count);
    steps(place, kept / threads * threads, threads);
    let each = kept / threads;
    let (mut done, mut taken) = (0, 0.0);
    while done < count {
        let steps = Steps::open(place.join("steps")).unwrap();
        let together = Barrier::new(threads + 1);
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    let (tier, together) = (steps.scope(format!("T{thread}")), &together);
                    scope.spawn(move || {
                        together.wait();
                        for number in 0..each {
                            let never = || -> Result<(usize, String), Error> { unreachable!() };
                            assert!(tier.step(format!("run-{number}"), never).unwrap().is_some());
                        }
                    })
                })
                .collect();
            together.wait();
            taken += seconds(|| join(running));
        });
        done += each * threads;
        steps.close().unwrap();
    }
    (done, taken)
}

/// The names that eight threads would give, in turns.
fn name(number: usize) -> String {
    format!("T{}/run-{}", number % THREADS, number / THREADS)
}

fn sqlite(place: &Path, count: usize, rows: usize) -> Timed {
    let connection = Connection::open(place.join("alone.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;
             CREATE TABLE steps (name TEXT PRIMARY KEY, result TEXT NOT NULL) STRICT;",
        )
        .unwrap();
    let taken = seconds(|| {
        let mut insert = connection
            .prepare("INSERT INTO steps VALUES (?1, ?2)")
            .unwrap();
        let mut begin = connection.prepare("BEGIN IMMEDIATE").unwrap();
        let mut commit = connection.prepare("COMMIT").unwrap();
        for first in (0..count).step_by(rows) {
            begin.execute(()).unwrap();
            for number in first..(first + rows).min(count) {
                let row = params![name(number), "[0,\"a result of some length\"]"];
                insert.execute(row).unwrap();
            }
            commit.execute(()).unwrap();
        }
    });
    (count, taken)
}

fn file(place: &Path, count: usize, lines: usize) -> Timed {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(place.join("lines"))
        .unwrap();
    let taken = seconds(|| {
        for first in (0..count).step_by(lines) {
            let mut text = String::new();
            for number in first..(first + lines).min(count) {
                text.push_str(&format!(
                    "{} [0,\"a result of some length\"]\n",
                    name(number)
                ));
            }
            file.write_all(text.as_bytes()).unwrap();
            file.sync_data().unwrap();
        }
    });
    (count, taken)
}
