//! Stopping: every signal, in every phase, and everything else that ends a run before its work is done.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use safepoint::job::{JobPath, request_stop};
use safepoint::queue::State;
use safepoint::shutdown::Mode;

use super::support::{Place, Ran, Running, wait_until};

const STOPS: [(Signal, i32, &str); 3] = [
    (Signal::INT, 130, "USER"),
    (Signal::TERM, 143, "SYSTEM"),
    (Signal::HUP, 129, "SYSTEM"),
];

/// Longer than the time in which repeated signals count once.
const APART: Duration = Duration::from_millis(130);

/// Says that it began, waits at the gate, says that it ended.
const GATED: &str =
    r#"echo "$1 $SAFEPOINT_ATTEMPT" >> began; read x < gate; echo "$1" >> ended; echo "did $1""#;

/// A job of items 0, 1, … in one slot, running `script`.
fn gated(place: &Place, items: usize, options: &[&str], script: &str) -> Running {
    let lines: String = (0..items).map(|item| format!("{item}\n")).collect();
    place.write("in.txt", lines);
    place.begin(&arguments(options, script))
}

fn arguments<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let mut all = vec!["run", "-j1", "in.txt", "--shell"];
    all.extend(options);
    all.extend(["--", script]);
    all
}

fn began(place: &Place, lines: usize) {
    wait_until("an item to begin", || place.lines("began").len() >= lines);
}

fn again(place: &Place, options: &[&str], script: &str) -> Ran {
    place.run(&arguments(options, script))
}

#[test]
fn one_signal_lets_what_is_in_progress_finish() {
    for (signal, code, source) in STOPS {
        let place = Place::new();
        let gate = place.gate("gate");
        let running = gated(&place, 3, &[], GATED);
        began(&place, 1);
        running.signal(signal);
        running.says("1 in progress may finish");
        gate.pass(1);
        let ran = running.ended();
        assert_eq!((ran.code, ran.signal), (Some(code), None), "{}", ran.stderr);
        assert_eq!(ran.stdout, "did 0\n");
        assert!(ran.stderr.contains("1 of 3 items done"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("to go on: the same command again"),
            "{}",
            ran.stderr
        );
        assert_eq!(
            place.lines("began"),
            ["0 1"],
            "nothing begins after the signal"
        );
        let initiated = place.events("in", "interrupt_initiated");
        assert_eq!(initiated.len(), 1);
        assert_eq!(
            (&initiated[0]["source"], &initiated[0]["mode"]),
            (&source.into(), &"GRACEFUL".into())
        );
        let completed = place.events("in", "interrupt_completed");
        assert_eq!(completed[0]["total_interrupts"], 1);
        place.is_left_alone();

        gate.pass(2);
        let ran = again(&place, &[], GATED);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "did 1\ndid 2\n"));
        assert_eq!(place.lines("ended"), ["0", "1", "2"]);
    }
}

#[test]
fn a_second_signal_ends_what_is_in_progress_and_it_runs_again() {
    // The second one is stubborn: it and its child ignore SIGTERM, so it takes SIGKILL.
    let stubborn = r#"trap '' TERM; echo "$1 $SAFEPOINT_ATTEMPT" >> began; read x < gate; echo "$1" >> ended; sleep 0"#;
    for (script, (signal, _, _)) in [(GATED, STOPS[0]), (stubborn, STOPS[1]), (GATED, STOPS[2])] {
        let place = Place::new();
        let gate = place.gate("gate");
        let options = ["--kill-after", "200ms"];
        let running = gated(&place, 2, &options, script);
        began(&place, 1);
        running.signal(signal);
        running.says("once more ends them now");
        std::thread::sleep(APART);
        running.signal(signal);
        let ran = running.ended();
        assert_eq!(
            (ran.code, ran.signal),
            (None, Some(signal.as_raw())),
            "{}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains("1 given up in the middle"),
            "{}",
            ran.stderr
        );
        place.is_left_alone();
        assert_eq!(
            place.rows("in").len(),
            0,
            "it is pending, as if it had not begun"
        );
        let modes: Vec<_> = place
            .events("in", "interrupt_initiated")
            .iter()
            .map(|event| event["mode"].clone())
            .collect();
        assert_eq!(modes, ["GRACEFUL", "IMMEDIATE"]);

        gate.pass(2);
        let ran = again(&place, &options, script);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(
            place.lines("began"),
            ["0 1", "0 1", "1 1"],
            "the attempt did not count"
        );
        assert_eq!(place.lines("ended"), ["0", "1"]);
    }
}

