//! Items pushed, claimed and acknowledged, beside SQLite alone, in one run.
//!
//! The tools take turns in each round, in the same directory of one disk. `--short` makes one quick round, `--only TEXT`
//! leaves out what does not contain it, `--dir DIR` chooses the disk.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot work has to end"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use safepoint::Queue;
use safepoint::queue::{Durability, NewItem};

const PAYLOAD: &str = r#"{"path": "a payload of some length", "size": 4711}"#;

/// Items per second of a tool, with so many of them.
type Tool = (&'static str, Run, usize);

/// Works on so many items in a place, and returns what it measured.
type Run = Box<dyn Fn(&Path, usize) -> f64>;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut rounds, mut divisor, mut disk) = (5, 1, std::env::temp_dir());
    let mut only = String::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--short" => (rounds, divisor) = (1, 20),
            "--only" => only = arguments.next().unwrap_or_default(),
            "--dir" => disk = PathBuf::from(arguments.next().unwrap_or_default()),
            _ => {} // `cargo bench` adds `--bench`
        }
    }
    let consume = |threads| -> Run {
        Box::new(move |place, count| consume(place, count, threads, Durability::PowerCut))
    };
    let tools: [Tool; 10] = [
        ("claim and acknowledge, 1 thread", consume(1), 20_000),
        ("claim and acknowledge, 8 threads", consume(8), 100_000),
        ("claim and acknowledge, 64 threads", consume(64), 200_000),
        (
            "claim and acknowledge, 8 threads, 1,000,000 in the queue",
            Box::new(|place, count| long(place, count, 1_000_000)),
            100_000,
        ),
        (
            "claim, acknowledge later, 1 thread",
            Box::new(later),
            200_000,
        ),
        (
            "claim and acknowledge, 8 threads, no syncs",
            Box::new(|place, count| consume_with(place, count, 8, Durability::Kill)),
            100_000,
        ),
        (
            "push, 1 thread",
            Box::new(|place, count| push(place, count, 1)),
            10_000,
        ),
        (
            "push, 8 threads",
            Box::new(|place, count| push(place, count, 8)),
            50_000,
        ),
        ("push, 1000 at a time", Box::new(push_many), 300_000),
        (
            "SQLite alone, claim and acknowledge in one commit, 1 thread",
            Box::new(sqlite),
            20_000,
        ),
    ];
    println!("| what | median | best of {rounds} |\n|---|---|---|");
    for (what, run, count) in tools.iter().filter(|(what, ..)| what.contains(&only)) {
        let rates = (0..rounds).map(|_| {
            let place = tempfile::tempdir_in(&disk).unwrap();
            run(place.path(), (count / divisor).max(64))
        });
        let mut rates: Vec<_> = rates.collect();
        rates.sort_by(f64::total_cmp);
        println!(
            "| {what} | {:.0}/s | {:.0}/s |",
            rates[rates.len() / 2],
            rates[rates.len() - 1]
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: usize, work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    count as f64 / began.elapsed().as_secs_f64()
}

fn filled(place: &Path, count: usize, durability: Durability) -> Queue {
    let queue = Queue::builder(place.join("queue"))
        .durability(durability)
        .open()
        .unwrap();
    for first in (0..count).step_by(10_000) {
        let items = (first..(first + 10_000).min(count)).map(|_| NewItem::new(PAYLOAD));
        queue.push_many(items).unwrap();
    }
    queue
}

fn consume(place: &Path, count: usize, threads: usize, durability: Durability) -> f64 {
    consume_with(place, count, threads, durability)
}

fn consume_with(place: &Path, count: usize, threads: usize, durability: Durability) -> f64 {
    let queue = filled(place, count, durability);
    let each = count / threads;
    drain(&queue, each, threads)
}

fn long(place: &Path, count: usize, length: usize) -> f64 {
    let queue = filled(place, length.max(count), Durability::PowerCut);
    drain(&queue, count / 8, 8)
}

fn drain(queue: &Queue, each: usize, threads: usize) -> f64 {
    let together = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    for _ in 0..each {
                        let lease = queue.claim(Duration::ZERO).unwrap().unwrap();
                        lease.acknowledge("a result").unwrap();
                    }
                })
            })
            .collect();
        together.wait();
        rate(each * threads, || {
            for thread in running {
                thread.join().unwrap();
            }
        })
    })
}

fn later(place: &Path, count: usize) -> f64 {
    let queue = filled(place, count, Durability::PowerCut);
    rate(count, || {
        for _ in 0..count {
            let lease = queue.claim(Duration::ZERO).unwrap().unwrap();
            lease.acknowledge_later("a result").unwrap();
        }
        queue.sync().unwrap();
    })
}

fn push(place: &Path, count: usize, threads: usize) -> f64 {
    let queue = filled(place, 0, Durability::PowerCut);
    rate(count, || {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..count / threads {
                        queue.push(None, PAYLOAD).unwrap();
                    }
                });
            }
        });
    })
}

fn push_many(place: &Path, count: usize) -> f64 {
    let queue = filled(place, 0, Durability::PowerCut);
    rate(count, || {
        for number in 0..count / 1000 {
            let items = (0..1000).map(|at| NewItem::new(PAYLOAD).key(format!("{number}/{at}")));
            queue.push_many(items).unwrap();
        }
    })
}

/// As short as it can be: one table, one index, one connection; a claim and the acknowledgement before it share a commit.
fn sqlite(place: &Path, count: usize) -> f64 {
    let connection = Connection::open(place.join("alone.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;
             CREATE TABLE items (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, payload TEXT NOT NULL) STRICT;
             CREATE INDEX pending ON items (id) WHERE state = 0;",
        )
        .unwrap();
    connection.execute_batch("BEGIN").unwrap();
    for _ in 0..count {
        connection
            .execute(
                "INSERT INTO items (state, payload) VALUES (0, ?1)",
                [PAYLOAD],
            )
            .unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    let mut begin = connection.prepare("BEGIN IMMEDIATE").unwrap();
    let mut commit = connection.prepare("COMMIT").unwrap();
    let mut done = connection
        .prepare("UPDATE items SET state = 2 WHERE id = ?1")
        .unwrap();
    let mut claim = connection
        .prepare("UPDATE items SET state = 1 WHERE id = (SELECT id FROM items WHERE state = 0 ORDER BY id LIMIT 1) RETURNING id, payload")
        .unwrap();
    rate(count, || {
        let mut last: Option<i64> = None;
        for _ in 0..count {
            begin.execute(()).unwrap();
            if let Some(id) = last {
                done.execute(params![id]).unwrap();
            }
            last = claim.query_row((), |row| row.get(0)).ok();
            commit.execute(()).unwrap();
        }
    })
}
