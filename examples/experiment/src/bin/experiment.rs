//! An experiment in three tiers of subtests, whose runs go on in parallel threads. Stop it with Ctrl-C or `kill -9` at any moment, and start it again.
//!
//! `experiment DIRECTORY [WORK]`: state is kept in DIRECTORY; WORK says how much each run computes. The result goes to standard output, what happens to standard
//! error.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of its own"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use safepoint::steps::Scope;
use safepoint::{Error, Result, Shutdown, Steps};

const TIERS: u64 = 3;
const SUBTESTS: u64 = 2;
const RUNS: u64 = 4;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(
        arguments
            .next()
            .unwrap_or_else(|| ".safepoint/experiment".into()),
    );
    let work = arguments.next().and_then(|work| work.parse().ok());
    match run(&directory, work.unwrap_or(200_000_000)) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// Runs the experiment, and gives the exit code.
fn run(directory: &Path, work: u64) -> Result<u8> {
    let shutdown = Shutdown::builder().install()?;
    let steps = Steps::builder(directory)
        .token(&shutdown.token())
        .on_notice(|notice| eprintln!("{notice}"))
        .open()?;
    let result = experiment(&steps, work)?;
    eprintln!("{}", steps.close()?);
    if let Some(result) = result {
        println!("{result:016x}");
    }
    Ok(shutdown.finish().exit_code())
}

/// All tiers, one after the other: each begins with what the one before found.
fn experiment(steps: &Steps, work: u64) -> Result<Option<u64>> {
    let Some(mut found) = steps.step("prepare", || Ok::<_, Error>(mix(work, 1)))? else {
        return Ok(None);
    };
    for tier in 0..TIERS {
        let ended = steps.stage(format!("T{tier}"), |tier| subtests(tier, found, work))?;
        let Some(of_tier) = ended else {
            return Ok(None);
        };
        found = of_tier;
    }
    Ok(Some(found))
}

/// The subtests of a tier, each in a thread of its own.
fn subtests(tier: &Scope, seed: u64, work: u64) -> Result<Option<u64>> {
    let ended: Vec<_> = thread::scope(|threads| {
        let running: Vec<_> = (0..SUBTESTS)
            .map(|subtest| {
                let name = format!("subtest-{subtest}");
                threads.spawn(move || tier.stage(name, |scope| runs(scope, seed ^ subtest, work)))
            })
            .collect();
        let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut sum = 0_u64;
    for of_subtest in ended {
        let Some(value) = of_subtest? else {
            return Ok(None);
        };
        sum = sum.wrapping_add(value);
    }
    Ok(Some(sum))
}

fn runs(subtest: &Scope, seed: u64, work: u64) -> Result<Option<u64>> {
    let mut value = seed;
    for number in 0..RUNS {
        let Some(next) =
            subtest.step(format!("run-{number}"), || Ok::<_, Error>(mix(value, work)))?
        else {
            return Ok(None);
        };
        value = next;
    }
    Ok(Some(value))
}

/// Some arithmetic that takes as long as `rounds` says, and whose result depends on all of it.
fn mix(mut value: u64, rounds: u64) -> u64 {
    for _ in 0..rounds.max(1) {
        value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value ^= value >> 27;
    }
    value
}