#[test]
fn a_third_signal_ends_everything_at_once() {
    let stubborn = r#"trap '' TERM INT HUP; echo "$1" >> began; read x < gate"#;
    for (signal, _, _) in STOPS {
        let place = Place::new();
        let gate = place.gate("gate");
        let running = gated(&place, 2, &["--kill-after", "1h"], stubborn);
        began(&place, 1);
        running.signal(signal);
        running.says("once more ends them now");
        std::thread::sleep(APART);
        running.signal(signal);
        running.says("once more kills everything at once");
        std::thread::sleep(APART);
        running.signal(signal);
        let ran = running.ended();
        assert_eq!((ran.code, ran.signal), (None, Some(signal.as_raw())));
        place.is_left_alone();
        gate.pass(2);
        let ran = again(&place, &[], stubborn);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains("finished"), "{}", ran.stderr);
    }
}

#[test]
fn different_signals_escalate_too_and_the_last_one_counts() {
    let place = Place::new();
    let gate = place.gate("gate");
    let running = gated(&place, 2, &[], GATED);
    began(&place, 1);
    running.signal(Signal::INT);
    running.says("SIGINT: 1 in progress may finish");
    running.signal(Signal::TERM);
    let ran = running.ended();
    assert_eq!(ran.signal, Some(15), "{}", ran.stderr);
    let reasons: Vec<_> = place
        .events("in", "interrupt_initiated")
        .iter()
        .map(|event| event["message"].clone())
        .collect();
    assert_eq!(reasons, ["SIGINT", "SIGTERM"]);
    assert!(ran.stderr.contains("stopped by SIGINT"), "{}", ran.stderr);
    drop(gate);
}

#[test]
fn a_burst_of_one_signal_is_one_request() {
    let place = Place::new();
    let gate = place.gate("gate");
    let running = gated(&place, 2, &[], GATED);
    began(&place, 1);
    for _ in 0..10 {
        running.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(1));
    }
    running.says("may finish");
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert_eq!(place.events("in", "interrupt_initiated").len(), 1);
    assert_eq!(
        place.events("in", "interrupt_completed")[0]["total_interrupts"],
        1
    );
}

#[test]
fn before_the_first_item_and_between_items_it_leaves_at_once() {
    let place = Place::new();
    let command = || {
        let mut command = place.safepoint(&["run", "-", "--name", "fed", "--", "echo"]);
        command.stdin(Stdio::piped());
        command
    };
    let running = place.start(command());
    wait_until("the wait for input", || {
        place.state("fed").join("spool").exists()
    });
    running.signal(Signal::INT);
    let ran = running.ended();
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);

    let mut running = place.start(command());
    let mut stdin = running.stdin().expect("a pipe");
    stdin.write_all(b"one\n").expect("written");
    wait_until("the first result", || running.stdout() == "one\n");
    running.signal(Signal::TERM);
    let ran = running.ended();
    assert_eq!(ran.code, Some(143), "{}", ran.stderr);
    drop(stdin);

    let mut running = place.start(command());
    let mut stdin = running.stdin().expect("a pipe");
    stdin.write_all(b"one\ntwo\n").expect("written");
    drop(stdin);
    let ran = running.ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "two\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_signal_during_the_last_item_changes_nothing() {
    let place = Place::new();
    let gate = place.gate("gate");
    let running = gated(&place, 1, &[], GATED);
    began(&place, 1);
    running.signal(Signal::INT);
    running.says("may finish");
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "did 0\n"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("finished") && !ran.stderr.contains("to go on"),
        "{}",
        ran.stderr
    );
}

