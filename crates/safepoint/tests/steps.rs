//! Steps in real processes that are killed, and on disks whose power is cut.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use safepoint::queue::{EffectState, JOB_DB, StepState, View};
use safepoint::steps::{Answer, Effect, InDoubt, Resolution, Steps, resolve};
use safepoint_testkit::faults::{Counter, Faults, When};
use safepoint_testkit::image::{History, Names, Policy, scratch};
use safepoint_testkit::random::Random;
use safepoint_testkit::trace::Trace;

use crate::support::{is_role, role, say};

const DIRECTORY: &str = "SAFEPOINT_TEST_DIRECTORY";
const THREADS: u32 = 4;
const EACH: u32 = 15;

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("a directory").into()
}

/// A file that bodies append to, in the directory above that of the steps.
fn note(line: &str) {
    let path = directory().with_file_name("bodies");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    let mut file = file.expect("opened");
    file.write_all(format!("{line}\n").as_bytes())
        .expect("written");
}

fn program(name: &str, place: &Path) -> Command {
    let mut command = role(name);
    command.env(DIRECTORY, place.join("state"));
    command
}

/// This binary's file name, by which faults know it.
fn own_name() -> String {
    let path = std::env::current_exe().expect("this binary");
    path.file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

/// Threads that each take steps of their own scope, and say each when its result is theirs.
#[test]
fn role_takes_steps() {
    if !is_role("steps::role_takes_steps") {
        return;
    }
    let steps = Steps::open(directory()).expect("opened");
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let scope = steps.scope(format!("T{thread}"));
            threads.spawn(move || {
                for number in 0..EACH {
                    let value = scope.step(format!("run-{number}"), || {
                        note(&format!("T{thread}/run-{number}"));
                        Ok::<_, safepoint::Error>(thread * 1000 + number)
                    });
                    assert_eq!(value.expect("recorded"), Some(thread * 1000 + number));
                    say(&format!("done T{thread}/run-{number}"));
                }
            });
        }
    });
    steps.close().expect("closed");
    say("all done");
}

fn acknowledged(lines: &[String]) -> BTreeSet<String> {
    let done = lines.iter().filter_map(|line| line.strip_prefix("done "));
    done.map(str::to_owned).collect()
}

