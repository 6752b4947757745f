//! The rules of the room, one by one, in this process. Real kills and power cuts are in the tests of the package.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use super::*;
use crate::queue::{EffectState, JOB_DB, StepState, View};
use crate::shutdown::{Shutdown, Source, StopRequest};
use crate::{Error, ErrorKind, Result};

/// A directory of steps, and what its openings tell.
struct Place {
    directory: tempfile::TempDir,
    told: Arc<Mutex<Vec<String>>>,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            told: Arc::default(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("experiment")
    }

    fn builder(&self) -> Builder {
        let told = Arc::clone(&self.told);
        Steps::builder(self.path()).on_notice(move |notice| {
            told.lock().expect("no panic").push(notice.to_string());
        })
    }

    fn open(&self) -> Steps {
        self.builder().open().expect("opened")
    }

    /// What was told since it was last asked, without times.
    fn told(&self) -> Vec<String> {
        let told = std::mem::take(&mut *self.told.lock().expect("no panic"));
        let timeless = |line: String| match line.split_once(" - Complete (") {
            Some((head, _)) => format!("{head} - Complete"),
            None => line,
        };
        told.into_iter().map(timeless).collect()
    }

    fn view(&self) -> View {
        View::open(&self.path().join(JOB_DB)).expect("viewed")
    }

    fn effect(&self, key: &str) -> crate::queue::EffectRow {
        let mut found = None;
        self.view()
            .for_each_effect(|row| {
                if row.key == key {
                    found = Some(row);
                }
                Ok(true)
            })
            .expect("read");
        found.expect("the effect is recorded")
    }

    fn states(&self) -> Vec<(String, StepState)> {
        let mut states = Vec::new();
        self.view()
            .for_each_step(|row| {
                states.push((row.name, row.state));
                Ok(true)
            })
            .expect("read");
        states.sort_by(|one, other| one.0.cmp(&other.0));
        states
    }
}

#[expect(clippy::unnecessary_wraps, reason = "bodies return results")]
fn ok<T>(value: T) -> Result<T> {
    Ok(value)
}

fn failure() -> Result<u32> {
    Err(Error::new(ErrorKind::Io, "the oven is cold"))
}

fn never<T>() -> Result<T> {
    unreachable!("its result is recorded, or it was refused")
}

#[test]
fn a_recorded_step_is_given_and_not_run_again() {
    let place = Place::new();
    let steps = place.open();
    assert_eq!(
        steps.step("prepare", || ok(vec![1, 2])).expect("run"),
        Some(vec![1, 2])
    );
    assert_eq!(
        steps
            .scope("T0")
            .step("run-1", || ok("a".to_owned()))
            .expect("run")
            .as_deref(),
        Some("a")
    );
    let report = steps.close().expect("closed");
    assert_eq!((report.run, report.complete, report.skipped), (1, 2, 0));
    assert_eq!(
        place.told(),
        [
            "Stage: prepare - Starting",
            "Stage: prepare - Complete",
            "Stage: T0/run-1 - Starting",
            "Stage: T0/run-1 - Complete"
        ]
    );
    let steps = place.open();
    assert_eq!(
        steps.step("prepare", never::<Vec<i32>>).expect("recorded"),
        Some(vec![1, 2])
    );
    assert_eq!(
        steps
            .step("T0/run-1", never::<String>)
            .expect("recorded")
            .as_deref(),
        Some("a")
    );
    assert_eq!(steps.step("more", || ok(())).expect("run"), Some(()));
    let report = steps.close().expect("closed");
    assert_eq!((report.run, report.complete, report.skipped), (2, 1, 2));
    assert_eq!(
        place.told()[..3],
        [
            "Run 2: 2 steps are complete already",
            "Stage: prepare - Skipped (complete since run 1)",
            "Stage: T0/run-1 - Skipped (complete since run 1)"
        ]
    );
    let runs = place.view().runs().expect("read");
    let outcomes: Vec<_> = runs.iter().map(|run| run.outcome.as_deref()).collect();
    assert_eq!(outcomes, [Some("completed"); 2]);
    let done: Vec<_> = runs
        .iter()
        .map(|run| (run.done_before, run.done_after))
        .collect();
    assert_eq!(done, [(0, Some(2)), (2, Some(3))]);
}

#[test]
fn a_name_that_is_asked_for_twice_is_refused_before_its_body_runs() {
    let place = Place::new();
    let steps = place.open();
    for pass in 0..2 {
        let ran = Cell::new(false);
        let asked = steps.step("pass", || {
            ran.set(true);
            ok(pass)
        });
        assert_eq!(ran.get(), pass == 0);
        if pass == 1 {
            let error = asked.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("`pass`"), "{error}");
            assert!(
                error
                    .hint()
                    .is_some_and(|hint| hint.contains("a name of its own"))
            );
        }
    }
    // Also while it is in progress, and where it was skipped.
    let inner = steps.step("outer", || steps.step("outer", never::<u32>));
    assert!(inner.is_err_and(|error| error.to_string().contains("in progress")));
    steps.close().expect("closed");
    let steps = place.open();
    assert_eq!(steps.step("pass", never::<u32>).expect("recorded"), Some(0));
    assert!(steps.step("pass", never::<u32>).is_err());
    for _ in 0..3 {
        assert_eq!(steps.recorded::<u32>("pass").expect("read"), Some(0));
    }
    assert_eq!(steps.recorded::<u32>("unheard of").expect("read"), None);
}

