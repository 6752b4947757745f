//! Kills at random moments and at file operations, then resumption: nothing acknowledged is lost, repeated or left behind.
//!
//! These are the short storms; `cargo xtask torture` makes the long ones.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use safepoint::queue::View;
use safepoint_testkit::faults::{Counter, Faults, When};
use safepoint_testkit::storm::{Blow, PowerCuts, Report, Storm, Victims};
use safepoint_testkit::supervised::SuperviseStorm;

use crate::support::{Place, wait_until};

fn storm() -> Storm {
    Storm::new(env!("CARGO_BIN_EXE_safepoint"))
}

/// The seed and the counts are printed, so that a failure can be made again.
fn passes(storm: &Storm) -> Report {
    let report = storm.run().expect("the harness works");
    #[expect(clippy::print_stderr, reason = "a seed that nobody sees helps nobody")]
    {
        eprintln!("{report}");
    }
    assert!(report.is_clean(), "{report}");
    assert!(report.fired > 0, "no kill came in time: {report}");
    assert_eq!(report.finished, u64::from(storm.rounds), "{report}");
    assert!(report.acknowledged > 0, "{report}");
    report
}

#[test]
fn the_runner_killed_at_random_moments_loses_nothing() {
    passes(&Storm {
        blow: Blow::Delay {
            longest: Duration::from_millis(150),
        },
        rounds: 12,
        ..storm()
    });
}

#[test]
fn the_runner_and_its_children_killed_at_random_moments_lose_nothing() {
    passes(&Storm {
        victims: Victims::RunnerAndChildren,
        rounds: 12,
        seed: 2,
        ..storm()
    });
}

#[test]
fn attempts_that_outlive_their_runner_are_ended_before_their_items_run_again() {
    // What is left behind must be at work for longer than the next run needs to begin.
    let mut storm = Storm {
        blow: Blow::Delay {
            longest: Duration::from_millis(500),
        },
        rounds: 4,
        seed: 3,
        ..storm()
    };
    storm.scenario.items = 12;
    storm.scenario.pause_ms = 300;
    passes(&storm);
}

/// Each of a spread of all file operations of a run is the last, before it is made, half-way and after.
#[test]
fn the_runner_killed_at_its_own_file_operations_loses_nothing() {
    let mut storm = Storm {
        rounds: 1,
        kills: 1,
        ..storm()
    };
    storm.scenario.items = 12;
    storm.scenario.pause_ms = 0;
    storm.scenario.dead_every = 9;
    let calls = storm.count_calls().expect("a run in peace");
    assert!(calls > 80, "{calls} file operations");
    let mut total = Report::default();
    // The first calls make the job and the last ones close it: all of those, and some of those between.
    for call in (1..calls).filter(|call| *call < 20 || calls - call < 12 || call % 5 == 0) {
        for when in [When::Before, When::After, When::Torn] {
            storm.blow = Blow::At { call, when };
            let report = storm.run().expect("the harness works");
            assert!(
                report.is_clean(),
                "{when:?} call {call} of {calls}: {report}"
            );
            total.fired += report.fired;
            total.acknowledged += report.acknowledged;
        }
    }
    assert!(
        total.fired > 100,
        "{} of {calls} calls: {total}",
        total.fired
    );
}

/// Two such kills in a row: the second strikes the resumption from the first.
#[test]
fn a_resumption_killed_at_its_own_file_operations_loses_nothing() {
    let mut storm = Storm {
        rounds: 25,
        seed: 4,
        ..storm()
    };
    storm.scenario.items = 20;
    storm.scenario.pause_ms = 0;
    let calls = storm.count_calls().expect("a run in peace");
    storm.blow = Blow::AnyCall { calls };
    passes(&storm);
}

/// What the library itself finds wrong with a `job.db`.
fn invariants(database: &Path) -> Vec<String> {
    match View::open(database).and_then(|view| view.validate()) {
        Ok(problems) => problems.into_iter().map(|problem| problem.0).collect(),
        Err(error) => vec![error.chain()],
    }
}