#[test]
fn while_nothing_runs_a_signal_ends_it_at_once() {
    // Waiting for another attempt.
    let place = Place::new();
    let running = gated(&place, 1, &["--retry-delay", "1h"], "exit 3");
    running.says("attempt 1 failed: exit 3; again in");
    running.signal(Signal::INT);
    let ran = running.ended();
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("SIGINT: stopping") && ran.stderr.contains("1 waiting"),
        "{}",
        ran.stderr
    );
    assert_eq!(place.rows("in")[0].state, State::Waiting);

    // Paused, because a command said "not now".
    let place = Place::new();
    let script = r#"[ -e ready ] || exit 75; echo "$SAFEPOINT_ATTEMPT""#;
    let running = gated(&place, 1, &[], script);
    running.says("paused for 10s");
    running.signal(Signal::TERM);
    let ran = running.ended();
    assert_eq!(ran.code, Some(143), "{}", ran.stderr);
    assert_eq!(place.events("in", "paused_rate_limit").len(), 1);
    place.write("ready", "");
    let ran = again(&place, &[], script);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "1\n"),
        "not now does not count"
    );
}

#[test]
fn the_grace_period_ends_what_is_in_progress() {
    for (options, variable) in [
        (&["--grace", "100ms"][..], None),
        (&[][..], Some("0.1")),
        // The flag wins.
        (&["--grace", "100ms"][..], Some("3600")),
    ] {
        let place = Place::new();
        let gate = place.gate("gate");
        place.write("in.txt", "0\n1\n");
        let mut command = place.safepoint(&arguments(options, GATED));
        if let Some(variable) = variable {
            command.env("SHUTDOWN_TIMEOUT", variable);
        }
        let running = place.start(command);
        began(&place, 1);
        running.signal(Signal::TERM);
        let ran = running.ended();
        assert_eq!((ran.code, ran.signal), (Some(143), None), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("1 given up in the middle"),
            "{}",
            ran.stderr
        );
        assert_eq!(place.rows("in").len(), 0);
        gate.pass(2);
        assert_eq!(again(&place, &[], GATED).code, Some(0));
        assert_eq!(place.lines("began"), ["0 1", "0 1", "1 1"]);
    }
    let ran = {
        let place = Place::new();
        place.write("in.txt", "0\n");
        let mut command = place.safepoint(&arguments(&[], GATED));
        command.env("SHUTDOWN_TIMEOUT", "soon");
        place.start(command).ended()
    };
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("SHUTDOWN_TIMEOUT"), "{}", ran.stderr);
}

#[test]
fn limits_stop_gracefully_and_say_so_by_exit_code() {
    // A time limit, while an item is in progress: it finishes.
    let place = Place::new();
    let gate = place.gate("gate");
    let running = gated(&place, 2, &["--time-limit", "100ms"], GATED);
    running.says("time limit of 0.1 s: 1 in progress may finish");
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(75), "did 0\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        place.events("in", "interrupt_initiated")[0]["source"],
        "TIMEOUT"
    );

    // A number of items, with work left and without, from a file and from standard input, in one batch of the reader and more.
    for (items, stdin) in [(3, false), (3, true), (600, false), (600, true)] {
        let place = Place::new();
        let lines: String = (0..items).map(|item| format!("{item}\n")).collect();
        place.write("in.txt", &lines);
        let run = |limit: usize| {
            let limit = limit.to_string();
            let input = if stdin { "-" } else { "in.txt" };
            let mut command = place.safepoint(&[
                "run", input, "--name", "in", "--limit", &limit, "--worker", "--", "python3", "-c",
                "import sys, json\nfor line in sys.stdin: print(json.dumps({'id': json.loads(line)['id'], 'result': 1}), flush=True)",
            ]);
            if stdin {
                command.stdin(std::fs::File::open(place.file("in.txt")).expect("opens"));
            }
            place.start(command).ended()
        };
        assert_eq!(
            run(items).code,
            Some(0),
            "{items} {stdin}: the limit is all there is"
        );
        std::fs::remove_dir_all(place.file(".safepoint")).expect("removed");
        let ran = run(items - 2);
        assert_eq!(ran.code, Some(75), "{items} {stdin}: {}", ran.stderr);
        assert_eq!(place.rows("in").len(), items - 2);
        let ran = run(2);
        assert_eq!(ran.code, Some(0), "{items} {stdin}: {}", ran.stderr);
        assert_eq!(run(1).code, Some(0));
    }

    // Another code for all graceful stops.
    for (options, wanted) in [
        (["--stop-exit-code", "0"], 0),
        (["--stop-exit-code", "9"], 9),
    ] {
        let place = Place::new();
        let gate = place.gate("gate");
        let mut all = options.to_vec();
        let running = gated(&place, 2, &all, GATED);
        began(&place, 1);
        running.signal(Signal::TERM);
        running.says("may finish");
        gate.pass(1);
        assert_eq!(running.ended().code, Some(wanted));
        all.extend(["--limit", "0"]);
        assert_eq!(again(&place, &all, GATED).code, Some(wanted));
    }
}

