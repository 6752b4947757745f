//! Every file operation of a save is the last one, or fails: the old state or the new one is found, never neither, and the next run goes on.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use safepoint_testkit::faults::{Counter, Errno, Faults, When};
use safepoint_testkit::saves::{
    Acknowledged, Ended, Place, Plan, Said, SaveStorm, Saver, shapes, verify,
};

/// A program that has made `before` steps and is struck while it makes the others.
struct Scenario {
    what: &'static str,
    plan: Plan,
    before: u64,
}

fn scenarios() -> Vec<Scenario> {
    let [
        (_, small),
        (large_name, large),
        (several_name, several),
        (journal_name, journal),
        (background_name, background),
    ] = shapes();
    vec![
        Scenario {
            what: "a first save in an empty directory",
            plan: small.clone(),
            before: 0,
        },
        Scenario {
            what: "two saves in a row, each of which prunes",
            plan: Plan { steps: 2, ..small },
            before: 2,
        },
        Scenario {
            what: large_name,
            plan: large,
            before: 1,
        },
        Scenario {
            what: several_name,
            plan: several,
            before: 2,
        },
        Scenario {
            what: journal_name,
            plan: Plan {
                steps: 3,
                ..journal
            },
            before: 1,
        },
        Scenario {
            what: background_name,
            plan: background,
            before: 1,
        },
    ]
}

fn saver(plan: &Plan) -> Saver {
    Saver::new(plan.clone()).expect("cargo built the saver")
}

/// Makes the steps before in peace.
fn prepare(place: &Place, scenario: &Scenario) -> Acknowledged {
    let before = Plan {
        steps: scenario.before,
        ..scenario.plan.clone()
    };
    if scenario.before == 0 {
        return Acknowledged::default();
    }
    let ended = saver(&before).run(&place.store(), None).expect("a saver");
    assert!(ended.status.success(), "{:?}", ended.said);
    ended.acknowledged()
}

/// After a fault: all that must be there is, and the same program goes on.
fn recovers(place: &Place, plan: &Plan, mut acknowledged: Acknowledged, ended: &Ended, at: &str) {
    acknowledged.hear(&ended.said);
    let found = verify(&place.store(), plan, &acknowledged);
    assert!(
        found.is_clean(),
        "{at}: {:#?}\n{:?}",
        found.problems,
        ended.said
    );
    let next = saver(&Plan {
        steps: 1,
        ..plan.clone()
    });
    let next = next.run(&place.store(), None).expect("a saver");
    acknowledged.hear(&next.said);
    let saved = next
        .said
        .iter()
        .filter(|said| matches!(said, Said::Saved { .. }));
    assert_eq!(
        saved.count(),
        plan.names.len(),
        "{at}: it does not go on: {:?}",
        next.said
    );
    let found = verify(&place.store(), plan, &acknowledged);
    assert!(
        found.is_clean(),
        "{at}, gone on: {:#?}\n{:?}",
        found.problems,
        next.said
    );
}

/// Kills at each call until there is none left to kill at. Says how often, and how often each step was the newest then.
fn kill_everywhere(
    scenario: &Scenario,
    when: When,
    change: impl Fn(Faults) -> Faults,
) -> (u64, Vec<u64>) {
    let place = Place::new().expect("a place");
    let acknowledged = prepare(&place, scenario);
    let before = place.copy().expect("a copy");
    let mut newest = vec![0; usize::try_from(scenario.before + scenario.plan.steps + 1).unwrap()];
    for call in 1.. {
        place.put_back(&before).expect("a fresh place");
        let faults = change(place.faults().expect("faults")).kill(call, when);
        let ended = saver(&scenario.plan)
            .run(&place.store(), Some(&faults))
            .expect("a saver");
        let at = format!("{}, {when:?} call {call}", scenario.what);
        if ended.status.signal() != Some(9) {
            assert!(ended.status.success(), "{at}: {:?}", ended.said);
            return (call - 1, newest);
        }
        let mut known = acknowledged.clone();
        known.hear(&ended.said);
        let found = verify(&place.store(), &scenario.plan, &known);
        for step in found.newest.values() {
            newest[usize::try_from(*step).unwrap()] += 1;
        }
        recovers(&place, &scenario.plan, acknowledged.clone(), &ended, &at);
    }
    unreachable!("it ends when no kill comes")
}

fn killed_everywhere(change: impl Fn(Faults) -> Faults) {
    for scenario in scenarios() {
        for when in [When::Before, When::After, When::Torn] {
            let (kills, newest) = kill_everywhere(&scenario, when, &change);
            // Three to open the directory, six for a save.
            assert!(kills >= 9, "{}: {kills} kills", scenario.what);
            let range = usize::try_from(scenario.before).unwrap().max(1)..newest.len();
            assert!(
                newest[range].iter().all(|count| *count > 0),
                "{}: each side of each save was seen: {newest:?}",
                scenario.what
            );
        }
    }
}

