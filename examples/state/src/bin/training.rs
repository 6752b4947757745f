//! A training loop that goes on exactly where it was, to the last bit.
//!
//! `cargo run -p safepoint-examples-state --bin training -- [--epochs N] [--dir DIR] [--quiet]`
//!
//! Started again after Ctrl-C, `kill -9` or a power cut, it finishes the epochs that were planned; `--epochs N` plans exactly N more than
//! are complete. The model is a table of a million numbers (4 MiB, and as much momentum) that learns a made-up function by gradient
//! descent; what matters is that everything that decides the next step is in the state: the numbers, the place in the data, the random
//! numbers, the history of losses.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::process::ExitCode;
use std::time::Duration;

use safepoint::checkpoint::{
    CheckpointStore, Details, Fingerprint, SavedNow, Schedule, State, Target,
};
use safepoint::shutdown::Shutdown;
use serde::{Deserialize, Serialize};

const ROWS: usize = 4096;
const WIDTH: usize = 256;
const BATCHES: u32 = 50;
const ROWS_OF_A_BATCH: usize = 64;

/// All that decides how the work goes on, but for the two tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Epochs that are complete.
    epoch: u32,
    /// Batches of the next one that are done.
    batch: u32,
    /// Epochs there are to be.
    planned: u32,
    random: u64,
    /// The mean loss of each epoch, and the sum of the one in progress.
    losses: Vec<f64>,
    sum: f64,
}

struct Model {
    weights: Vec<f32>,
    momentum: Vec<f32>,
}