#[test]
fn an_error_is_passed_on_and_the_step_may_be_asked_for_again() {
    let place = Place::new();
    let steps = place.open();
    for _ in 0..2 {
        let error = steps.step("bake", failure).expect_err("failed");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
    drop(steps);
    assert_eq!(place.states(), [("bake".to_owned(), StepState::Failed)]);
    let steps = place.open();
    assert_eq!(steps.step("bake", || ok(1)).expect("run"), Some(1));
    let report = steps.close().expect("closed");
    assert_eq!((report.complete, report.ran_again), (1, 1));
    assert_eq!(
        place.view().runs().expect("read")[0].outcome.as_deref(),
        Some("interrupted")
    );
}

#[test]
fn a_memoised_error_comes_back_without_the_body() {
    let place = Place::new();
    let steps = place.open();
    let first = steps
        .at("bake")
        .memoise_errors()
        .run(failure)
        .expect_err("failed");
    assert_eq!(first.kind(), ErrorKind::Io);
    assert!(
        steps
            .at("bake")
            .memoise_errors()
            .run(never::<u32>)
            .is_err_and(
                |error| error.to_string().contains("twice") || error.to_string().contains("before")
            )
    );
    steps.close().expect("closed");
    place.told();
    let steps = place.open();
    let error = steps
        .at("bake")
        .memoise_errors()
        .run(never::<u32>)
        .expect_err("memoised");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "step `bake` failed in run 1: the oven is cold"
    );
    assert!(
        place
            .told()
            .contains(&"Stage: bake - Failed in run 1: the oven is cold".to_owned())
    );
    // Who does not ask for memoised errors gets none.
    assert!(steps.forget("bake").expect("forgotten"));
    assert_eq!(steps.step("bake", || ok(2)).expect("run"), Some(2));
}

#[test]
fn an_error_that_was_not_memoised_does_not_become_so_later() {
    let place = Place::new();
    let steps = place.open();
    assert!(steps.step("bake", failure).is_err());
    steps.close().expect("closed");
    let steps = place.open();
    assert_eq!(
        steps
            .at("bake")
            .memoise_errors()
            .run(|| ok(3))
            .expect("run"),
        Some(3)
    );
}

#[test]
fn a_panic_goes_on_and_records_nothing() {
    let place = Place::new();
    let shutdown = Shutdown::builder().build().expect("built");
    let steps = place
        .builder()
        .token(&shutdown.token())
        .open()
        .expect("opened");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = steps.step("fall", || -> Result<u32> { panic!("down") });
    }));
    assert!(caught.is_err());
    assert_eq!(shutdown.token().status().units.rolled_back, 1);
    assert_eq!(steps.step("fall", || ok(1)).expect("run"), Some(1));
    steps.close().expect("closed");
    assert_eq!(place.states(), [("fall".to_owned(), StepState::Complete)]);
}

#[test]
fn a_stop_lets_the_step_in_progress_end_and_no_other_begin() {
    let place = Place::new();
    let shutdown = Shutdown::builder().build().expect("built");
    let token = shutdown.token();
    let steps = place.builder().token(&token).open().expect("opened");
    let ended = steps.step("first", || {
        token.request(StopRequest::graceful(Source::User, "enough"));
        ok(1)
    });
    assert_eq!(ended.expect("run"), Some(1));
    assert_eq!(steps.step("second", never::<u32>).expect("no error"), None);
    assert_eq!(steps.step("first", never::<u32>).expect("no error"), None);
    assert_eq!(
        steps
            .effect("third", InDoubt::Hold, |_| never::<u32>())
            .expect("no error"),
        Effect::Stopped
    );
    assert_eq!(token.status().units.committed, 1);
    let report = steps.close().expect("closed");
    assert!(report.was_stopped);
    let run = place.view().runs().expect("read").remove(0);
    assert_eq!(
        (run.outcome.as_deref(), run.reason.as_deref()),
        (Some("interrupted"), Some("enough"))
    );
}

#[test]
fn what_a_stop_made_fail_was_cut_off_and_is_named_by_the_next_run() {
    let place = Place::new();
    let shutdown = Shutdown::builder().build().expect("built");
    let token = shutdown.token();
    let steps = place.builder().token(&token).open().expect("opened");
    let cut_off = steps.at("slow").memoise_errors().run(|| {
        token.request(StopRequest::immediate(Source::User, "now"));
        failure()
    });
    assert!(cut_off.is_err());
    drop(steps);
    assert_eq!(
        place.told().last().map(String::as_str),
        Some("Stage: slow - Interrupted in run 1")
    );
    assert_eq!(place.states(), [("slow".to_owned(), StepState::Running)]);
    let steps = place.open();
    assert_eq!(
        place.told(),
        [
            "Run 2: 0 steps are complete already",
            "Stage: slow - Interrupted in run 1"
        ]
    );
    assert_eq!(steps.step("slow", || ok(1)).expect("run"), Some(1));
}