/// The steps that are complete in a directory; none where there is no whole file yet.
fn complete(state: &Path) -> BTreeSet<String> {
    let path = state.join(JOB_DB);
    if !path.exists() {
        return BTreeSet::new();
    }
    let view = View::open(&path).expect("it opens");
    assert_eq!(view.validate().expect("asked"), []);
    let mut names = BTreeSet::new();
    view.for_each_step(|row| {
        if row.state == StepState::Complete {
            names.insert(row.name);
        }
        Ok(true)
    })
    .expect("read");
    names
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_program_killed_at_random_operations_loses_no_step_and_repeats_none() {
    let mut random = Random::new(0x57e9);
    let place = scratch().unwrap();
    let state = place.path().join("state");
    let counter = Counter::new(&place.path().join("count")).unwrap();
    let (mut kills, mut known) = (0, BTreeSet::new());
    loop {
        let mut command = program("steps::role_takes_steps", place.path());
        let when =
            [When::Before, When::After, When::Torn][usize::try_from(random.below(3)).unwrap()];
        counter.reset().unwrap();
        let faults = Faults::new(&own_name(), &state).unwrap().count(&counter);
        faults
            .kill(20 + random.below(120), when)
            .apply(&mut command)
            .unwrap();
        let output = command.output().unwrap();
        let said = lines(&output.stdout);
        // Nothing that was told earlier is forgotten, and nothing that was told is missing.
        let found = complete(&state);
        known.extend(acknowledged(&said));
        assert!(
            known.is_subset(&found),
            "lost: {:?}",
            known.difference(&found)
        );
        if output.status.signal().is_none() {
            assert!(output.status.success(), "{said:#?}");
            assert!(said.iter().any(|line| line.ends_with("all done")));
            break;
        }
        kills += 1;
        assert!(kills < 500, "it gets nowhere");
    }
    assert!(kills > 2, "only {kills} kills");
    assert_eq!(known.len(), (THREADS * EACH) as usize);
    let bodies = std::fs::read_to_string(place.path().join("bodies")).unwrap();
    let repeated = bodies.lines().count() - known.len();
    // Only what was in progress when it was killed runs again: one step of each thread at most.
    assert!(
        repeated <= kills * THREADS as usize,
        "{repeated} after {kills} kills"
    );
    let runs = View::open(&state.join(JOB_DB)).unwrap().runs().unwrap();
    assert_eq!(runs.last().unwrap().outcome.as_deref(), Some("completed"));
}

/// Records what a role does, and gives the trace. Syncs take their time, as on a disk: what is said too early is seen to come before them.
fn record(role: &str, lie: bool) -> Trace {
    let place = scratch().unwrap();
    let state = place.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let trace = place.path().join("trace");
    let faults = Faults::new(&own_name(), &state).unwrap();
    let mut faults = faults.record(&trace).slow_syncs(Duration::from_millis(1));
    if lie {
        faults = faults.lie();
    }
    let mut command = program(role, place.path());
    command.env("SAFEPOINT_TEST_POLICY", "hold");
    faults.apply(&mut command).unwrap();
    assert!(command.output().unwrap().status.success());
    Trace::read(&trace).unwrap()
}

/// Cuts the power at each of a number of points; gives how many images there were, and how many had lost something.
fn cuts(trace: &Trace, step: usize, policies: &[Policy]) -> (usize, usize) {
    let history = History::new(trace);
    let place = scratch().unwrap();
    let (mut images, mut losses) = (0, 0);
    for cut in (0..=history.events()).step_by(step) {
        let told = acknowledged(&trace.acknowledged_lines(cut));
        for policy in policies {
            let state = place.path().join("image");
            history.image(cut, *policy).write_to(&state).unwrap();
            images += 1;
            let found = std::panic::catch_unwind(|| complete(&state)).unwrap_or_default();
            losses += usize::from(!told.is_subset(&found));
        }
    }
    (images, losses)
}

const STRICT: Policy = Policy::DropUnsynced(Names::DirectorySync);

#[test]
fn a_power_cut_loses_no_step_that_was_given() {
    let trace = record("steps::role_takes_steps", false);
    let told = acknowledged(&trace.acknowledged_lines(trace.events.len()));
    assert_eq!(told.len(), (THREADS * EACH) as usize);
    let mut policies = vec![
        Policy::KeepAll,
        STRICT,
        Policy::DropUnsynced(Names::FileSync),
    ];
    policies.extend((0..2).map(|seed| Policy::Torn {
        seed,
        names: Names::DirectorySync,
    }));
    let (images, losses) = cuts(&trace, 1, &policies);
    assert!(images > 500, "{images}");
    assert_eq!(losses, 0, "of {images} images");
}

#[test]
fn forged_syncs_are_noticed_by_the_power_cuts() {
    let (images, losses) = cuts(&record("steps::role_takes_steps", true), 3, &[STRICT]);
    assert!(losses > images / 2, "{losses} of {images}");
}

/// Brings an effect about as a policy wants it, and kills itself in the middle unless it is told not to.
#[test]
fn role_brings_an_effect_about() {
    if !is_role("steps::role_brings_an_effect_about") {
        return;
    }
    let policy = std::env::var("SAFEPOINT_TEST_POLICY").expect("a policy");
    let dies = std::env::var_os("SAFEPOINT_TEST_DIES").is_some();
    let steps = Steps::open(directory()).expect("opened");
    let in_doubt = match policy.as_str() {
        "again" => InDoubt::RunAgain,
        "done" => InDoubt::ask(|_| Ok(Answer::Completed("found".to_owned()))),
        "not-done" => InDoubt::ask(|_| Ok(Answer::NotDone)),
        _ => InDoubt::Hold,
    };
    let effect = steps.effect("pay", in_doubt, |intent| {
        note(intent.idempotency_key());
        say(&format!("body {}", intent.idempotency_key()));
        if dies {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .expect("killed");
        }
        Ok::<_, safepoint::Error>("paid".to_owned())
    });
    say(&match effect.expect("no error") {
        Effect::Complete(value) => format!("effect: {value}"),
        Effect::Held => "effect: held".to_owned(),
        Effect::Stopped => "effect: stopped".to_owned(),
    });
    steps.close().expect("closed");
}

fn effect_process(place: &Path, policy: &str, dies: bool) -> (Option<i32>, Vec<String>) {
    let mut command = program("steps::role_brings_an_effect_about", place);
    command.env("SAFEPOINT_TEST_POLICY", policy);
    if dies {
        command.env("SAFEPOINT_TEST_DIES", "1");
    }
    let output = command.output().unwrap();
    let said = lines(&output.stdout);
    let told = said.iter().filter_map(|line| line.split_once("effect: "));
    (
        output.status.signal(),
        told.map(|(_, what)| what.to_owned()).collect(),
    )
}

#[test]
fn an_effect_killed_in_the_middle_comes_out_as_its_author_chose() {
    for (policy, told, bodies) in [
        ("again", "paid", 2),
        ("done", "found", 1),
        ("not-done", "paid", 2),
        ("hold", "held", 1),
    ] {
        let place = scratch().unwrap();
        let state = place.path().join("state");
        assert_eq!(
            effect_process(place.path(), policy, true),
            (Some(9), vec![]),
            "{policy}"
        );
        // The intent was durable before the body ran.
        let mut rows = Vec::new();
        let view = View::open(&state.join(JOB_DB)).unwrap();
        view.for_each_effect(|row| {
            rows.push((row.state, row.idempotency_key));
            Ok(true)
        })
        .unwrap();
        drop(view);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].0, EffectState::Intended);
        assert_eq!(
            effect_process(place.path(), policy, false),
            (None, vec![told.to_owned()]),
            "{policy}"
        );
        let mut expected = bodies;
        if policy == "hold" {
            assert_eq!(effect_process(place.path(), "again", false).1, ["held"]);
            resolve(&state, "pay", Resolution::Again).unwrap();
            assert_eq!(effect_process(place.path(), policy, false).1, ["paid"]);
            expected += 1;
        }
        // Never once more than that, and always with the same key.
        effect_process(place.path(), policy, false);
        let keys = std::fs::read_to_string(place.path().join("bodies")).unwrap();
        assert_eq!(keys.lines().count(), expected, "{policy}");
        assert!(keys.lines().all(|key| key == rows[0].1), "{policy}");
    }
}

