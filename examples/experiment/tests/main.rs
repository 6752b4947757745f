//! The experiment stopped, killed and gone on with: each step completes once, and the result is that of a run that nobody disturbed.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Enough for a step to be in progress when a signal comes, on an unoptimised build too.
const WORK: &str = "1000000";

/// 1 preparation, and 4 runs in 2 subtests of 3 tiers.
const STEPS: usize = 1 + 3 * 2 * 4;

struct Ended {
    code: Option<i32>,
    stdout: String,
    told: Vec<String>,
}

/// Runs the experiment, and sends `signal` when it has told of so many beginnings.
fn run(directory: &Path, signal: Option<(Signal, usize)>) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_experiment"))
        .arg(directory)
        .arg(WORK)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut told, mut began) = (Vec::new(), 0);
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        began += usize::from(line.ends_with("- Starting"));
        told.push(line);
        if let Some((signal, after)) = signal
            && began == after
        {
            began += 1;
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
    }
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        told,
    }
}

#[test]
fn stopped_and_killed_it_comes_to_the_same_result_and_completes_each_step_once() {
    let place = tempfile::tempdir().unwrap();
    let undisturbed = run(&place.path().join("undisturbed"), None);
    assert_eq!(undisturbed.code, Some(0), "{:#?}", undisturbed.told);
    let directory = place.path().join("disturbed");
    let mut told = Vec::new();
    let stopped = run(&directory, Some((Signal::INT, 5)));
    assert_eq!(
        (stopped.code, stopped.stdout.as_str()),
        (Some(130), ""),
        "{:#?}",
        stopped.told
    );
    told.extend(stopped.told);
    for after in [4, 6] {
        let killed = run(&directory, Some((Signal::KILL, after)));
        assert_eq!((killed.code, killed.stdout.as_str()), (None, ""));
        told.extend(killed.told);
    }
    let last = run(&directory, None);
    assert_eq!(last.code, Some(0), "{:#?}", last.told);
    assert_eq!(last.stdout, undisturbed.stdout);
    assert!(
        last.told
            .iter()
            .any(|line| line.contains("the run before was killed"))
    );
    assert!(last.told.iter().any(|line| line.contains("Skipped")));
    told.extend(last.told);
    // A kill may come between a step's becoming durable and its being told: then it is told as skipped only.
    let mut completions = BTreeMap::new();
    for line in told
        .iter()
        .filter(|line| line.contains("/run-") && line.contains("- Complete ("))
    {
        *completions
            .entry(line.split(' ').nth(1).unwrap())
            .or_insert(0) += 1;
    }
    assert!(
        completions.values().all(|times| *times == 1),
        "{completions:#?}"
    );
    let missing = STEPS - 1 - completions.len();
    assert!(missing <= 4, "{missing} never told of");
    assert!(!told.iter().any(|line| line.contains("never found again")));
}
