//! The power is cut at every moment of recorded saves: what was acknowledged is there, whole, and nothing is in its way.
//!
//! The controls forge syncs: a trial that still passes then would prove nothing.

use safepoint_testkit::faults::{Errno, Faults, When};
use safepoint_testkit::image::{History, Names, Policy};
use safepoint_testkit::saves::{Acknowledged, Place, Plan, Said, Saver, verify};
use safepoint_testkit::trace::{Event, Trace};

const STRICT: Policy = Policy::DropUnsynced(Names::DirectorySync);
const LIKE_EXT4: Policy = Policy::DropUnsynced(Names::FileSync);

fn policies(seeds: u64) -> Vec<Policy> {
    let torn =
        |seed| [Names::DirectorySync, Names::FileSync].map(|names| Policy::Torn { seed, names });
    let mut policies = vec![Policy::KeepAll, STRICT, LIKE_EXT4];
    policies.extend((0..seeds).flat_map(torn));
    policies
}

/// Runs that are recorded one after the other in one place.
struct Recorded {
    place: Place,
    plan: Plan,
}

impl Recorded {
    fn new(plan: Plan) -> Self {
        Self {
            place: Place::new().expect("a place"),
            plan,
        }
    }

    /// One more run, under these faults. Whether it came to its end.
    fn run(&self, faults: impl Fn(Faults) -> Faults) -> bool {
        let faults = faults(self.place.faults().expect("faults"));
        let faults = faults.record(&self.place.beside("trace"));
        let saver = Saver::new(self.plan.clone()).expect("cargo built the saver");
        let ended = saver.run(&self.place.store(), Some(&faults));
        ended.expect("a saver").status.code().is_some()
    }

    fn trace(&self) -> Trace {
        Trace::read(&self.place.beside("trace")).expect("a recording")
    }
}

/// What the images of a recording showed.
#[derive(Debug, Default)]
struct Cuts {
    images: u64,
    acknowledged: u64,
    losing: u64,
    problems: Vec<String>,
}

fn cut_everywhere(recorded: &Recorded, policies: &[Policy]) -> Cuts {
    let trace = recorded.trace();
    let history = History::new(&trace);
    let image = Place::new().expect("a place");
    let mut cuts = Cuts::default();
    for cut in 0..=history.events() {
        let lines = trace.acknowledged_lines(cut);
        let said: Vec<Said> = lines.iter().filter_map(|line| Said::parse(line)).collect();
        let acknowledged = Acknowledged::of(&said);
        for policy in policies {
            let left = history.image(cut, *policy);
            left.write_to(&image.watched()).expect("an image");
            let found = verify(&image.store(), &recorded.plan, &acknowledged);
            cuts.images += 1;
            cuts.acknowledged += acknowledged.count();
            cuts.losing += u64::from(!found.is_clean());
            let problems = found.problems.into_iter();
            cuts.problems
                .extend(problems.map(|problem| format!("cut {cut}, {policy:?}: {problem}")));
        }
    }
    cuts
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

fn holds(recorded: &Recorded, policies: &[Policy]) {
    let cuts = cut_everywhere(recorded, policies);
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
        for (plan, seeds) in [(small(), 8), (large(), 2)] {
            let recorded = Recorded::new(plan);
            assert!(recorded.run(change));
            let events = recorded.trace().events;
            let linked = events
                .iter()
                .filter(|event| matches!(event, Event::Link { .. }));
            let began = events
                .iter()
                .filter(|event| matches!(event, Event::Create { path, .. } if path.is_none()));
            assert_eq!(
                linked.count() as u64,
                recorded.plan.steps,
                "each file gets its name by a link"
            );
            assert_eq!(
                began.count() as u64,
                if nameless { recorded.plan.steps } else { 0 },
                "and has none before where that is possible"
            );
            holds(&recorded, &policies(seeds));
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
        let recorded = Recorded::new(plan.clone());
        let survived = recorded.run(|faults| faults.kill(call, When::After));
        assert!(recorded.run(|faults| faults));
        holds(&recorded, &[STRICT, LIKE_EXT4]);
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
            let recorded = Recorded::new(small());
            assert!(recorded.run(|faults| faults.only(&calls).fail(call, 1, Errno::EIO)));
            assert!(recorded.run(|faults| faults));
            holds(&recorded, &[STRICT, LIKE_EXT4]);
        }
    }
}

#[test]
fn forged_syncs_of_files_or_of_directories_are_noticed() {
    let losing = |calls: &[&str], policy| {
        let recorded = Recorded::new(small());
        assert!(recorded.run(|faults| faults.only(calls).lie()));
        let cuts = cut_everywhere(&recorded, &[policy]);
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