#[test]
fn a_limit_counts_items_not_attempts_and_lets_them_take_their_time() {
    let place = Place::new();
    let script = r#"echo "$1 $SAFEPOINT_ATTEMPT" >> began; [ "$1 $SAFEPOINT_ATTEMPT" != "0 1" ]"#;
    let mut command = place.safepoint(&[
        "run",
        "-",
        "--limit",
        "3",
        "--retry-delay",
        "1ms",
        "--shell",
        "--",
        script,
    ]);
    command.stdin(Stdio::piped());
    let mut running = place.start(command);
    let mut stdin = running.stdin().expect("a pipe");
    stdin.write_all(b"0\n").expect("written");
    began(&place, 2);
    stdin.write_all(b"1\n2\n3\n").expect("written");
    let ran = running.ended();
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    let mut lines = place.lines("began");
    lines.sort();
    assert_eq!(lines, ["0 1", "0 2", "1 1", "2 1"]);

    // What was begun before the limit is not given up when the grace period is over.
    let place = Place::new();
    let gate = place.gate("gate");
    let options = ["--limit", "1", "--grace", "1ms", "--time-limit", "1h"];
    let running = gated(&place, 2, &options, GATED);
    began(&place, 1);
    std::thread::sleep(Duration::from_millis(50));
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(75), "did 0\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_reader_that_does_not_read_cannot_hold_up_a_forced_stop() {
    for order in ["arrival", "ordered"] {
        let place = Place::new();
        place.write("in.txt", "0\n1\n");
        let command = place.safepoint(&[
            "run",
            "in.txt",
            "--output",
            order,
            "--shell",
            "--",
            "head -c 300000 /dev/zero; echo $1 >> ended",
        ]);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let running = place.start_into(command, writer.into());
        wait_until("the items to end", || place.lines("ended").len() == 2);
        running.signal(Signal::INT);
        std::thread::sleep(APART);
        running.signal(Signal::INT);
        let ran = running.ended();
        drop(reader);
        assert_eq!(ran.code, Some(0), "all is done and durable: {}", ran.stderr);
    }
}

#[test]
fn another_process_can_ask_for_a_stop() {
    for (mode, given_up) in [(Mode::Graceful, 0), (Mode::Immediate, 1)] {
        let place = Place::new();
        let gate = place.gate("gate");
        let running = gated(&place, 2, &[], GATED);
        began(&place, 1);
        let path = JobPath::new(&place.file(".safepoint"), "in").expect("a name");
        let owner = request_stop(&path, mode).expect("it runs");
        assert_eq!(
            owner.pid,
            running.pid().as_raw_nonzero().get().unsigned_abs()
        );
        running.says("safepoint stop: ");
        if mode == Mode::Graceful {
            gate.pass(1);
        }
        let ran = running.ended();
        assert_eq!((ran.code, ran.signal), (Some(75), None), "{}", ran.stderr);
        assert_eq!(
            place.events("in", "interrupt_completed")[0]["given_up"],
            given_up
        );
        assert_eq!(place.rows("in").len(), 1 - given_up);
    }

    // Also while it waits for its input.
    let place = Place::new();
    let mut command = place.safepoint(&["run", "-", "--name", "fed", "--", "echo"]);
    command.stdin(Stdio::piped());
    let running = place.start(command);
    wait_until("the wait for input", || {
        place.state("fed").join("spool").exists()
    });
    let path = JobPath::new(&place.file(".safepoint"), "fed").expect("a name");
    request_stop(&path, Mode::Graceful).expect("it runs");
    let ran = running.ended();
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
}

