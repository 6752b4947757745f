//! `cargo bench -p safepoint-benches-state --bench checkpoint [-- [--short] [--only=save|load|background|small|list|rest] [--once=BYTES] [DIRECTORY]]`: checkpoints beside the raw limit of the disk
//! that holds the directory (default: where cargo builds), as the table of the book's page on benchmarks.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock, prints a table, and has nobody to hand an error to"
)]

mod limit;
mod rounds;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use safepoint::checkpoint::{CheckpointStore, Details, Retention, Schedule, State, Target};

use self::rounds::{in_turns, timed};

const MIB: usize = 1 << 20;

/// Prints the seconds of one save of so many bytes: what the bench of the Python package puts beside its own, in its turns.
fn once(bytes: usize, folder: &Path) {
    let weights = weights(bytes);
    let store = CheckpointStore::open(folder.join("checkpoints")).unwrap();
    let state = State::new().with_array("weights", &[weights.len()], &weights);
    let took = timed(|| {
        store.save("state", &state, &Details::new()).unwrap();
    });
    println!("{}", took.as_secs_f64());
}

/// How much is measured: all, or a sixteenth to see that it runs.
struct Size {
    divisor: usize,
    rounds: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(bytes) = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("--once="))
    {
        let folder = arguments
            .iter()
            .find(|argument| !argument.starts_with("--"));
        return once(bytes.parse().unwrap(), Path::new(folder.expect("where to")));
    }
    let size = if arguments.iter().any(|argument| argument == "--short") {
        Size {
            divisor: 16,
            rounds: 2,
        }
    } else {
        Size {
            divisor: 1,
            rounds: 7,
        }
    };
    let place = arguments
        .iter()
        .find(|argument| !argument.starts_with("--"));
    let place = place.map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::tempdir_in(place).unwrap();
    let folder = folder.path();
    let weights = weights(1024 * MIB / size.divisor);
    let hundred = &weights[..100 * MIB / size.divisor / 4];
    println!("| | safepoint | limit | ratio | target |");
    println!("|---|---|---|---|---|");
    let only = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("--only="));
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted("save") {
        save(folder, "1 GiB of float32", &weights, size.rounds, "1.0");
        save(
            folder,
            "100 MiB of float32",
            hundred,
            2 * size.rounds,
            "1.1",
        );
        save_text(folder, 100 * MIB / size.divisor, size.rounds);
    }
    if wanted("load") {
        load(folder, &weights, size.rounds);
    }
    if wanted("background") {
        blocked(folder, &weights, size.rounds);
        slowdown(
            folder,
            &weights[..256 * MIB / size.divisor / 4],
            size.rounds,
        );
    }
    if wanted("small") {
        small(folder, 300 / size.divisor);
    }
    if wanted("list") {
        list(folder, 10_000 / size.divisor);
    }
    if wanted("rest") {
        due();
        memory(folder, &weights);
    }
}

fn row(what: &str, ours: &str, limit: &str, ratio: &str, target: &str) {
    println!("| {what} | {ours} | {limit} | {ratio} | {target} |");
}

fn compared(what: &str, ours: &rounds::Times, limit: &rounds::Times, target: &str) {
    let ratio = format!("{:.2}", ours.ratio_to(limit));
    row(
        what,
        &show(ours.median()),
        &show(limit.median()),
        &ratio,
        target,
    );
}

fn show(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..10_000 => format!("{micros} µs"),
        micros => format!("{} ms", micros / 1000),
    }
}

/// Numbers as trained weights are: small, and with mantissas that do not compress.
fn weights(bytes: usize) -> Vec<f32> {
    let mut seed = 88_172_645_463_325_252_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        ((seed >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * 0.1
    };
    (0..bytes / 4).map(|_| next()).collect()
}

/// Lines of JSON as logs and results are.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 100);
    let mut number = 0_u64;
    while text.len() < bytes {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (id, score) = (number >> 40, (number >> 20) % 1000);
        text.extend_from_slice(
            format!(
                "{{\"id\":{id},\"label\":\"item\",\"score\":0.{score:03},\"tags\":[\"a\",\"b\"]}}\n"
            )
            .as_bytes(),
        );
    }
    text
}

fn store(path: &Path) -> CheckpointStore {
    CheckpointStore::builder(path)
        .retention(Retention::newest(2))
        .open()
        .unwrap()
}

fn array(weights: &[f32]) -> State<'_> {
    State::new().with_array("weights", &[weights.len()], weights)
}

/// An empty directory, and a disk at rest, so that nobody pays for who came before.
fn fresh(path: &Path) {
    let _ = std::fs::remove_dir_all(path);
    std::fs::create_dir_all(path).unwrap();
    rustix::fs::sync();
}

