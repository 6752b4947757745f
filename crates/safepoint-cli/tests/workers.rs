//! Persistent workers: the examples as they are, and every way in which a worker can go wrong.

use std::path::Path;

use rustix::process::Signal;
use safepoint::queue::{ItemRow, State};
use serde_json::Value;

use super::support::{Place, Ran, Running, wait_until};

/// What each worker of these tests begins with: `requests` is what comes in, `say` answers, `note` tells the test.
const PRELUDE: &str = r#"
import json, os, signal, sys, time
def say(**answer): print(json.dumps(answer), flush=True)
def done(request): say(id=request["id"], result=request["item"])
def note(what): open("notes", "a").write(f"{what}\n")
requests = (json.loads(line) for line in sys.stdin)
"#;

/// A job whose items are `items`, and whose worker is the given Python code after the prelude.
fn begin(place: &Place, items: &[&str], options: &[&str], code: &str) -> Running {
    place.write("in.txt", items.join("\n"));
    place.write("worker.py", format!("{PRELUDE}{code}"));
    place.begin(&arguments(options))
}

fn arguments<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["run", "in.txt", "--worker", "--retry-delay", "1ms"];
    if !options.iter().any(|option| option.starts_with("-j")) {
        all.push("-j1");
    }
    all.extend(options);
    all.extend(["--", "python3", "worker.py"]);
    all
}

fn run(place: &Place, items: &[&str], options: &[&str], code: &str) -> Ran {
    begin(place, items, options, code).ended()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn refs(items: &[String]) -> Vec<&str> {
    items.iter().map(String::as_str).collect()
}

fn summary(rows: &[ItemRow]) -> Vec<(u64, State, u32)> {
    rows.iter()
        .map(|row| (row.index, row.state, row.attempts))
        .collect()
}

const NORMAL: &str = "for request in requests: done(request)";

#[test]
fn the_examples_do_real_work() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/workers");
    for (interpreter, file) in [
        ("python3", "worker.py"),
        ("node", "worker.mjs"),
        ("sh", "worker.sh"),
    ] {
        if std::process::Command::new(interpreter)
            .arg("-c")
            .arg("")
            .output()
            .is_err()
        {
            continue;
        }
        let place = Place::new();
        place.write("a.txt", "one two\nthree\n");
        place.write("b \"quoted\" ä.txt", "x");
        place.write("in.txt", "a.txt\nb \"quoted\" ä.txt\nmissing.txt\n");
        let worker = examples.join(file);
        let ran = place.run(&[
            "run",
            "-j2",
            "in.txt",
            "--worker",
            "--pipeline",
            "2",
            "--",
            interpreter,
            worker.to_str().expect("plain"),
        ]);
        assert_eq!(ran.code, Some(3), "{file}: {}", ran.stderr);
        let rows = place.rows("in");
        assert_eq!(
            summary(&rows),
            [
                (0, State::Done, 1),
                (1, State::Done, 1),
                (2, State::Dead, 1)
            ],
            "{file}"
        );
        let result: Value =
            serde_json::from_slice(rows[0].result.as_deref().expect("a result")).expect("JSON");
        assert_eq!(
            (
                &result["path"],
                &result["bytes"],
                &result["lines"],
                &result["words"]
            ),
            (&"a.txt".into(), &14.into(), &2.into(), &3.into()),
            "{file}"
        );
        assert!(
            rows[2]
                .error
                .as_deref()
                .is_some_and(|error| error.contains("missing.txt"))
        );
        place.is_left_alone();
    }
}

#[test]
fn items_arrive_whole_and_results_too() {
    let place = Place::new();
    let items = [
        "plain",
        "ä ☃ 𝄞 \u{202e}",
        "a \"quote\" and \\ and {} and \t tab",
        "\u{1b}[31m\u{7}\u{1}",
    ];
    for options in [&[][..], &["--pipeline", "64", "-j3"]] {
        let ran = run(
            &place,
            &items,
            &[options, &["--output", "ordered", "--fresh"][..]].concat(),
            NORMAL,
        );
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stdout, items.map(|item| format!("{item}\n")).concat());
    }
    // Any JSON is a result, null too.
    let code = "answers = [None, 0, False, '', [], {'a': None}]\nfor request in requests: say(id=request['id'], result=answers[request['index']])";
    let place = Place::new();
    let items = numbers(6);
    let ran = run(&place, &refs(&items), &[], code);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let results: Vec<_> = place
        .rows("in")
        .into_iter()
        .map(|row| String::from_utf8(row.result.expect("a result")).expect("UTF-8"))
        .collect();
    assert_eq!(
        results,
        ["null", "0", "false", "\"\"", "[]", "{\"a\": null}"]
    );
    // JSON items arrive as they are.
    place.write("in.jsonl", "{\"n\": [1, 2.50], \"s\": \"x\"}\n7\n");
    let ran = place.run(&[
        "run",
        "-j1",
        "in.jsonl",
        "--name",
        "json",
        "--worker",
        "--",
        "python3",
        "-c",
        &format!(
            "{PRELUDE}\nfor request in requests: say(id=request['id'], result=repr(request['item']))"
        ),
    ]);
    assert_eq!(
        ran.stdout, "{'n': [1, 2.5], 's': 'x'}\n7\n",
        "{}",
        ran.stderr
    );
}