fn recorded() -> Storm {
    let mut storm = storm();
    storm.scenario.items = 40;
    storm.scenario.pause_ms = 0;
    storm
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let storm = recorded();
    let recording = storm.record(|faults| faults).expect("a run in peace");
    let cuts = PowerCuts::new(120, 3, 25);
    let report = storm
        .cut_power(&recording, &cuts, invariants)
        .expect("the harness works");
    assert!(report.is_clean(), "{report}");
    assert!(
        report.images > 400 && report.resumed > 10 && report.acknowledged > 1000,
        "{report}"
    );
}

/// The negative control: where syncs do nothing, images must lose something, else they are too kind.
#[test]
fn forged_syncs_do_not_survive_a_power_cut() {
    let storm = recorded();
    let recording = storm.record(Faults::lie).expect("a run in peace");
    let cuts = PowerCuts::new(40, 1, 0);
    let report = storm
        .cut_power(&recording, &cuts, |_| Vec::new())
        .expect("the harness works");
    assert!(report.losing > report.images / 4, "{report}");
}

#[test]
fn attempts_that_a_stop_ended_count_for_nothing_however_often() {
    let place = Place::new();
    place.write("x.txt", "a\nb\n");
    let script = "test -e go && { echo \"$1\"; exit 0; }; echo \"$1\" >> began; sleep 1000";
    let run = [
        "run",
        "-j2",
        "--progress=none",
        "--retries=0",
        "x.txt",
        "--shell",
        "--",
        script,
    ];
    for stop in 1..=4 {
        let runner = place.begin(&run);
        wait_until("two attempts hang", || {
            place.lines("began").len() >= 2 * stop
        });
        // One graceful and one that is forced.
        runner.signal(Signal::TERM);
        runner.signal(Signal::INT);
        runner.ended();
    }
    place.write("go", "");
    let ran = place.run(&run);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
}

#[test]
fn an_item_that_kills_its_runner_three_times_is_dead_and_the_others_are_done() {
    let place = Place::new();
    place.write("x.txt", "a\nb\npoison\nc\n");
    let script = "test \"$1\" = poison && kill -9 $PPID; echo \"$1\"";
    let run = [
        "run",
        "-j1",
        "--progress=none",
        "x.txt",
        "--shell",
        "--",
        script,
    ];
    let mut codes = Vec::new();
    while codes.last().is_none_or(Option::is_none) && codes.len() < 8 {
        codes.push(place.run(&run).code);
    }
    assert_eq!(codes, [None, None, None, Some(3)]);
    let shown = place.run(&["results", "--all", "x"]).stdout;
    assert!(shown.contains("3 crashes of the runner"), "{shown}");
    assert_eq!(shown.matches("\"done\"").count(), 3, "{shown}");
}

#[test]
fn a_run_that_is_killed_before_it_begins_an_item_counts_against_none() {
    let place = Place::new();
    place.write("x.txt", "a\n");
    let script = "test -e go && { echo \"$1\"; exit 0; }; echo began >> began; sleep 1000";
    let run = [
        "run",
        "-j1",
        "--progress=none",
        "x.txt",
        "--shell",
        "--",
        script,
    ];
    // Two crashes that do count: one more would be the item's end.
    for crash in 1..=2 {
        let mut runner = place.safepoint(&run).spawn().expect("it starts");
        wait_until("the attempt hangs", || place.lines("began").len() == crash);
        runner.kill().expect("killed");
        runner.wait().expect("reaped");
    }
    let counter = Counter::new(&place.file("count")).expect("a counter");
    let list = place.state("x").join("in-progress");
    let faults = Faults::new("safepoint", &list)
        .expect("faults")
        .count(&counter);
    for _ in 0..3 {
        counter.reset().expect("reset");
        let mut command = place.safepoint(&run);
        let faults = faults.clone().only(&["open"]).kill(1, When::Before);
        faults.apply(&mut command).expect("the library");
        command.status().expect("it starts");
        assert_eq!(counter.fired().expect("a count"), 1);
    }
    place.write("go", "");
    let ran = place.run(&run);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_supervised_command_never_outlives_those_who_look_after_it() {
    let storm = SuperviseStorm {
        kills: 40,
        ..SuperviseStorm::new(env!("CARGO_BIN_EXE_safepoint").into())
    };
    let report = storm.run().expect("the harness works");
    assert!(report.is_clean(), "{report}: {:#?}", report.problems);
    assert!(report.kills() >= 40, "{report}");
}