/// Saves into an empty directory: ours, the best raw writer, the plain one.
fn save_in_turns(
    folder: &Path,
    state: &State<'_>,
    bytes: &[u8],
    rounds: usize,
) -> [rounds::Times; 3] {
    let (raw, own) = (folder.join("raw"), folder.join("own"));
    let times = in_turns(
        rounds,
        &mut [
            &mut || {
                fresh(&own);
                let store = store(&own);
                timed(|| {
                    store.save("m", state, &Details::new()).unwrap();
                })
            },
            &mut || {
                fresh(&raw);
                timed(|| limit::save_with_early_write_back(&raw, bytes))
            },
            &mut || {
                fresh(&raw);
                timed(|| limit::save(&raw, bytes))
            },
        ],
    );
    fresh(&raw);
    fresh(&own);
    times
}

fn save(folder: &Path, what: &str, weights: &[f32], rounds: usize, target: &str) {
    let [ours, early, plain] = save_in_turns(
        folder,
        &array(weights),
        bytemuck::cast_slice(weights),
        rounds,
    );
    compared(
        &format!("save {what}; limit: write with early write-back"),
        &ours,
        &early,
        target,
    );
    compared(
        &format!("save {what}; limit: plain write"),
        &ours,
        &plain,
        "",
    );
}

fn save_text(folder: &Path, bytes: usize, rounds: usize) {
    let text = text(bytes);
    let [ours, early, _] = save_in_turns(folder, &State::bytes(&text), &text, rounds);
    compared(
        "save 100 MiB of JSON; limit: the same bytes raw",
        &ours,
        &early,
        "< 1",
    );
}

fn load(folder: &Path, weights: &[f32], rounds: usize) {
    let (own, raw) = (folder.join("own"), folder.join("raw"));
    fresh(&own);
    fresh(&raw);
    let store = store(&own);
    store.save("m", &array(weights), &Details::new()).unwrap();
    limit::save(&raw, bytemuck::cast_slice(weights));
    let (ours, raw) = (own.join("m/0000000001.ckpt"), raw.join("saved"));
    let mut into = vec![1.0_f32; weights.len()];
    let mut other = vec![1.0_f32; weights.len()];
    let mut third = vec![1.0_f32; weights.len()];
    for cold in [true, false] {
        let forget = |path: &Path| {
            if cold {
                limit::forget(path);
            }
        };
        let [own, in_order, by_two] = in_turns(
            rounds,
            &mut [
                &mut || {
                    forget(&ours);
                    timed(|| {
                        store
                            .latest_into("m", &mut [Target::array("weights", &mut into)])
                            .unwrap();
                    })
                },
                &mut || {
                    forget(&raw);
                    timed(|| limit::read(&raw, bytemuck::cast_slice_mut(&mut other)))
                },
                &mut || {
                    forget(&raw);
                    timed(|| limit::read_by_two(&raw, bytemuck::cast_slice_mut(&mut third)))
                },
            ],
        );
        let (how, target) = if cold { ("cold", "1.05") } else { ("warm", "") };
        compared(
            &format!("load and verify 1 GiB, {how}; limit: raw read in order"),
            &own,
            &in_order,
            target,
        );
        compared(
            &format!("load and verify 1 GiB, {how}; limit: raw read by two threads"),
            &own,
            &by_two,
            "",
        );
    }
    assert!(into == weights, "what was loaded is what was saved");
}

fn blocked(folder: &Path, weights: &[f32], rounds: usize) {
    let own = folder.join("own");
    fresh(&own);
    let store = store(&own);
    store.prepare_background(size_of_val(weights)).unwrap();
    // One behind the other: what a fork leaves write-protected would slow the copies.
    let [by_copy] = in_turns(
        rounds,
        &mut [&mut || {
            let (state, details) = (array(weights), Details::new());
            let took = timed(|| assert!(store.save_in_background("m", state, details).is_ok()));
            store.finish_background().unwrap();
            took
        }],
    );
    let [by_fork] = in_turns(
        rounds,
        &mut [&mut || {
            let (state, details) = (array(weights), Details::new());
            let took = timed(|| assert!(store.save_by_fork("m", state, details).is_ok()));
            store.finish_background().unwrap();
            took
        }],
    );
    let what = "caller blocked by a save of 1 GiB in the background";
    row(what, &show(by_copy.median()), "", "", "80 ms");
    row(
        &format!("{what}, by fork"),
        &show(by_fork.median()),
        "",
        "",
        "",
    );
}