#[test]
fn a_worker_that_dies_costs_only_the_culprit() {
    // Item 5 kills its worker, the first two times.
    let code = r#"
for request in requests:
    if request["item"] == "5" and request["attempt"] < 3:
        note(f"culprit {request['attempt']}")
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    done(request)"#;
    for options in [
        &[][..],
        &["--pipeline", "4"],
        &["--pipeline", "64", "-j2"],
        &["--pipeline", "3", "-j3"],
    ] {
        let place = Place::new();
        let items = numbers(60);
        let ran = run(&place, &refs(&items), options, code);
        assert_eq!(ran.code, Some(0), "{options:?}: {}", ran.stderr);
        for row in place.rows("in") {
            assert_eq!(
                (row.state, row.attempts),
                (State::Done, if row.index == 5 { 3 } else { 1 }),
                "{options:?} item {}",
                row.index
            );
        }
        let attempts = place.attempts("in", 5);
        assert_eq!(attempts.len(), 2, "{options:?}");
        assert_eq!(attempts[0].signal, Some(9));
        assert!(
            attempts[0].error.contains("last words"),
            "{}",
            attempts[0].error
        );
        assert!(ran.stderr.contains("worker"), "{}", ran.stderr);
    }
    // It leaves politely in the middle: that is as bad.
    let code = r#"
for request in requests:
    if request["item"] == "2": sys.exit(0)
    done(request)"#;
    let place = Place::new();
    let items = numbers(5);
    let ran = run(&place, &refs(&items), &["--retries", "1"], code);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert_eq!(summary(&place.rows("in"))[2], (2, State::Dead, 2));
    assert!(
        place.rows("in")[2]
            .error
            .as_deref()
            .is_some_and(|error| error.contains("ended (exit 0) with this item in progress"))
    );
}

#[test]
fn a_worker_that_hangs_is_ended_and_only_its_oldest_item_is_blamed() {
    let code = r#"
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for request in requests:
    if request["item"] == "1" and request["attempt"] == 1: time.sleep(1000)
    done(request)"#;
    for options in [&[][..], &["--pipeline", "4"]] {
        let place = Place::new();
        let items = numbers(6);
        let ran = run(
            &place,
            &refs(&items),
            &[options, &["--timeout", "1500ms", "--kill-after", "100ms"]].concat(),
            code,
        );
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        for row in place.rows("in") {
            assert_eq!(
                row.attempts,
                if row.index == 1 { 2 } else { 1 },
                "item {}: {}",
                row.index,
                ran.stderr
            );
        }
        assert_eq!(place.attempts("in", 1)[0].error, "timed out after 1.5 s");
    }
}

#[test]
fn a_worker_that_breaks_the_protocol_is_named_and_replaced() {
    for (fault, said) in [
        (
            "print('Loading model…', flush=True)",
            "wrote a line that is not an answer",
        ),
        ("print('[1]', flush=True)", "not an answer"),
        (
            "say(id='0', result=1)",
            "wrote a line that is not an answer",
        ),
        (
            "say(id=77, result=1)",
            "answered id 77, which it was never given",
        ),
        ("say(result=1)", "wrote an answer without an `id`"),
        (
            "say(id=request['id'], error='x', retry_after=-1)",
            "gave a `retry_after` that is not a number from 0 on",
        ),
        (
            "sys.stdout.write('x' * (17 << 20)); sys.stdout.flush()",
            "wrote a line of more than 16 MiB",
        ),
        (
            "print('\\x1b[2Jboo\\x07', flush=True)",
            "`\\u{1b}[2Jboo\\u{7}`",
        ),
    ] {
        let code = format!(
            "for request in requests:\n    if request['item'] == '1' and request['attempt'] == 1:\n        {fault}\n        time.sleep(1000)\n    done(request)"
        );
        let place = Place::new();
        let items = numbers(3);
        let ran = run(&place, &refs(&items), &["--pipeline", "2"], &code);
        assert_eq!(ran.code, Some(0), "{fault}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{fault}: {}", ran.stderr);
        assert_eq!(
            summary(&place.rows("in")),
            [
                (0, State::Done, 1),
                (1, State::Done, 2),
                (2, State::Done, 1)
            ],
            "{fault}: {}",
            ran.stderr
        );
        assert!(
            place.attempts("in", 1)[0].error.starts_with("worker 0 "),
            "{:?}",
            place.attempts("in", 1)
        );
    }
}