#[test]
fn a_result_that_does_not_pass_its_check_is_made_again() {
    let place = Place::new();
    let steps = place.open();
    steps
        .at("fetch")
        .check(|_| unreachable!("only a recorded result is checked"))
        .run(|| ok(1))
        .expect("run");
    steps.close().expect("closed");
    let steps = place.open();
    assert_eq!(
        steps
            .at("fetch")
            .check(|value| *value == 1)
            .run(never::<u32>)
            .expect("recorded"),
        Some(1)
    );
    steps.close().expect("closed");
    place.told();
    let steps = place.open();
    assert_eq!(
        steps
            .at("fetch")
            .check(|value| *value == 2)
            .run(|| ok(2))
            .expect("run"),
        Some(2)
    );
    assert!(place.told().contains(
        &"Stage: fetch - Runs again (its result of run 1 did not pass the check)".to_owned()
    ));
    assert_eq!(steps.close().expect("closed").ran_again, 1);
    assert_eq!(
        place.open().recorded::<u32>("fetch").expect("read"),
        Some(2)
    );
}

#[test]
fn a_result_of_another_type_is_refused_and_can_be_forgotten() {
    let place = Place::new();
    let steps = place.open();
    steps.step("size", || ok("large".to_owned())).expect("run");
    steps.close().expect("closed");
    let steps = place.open();
    for error in [
        steps.step("size", never::<u32>).expect_err("refused"),
        steps.recorded::<u32>("size").expect_err("refused"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("`size`"), "{error}");
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("forget(\"size\")"))
        );
    }
    assert!(steps.forget("size").expect("forgotten"));
    assert!(!steps.forget("size").expect("nothing there"));
    assert_eq!(steps.step("size", || ok(7)).expect("run"), Some(7));
    steps.close().expect("closed");
    assert_eq!(place.open().recorded::<u32>("size").expect("read"), Some(7));
}

#[test]
fn what_cannot_be_read_back_is_refused_by_the_run_that_made_it() {
    let place = Place::new();
    let steps = place.open();
    let nan = steps.step("mean", || ok(f64::NAN)).expect_err("refused");
    assert_eq!(nan.kind(), ErrorKind::Invalid);
    assert!(nan.to_string().contains("`mean`"), "{nan}");
    let long = steps
        .step("log", || ok("x".repeat(MAX_RESULT)))
        .expect_err("refused");
    assert!(long.to_string().contains(&MAX_RESULT.to_string()), "{long}");
    steps.close().expect("closed");
    let failed = |name: &str| (name.to_owned(), StepState::Failed);
    assert_eq!(place.states(), [failed("log"), failed("mean")]);
}

#[test]
fn the_first_run_gets_what_all_later_ones_get() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Fit {
        slope: f32,
        #[serde(skip)]
        scratch: Vec<u8>,
    }
    let place = Place::new();
    let steps = place.open();
    let first = steps
        .step("fit", || {
            ok(Fit {
                slope: 0.1,
                scratch: vec![1],
            })
        })
        .expect("run");
    steps.close().expect("closed");
    assert_eq!(
        place.open().step("fit", never::<Fit>).expect("recorded"),
        first
    );
}

#[test]
fn names_that_change_from_run_to_run_are_told_and_an_early_end_is_no_alarm() {
    let place = Place::new();
    let pass = |names: &[&str]| {
        let steps = place.open();
        let scope = steps.scope("loop");
        for name in names {
            let _ = scope.step(name, || ok(0)).expect("run or recorded");
        }
        steps
    };
    let is_told = |told: Vec<String>| told.iter().any(|line| line.contains("never found again"));
    pass(&["fetch-09:00", "sum"]).close().expect("closed");
    assert!(!is_told(place.told()));
    // An early end asks for fewer, and a longer input for more: neither is a change of names.
    pass(&["fetch-09:00"]).close().expect("closed");
    pass(&["fetch-09:00", "sum", "more"])
        .close()
        .expect("closed");
    drop(pass(&["fetch-09:00", "yet more"]));
    assert!(!is_told(place.told()));
    let report = pass(&["fetch-10:30", "sum"]).close().expect("closed");
    assert_eq!(
        report.not_asked_for,
        ["loop/fetch-09:00", "loop/more", "loop/yet more"]
    );
    let told = place.told();
    let line = told
        .iter()
        .find(|line| line.contains("never found again"))
        .expect("told");
    assert!(
        line.contains("`loop/fetch-10:30`") && line.contains("`loop/fetch-09:00`"),
        "{line}"
    );
}

#[test]
fn changed_names_are_told_early_where_nothing_recorded_is_asked_for() {
    let place = Place::new();
    let steps = place.open();
    steps.step("fetch-x", || ok(0)).expect("run");
    steps.close().expect("closed");
    place.told();
    let steps = place.open();
    for number in 0..16 {
        assert!(
            !place
                .told()
                .iter()
                .any(|line| line.contains("never found again"))
        );
        steps
            .step(format!("fetch-{number}"), || ok(0))
            .expect("run");
    }
    assert!(
        place
            .told()
            .iter()
            .any(|line| line.contains("never found again"))
    );
    steps.close().expect("closed");
    assert!(place.told().is_empty());
}