fn main() -> safepoint::Result<ExitCode> {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            println!("{why}\nusage: training [--epochs N] [--dir DIR] [--quiet]");
            return Ok(ExitCode::from(2));
        }
    };
    let shutdown = Shutdown::builder().install()?;
    let token = shutdown.token();
    let store = CheckpointStore::builder(&arguments.dir)
        // Another shape of the model is another training: its checkpoints are refused, not guessed at.
        .fingerprint(Fingerprint::new().with("rows", ROWS).with("width", WIDTH))
        .on_notice(|notice| println!("note: {notice}"))
        .open()?;

    let mut model = Model {
        weights: vec![0.0; ROWS * WIDTH],
        momentum: vec![0.0; ROWS * WIDTH],
    };
    let found = store.latest_into(
        "model",
        &mut [
            Target::array("weights", &mut model.weights),
            Target::array("momentum", &mut model.momentum),
        ],
    )?;
    let mut progress = match &found {
        None => {
            println!("new training in `{}`", arguments.dir);
            Progress {
                epoch: 0,
                batch: 0,
                planned: arguments.epochs.unwrap_or(10),
                random: 0x5EED,
                losses: Vec::new(),
                sum: 0.0,
            }
        }
        Some(checkpoint) => {
            let mut progress: Progress = checkpoint.value()?;
            if let Some(more) = arguments.epochs {
                progress.planned = progress.epoch + more;
            }
            println!(
                "resumed generation {}: {} of {} epochs complete, {} of {BATCHES} batches of the next",
                checkpoint.generation(),
                progress.epoch,
                progress.planned,
                progress.batch
            );
            progress
        }
    };
    println!("Ctrl-C saves and stops; run the same command again to go on");

    let mut schedule = Schedule::automatic(Duration::from_secs(3600));
    while progress.epoch < progress.planned {
        // Between two batches nothing is half done: here a stop loses nothing.
        let Some(batch) = token.unit("batch") else {
            break;
        };
        train_batch(&mut model, &mut progress);
        batch.commit();
        if progress.batch == 0 && !arguments.quiet {
            println!(
                "epoch {} loss {:.6}",
                progress.epoch,
                progress.losses[progress.losses.len() - 1]
            );
        }
        if schedule.due_while(&store) {
            store.save_in_background("model", state(&progress, &model)?, details(&progress))?;
        }
    }

    // Whether the work is done or a stop was asked for, the newest state is what is saved last.
    let within = token.remaining().unwrap_or(Duration::MAX);
    match store.save_now(
        "model",
        &state(&progress, &model)?,
        &details(&progress),
        within,
    )? {
        SavedNow::Given(saved) => println!("saved generation {}", saved.generation),
        SavedNow::InFlight(saved) => {
            println!("no time for more than generation {}", saved.generation);
        }
        _ => {}
    }
    store.close()?;
    let report = shutdown.finish();
    if progress.epoch < progress.planned {
        println!(
            "stopped at {} of {} epochs and {} batches",
            progress.epoch, progress.planned, progress.batch
        );
    } else {
        println!(
            "complete: {} epochs, digest {:016x}",
            progress.epoch,
            digest(&progress, &model)
        );
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// One step of stochastic gradient descent with momentum.
fn train_batch(model: &mut Model, progress: &mut Progress) {
    let mut loss = 0.0;
    for _ in 0..ROWS_OF_A_BATCH {
        let row = usize::try_from(next(&mut progress.random)).unwrap_or(0) % ROWS;
        let places = row * WIDTH..(row + 1) * WIDTH;
        let weights = &mut model.weights[places.clone()];
        let momentum = &mut model.momentum[places];
        for (column, (weight, momentum)) in weights.iter_mut().zip(momentum).enumerate() {
            let error = *weight - wanted(row, column);
            *momentum = 0.9 * *momentum + error;
            *weight -= 0.02 * *momentum;
            loss += f64::from(error * error);
        }
    }
    progress.sum += loss / f64::from(u32::try_from(ROWS_OF_A_BATCH * WIDTH).unwrap_or(1));
    progress.batch += 1;
    if progress.batch == BATCHES {
        progress.losses.push(progress.sum / f64::from(BATCHES));
        progress.epoch += 1;
        progress.batch = 0;
        progress.sum = 0.0;
    }
}

/// What the model is to learn.
#[expect(clippy::cast_precision_loss, reason = "rows and columns are small")]
fn wanted(row: usize, column: usize) -> f32 {
    (row as f32 * 0.001).sin() + (column as f32 * 0.01).cos()
}

/// Marsaglia's xorshift64: its state is one number, and that number is saved.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn state<'a>(progress: &Progress, model: &'a Model) -> safepoint::Result<State<'a>> {
    Ok(State::message_pack(progress)?
        .with_array("weights", &[ROWS, WIDTH], &model.weights)
        .with_array("momentum", &[ROWS, WIDTH], &model.momentum))
}

fn details(progress: &Progress) -> Details {
    let details = Details::new().step((progress.epoch * BATCHES + progress.batch).into());
    match progress.losses.last() {
        Some(loss) => details.metric("loss", *loss),
        None => details,
    }
}

/// A number that any other bit anywhere in the state would change (FNV-1a).
fn digest(progress: &Progress, model: &Model) -> u64 {
    let tables = model.weights.iter().chain(&model.momentum);
    let numbers = tables.map(|number| u64::from(number.to_bits()));
    let history = progress.losses.iter().map(|loss| loss.to_bits());
    let all = numbers.chain(history).chain([progress.random]);
    all.fold(0xcbf2_9ce4_8422_2325, |hash, number| {
        (hash ^ number).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

struct Arguments {
    epochs: Option<u32>,
    dir: String,
    quiet: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            epochs: None,
            dir: "training-checkpoints".into(),
            quiet: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("`{word}` wants a value"));
            match word.as_str() {
                "--epochs" => {
                    let text = value()?;
                    let number = text
                        .parse()
                        .map_err(|_| format!("`{text}` is no number of epochs"))?;
                    parsed.epochs = Some(number);
                }
                "--dir" => parsed.dir = value()?,
                "--quiet" => parsed.quiet = true,
                _ => return Err(format!("`{word}` is not known")),
            }
        }
        Ok(parsed)
    }
}