#[test]
fn a_second_answer_is_ignored_and_said_once() {
    let code = r#"
for request in requests:
    done(request)
    say(id=request["id"], result="other")
    say(id=request["id"], error="other")"#;
    let place = Place::new();
    let items = numbers(3);
    let ran = run(&place, &refs(&items), &[], code);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "0\n1\n2\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        ran.stderr.matches("twice; the first answer counts").count(),
        1,
        "{}",
        ran.stderr
    );
}

#[test]
fn a_worker_that_closes_a_pipe_and_lives_on_is_ended() {
    for (close, failed) in [
        ("os.close(1)", Some("worker 0 closed its standard output")),
        // Alone with its item it may close its input and answer all the same; then it is of no more use.
        ("os.close(0)", None),
    ] {
        // It reads one item only, of three that it is given, and later that one alone.
        let code = format!(
            r#"
def answer(request): os.write(1, json.dumps({{"id": request["id"], "result": 1}}).encode() + b"\n")
def read():
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte: sys.exit(0)
        line += byte
    return json.loads(line)
while True:
    request = read()
    if request["item"] == "0" and request["attempt"] == 1:
        {close}
        alone = os.path.exists("notes")
        note("closed")
        if alone and "0" in "{close}": answer(request)
        time.sleep(1000)
    answer(request)
"#
        );
        let place = Place::new();
        let big = "x".repeat(200_000);
        let ran = run(
            &place,
            &["0", "1", &big],
            &["--pipeline", "3", "--kill-after", "200ms"],
            &code,
        );
        assert_eq!(ran.code, Some(0), "{close}: {}", ran.stderr);
        assert!(place.lines("notes").len() >= 2, "{close}: {}", ran.stderr);
        let attempts = place.attempts("in", 0);
        assert_eq!(
            attempts.first().map(|attempt| attempt.error.as_str()),
            failed
        );
    }
}

#[test]
fn workers_that_never_start_end_the_run_with_an_error_of_ours() {
    let items = numbers(30);
    for (code, options, said) in [
        (
            "print('cannot import name `x`', file=sys.stderr); sys.exit(3)",
            &["-j2"][..],
            "the last one ended (exit 3); it last said: cannot import name `x`",
        ),
        (
            "for request in requests: print('Hello!', flush=True)",
            &["--pipeline", "3"],
            "the last one wrote a line that is not an answer",
        ),
    ] {
        let place = Place::new();
        let ran = run(&place, &refs(&items), options, code);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("8 workers in a row")
                && ran.stderr.contains(said)
                && ran.stderr.contains("hint: mend the worker"),
            "{}",
            ran.stderr
        );
        place.is_left_alone();
        let ran = run(&place, &refs(&items), &[], NORMAL);
        assert_eq!(ran.code, Some(0), "mended: {}", ran.stderr);
        assert!(
            place.rows("in").iter().all(|row| row.attempts == 1),
            "no item was blamed"
        );
    }
    // One that dies of its first items works otherwise: those are to blame, and only those.
    let code = r#"
for request in requests:
    if int(request["item"]) < 3: sys.exit(9)
    done(request)"#;
    for options in [&[][..], &["--pipeline", "2"]] {
        let place = Place::new();
        let ran = run(&place, &refs(&items), options, code);
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        for row in place.rows("in") {
            let wanted = if row.index < 3 {
                (State::Dead, 3)
            } else {
                (State::Done, 1)
            };
            assert_eq!((row.state, row.attempts), wanted, "item {}", row.index);
        }
    }
}

#[test]
fn a_worker_that_ignores_the_end_of_its_input_is_ended() {
    let place = Place::new();
    let code = r#"
for request in requests: done(request)
note("end of input")
signal.signal(signal.SIGTERM, lambda *_: note("term"))
while True: time.sleep(0.01)"#;
    let ran = run(&place, &["0"], &["--kill-after", "150ms"], code);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(place.lines("notes"), ["end of input", "term"]);
    place.is_left_alone();

    // One that takes its time to leave is not hurried, even if it was busy when it was told to.
    let place = Place::new();
    let code = r#"
signal.signal(signal.SIGTERM, lambda *_: note("term"))
for request in requests:
    note("began")
    while not os.path.exists("go"): time.sleep(0.01)
    done(request)
time.sleep(0.2)
note("left")"#;
    let running = begin(&place, &["0", "1"], &["--kill-after", "1s"], code);
    wait_until("the item to begin", || !place.lines("notes").is_empty());
    running.signal(Signal::INT);
    running.says("may finish");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    place.write("go", "");
    let ran = running.ended();
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert_eq!(place.lines("notes"), ["began", "left"]);
}