#[test]
fn a_stage_tells_its_begin_and_end_and_changed_names_in_it() {
    let place = Place::new();
    let run = |name: &'static str| {
        let steps = place.open();
        let sum = steps.stage("T0", |tier| -> Result<_> {
            tier.stage("sub", |sub| sub.step(name, || ok(2)))
        });
        assert_eq!(sum.expect("run"), Some(2));
        place.told()
    };
    assert_eq!(
        run("run-1"),
        [
            "Stage: T0 - Starting",
            "Stage: T0/sub - Starting",
            "Stage: T0/sub/run-1 - Starting",
            "Stage: T0/sub/run-1 - Complete",
            "Stage: T0/sub - Complete",
            "Stage: T0 - Complete"
        ]
    );
    let told = run("run-2");
    let at = |text: &str| told.iter().position(|line| line.contains(text));
    assert!(
        at("In `T0/sub` 1 steps are new")
            .is_some_and(|place| Some(place) < at("Stage: T0/sub - Complete"))
    );
    let steps = place.open();
    let failed = steps.stage("T1", |_| failure().map(Some));
    assert!(failed.is_err());
    assert!(
        place
            .told()
            .contains(&"Stage: T1 - Failed: the oven is cold".to_owned())
    );
    assert!(steps.stage("a//b", |_| never::<Option<u32>>()).is_err());
}

#[test]
fn a_second_owner_is_refused_by_name_and_the_directory_is_free_after_the_end() {
    let place = Place::new();
    let steps = place.open();
    let scope = steps.scope("late");
    let error = Steps::open(place.path()).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    steps.close().expect("closed");
    let again = place.open();
    // What is left of the closed one does nothing, and begins nothing.
    assert_eq!(
        scope.step("x", never::<u32>).expect_err("closed").kind(),
        ErrorKind::Closed
    );
    again.close().expect("closed");
}

