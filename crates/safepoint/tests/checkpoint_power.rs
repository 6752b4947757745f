//! The power is cut at every moment of recorded saves: what was acknowledged is there, whole, and nothing is in its way.
//!
//! The controls forge syncs: a trial that still passes then would prove nothing.

use safepoint_testkit::faults::{Errno, Faults, When};
use safepoint_testkit::image::{Names, Policy};
use safepoint_testkit::saves::{How, Plan, Recorded, Saver, policies};
use safepoint_testkit::trace::Event;

const STRICT: Policy = Policy::DropUnsynced(Names::DirectorySync);
const LIKE_EXT4: Policy = Policy::DropUnsynced(Names::FileSync);

fn recorded(plan: Plan) -> Recorded {
    let saver = Saver::new(plan).expect("cargo built the saver");
    Recorded::new(saver).expect("a place")
}

/// One more run, recorded. Whether it came to its end.
fn run(runs: &Recorded, faults: impl Fn(Faults) -> Faults) -> bool {
    runs.run(faults).expect("a saver")
}

fn small() -> Plan {
    Plan {
        steps: 4,
        ..Plan::default()
    }
}

fn large() -> Plan {
    Plan {
        bytes: 3 << 20,
        buffers: 3,
        steps: 2,
        ..Plan::default()
    }
}

fn journal() -> Plan {
    Plan {
        how: How::Small,
        bytes: 500,
        ..small()
    }
}

fn holds(runs: &Recorded, policies: &[Policy]) {
    let cuts = runs.cut_everywhere(policies).expect("images");
    assert!(
        cuts.problems.is_empty(),
        "{:#?}",
        &cuts.problems[..cuts.problems.len().min(10)]
    );
    assert!(cuts.acknowledged > 0, "{cuts:?}");
}

#[test]
fn a_power_cut_at_any_moment_loses_no_acknowledged_state() {
    for nameless in [true, false] {
        let change = |faults: Faults| {
            if nameless {
                faults
            } else {
                faults.without_nameless_files()
            }
        };
        for (plan, seeds) in [(small(), 6), (large(), 1), (journal(), 1)] {
            // A journal is one file, after the first generation.
            let files = if plan.how == How::Small {
                2
            } else {
                plan.steps
            };
            let runs = recorded(plan);
            assert!(run(&runs, change));
            let events = runs.trace().expect("a recording").events;
            let linked = events
                .iter()
                .filter(|event| matches!(event, Event::Link { .. }));
            let began = events
                .iter()
                .filter(|event| matches!(event, Event::Create { path, .. } if path.is_none()));
            assert_eq!(
                linked.count() as u64,
                files,
                "each file gets its name by a link"
            );
            assert_eq!(
                began.count() as u64,
                if nameless { files } else { 0 },
                "and has none before where that is possible"
            );
            holds(&runs, &policies(seeds));
        }
    }
}

/// What a killed run made and did not yet sync, the next one must not take for durable.
#[test]
fn a_power_cut_after_a_kill_loses_nothing_that_the_next_run_acknowledged() {
    let plan = Plan {
        steps: 2,
        ..Plan::default()
    };
    for call in 1.. {
        let runs = recorded(plan.clone());
        let survived = run(&runs, |faults| faults.kill(call, When::After));
        assert!(run(&runs, |faults| faults));
        holds(&runs, &[STRICT, LIKE_EXT4]);
        if survived {
            assert!(call > 15, "{call} calls");
            break;
        }
    }
}

/// After a sync that failed, nothing that it was to cover may be acknowledged.
#[test]
fn a_power_cut_after_a_failed_sync_loses_nothing_that_was_acknowledged_in_spite_of_it() {
    for calls in [["fsync"], ["fdatasync"]] {
        for call in 1..=8 {
            let runs = recorded(small());
            assert!(run(&runs, |faults| faults.only(&calls).fail(
                call,
                1,
                Errno::EIO
            )));
            assert!(run(&runs, |faults| faults));
            holds(&runs, &[STRICT, LIKE_EXT4]);
        }
    }
}

#[test]
fn forged_syncs_of_files_or_of_directories_are_noticed() {
    let losing = |calls: &[&str], policy| {
        let runs = recorded(small());
        assert!(run(&runs, |faults| faults.only(calls).lie()));
        let cuts = runs.cut_everywhere(&[policy]).expect("images");
        (cuts.losing, cuts.images)
    };
    for calls in [&["fdatasync"][..], &["fsync"], &["fdatasync", "fsync"]] {
        let (lost, images) = losing(calls, STRICT);
        assert!(lost > images / 4, "{calls:?}: {lost} of {images}");
        let (lost, _) = losing(calls, Policy::KeepAll);
        assert_eq!(lost, 0, "a kill needs no sync");
    }
    let torn = Policy::Torn {
        seed: 1,
        names: Names::DirectorySync,
    };
    let (lost, images) = losing(&["fdatasync"], torn);
    assert!(lost > images / 4, "{lost} of {images}");
}