#[test]
fn a_kill_at_any_file_operation_leaves_the_old_state_or_the_new_one() {
    killed_everywhere(|faults| faults);
}

#[test]
fn a_kill_at_any_file_operation_leaves_no_temporary_file_where_new_files_need_a_name() {
    killed_everywhere(Faults::without_nameless_files);
}

/// How the saves of a run with a failing disk ended.
#[derive(Debug, Default)]
struct Outcomes {
    saved_anew: u64,
    refused: u64,
}

/// Each call of a kind fails, once or from there on.
fn fail_everywhere(
    scenario: &Scenario,
    calls: &[&str],
    error: Errno,
    how_many: u64,
    change: impl Fn(Faults) -> Faults,
) -> Outcomes {
    let place = Place::new().expect("a place");
    let acknowledged = prepare(&place, scenario);
    let before = place.copy().expect("a copy");
    let counter = Counter::new(&place.beside("count")).expect("a counter");
    let mut outcomes = Outcomes::default();
    for call in 1.. {
        place.put_back(&before).expect("a fresh place");
        counter.reset().expect("a counter");
        let faults = change(place.faults().expect("faults"));
        let faults = faults
            .only(calls)
            .count(&counter)
            .fail(call, how_many, error);
        let ended = saver(&scenario.plan)
            .run(&place.store(), Some(&faults))
            .expect("a saver");
        let at = format!(
            "{}, {error} at {calls:?} {call}, {how_many} times: {:?}",
            scenario.what, ended.said
        );
        if counter.fired().expect("a counter") == 0 {
            return outcomes;
        }
        assert!(ended.status.code().is_some(), "{at}: it dies");
        let mut failed = false;
        for said in &ended.said {
            if let Said::Failed { why, .. } | Said::Error(why) = said {
                assert!(
                    why.starts_with("Io: ") && why.contains("os error"),
                    "{at}: a named error"
                );
                failed = true;
            }
            if let Said::Failed { why, .. } = said
                && why.contains("was not saved")
            {
                assert!(
                    why.contains("whole and stays") || why.contains("no earlier generation"),
                    "{at}: it says what is left"
                );
            }
        }
        outcomes.refused += u64::from(failed);
        let anew = ended.said.iter().any(|said| {
            matches!(said, Said::Notice(text) if text.contains("anew") || text.contains("removed"))
        });
        outcomes.saved_anew += u64::from(anew && !failed);
        recovers(&place, &scenario.plan, acknowledged.clone(), &ended, &at);
    }
    outcomes
}

const WRITES: &[&str] = &["write", "pwrite"];

#[test]
fn a_file_operation_that_fails_once_is_made_good_or_told_and_costs_no_earlier_state() {
    for scenario in scenarios() {
        for error in [Errno::EIO, Errno::ENOSPC] {
            for calls in [WRITES, &["fdatasync"], &["fsync"], &["link"], &["open"]] {
                let found = fail_everywhere(&scenario, calls, error, 1, |faults| faults);
                if error == Errno::EIO && calls != ["open"] {
                    assert!(
                        found.saved_anew > 0,
                        "{}, {calls:?}: {found:?}",
                        scenario.what
                    );
                }
            }
            for calls in [&["unlink"], &["mkdir"], &["link"], &["open"]] {
                fail_everywhere(&scenario, calls, error, 1, Faults::without_nameless_files);
            }
        }
    }
}

#[test]
fn a_file_operation_that_keeps_failing_ends_in_a_named_error_and_costs_no_earlier_state() {
    for scenario in scenarios() {
        for error in [Errno::EIO, Errno::ENOSPC] {
            for calls in [WRITES, &["fdatasync"], &["fsync"], &["link"], &["open"]] {
                let found = fail_everywhere(&scenario, calls, error, u64::MAX, |faults| faults);
                assert!(found.refused > 0, "{}, {calls:?}: {found:?}", scenario.what);
            }
        }
    }
}

/// The short storm; `cargo xtask torture` makes the long one.
#[test]
fn kills_at_random_moments_lose_no_acknowledged_state() {
    for (seed, (what, plan)) in (1..).zip(shapes()) {
        // A large state takes a while where the saver is built without optimizations.
        let longest = if plan.bytes > 1 << 20 { 100 } else { 15 };
        for named in [false, true] {
            let storm = SaveStorm {
                kills: 30,
                longest: Duration::from_millis(longest),
                named,
                seed,
                ..SaveStorm::new(saver(&plan))
            };
            let report = storm.run().expect("the harness works");
            #[expect(clippy::print_stderr, reason = "a seed that nobody sees helps nobody")]
            {
                eprintln!("{what}: {report}");
            }
            assert!(report.is_clean(), "{what}: {report}");
            assert!(report.acknowledged > 0, "{what}: {report}");
        }
    }
}