/// A loop of two hundred steps of 10 ms that change the state, with one save or without.
fn slowdown(folder: &Path, weights: &[f32], rounds: usize) {
    let own = folder.join("own");
    fresh(&own);
    let store = store(&own);
    store.prepare_background(size_of_val(weights)).unwrap();
    let mut weights = weights.to_vec();
    let mut at = 0;
    // A fixed amount of work is timed, so that what saving takes from the processor is seen.
    let mut work = |weights: &mut [f32], parts: u32| {
        for _ in 0..parts {
            let part = &mut weights[at..at + 1024];
            for weight in part {
                *weight = weight.mul_add(0.999, 0.001);
            }
            at = (at + 1024) % (weights.len() - 1024);
        }
    };
    let probe = 100_000;
    let ten_ms = timed(|| work(&mut weights, probe)).as_nanos() / 10_000_000;
    let per_step = probe / u32::try_from(ten_ms.max(1)).unwrap();
    let mut steps = |saves: bool| {
        timed(|| {
            for number in 0..200 {
                work(&mut weights, per_step);
                if saves && number == 20 {
                    store
                        .save_in_background("m", array(&weights), Details::new())
                        .unwrap();
                }
            }
            black_box(&weights);
        })
    };
    let mut extra: Vec<f64> = (0..rounds)
        .map(|_| {
            let without = steps(false);
            let with = steps(true);
            store.finish_background().unwrap();
            (with.as_secs_f64() - without.as_secs_f64()) * 1e3
        })
        .collect();
    extra.sort_unstable_by(f64::total_cmp);
    row(
        "a loop of 10 ms steps with 256 MiB, slowed by a save",
        &format!("{:.0} ms", extra[extra.len() / 2]),
        "",
        "",
        "45 ms",
    );
}

fn small(folder: &Path, rounds: usize) {
    let (raw, own, log) = (folder.join("raw"), folder.join("own"), folder.join("log"));
    for path in [&raw, &own, &log] {
        fresh(path);
    }
    let store = store(&own);
    let bytes = vec![7; 1024];
    let state = State::bytes(&bytes);
    let mut log = limit::Log::create(&log.join("log"));
    store.save("small", &state, &Details::new()).unwrap();
    store.save_small("small", &state, &Details::new()).unwrap();
    let saved = |name: &str, small: bool| {
        timed(|| {
            let saved = if small {
                store.save_small(name, &state, &Details::new())
            } else {
                store.save(name, &state, &Details::new())
            };
            black_box(saved.unwrap());
        })
    };
    let [file, journal, replace, append] = in_turns(
        rounds,
        &mut [
            &mut || saved("file", false),
            &mut || saved("small", true),
            &mut || timed(|| limit::save(&raw, &bytes)),
            &mut || timed(|| log.append(&bytes)),
        ],
    );
    compared(
        "save 1 KiB as a file; limit: write, sync, rename, sync",
        &file,
        &replace,
        "1.3",
    );
    compared(
        "save 1 KiB to the journal; limit: append, sync",
        &journal,
        &append,
        "50 µs",
    );
}

fn list(folder: &Path, generations: usize) {
    let own = folder.join("own");
    fresh(&own);
    let first = store(&own);
    first
        .save("m", &State::bytes(&[7; 1000]), &Details::new().step(1))
        .unwrap();
    drop(first);
    let template = std::fs::read(own.join("m/0000000001.ckpt")).unwrap();
    for number in 2..=generations {
        // Only the tail is read by a list, and that the number in it is another one is part of what is read.
        std::fs::write(own.join(format!("m/{number:010}.ckpt")), &template).unwrap();
    }
    let store = safepoint::checkpoint::CheckpointReader::open(&own).unwrap();
    let [ours] = in_turns(
        9,
        &mut [&mut || timed(|| assert_eq!(store.list("m").unwrap().len(), generations))],
    );
    row(
        "list 10,000 generations",
        &show(ours.median()),
        "",
        "",
        "50 ms",
    );
}

fn due() {
    let mut schedule = Schedule::every(u64::MAX, Duration::MAX);
    let times = 1_000_000;
    let took = timed(|| {
        for _ in 0..times {
            black_box(schedule.due());
        }
    });
    row(
        "ask a schedule of steps and time",
        &format!("{} ns", took.as_nanos() / times),
        "",
        "",
        "nanoseconds",
    );
}

/// The most memory that a save adds to what was there, in bytes, by the kernel's own account.
fn memory(folder: &Path, weights: &[f32]) {
    let own = folder.join("own");
    fresh(&own);
    let store = store(&own);
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident();
    store.save("m", &array(weights), &Details::new()).unwrap();
    let extra = resident().saturating_sub(before);
    row(
        "most memory that a save of 1 GiB adds",
        &format!("{:.1} MiB", extra as f64 / 1024.0),
        "",
        "",
        "16 MiB",
    );
}

/// The peak since it was cleared, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
