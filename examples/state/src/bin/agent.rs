//! An agent that counts: ten cycles of five numbers, each cycle saved when it is over.
//!
//! `cargo run -p safepoint-examples-state --bin agent -- [DIR] [MILLISECONDS]`
//!
//! Ctrl-C lets the cycle in progress finish; a second one gives it up, and it is counted again next time. Small states go to a
//! journal, so that saving after every cycle costs next to nothing.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::process::ExitCode;
use std::time::Duration;

use safepoint::checkpoint::{CheckpointStore, Details, State};
use safepoint::shutdown::{Phase, Shutdown};
use serde::{Deserialize, Serialize};

const CYCLES: u32 = 10;
const NUMBERS: u32 = 5;

/// What the agent remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    cycles: u32,
    sums: Vec<u32>,
}

fn main() -> safepoint::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .unwrap_or_else(|| "agent-checkpoints".into());
    let pause = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200);
    let shutdown = Shutdown::builder().install()?;
    let token = shutdown.token();
    let store = CheckpointStore::open(dir)?;
    let mut memory = match store.latest("memory")? {
        Some(checkpoint) => checkpoint.value()?,
        None => Memory::default(),
    };
    match memory.cycles {
        0 => println!("new: {CYCLES} cycles of {NUMBERS} numbers"),
        done => println!(
            "resumed: {done} of {CYCLES} cycles done, going on with cycle {}",
            done + 1
        ),
    }

    while memory.cycles < CYCLES {
        let Some(cycle) = token.unit("cycle") else {
            break;
        };
        let number = memory.cycles + 1;
        println!("cycle {number}");
        let mut sum = 0;
        for step in 1..=NUMBERS {
            std::thread::sleep(Duration::from_millis(pause)); // stands for the work
            if token.phase() >= Phase::Terminating {
                break; // a graceful stop lets the cycle finish, an immediate one does not
            }
            println!("  {step}");
            sum += step * number;
        }
        if token.phase() >= Phase::Terminating {
            println!("cycle {number} is given up");
            break; // the unit rolls back
        }
        memory.cycles = number;
        memory.sums.push(sum);
        let details = Details::new().items(number.into(), Some(CYCLES.into()));
        store.save_small("memory", &State::json(&memory)?, &details)?;
        cycle.commit();
        println!("cycle {number} saved");
    }

    let report = shutdown.finish();
    if memory.cycles == CYCLES {
        println!("complete: {:?}", memory.sums);
    } else {
        println!(
            "stopped after {} of {CYCLES} cycles; run it again to go on",
            memory.cycles
        );
    }
    Ok(ExitCode::from(report.exit_code()))
}
