//! Saves checkpoints as its arguments say, and tells each save the moment it is durable. For the tests that kill it, fail its disk and cut its
//! power.
//!
//! `saver DIRECTORY [--NAME VALUE]...`: the settings are those of [`Plan`], the lines those of [`Said`]. It finds the newest state of each
//! name, compares every byte with what its step must have, and goes on from there. A save that fails is told, and the next step is saved.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use safepoint::checkpoint::{CheckpointStore, Details, Retention, Saved, State};
use safepoint_testkit::saves::{How, Plan, Said};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = Plan::parse(&rest).and_then(|plan| save_all(&directory, &plan));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&Said::Error(error));
            ExitCode::FAILURE
        }
    }
}

fn save_all(directory: &str, plan: &Plan) -> Result<(), String> {
    let store = CheckpointStore::builder(directory)
        .retention(Retention::newest(plan.keep))
        .compression(plan.compression())
        .workers(plan.workers)
        .on_notice(|notice| say(&Said::Notice(notice.to_string())))
        .open()
        .map_err(|error| told(&error))?;
    let mut last = 0;
    for name in &plan.names {
        last = last.max(find(&store, plan, name)?);
    }
    for step in last + 1..=last + plan.steps {
        if plan.prompted && !prompted() {
            break;
        }
        for name in &plan.names {
            save(&store, plan, name, step);
        }
    }
    Ok(())
}

/// The step of the newest state; 0 if there is none.
fn find(store: &CheckpointStore, plan: &Plan, name: &str) -> Result<u64, String> {
    let Some(found) = store.latest(name).map_err(|error| told(&error))? else {
        say(&Said::Nothing {
            name: name.to_owned(),
        });
        return Ok(0);
    };
    if let Some(complaint) = plan.complaint(name, &found) {
        return Err(complaint);
    }
    let step = found.metadata().details.step.unwrap_or(0);
    say(&Said::Found {
        name: name.to_owned(),
        generation: found.generation().0,
        step,
    });
    Ok(step)
}

fn save(store: &CheckpointStore, plan: &Plan, name: &str, step: u64) {
    let payload = plan.payload(name, step);
    let (state, details) = (plan.state(&payload), Details::new().step(step));
    let saved = match plan.how {
        How::Now => store.save(name, &state, &details),
        How::Small => store.save_small(name, &state, &details),
        How::Background => in_background(store, plan, name, state, details),
    };
    let name = name.to_owned();
    say(&match saved {
        Ok(saved) => Said::Saved {
            name,
            generation: saved.generation.0,
            step,
        },
        Err(error) => Said::Failed {
            name,
            step,
            why: told(&error),
        },
    });
}

/// Hands the state over and makes the next one while it is saved, as a loop does.
fn in_background(
    store: &CheckpointStore,
    plan: &Plan,
    name: &str,
    state: State<'_>,
    details: Details,
) -> safepoint::Result<Saved> {
    let step = details.step.unwrap_or(0);
    store.save_in_background(name, state, details)?;
    std::hint::black_box(plan.payload(name, step + 1));
    let saved = store.finish_background()?;
    Ok(saved.expect("what was handed over was saved, or failed"))
}

/// Kind, chain and hint in one line.
fn told(error: &safepoint::Error) -> String {
    let hint = error.hint().unwrap_or("no hint");
    let text = format!("{:?}: {} ({hint})", error.kind(), error.chain());
    text.replace('\n', " ")
}

fn prompted() -> bool {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .is_ok_and(|length| length > 0)
}

/// One line, at once: it is an acknowledgement.
fn say(line: &Said) {
    let mut out = io::stdout().lock();
    // Nobody listens any more: the test has ended.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