#[test]
fn nohup_keeps_its_promise() {
    let place = Place::new();
    let gate = place.gate("gate");
    place.write("in.txt", "0\n");
    let mut command = place.safepoint(&[]);
    let binary = command.get_program().to_owned();
    command = {
        let mut shell = std::process::Command::new("sh");
        shell.current_dir(place.path()).args([
            "-c",
            r#"trap '' HUP; exec "$0" "$@""#,
            binary.to_str().expect("plain"),
        ]);
        shell
    };
    // The command inherits it as well: it survives its own SIGHUP.
    command.args(arguments(
        &[],
        r#"kill -HUP $$; echo "$1" >> began; read x < gate; echo survived"#,
    ));
    let running = place.start(command);
    began(&place, 1);
    running.signal(Signal::HUP);
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "survived\n"),
        "{}",
        ran.stderr
    );
    assert!(place.events("in", "interrupt_initiated").is_empty());
}

#[test]
fn every_exit_code_of_a_command_is_told_apart() {
    let place = Place::new();
    let lines: String = (0..256).map(|code| format!("{code}\n")).collect();
    place.write("in.txt", lines);
    let script = r#"if [ "$1" = 75 ] && [ ! -e was75 ]; then : > was75; echo '{"retry_after":0.01}' >&3; exit 75; fi
        [ "$1" = 75 ] && { echo "$SAFEPOINT_ATTEMPT"; exit 0; }; exit "$1""#;
    let ran = place.run(&[
        "run",
        "-j2",
        "in.txt",
        "--retries",
        "0",
        "--shell",
        "--",
        script,
    ]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert_eq!(
        ran.stdout, "1\n",
        "75 is \"not now\", and the attempt did not count"
    );
    let rows = place.rows("in");
    assert_eq!(rows.len(), 256);
    for row in rows {
        let code = i32::try_from(row.index).expect("small");
        let attempts = place.attempts("in", row.index);
        if code == 0 || code == 75 {
            assert_eq!(
                (row.state, row.exit_code, attempts.len()),
                (State::Done, Some(0), 0),
                "{code}"
            );
        } else {
            assert_eq!(row.state, State::Dead, "{code}");
            assert_eq!(
                (attempts.len(), attempts[0].exit_code, attempts[0].signal),
                (1, Some(code), None),
                "{code}"
            );
        }
    }
}

#[test]
fn a_command_killed_by_a_signal_has_failed() {
    let signals = [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 34, 64];
    let place = Place::new();
    let lines: String = signals.iter().map(|signal| format!("{signal}\n")).collect();
    place.write("in.txt", lines);
    let ran = place.run(&[
        "run",
        "-j4",
        "in.txt",
        "--retries",
        "0",
        "--shell",
        "--",
        r#"echo "last word of $1" >&2; kill -"$1" $$; sleep 5"#,
    ]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    for row in place.rows("in") {
        let signal = signals[usize::try_from(row.index).expect("small")];
        let attempts = place.attempts("in", row.index);
        assert_eq!(
            (row.state, attempts[0].exit_code, attempts[0].signal),
            (State::Dead, None, Some(signal))
        );
        let error = row.error.unwrap_or_default();
        assert!(
            error.contains("killed by") && error.contains(&format!("last word of {signal}")),
            "{error}"
        );
    }
    assert!(place.events("in", "interrupt_initiated").is_empty());
}

#[test]
fn nothing_that_a_command_started_outlives_it() {
    // In its group: gone with the command. In another session: gone with the run. Both ignore SIGTERM.
    let script = r#"
        (trap '' TERM HUP; while :; do sleep 1000; done) > /dev/null 2>&1 < /dev/null &
        [ "$1" = 0 ] || setsid sh -c "trap '' TERM HUP; echo \$\$ > stray; while :; do sleep 1000; done" > /dev/null 2>&1 < /dev/null &
        if [ "$1" = 1 ]; then while [ ! -s stray ]; do sleep 0.01; done; fi
        echo "did $1""#;
    let place = Place::new();
    let running = gated(&place, 2, &["--kill-after", "100ms"], script);
    let ran = running.ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "did 0\ndid 1\n"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("ended 2 processes that commands left behind"),
        "{}",
        ran.stderr
    );
    place.is_left_alone();

    // The same when the run is stopped by force.
    let script = r#"
        trap '' TERM
        (while :; do sleep 1000; done) &
        setsid sh -c "trap '' TERM HUP; echo \$\$ > stray; while :; do sleep 1000; done" &
        while [ ! -s stray ]; do sleep 0.01; done
        echo "$1" >> began; wait"#;
    let place = Place::new();
    let running = gated(&place, 2, &["--kill-after", "100ms"], script);
    began(&place, 1);
    running.signal(Signal::INT);
    running.says("once more");
    std::thread::sleep(APART);
    running.signal(Signal::INT);
    assert_eq!(running.ended().signal, Some(2));
    place.is_left_alone();
}

#[test]
fn a_command_that_the_same_stop_ended_is_neither_done_nor_failed() {
    for script in [
        // We learn of the stop first, or last.
        r#"echo "$1 $SAFEPOINT_ATTEMPT" >> began; [ -e stopped ] && exit 0; : > stopped; kill -INT $PPID; kill -INT $$; sleep 5"#,
        r#"echo "$1 $SAFEPOINT_ATTEMPT" >> began; [ -e stopped ] && exit 0; : > stopped; setsid sh -c ": > up; sleep 0.03; kill -INT $PPID" & while [ ! -e up ]; do sleep 0.01; done; kill -INT $$; sleep 5"#,
        // A shell that passes its child's end on.
        r#"echo "$1 $SAFEPOINT_ATTEMPT" >> began; [ -e stopped ] && exit 0; : > stopped; kill -INT $PPID; while ! grep -q interrupt_initiated .safepoint/in/events.jsonl; do sleep 0.01; done; exit 130"#,
    ] {
        let place = Place::new();
        let ran = gated(&place, 2, &[], script).ended();
        assert_eq!(ran.code, Some(130), "{}", ran.stderr);
        // The other item may have begun before the signal came.
        assert!(place.rows("in").iter().all(|row| row.index == 1));
        assert!(place.attempts("in", 0).is_empty());
        assert_eq!(again(&place, &[], script).code, Some(0));
        let mut began = place.lines("began");
        began.sort();
        assert_eq!(began, ["0 1", "0 1", "1 1"]);
    }
}

#[test]
fn what_we_ended_is_not_done_even_if_it_says_so() {
    let script =
        r#"trap 'echo too late; exit 0' TERM; echo "$1" >> began; while :; do read x < gate; done"#;
    let place = Place::new();
    let _gate = place.gate("gate");
    let running = gated(&place, 2, &[], script);
    began(&place, 1);
    running.signal(Signal::TERM);
    running.says("once more");
    std::thread::sleep(APART);
    running.signal(Signal::TERM);
    let ran = running.ended();
    assert_eq!(
        (ran.signal, ran.stdout.as_str()),
        (Some(15), ""),
        "{}",
        ran.stderr
    );
    assert!(place.rows("in").is_empty());
}

#[test]
fn an_attempt_that_takes_too_long_has_failed() {
    let place = Place::new();
    // The first attempt is slow; the second item is slow always, and stubborn.
    let script = r#"case "$1-$SAFEPOINT_ATTEMPT" in 0-1) sleep 1000 ;; 0-2) echo quick ;; *) trap '' TERM; sleep 1000; sleep 1000 ;; esac"#;
    let options = [
        "--timeout",
        "250ms",
        "--kill-after",
        "50ms",
        "--retries",
        "1",
        "--retry-delay",
        "1ms",
    ];
    let ran = gated(&place, 2, &options, script).ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(3), "quick\n"),
        "{}",
        ran.stderr
    );
    let rows = place.rows("in");
    assert_eq!((rows[0].state, rows[0].attempts), (State::Done, 2));
    assert_eq!((rows[1].state, rows[1].attempts), (State::Dead, 2));
    assert_eq!(rows[1].error.as_deref(), Some("timed out after 0.25 s"));
    let signals: Vec<_> = place
        .attempts("in", 1)
        .iter()
        .map(|attempt| attempt.signal)
        .collect();
    assert_eq!(signals, [Some(9), Some(9)]);
    place.is_left_alone();
}

