//! Compares what a finished job holds with what it had acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::launch::Run;
use super::report::Report;
use super::scenario::{Kind, SIDE};
use super::{JOB, Storm, database, stored, survivors};

/// One line of the side file.
struct Note {
    run: usize,
    what: What,
}

#[derive(PartialEq)]
enum What {
    Began,
    Succeeded,
    Failed,
}

pub(super) fn verify(
    storm: &Storm,
    directory: &Path,
    runs: &[Run],
    round: u32,
    report: &mut Report,
) -> io::Result<()> {
    let mut problems = Vec::new();
    let acknowledged = acknowledgements(runs, report, &mut problems);
    let attempts = attempts(&fs::read_to_string(directory.join(SIDE))?);

    let orphans = survivors::settled(directory, Duration::from_secs(2));
    report.orphans += orphans.len() as u64;
    problems.extend(
        orphans
            .iter()
            .map(|pid| format!("process {pid} outlived the job")),
    );

    check_overlaps(&attempts, report, &mut problems);
    check_repeats(&acknowledged, &attempts, report, &mut problems);
    let stored = match stored::results(&database(directory)) {
        Ok(stored) => stored,
        Err(error) => {
            problems.push(format!("the database cannot be read: {error}"));
            BTreeMap::new()
        }
    };
    let listed = listed(storm, directory, &mut problems)?;
    for item in acknowledged.keys() {
        if !stored.contains_key(item) || listed.get(item) != Some(&1) {
            report.lost += 1;
            problems.push(format!("`{item}` was acknowledged and is lost"));
        }
    }
    check_items(storm, &stored, &listed, &attempts, &mut problems);
    if let Err(error) = stored::check(storm, &database(directory), &mut problems) {
        problems.push(format!("the database cannot be checked: {error}"));
    }
    for problem in problems {
        report.problem(format!("round {round}: {problem}"));
    }
    Ok(())
}

/// Each printed line with the run that printed it.
fn acknowledgements(
    runs: &[Run],
    report: &mut Report,
    problems: &mut Vec<String>,
) -> BTreeMap<String, usize> {
    let mut acknowledged = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        for line in &run.acknowledged {
            report.acknowledged += 1;
            if let Some(earlier) = acknowledged.insert(line.clone(), index + 1) {
                report.doubled += 1;
                problems.push(format!(
                    "`{line}` was printed in run {earlier} and in run {}",
                    index + 1
                ));
            }
        }
    }
    acknowledged
}

/// The notes on each item, in the order in which they were written.
fn attempts(side: &str) -> BTreeMap<String, Vec<Note>> {
    let mut attempts: BTreeMap<String, Vec<Note>> = BTreeMap::new();
    for line in side.lines() {
        // The attempt's number is empty when the command does not set it, and the pid is for people.
        let mut words = line.rsplit(' ');
        let what = match words.next() {
            Some("began") => What::Began,
            Some("ok") => What::Succeeded,
            _ => What::Failed,
        };
        if let (Some(Ok(run)), Some(item)) = (words.next().map(str::parse), line.split(' ').next())
        {
            attempts
                .entry(item.to_owned())
                .or_default()
                .push(Note { run, what });
        }
    }
    attempts
}

/// What a killed run left behind must be ended before the item runs again, else two attempts are at it at once.
fn check_overlaps(
    attempts: &BTreeMap<String, Vec<Note>>,
    report: &mut Report,
    problems: &mut Vec<String>,
) {
    for (item, notes) in attempts {
        if let Some(pair) = notes.windows(2).find(|pair| pair[0].run > pair[1].run) {
            report.orphans += 1;
            problems.push(format!(
                "an attempt of `{item}` from run {} lived on beside one of run {}",
                pair[1].run, pair[0].run
            ));
        }
    }
}

fn check_repeats(
    acknowledged: &BTreeMap<String, usize>,
    attempts: &BTreeMap<String, Vec<Note>>,
    report: &mut Report,
    problems: &mut Vec<String>,
) {
    for (item, run) in acknowledged {
        let made = attempts.get(item).map_or(&[][..], Vec::as_slice);
        let later = made.iter().filter(|note| note.run > *run).count();
        let same = made
            .iter()
            .filter(|note| note.run == *run && note.what == What::Succeeded)
            .count();
        if later > 0 || same > 1 {
            report.doubled += 1;
            problems.push(format!(
                "`{item}` was acknowledged in run {run} and ran again"
            ));
        }
        if made.iter().all(|note| note.what != What::Succeeded) {
            problems.push(format!("`{item}` was acknowledged and never ran"));
        }
    }
}

/// What `results` lists: JSON objects, of which those with a text as `result` count.
fn listed(
    storm: &Storm,
    directory: &Path,
    problems: &mut Vec<String>,
) -> io::Result<BTreeMap<String, u64>> {
    let mut command = Command::new(&storm.command[0]);
    command
        .args(&storm.command[1..])
        .arg("results")
        .arg("--state-dir")
        .arg(directory.join(".safepoint"))
        .arg(JOB);
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        problems.push(format!(
            "`results` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let mut results = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(object) => {
                if let Some(result) = object.get("result").and_then(Value::as_str) {
                    *results.entry(result.trim_end().to_owned()).or_insert(0) += 1;
                }
            }
            Err(error) => problems.push(format!("`results` printed `{line}`: {error}")),
        }
    }
    Ok(results)
}

/// Each item that should be done has one result in both places and each other one none; the dead had all their attempts.
fn check_items(
    storm: &Storm,
    stored: &BTreeMap<String, u64>,
    listed: &BTreeMap<String, u64>,
    attempts: &BTreeMap<String, Vec<Note>>,
    problems: &mut Vec<String>,
) {
    for index in 0..storm.scenario.items {
        let item = storm.scenario.item(index);
        let dead = storm.scenario.kind(index) == Kind::Dead;
        for (place, results) in [("the database", stored), ("`results`", listed)] {
            let count = results.get(&item).copied().unwrap_or(0);
            if count != u64::from(!dead) {
                problems.push(format!("`{item}` has {count} results in {place}"));
            }
        }
        let made = failures(attempts.get(&item));
        if dead && made < storm.scenario.attempts {
            problems.push(format!("`{item}` is dead after {made} attempts"));
        }
    }
}

fn failures(notes: Option<&Vec<Note>>) -> u64 {
    notes
        .into_iter()
        .flatten()
        .filter(|note| note.what == What::Failed)
        .count() as u64
}
