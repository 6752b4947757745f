//! The storm, tried on a stand-in for the command, with and without planted bugs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use safepoint_testkit::image::{History, Names, Policy, scratch};
use safepoint_testkit::storm::{self, Blow, Report, Scenario, Storm, Victims};

/// The interpreter itself: what `python3` names may be a script that starts it.
fn interpreter() -> String {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn stand_in(bug: &str) -> Storm {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stand_in.py");
    let mut storm = Storm::new("/usr/bin/env");
    storm.program = Some(
        Path::new(&interpreter())
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned(),
    );
    storm.command.extend(
        [
            format!("STAND_IN_BUG={bug}"),
            interpreter(),
            script.to_owned(),
        ]
        .map(Into::into),
    );
    storm.scenario = Scenario {
        items: 24,
        pause_ms: 2,
        ..Scenario::default()
    };
    storm.blow = Blow::Delay {
        longest: Duration::from_millis(200),
    };
    storm.rounds = 5;
    storm
}

fn printed(storm: &Storm) -> Report {
    let report = storm.run().unwrap();
    // A seed that nobody sees helps nobody.
    std::io::Write::write_all(&mut std::io::stderr(), format!("{report}\n").as_bytes()).unwrap();
    report
}

#[test]
fn a_correct_command_comes_through() {
    for victims in [Victims::Runner, Victims::RunnerAndChildren] {
        let report = printed(&Storm {
            victims,
            ..stand_in("")
        });
        assert!(report.is_clean(), "{report}");
        assert!(report.fired > 0 && report.fired <= report.kills, "{report}");
        assert_eq!(report.finished, 5);
        assert!(report.acknowledged > 0);
    }
}

#[test]
fn it_comes_through_kills_at_its_own_file_operations() {
    let mut storm = stand_in("");
    let calls = storm.count_calls().unwrap();
    assert!(calls > 50, "{calls}");
    storm.blow = Blow::AnyCall { calls };
    let report = printed(&storm);
    assert!(report.is_clean(), "{report}");
    assert!(report.fired > 0, "{report}");
}

/// The seeds are tried in turn: a race must be caught by one of them. Kills at file operations land between a print
/// and its commit far more often than kills at random times do.
fn caught(bug: &str, found: impl Fn(&Report) -> bool) {
    let mut storm = Storm {
        rounds: 2,
        ..stand_in(bug)
    };
    storm.blow = Blow::AnyCall {
        calls: storm.count_calls().unwrap(),
    };
    caught_by(&storm, found);
}

fn caught_by(storm: &Storm, found: impl Fn(&Report) -> bool) {
    let caught = (0..8).any(|seed| {
        found(
            &Storm {
                seed,
                ..storm.clone()
            }
            .run()
            .unwrap(),
        )
    });
    assert!(caught, "the bug of {:?} was not caught", storm.command);
}

fn says(report: &Report, words: &str) -> bool {
    report
        .problems
        .iter()
        .any(|problem| problem.contains(words))
}

#[test]
fn planted_bugs_are_caught() {
    caught("early", |report| report.doubled > 0);
    caught("forgetful", |report| report.doubled > 0);
    caught("amnesic", |report| report.lost > 0);
    caught("leaky", |report| report.orphans > 0);
    // What is left behind must be at work for longer than the next run needs to begin.
    let mut storm = Storm {
        rounds: 2,
        ..stand_in("careless")
    };
    storm.scenario = Scenario {
        items: 8,
        pause_ms: 400,
        ..storm.scenario
    };
    storm.blow = Blow::Delay {
        longest: Duration::from_millis(600),
    };
    caught_by(&storm, |report| says(report, "lived on beside"));
    caught("resigned", |report| says(report, "has 0 results"));
}

#[test]
fn a_recorded_run_survives_a_power_cut_unless_its_syncs_are_forged() {
    let storm = stand_in("");
    let losses = |lie: bool| {
        let recording = storm
            .record(|faults| if lie { faults.lie() } else { faults })
            .unwrap();
        let history = History::new(&recording.trace);
        let folder = scratch().unwrap();
        let cuts = (0..=history.events()).step_by(5).filter(|cut| {
            let state = folder.path().join(".safepoint");
            history
                .image(*cut, Policy::DropUnsynced(Names::FileSync))
                .write_to(&state)
                .unwrap();
            storm::missing(
                &storm::database(folder.path()),
                &recording.trace.acknowledged_lines(*cut),
            ) > 0
        });
        cuts.count()
    };
    assert_eq!(losses(false), 0);
    assert!(losses(true) > 0);
}