#[test]
fn the_directory_is_private_and_one_of_items_is_refused() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    place.open().close().expect("closed");
    assert_eq!(
        std::fs::metadata(place.path()).expect("there").mode() & 0o777,
        0o700
    );
    let items = place.directory.path().join("items");
    std::fs::create_dir(&items).expect("made");
    std::fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/job-db-1.db"),
        items.join(JOB_DB),
    )
    .expect("copied");
    assert_eq!(
        Steps::open(&items).expect_err("refused").kind(),
        ErrorKind::Incompatible
    );
    std::fs::remove_file(place.path().join(JOB_DB)).expect("removed");
    let log = place.path().join(format!("{JOB_DB}-wal"));
    std::fs::copy(items.join(JOB_DB), log).expect("copied");
    assert_eq!(
        Steps::open(place.path()).expect_err("refused").kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn threads_share_steps_and_each_body_runs_once() {
    let place = Place::new();
    for run in 1..=2 {
        let steps = place.open();
        let ran = AtomicU32::new(0);
        let together = Barrier::new(8);
        std::thread::scope(|threads| {
            for thread in 0..8 {
                let (scope, ran, together) = (steps.scope(format!("T{thread}")), &ran, &together);
                threads.spawn(move || {
                    together.wait();
                    for number in 0..50 {
                        let value = scope.step(format!("run-{number}"), || {
                            ran.fetch_add(1, Ordering::Relaxed);
                            ok((thread, number))
                        });
                        assert_eq!(value.expect("run"), Some((thread, number)));
                    }
                });
            }
        });
        assert_eq!(ran.into_inner(), if run == 1 { 400 } else { 0 });
        steps.close().expect("closed");
    }
    assert_eq!(place.view().step_counts().expect("read").complete, 400);
    assert_eq!(place.view().validate().expect("asked"), []);
}

#[test]
fn one_name_asked_for_by_many_threads_runs_once() {
    let place = Place::new();
    let steps = place.open();
    let (ran, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    let together = Barrier::new(8);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                together.wait();
                let asked = steps.step("one", || {
                    ran.fetch_add(1, Ordering::Relaxed);
                    ok(())
                });
                if asked.is_err() {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((ran.into_inner(), refused.into_inner()), (1, 7));
}

#[test]
fn an_effect_is_brought_about_once_and_its_intent_is_durable_before() {
    let place = Place::new();
    let steps = place.open();
    let keys = Cell::new(String::new());
    let paid = steps.effect("pay", InDoubt::Hold, |intent| {
        keys.set(intent.idempotency_key().to_owned());
        // Whoever looks at the file now finds the intent.
        assert_eq!(place.effect("pay").state, EffectState::Intended);
        ok(4711)
    });
    assert_eq!(paid.expect("brought about"), Effect::Complete(4711));
    assert!(
        steps
            .effect("pay", InDoubt::Hold, |_| never::<u32>())
            .is_err()
    );
    steps.close().expect("closed");
    let row = place.effect("pay");
    assert_eq!(
        (row.state, row.idempotency_key),
        (EffectState::Complete, keys.into_inner())
    );
    let steps = place.open();
    let paid = steps.effect("pay", InDoubt::RunAgain, |_| never::<u32>());
    assert_eq!(paid.expect("recorded").complete(), Some(4711));
}

/// Leaves the effect `pay` in doubt, and gives its idempotency key.
fn doubtful(place: &Place) -> String {
    let steps = place.open();
    let key = Cell::new(String::new());
    let failed = steps.effect("pay", InDoubt::Hold, |intent| {
        key.set(intent.idempotency_key().to_owned());
        failure()
    });
    assert!(failed.is_err());
    steps.close().expect("closed");
    place.told();
    key.into_inner()
}

#[test]
fn an_effect_in_doubt_runs_again_with_the_same_idempotency_key_if_its_author_says_so() {
    let place = Place::new();
    let key = doubtful(&place);
    assert_eq!(
        place.effect("pay").error.as_deref(),
        Some("the oven is cold")
    );
    let steps = place.open();
    let paid = steps.effect("pay", InDoubt::RunAgain, |intent| {
        ok(intent.idempotency_key().to_owned())
    });
    assert_eq!(paid.expect("brought about"), Effect::Complete(key));
    assert!(
        place
            .told()
            .contains(&"Effect: pay - In doubt since run 1".to_owned())
    );
}

#[test]
fn an_effect_in_doubt_asks_and_believes_the_answer() {
    let place = Place::new();
    let key = doubtful(&place);
    let steps = place.open();
    let unknown = steps.effect(
        "pay",
        InDoubt::ask(|_| failure().map(Answer::Completed)),
        |_| never(),
    );
    assert!(unknown.is_err());
    assert_eq!(place.effect("pay").state, EffectState::Intended);
    let check = |asked: &str| {
        assert_eq!(asked, key);
        ok(Answer::Completed(9))
    };
    let paid = steps.effect("pay", InDoubt::ask(check), |_| never());
    assert_eq!(paid.expect("found out"), Effect::Complete(9));
    steps.close().expect("closed");
    assert_eq!(place.effect("pay").result.as_deref(), Some("9"));

    let place = Place::new();
    doubtful(&place);
    let steps = place.open();
    let paid = steps.effect("pay", InDoubt::ask(|_| ok(Answer::NotDone)), |_| ok(1));
    assert_eq!(paid.expect("brought about"), Effect::Complete(1));
}

#[test]
fn a_held_effect_waits_for_a_person_whatever_is_asked_later() {
    let place = Place::new();
    let key = doubtful(&place);
    let steps = place.open();
    assert_eq!(
        steps
            .effect("pay", InDoubt::Hold, |_| never::<u32>())
            .expect("held"),
        Effect::Held
    );
    let report = steps.close().expect("closed");
    assert_eq!(report.held, 1);
    let last = place.view().runs().expect("read").pop().expect("a run");
    assert_eq!(last.outcome.as_deref(), Some("interrupted"));
    let steps = place.open();
    assert_eq!(
        steps
            .effect("pay", InDoubt::RunAgain, |_| never::<u32>())
            .expect("held"),
        Effect::Held
    );
    assert!(steps.resolve("pay", Resolution::Again).is_err());
    assert_eq!(
        resolve(&place.path(), "pay", Resolution::Again)
            .expect_err("open")
            .kind(),
        ErrorKind::Busy
    );
    steps.close().expect("closed");
    for (effect, resolution, kind) in [
        ("pay", Resolution::Done("paid".into()), ErrorKind::Invalid),
        ("pray", Resolution::Again, ErrorKind::NotFound),
    ] {
        assert_eq!(
            resolve(&place.path(), effect, resolution)
                .expect_err("refused")
                .kind(),
            kind
        );
    }
    resolve(&place.path(), "pay", Resolution::Again).expect("resolved");
    let steps = place.open();
    let paid = steps.effect("pay", InDoubt::Hold, |intent| {
        ok(intent.idempotency_key().to_owned())
    });
    assert_eq!(paid.expect("brought about"), Effect::Complete(key));
    steps.close().expect("closed");
    assert!(
        resolve(&place.path(), "pay", Resolution::Again)
            .is_err_and(|error| error.to_string().contains("complete"))
    );
    assert_eq!(
        resolve(Path::new("/nowhere/at/all"), "pay", Resolution::Again)
            .expect_err("none")
            .kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_person_says_that_an_effect_was_done() {
    let place = Place::new();
    doubtful(&place);
    resolve(&place.path(), "pay", Resolution::Done("17".into())).expect("resolved");
    let steps = place.open();
    assert_eq!(
        steps
            .effect("pay", InDoubt::Hold, |_| never::<u32>())
            .expect("recorded"),
        Effect::Complete(17)
    );
}

#[test]
fn an_effect_that_certainly_did_not_happen_is_not_in_doubt() {
    let place = Place::new();
    let steps = place.open();
    let first = Cell::new(String::new());
    let refused = steps.effect("pay", InDoubt::Hold, |intent| {
        first.set(intent.idempotency_key().to_owned());
        failure().map_err(|error| intent.not_done(error))
    });
    assert!(refused.is_err());
    assert_eq!(place.effect("pay").state, EffectState::Released);
    let paid = steps.effect("pay", InDoubt::Hold, |intent| {
        ok(intent.idempotency_key().to_owned())
    });
    assert_eq!(
        paid.expect("brought about"),
        Effect::Complete(first.into_inner())
    );
}

#[test]
fn an_effect_that_panicked_or_cannot_be_recorded_is_in_doubt() {
    let place = Place::new();
    let steps = place.open();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = steps.effect("pay", InDoubt::Hold, |_| -> Result<u32> { panic!("down") });
    }));
    assert!(caught.is_err());
    assert!(
        steps
            .effect("order", InDoubt::Hold, |_| ok(f64::NAN))
            .is_err()
    );
    steps.close().expect("closed");
    assert_eq!(place.effect("pay").state, EffectState::Intended);
    let order = place.effect("order");
    assert_eq!(order.state, EffectState::Intended);
    assert!(
        order
            .error
            .is_some_and(|error| error.starts_with("it has happened, but"))
    );
}

#[test]
fn a_long_step_has_a_row_that_says_that_it_has_begun() {
    let place = Place::new();
    let steps = place.open();
    steps
        .step("long", || {
            while place.states() != [("long".to_owned(), StepState::Running)] {
                std::thread::yield_now();
            }
            ok(())
        })
        .expect("run");
    steps.close().expect("closed");
    assert_eq!(place.states(), [("long".to_owned(), StepState::Complete)]);
}

#[test]
fn a_step_whose_check_refused_its_result_may_fail_and_be_asked_for_again() {
    let place = Place::new();
    let steps = place.open();
    steps.step("a", || ok(1)).expect("run");
    steps.close().expect("closed");
    let steps = place.open();
    let failed = steps.at("a").check(|_| false).run(|| {
        assert_eq!(steps.recorded::<u32>("a").expect("none holds"), None);
        failure()
    });
    assert_eq!(failed.expect_err("it fails").kind(), ErrorKind::Io);
    // Durable now, and with it the row of the failed one before it.
    steps.step("b", || ok(())).expect("run");
    assert_eq!(steps.recorded::<u32>("a").expect("none holds"), None);
    let again = steps
        .at("a")
        .check(|_| unreachable!("there is no result to check"))
        .run(|| ok(3));
    assert_eq!(again.expect("run"), Some(3));
    let report = steps.close().expect("closed");
    assert_eq!((report.ran_again, report.failed), (1, 1));
    assert_eq!(place.open().recorded::<u32>("a").expect("read"), Some(3));
}

#[test]
fn an_error_that_is_run_anew_and_not_memoised_is_not_taken_in_its_run() {
    let place = Place::new();
    let steps = place.open();
    let memoised = steps.at("bake").memoise_errors().run(failure);
    assert!(memoised.is_err());
    steps.close().expect("closed");
    let steps = place.open();
    assert!(steps.step("bake", failure).is_err());
    let again = steps.at("bake").memoise_errors().run(|| ok(1));
    assert_eq!(again.expect("run"), Some(1));
}

#[test]
fn a_step_that_failed_is_asked_for_again_with_all_that_was_settled_in_it() {
    let place = Place::new();
    let steps = place.open();
    let (paid, packed, mut attempts) = (Cell::new(0), Cell::new(0), 0);
    let mut order = || {
        steps.step("order", || -> Result<u32> {
            let receipt = steps.effect("pay", InDoubt::Hold, |_| {
                paid.set(paid.get() + 1);
                ok(17)
            })?;
            assert_eq!(receipt, Effect::Complete(17));
            steps.step("parcel", || -> Result<()> {
                steps.step("parcel/pack", || {
                    packed.set(packed.get() + 1);
                    ok(())
                })?;
                ok(())
            })?;
            attempts += 1;
            match attempts {
                1 => failure(),
                2 => panic!("down"),
                _ => ok(attempts),
            }
        })
    };
    assert!(order().is_err());
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut order));
    assert!(caught.is_err());
    // Outside of it they may be asked for as well, and that settles them.
    let pack = steps.step("parcel/pack", never::<()>);
    assert_eq!(pack.expect("recorded"), Some(()));
    assert!(steps.step("parcel/pack", never::<()>).is_err());
    let order = steps.step("order", || -> Result<u32> {
        let receipt = steps.effect("pay", InDoubt::Hold, |_| never::<u32>())?;
        assert_eq!(receipt, Effect::Complete(17));
        assert_eq!(steps.step("parcel", never::<()>)?, Some(()));
        ok(3)
    });
    assert_eq!(order.expect("run"), Some(3));
    assert_eq!((paid.get(), packed.get()), (1, 1));
    // Once the step around them is complete, each name was asked for.
    assert!(steps.step("parcel", never::<()>).is_err());
    let twice = steps.effect("pay", InDoubt::Hold, |_| never::<u32>());
    assert!(twice.is_err_and(|error| error.to_string().contains("before in this run")));
}