#[test]
fn errors_progress_and_cost_mean_what_the_protocol_says() {
    let code = r#"
for request in requests:
    id, item, attempt = request["id"], request["item"], request["attempt"]
    say(id=id, progress=0.5); say(id=id, progress="half"); say(id=id, cost=0.25)
    if item == "fails": say(id=id, error="bad luck", cost=0.5)
    elif item == "never": say(id=id, error="bad input\x1b[2J", retry=False)
    elif item == "later" and attempt == 1: say(id=id, error="wait", retry_after=0.3); note(time.time())
    elif item == "later": note(time.time()); done(request)
    else: done(request)"#;
    let place = Place::new();
    let ran = run(
        &place,
        &["fails", "never", "later", "fine"],
        &["--pipeline", "2"],
        code,
    );
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let rows = place.rows("in");
    assert_eq!(
        summary(&rows),
        [
            (0, State::Dead, 3),
            (1, State::Dead, 1),
            (2, State::Done, 2),
            (3, State::Done, 1)
        ]
    );
    assert_eq!(rows[0].error.as_deref(), Some("bad luck"));
    assert!(
        ran.stderr.contains("bad input\\u{1b}[2J"),
        "no control character reaches the screen: {}",
        ran.stderr
    );
    let times: Vec<f64> = place
        .lines("notes")
        .iter()
        .map(|line| line.parse().expect("a time"))
        .collect();
    assert!(times[1] - times[0] >= 0.29, "{times:?}");
    let view = safepoint::queue::View::open(&place.state("in").join("job.db")).expect("opens");
    // Seven attempts at 0.25, and three times 0.5 more.
    assert_eq!(view.progress().expect("progress").cost_micros, 3_250_000);
}

#[test]
fn full_pipes_in_both_directions_are_no_deadlock() {
    // Items and results are larger than a pipe; the worker answers all in reverse order only when it has all.
    let code = r"
held = []
for request in requests:
    held.append(request)
    if len(held) == 4:
        for request in reversed(held): done(request)
        held = []";
    let items: Vec<String> = (0..8)
        .map(|number| format!("{number}{}", "x".repeat(700_000)))
        .collect();
    let place = Place::new();
    let ran = run(
        &place,
        &refs(&items),
        &["--pipeline", "4", "--output", "ordered"],
        code,
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.lines().eq(items.iter()), "all of it, in order");

    // A worker that first fills its output, without reading: progress of one item, over and over.
    let code = r#"
for request in requests:
    for _ in range(20000): sys.stdout.write(json.dumps({"id": request["id"], "progress": "p" * 50}) + "\n")
    done(request)"#;
    let place = Place::new();
    let ran = run(&place, &refs(&items), &["--pipeline", "8"], code);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_graceful_stop_lets_a_worker_finish_what_it_was_given() {
    let code = r#"
for request in requests:
    note(request["item"])
    while not os.path.exists("go"): time.sleep(0.01)
    done(request)
note("end")"#;
    let place = Place::new();
    let items = numbers(20);
    let running = begin(&place, &refs(&items), &["--pipeline", "3"], code);
    wait_until("the item to begin", || !place.lines("notes").is_empty());
    running.signal(Signal::TERM);
    running.says("3 in progress may finish");
    place.write("go", "");
    let ran = running.ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(143), "0\n1\n2\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(place.lines("notes"), ["0", "1", "2", "end"]);

    // At once: what it had runs again.
    let place = Place::new();
    let running = begin(&place, &refs(&items), &["--pipeline", "3"], code);
    wait_until("the item to begin", || !place.lines("notes").is_empty());
    running.signal(Signal::TERM);
    running.says("3 in progress may finish");
    running.signal(Signal::INT);
    let ran = running.ended();
    assert_eq!(ran.signal, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("3 given up in the middle"),
        "{}",
        ran.stderr
    );
    assert!(place.rows("in").is_empty());
    place.write("go", "");
    let ran = place.run(&arguments(&["--pipeline", "3"]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(place.rows("in").iter().all(|row| row.attempts == 1));
}
