//! Jobs of steps, which programs make with the library, seen and resolved by the command.

use safepoint::Steps;
use safepoint::steps::InDoubt;
use serde_json::Value;

use crate::support::{Place, Ran};

/// A job of steps as a program leaves it: two are complete, one failed, one effect is complete and one in doubt.
pub(crate) fn experiment(place: &Place) {
    let steps = Steps::open(place.file(".safepoint/experiment")).expect("opened");
    let tier = steps.scope("T0");
    for run in 1..=2 {
        let value = tier.step(format!("run-{run}"), || Ok::<_, safepoint::Error>(run));
        value.expect("recorded");
    }
    let failed = steps.step("bake", || {
        Err::<u32, _>(safepoint::Error::invalid("the oven is cold"))
    });
    failed.expect_err("it fails");
    let sent = steps.effect("mail", InDoubt::Hold, |_| {
        Ok::<_, safepoint::Error>("sent".to_owned())
    });
    assert!(sent.expect("brought about").complete().is_some());
    let lost = steps.effect("pay", InDoubt::Hold, |_| {
        Err::<u32, _>(safepoint::Error::invalid("the line is dead"))
    });
    lost.expect_err("it fails");
    steps.close().expect("closed");
}

fn hold(place: &Place) {
    let steps = Steps::open(place.file(".safepoint/experiment")).expect("opened");
    let held = steps.effect("pay", InDoubt::Hold, |_| Ok::<_, safepoint::Error>(1));
    assert!(held.expect("held").complete().is_none());
    steps.close().expect("closed");
}

#[test]
fn steps_are_listed_with_their_state_run_and_time() {
    let place = Place::new();
    experiment(&place);
    let ran = place.run(&["steps", "list"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let lines: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["NAME", "STATE", "RUN", "TOOK", "BEGAN"]);
    let firsts: Vec<_> = lines[1..]
        .iter()
        .map(|words| words[..3].join(" "))
        .collect();
    assert_eq!(
        firsts,
        [
            "T0/run-1 complete 1",
            "T0/run-2 complete 1",
            "bake failed 1",
            "error: the oven",
            "effect mail complete",
            "effect pay intended",
            "error: the line"
        ]
    );
    // By its path, too, and as JSON.
    let by_path = place.run(&["steps", "list", ".safepoint/experiment", "--json"]);
    let told: Value = serde_json::from_str(&by_path.stdout).expect("JSON");
    assert_eq!(
        (&told["schema"], &told["job"]),
        (&1.into(), &"experiment".into())
    );
    assert_eq!(told["steps"][1]["step"], "T0/run-2");
    assert_eq!(told["steps"][1]["result"], 2);
    assert_eq!(told["effects"][0]["result"], "sent");
    assert_eq!(told["effects"][1]["state"], "intended");
    let none = place.run(&["steps", "list", "nothing"]);
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("no job `nothing`"), "{}", none.stderr);
}

#[test]
fn a_job_of_steps_says_so_everywhere() {
    let place = Place::new();
    experiment(&place);
    hold(&place);
    let said = |arguments: &[&str]| {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        ran.stdout
    };
    let listed = said(&["list"]);
    assert!(listed.contains("interrupted  2 steps"), "{listed}");
    let status = said(&["status"]);
    assert!(
        status.contains("steps        2 steps complete, 1 failed, 2 effects, 1 held for a person"),
        "{status}"
    );
    assert!(
        status.contains("completed, 2 steps done")
            && status.contains("(an effect is held for a person), 0 steps done"),
        "{status}"
    );
    assert!(!status.contains("items"), "{status}");
    let shown = said(&["show"]);
    assert!(
        shown.starts_with("job experiment: interrupted, 2 steps complete"),
        "{shown}"
    );
    let whole = said(&["validate"]);
    assert_eq!(whole, "job `experiment` is whole: 3 steps, 0 events\n");
    let told: Value = serde_json::from_str(&said(&["status", "--json"])).expect("JSON");
    assert_eq!(told["steps"]["held"], 1);
    let other = place.run(&["run", "--name", "experiment", "words.txt", "--", "true"]);
    assert_ne!(other.code, Some(0), "a job of steps is not one of items");
}