#[test]
fn what_was_settled_elsewhere_stays_so_when_a_step_fails() {
    let place = Place::new();
    let other = Place::new();
    let (steps, others) = (place.open(), other.open());
    steps.step("before", || ok(())).expect("run");
    let failed = steps.step("outer", || -> Result<u32> {
        // Steps of two directories within each other are told apart.
        others.step("theirs", || -> Result<()> {
            steps.step("ours", || ok(()))?;
            others.step("in theirs", || ok(()))?;
            ok(())
        })?;
        std::thread::scope(|threads| {
            threads.spawn(|| steps.step("on another thread", || ok(())));
        });
        failure()
    });
    assert!(failed.is_err());
    for name in ["before", "on another thread"] {
        assert!(steps.step(name, never::<()>).is_err(), "{name}");
    }
    for name in ["theirs", "in theirs"] {
        assert!(others.step(name, never::<()>).is_err(), "{name}");
    }
    assert_eq!(steps.step("ours", never::<()>).expect("read"), Some(()));
}

#[test]
fn a_stage_or_an_effect_that_failed_is_asked_for_again_with_all_inside() {
    let place = Place::new();
    let steps = place.open();
    let ran = Cell::new(0);
    let run = || {
        ran.set(ran.get() + 1);
        ok(())
    };
    for attempt in 1..=2 {
        let stage = steps.stage("T0", |tier| -> Result<_> {
            tier.step("one", run)?;
            if attempt == 1 {
                failure().map(Some)
            } else {
                tier.step("two", || ok(2))
            }
        });
        assert_eq!(stage.ok(), (attempt == 2).then_some(Some(2)));
        let effect = steps.effect("pay", InDoubt::RunAgain, |_| -> Result<u32> {
            steps.step("invoice", run)?;
            if attempt == 1 { failure() } else { ok(17) }
        });
        assert_eq!(effect.ok(), (attempt == 2).then_some(Effect::Complete(17)));
    }
    assert_eq!(ran.get(), 2);
    for name in ["T0/one", "invoice"] {
        assert!(steps.step(name, never::<()>).is_err(), "{name}");
    }
}