#[test]
fn a_power_cut_leaves_the_intent_of_every_effect_whose_body_began() {
    let trace = record("steps::role_brings_an_effect_about", false);
    let history = History::new(&trace);
    let place = scratch().unwrap();
    let state = place.path().join("image");
    let mut looked_at = 0;
    for cut in 0..=history.events() {
        let told = trace.acknowledged_lines(cut);
        let Some(key) = told
            .iter()
            .find_map(|line| Some(line.split_once("body ")?.1))
        else {
            continue;
        };
        for policy in [Policy::KeepAll, STRICT] {
            history.image(cut, policy).write_to(&state).unwrap();
            let mut keys = Vec::new();
            let view = View::open(&state.join(JOB_DB)).unwrap();
            view.for_each_effect(|row| {
                keys.push(row.idempotency_key);
                Ok(true)
            })
            .unwrap();
            assert_eq!(keys, [key], "cut {cut}, {policy:?}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 4, "{looked_at}");
}

/// What may be done with steps of a few names.
#[derive(Clone, Copy, Debug)]
enum Act {
    Step(u8),
    Fail(u8),
    Forget(u8),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..6_u8).prop_map(Act::Step),
        2 => (0..6_u8).prop_map(Act::Fail),
        1 => (0..6_u8).prop_map(Act::Forget),
        2 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Steps are a map from names to their first results, whatever is done in which order.
    #[test]
    fn steps_are_a_map_from_names_to_first_results(acts in proptest::collection::vec(act(), 1..40)) {
        let place = scratch().unwrap();
        let path = place.path().join("state");
        let mut steps = Steps::open(&path).unwrap();
        let mut model = std::collections::BTreeMap::new();
        let mut asked = BTreeSet::new();
        for (at, act) in acts.into_iter().enumerate() {
            match act {
                Act::Step(name) => {
                    let given = steps.step(format!("n{name}"), || Ok::<_, safepoint::Error>(at));
                    if asked.insert(name) {
                        let first = *model.entry(name).or_insert(at);
                        prop_assert_eq!(given.unwrap(), Some(first));
                    } else {
                        prop_assert!(given.is_err());
                    }
                }
                Act::Fail(name) => {
                    let given = steps.step(format!("n{name}"), || Err::<usize, _>(safepoint::Error::invalid("no")));
                    if !asked.contains(&name) && model.contains_key(&name) {
                        asked.insert(name);
                        prop_assert_eq!(given.unwrap(), model.get(&name).copied());
                    } else {
                        prop_assert!(given.is_err());
                    }
                }
                Act::Forget(name) => {
                    steps.forget(format!("n{name}")).unwrap();
                    model.remove(&name);
                    asked.remove(&name);
                }
                Act::Reopen => {
                    drop(steps);
                    steps = Steps::open(&path).unwrap();
                    asked.clear();
                }
            }
            for name in 0..6 {
                prop_assert_eq!(steps.recorded::<usize>(format!("n{name}")).unwrap(), model.get(&name).copied());
            }
        }
    }
}