#[test]
fn a_held_effect_is_resolved_by_a_person() {
    for (truth, state, rest) in [
        (
            &["--done", "17"][..],
            "complete",
            "effect pay is complete\n",
        ),
        (
            &["--again"][..],
            "released",
            "effect pay runs again when it is asked for\n",
        ),
    ] {
        let place = Place::new();
        experiment(&place);
        hold(&place);
        let resolve = |truth: &[&str]| {
            let mut arguments = vec!["steps", "resolve", "experiment", "pay"];
            arguments.extend(truth);
            place.run(&arguments)
        };
        let neither = resolve(&[]);
        assert_eq!(neither.code, Some(2));
        let no_json = resolve(&["--done", "paid"]);
        assert_eq!(no_json.code, Some(2));
        assert!(
            no_json.stderr.contains("is not JSON") && no_json.stderr.contains("quotes"),
            "{}",
            no_json.stderr
        );
        let resolved = resolve(truth);
        assert_eq!((resolved.code, resolved.stderr.as_str()), (Some(0), rest));
        // What was said by mistake is said anew, until the effect is to be brought about.
        let anew = resolve(&["--again"]);
        let may_be_said_anew = state == "complete";
        assert_eq!(anew.code, Some(if may_be_said_anew { 0 } else { 2 }));
        assert_eq!(
            anew.stderr.contains("is released, not in doubt"),
            !may_be_said_anew,
            "{}",
            anew.stderr
        );
    }
    let place = Place::new();
    experiment(&place);
    let steps = Steps::open(place.file(".safepoint/experiment")).expect("opened");
    let busy = place.run(&["steps", "resolve", "experiment", "pay", "--again"]);
    assert_eq!(busy.code, Some(4));
    assert!(
        busy.stderr.contains(&std::process::id().to_string()),
        "{}",
        busy.stderr
    );
    steps.close().expect("closed");
}

#[test]
fn a_job_of_format_1_is_gone_on_with() {
    let place = Place::new();
    place.write("words.txt", "one\ntwo\nthree\nbad\nmore\n");
    let state = place.file(".safepoint/words");
    std::fs::create_dir_all(&state).expect("made");
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../safepoint/tests/fixtures/job-db-1.db"
    );
    std::fs::copy(fixture, state.join("job.db")).expect("copied");
    assert!(place.run(&["status"]).stdout.contains("3 of 4 items done"));
    let script = "test \"$1\" != bad && echo \"<$1>\"";
    let arguments = [
        "run",
        "--retries",
        "0",
        "words.txt",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        "{}",
    ];
    let ran = place.run(&arguments);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(
        ran.stdout.contains("<more>") && !ran.stdout.contains("<one>"),
        "{}",
        ran.stdout
    );
    let results = place.run(&["results"]).stdout;
    assert_eq!(results.lines().count(), 4, "{results}");
}

#[test]
fn a_list_takes_no_more_memory_for_many_large_results() {
    const LARGE: usize = 1 << 20;
    const STEPS: usize = 40;
    let place = Place::new();
    let steps = Steps::open(place.file(".safepoint/large")).expect("opened");
    for step in 0..STEPS {
        let value = steps.step(step.to_string(), || {
            Ok::<_, safepoint::Error>("x".repeat(LARGE))
        });
        assert_eq!(
            value.expect("recorded").map(|value| value.len()),
            Some(LARGE)
        );
    }
    steps.close().expect("closed");
    let list = |arguments: &[&str]| {
        let program = place.safepoint(&[]);
        // As much as the program takes by itself, in KiB, and some results, but not half of all.
        let script = "ulimit -v 48000 && exec \"$0\" steps list \"$@\"";
        let listed = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(program.get_program())
            .args(arguments)
            .current_dir(place.path())
            .output();
        Ran::of(listed.expect("started"))
    };
    let table = list(&[]);
    assert_eq!((table.code, table.stderr.as_str()), (Some(0), ""));
    assert_eq!(table.stdout.lines().count(), STEPS + 1);
    let json = list(&["--json"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let results = told["steps"].as_array().expect("an array").iter();
    assert!(
        results
            .map(|step| step["result"].as_str().map(str::len))
            .all(|len| len == Some(LARGE))
    );
}