#[test]
fn a_directory_that_was_there_becomes_private() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let place = Place::new();
    std::fs::create_dir(place.path()).expect("made");
    let open_to_all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path(), open_to_all).expect("set");
    let steps = place.open();
    steps
        .step("secret", || ok("s3cret".to_owned()))
        .expect("run");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o700);
    for file in [JOB_DB, "job.db-wal", "job.db-shm", "owner.lock"] {
        assert_eq!(mode(&place.path().join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_stage_that_a_stop_made_fail_was_cut_off() {
    let place = Place::new();
    let shutdown = Shutdown::builder().build().expect("built");
    let token = shutdown.token();
    let steps = place.builder().token(&token).open().expect("opened");
    let failed = steps.stage("T0", |_| {
        token.request(StopRequest::graceful(Source::User, "stop"));
        failure().map(Some)
    });
    assert!(failed.is_err());
    assert_eq!(
        place.told(),
        ["Stage: T0 - Starting", "Stage: T0 - Interrupted in run 1"]
    );
}

#[test]
fn a_scope_without_a_name_is_refused_at_its_steps() {
    let place = Place::new();
    let steps = place.open();
    for scope in [
        steps.scope(""),
        steps.scope("").scope(""),
        steps.scope("T0").scope(""),
    ] {
        let step = scope.step("x", never::<u32>).expect_err("refused");
        assert_eq!(step.kind(), ErrorKind::Invalid);
        let effect = scope.effect("x", InDoubt::Hold, |_| never::<u32>());
        assert_eq!(effect.expect_err("refused").kind(), ErrorKind::Invalid);
        let stage = scope.stage("x", |_| never::<Option<u32>>());
        assert_eq!(stage.expect_err("refused").kind(), ErrorKind::Invalid);
    }
    let stage = steps.stage("", |_| never::<Option<u32>>());
    assert_eq!(stage.expect_err("refused").kind(), ErrorKind::Invalid);
    assert_eq!(steps.step("x", || ok(1)).expect("run"), Some(1));
    assert_eq!((steps.name(), steps.scope("T0").name()), ("", "T0"));
}

#[test]
fn what_a_person_said_can_be_said_anew_and_what_the_body_returned_cannot() {
    let place = Place::new();
    let key = doubtful(&place);
    let done = |json: &str| resolve(&place.path(), "pay", Resolution::Done(json.into()));
    done("\"17\"").expect("resolved");
    let steps = place.open();
    let error = steps
        .effect("pay", InDoubt::Hold, |_| never::<u32>())
        .expect_err("it is no number");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(
        error.hint().is_some_and(|hint| hint.contains("resolve")),
        "{error:?}"
    );
    steps.close().expect("closed");
    done("18").expect("said anew");
    let steps = place.open();
    let paid = steps.effect("pay", InDoubt::Hold, |_| never::<u32>());
    assert_eq!(paid.expect("recorded"), Effect::Complete(18));
    steps.close().expect("closed");
    resolve(&place.path(), "pay", Resolution::Again).expect("said anew");
    assert_eq!(place.effect("pay").result, None);
    let steps = place.open();
    let paid = steps.effect("pay", InDoubt::Hold, |intent| {
        ok(intent.idempotency_key().to_owned())
    });
    assert_eq!(paid.expect("brought about"), Effect::Complete(key));
    steps.close().expect("closed");
    assert_eq!(done("19").expect_err("refused").kind(), ErrorKind::Invalid);
}

/// Begins a step that is not recorded.
fn begun(steps: &Scope, name: &str) -> StepInProgress {
    match steps.at::<u32>(name).begin().expect("asked") {
        StepBegin::Begun(step) => step,
        other => unreachable!("it is not recorded: {other:?}"),
    }
}

#[test]
fn a_step_may_begin_on_one_thread_and_end_on_another() {
    let place = Place::new();
    let steps = place.open();
    let step = begun(&steps, "far");
    assert_eq!(step.name(), "far");
    let ended = std::thread::spawn(move || step.complete(&7));
    assert_eq!(ended.join().expect("no panic").expect("written"), 7);
    assert!(matches!(
        steps.scope("T0").at::<u32>("far").begin(),
        Ok(StepBegin::Begun(_))
    ));
    steps.close().expect("closed");
    let steps = place.open();
    assert!(matches!(
        steps.at("far").begin(),
        Ok(StepBegin::Recorded(7))
    ));
}

#[test]
fn a_step_in_progress_that_is_dropped_is_cut_off_and_not_failed() {
    let place = Place::new();
    let steps = place.open();
    drop(begun(&steps, "left"));
    assert_eq!(
        place.told(),
        [
            "Stage: left - Starting",
            "Stage: left - Interrupted in run 1"
        ]
    );
    let failed = begun(&steps, "left");
    failed.fail("the oven is cold".to_owned()).expect("noted");
    assert_eq!(place.told()[1], "Stage: left - Failed: the oven is cold");
    assert_eq!(steps.step("left", || ok(1)).expect("run"), Some(1));
    let report = steps.close().expect("closed");
    assert_eq!((report.complete, report.failed), (1, 1));
}

#[test]
fn what_begins_within_a_step_is_inside_of_it_on_any_thread() {
    let place = Place::new();
    let steps = place.open();
    let outer = begun(&steps, "outer");
    let within = outer.within();
    std::thread::scope(|threads| {
        threads.spawn(|| within.run(|| steps.step("inner", || ok(1)).expect("run")));
        threads.spawn(|| steps.step("beside", || ok(1)).expect("run"));
    });
    // It began inside, and ends when the outer one is over: it is nobody's then, and stays asked for.
    let late = within.run(|| begun(&steps, "late"));
    outer.fail("no".to_owned()).expect("noted");
    late.complete(&1).expect("written");
    let again = begun(&steps, "outer");
    assert_eq!(steps.step("inner", never).expect("given again"), Some(1));
    for name in ["beside", "late"] {
        assert!(steps.step(name, never::<u32>).is_err(), "{name}");
    }
    again.complete(&1).expect("written");
}

#[test]
fn a_stop_waits_for_a_step_in_progress_wherever_it_ends() {
    let place = Place::new();
    let shutdown = Shutdown::builder().build().expect("built");
    let steps = place.builder().token(&shutdown.token()).open();
    let steps = steps.expect("opened");
    let step = begun(&steps, "slow");
    shutdown
        .token()
        .request(StopRequest::graceful(Source::User, "enough"));
    assert!(matches!(
        steps.at::<u32>("next").begin(),
        Ok(StepBegin::Stopped)
    ));
    assert!(matches!(
        steps.begin_effect::<u32>("pay"),
        Ok(EffectBegin::Stopped)
    ));
    let ending = std::thread::spawn(move || step.complete(&1));
    let report = shutdown.finish();
    assert_eq!(ending.join().expect("no panic").expect("written"), 1);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.units.committed, 1);
}

#[test]
fn an_effect_in_progress_that_is_dropped_is_in_doubt_and_one_in_doubt_stays_so() {
    let place = Place::new();
    let steps = place.open();
    let EffectBegin::Begun(effect) = steps.begin_effect::<u32>("pay").expect("asked") else {
        unreachable!("it is new");
    };
    let key = effect.idempotency_key().to_owned();
    drop(effect);
    for _ in 0..2 {
        let EffectBegin::InDoubt(doubt) = steps.begin_effect::<u32>("pay").expect("asked") else {
            unreachable!("it was not settled");
        };
        assert_eq!(doubt.idempotency_key(), key);
    }
    let EffectBegin::InDoubt(doubt) = steps.begin_effect::<u32>("pay").expect("asked") else {
        unreachable!("it was not settled");
    };
    let again = doubt.run_again().expect("written");
    assert_eq!(again.idempotency_key(), key);
    assert_eq!(again.complete(&4711).expect("written"), 4711);
    assert_eq!(place.effect("pay").state, EffectState::Complete);
}

#[test]
fn a_check_that_fails_is_passed_on_and_changes_nothing() {
    let place = Place::new();
    let steps = place.open();
    steps.step("fetch", || ok(1)).expect("run");
    steps.close().expect("closed");
    let steps = place.open();
    let refused = steps
        .at::<u32>("fetch")
        .try_check(|_| Err(Error::new(ErrorKind::Io, "the disk is away")))
        .run(never);
    assert_eq!(refused.expect_err("passed on").kind(), ErrorKind::Io);
    assert_eq!(steps.step("fetch", never).expect("recorded"), Some(1));
}