#[test]
fn too_many_dead_items_end_the_run() {
    let script = r#"echo "$1" >> began; [ "$1" = 0 ]"#;
    for (options, begun) in [
        (&["--retries", "0", "--fail-fast"][..], 2),
        (&["--retries", "0", "--max-failures", "3"][..], 4),
        (&["--retries", "0", "--max-failures", "20%"][..], 10),
    ] {
        let place = Place::new();
        let ran = gated(&place, 30, options, script).ended();
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        assert!(ran.stderr.contains("gave up"), "{}", ran.stderr);
        assert_eq!(place.lines("began").len(), begun, "{}", ran.stderr);
    }
    // A limit that was not reached: the run finishes, with dead items.
    let place = Place::new();
    let ran = gated(
        &place,
        3,
        &["--retries", "0", "--max-failures", "3"],
        script,
    )
    .ended();
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("finished"), "{}", ran.stderr);
    let ran = place.run(&["run", "in.txt", "--max-failures", "many", "--", "true"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn sigusr1_tells_what_is_in_progress() {
    let place = Place::new();
    let gate = place.gate("gate");
    let script = r#"echo '{"progress":0.5}' >&3; echo "$$" >> began; read x < gate"#;
    let running = gated(&place, 1, &[], script);
    began(&place, 1);
    running.signal(Signal::USR1);
    let pid = &place.lines("began")[0];
    running.says(&format!("item 0, attempt 1, process {pid}, "));
    running.says("progress 0.5");
    gate.pass(1);
    assert_eq!(running.ended().code, Some(0));
}

#[test]
fn the_last_line_adds_up() {
    let place = Place::new();
    place.write("in.csv", "id,what\na,done\nb,dead\na,twice\nc,done\nd\n");
    let arguments = [
        "run",
        "-j1",
        "in.csv",
        "--key",
        "id",
        "--retries",
        "0",
        "--",
        "test",
        "{.what}",
        "=",
        "done",
    ];
    let ran = place.run(&arguments);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("2 of 4 items done, 2 dead, 1 left out as duplicates"),
        "{}",
        ran.stderr
    );
    let ended = &place.events("in", "run_ended")[0];
    assert_eq!(
        (
            &ended["done"],
            &ended["dead"],
            &ended["total"],
            &ended["outcome"]
        ),
        (&2.into(), &2.into(), &5.into(), &"completed".into())
    );
    let ran = place.run(&arguments);
    assert_eq!(ran.code, Some(3), "dead items stay: {}", ran.stderr);
}

#[test]
fn a_kill_while_a_stop_is_under_way_is_no_fault_of_the_items() {
    let place = Place::new();
    let gate = place.gate("gate");
    let options = ["--grace", "60s", "--crash-limit", "1"];
    for runs in 1..=2 {
        let running = gated(&place, 1, &options, GATED);
        began(&place, runs);
        running.signal(Signal::TERM);
        running.says("once more ends them now");
        running.signal(Signal::KILL);
        assert_eq!(running.ended().signal, Some(Signal::KILL.as_raw()));
    }
    gate.pass(3);
    let ran = again(&place, &options, GATED);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(place.rows("in").len(), 1);
}

#[test]
fn a_process_that_was_there_before_the_run_is_left_alone() {
    let place = Place::new();
    place.write("in.txt", "a\n");
    let mut shell = std::process::Command::new("sh");
    let script = "sleep 1000 & echo $! > sidecar; exec \"$0\" run in.txt -qq --shell -- 'setsid sleep 1000 & echo $! > stray'";
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_safepoint")])
        .current_dir(place.path());
    assert!(shell.status().is_ok_and(|status| status.success()));
    let lives = |name: &str| {
        let pid: i32 = place.lines(name)[0].parse().expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        rustix::process::test_kill_process(pid).map(|()| pid)
    };
    let sidecar = lives("sidecar").expect("it was not ours to end");
    // What a command started is ours. Killed, it may be left to the first process to be reaped.
    wait_until("the stray to be gone", || lives("stray").is_err());
    let _ = rustix::process::kill_process(sidecar, Signal::KILL);
}
