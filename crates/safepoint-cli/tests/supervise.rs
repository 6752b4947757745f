//! `safepoint supervise`: one command in good hands, with real processes and signals.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use super::support::{Place, Ran, Running, wait_for, wait_until};

/// Longer than the time in which repeated signals count once.
const APART: Duration = Duration::from_millis(130);

/// Notes its signals, saves on USR1, and ends with 0 on TERM or INT.
const PATIENT: &str = "trap 'echo USR1 >> got; echo saved >> got; echo \"{\\\"checkpoint\\\":\\\"c1\\\"}\" >&$SAFEPOINT_CONTROL_FD' USR1
    trap 'echo TERM >> got; exit 0' TERM; trap 'echo INT >> got; exit 0' INT; trap 'echo HUP >> got' HUP
    echo $$ > pid; while :; do sleep 0.01; done";

fn supervise(place: &Place, options: &[&str], script: &str) -> Running {
    place.begin(&arguments(options, script))
}

fn run(place: &Place, options: &[&str], script: &str) -> Ran {
    place.run(&arguments(options, script))
}

fn arguments<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let mut all = vec!["supervise", "--name", "job"];
    all.extend(options);
    all.extend(["--", "sh", "-c", script]);
    all
}

/// The number in a file that a script writes.
fn pid_in(place: &Place, file: &str) -> Pid {
    wait_for("a process number", || {
        let text = std::fs::read_to_string(place.file(file)).ok()?;
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    })
}

/// Starts the patient script and waits until it is up.
fn patient(place: &Place, options: &[&str]) -> Running {
    let running = supervise(place, options, PATIENT);
    pid_in(place, "pid");
    running
}

/// Waits until the supervisor knows that its command runs.
fn wait_for_start(place: &Place) {
    wait_until("the start to be known", || {
        !place.events("job", "child_started").is_empty()
    });
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    Pid::from_raw(fields.split_whitespace().nth(1)?.parse().ok()?)
}

#[test]
fn every_exit_code_and_signal_is_passed_on() {
    let place = Place::new();
    for code in 0..=255 {
        let script = format!("exit {code}");
        let ran = run(&place, &["--no-state"], &script);
        assert_eq!((ran.code, ran.signal), (Some(code), None), "{}", ran.stderr);
    }
    for signal in ["KILL", "SEGV", "TERM", "USR2", "ABRT"] {
        let number = match signal {
            "KILL" => 9,
            "SEGV" => 11,
            "TERM" => 15,
            "USR2" => 12,
            _ => 6,
        };
        let ran = run(&place, &["--no-state"], &format!("kill -{signal} $$"));
        assert_eq!((ran.code, ran.signal), (None, Some(number)), "{signal}");
    }
}

#[test]
fn what_cannot_be_started_says_so_by_its_code() {
    let place = Place::new();
    place.write("script", "#!/nowhere/at/all\n");
    let made = Command::new("chmod")
        .arg("+x")
        .arg(place.file("script"))
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    for (command, code, says) in [
        ("no-such-command", 127, "was not found"),
        ("/etc/passwd", 126, "is not an executable file"),
        ("./script", 127, "cannot execute `./script`"),
    ] {
        let ran = place.run(&["supervise", "--name", "job", "--", command]);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
    }
    let ran = place.run(&["supervise", "--stop-signal", "KILL", "--", "true"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn an_interrupted_command_that_ends_with_0_has_not_succeeded() {
    for (options, code) in [(&[][..], 75), (&["--stop-exit-code", "0"][..], 0)] {
        let place = Place::new();
        let running = patient(&place, options);
        running.signal(Signal::TERM);
        let ran = running.ended();
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert_eq!(place.lines("got"), ["TERM"]);
        let ended = place.events("job", "run_ended");
        assert_eq!(ended[0]["outcome"], "interrupted");
        let asked = place.events("job", "interrupt_initiated");
        assert_eq!((&asked[0]["source"], asked.len()), (&"SYSTEM".into(), 1));
    }
}

#[test]
fn a_command_that_says_it_is_done_has_succeeded_also_when_it_was_asked_to_stop() {
    for say in [
        r#"echo '{"done":true}' >&$SAFEPOINT_CONTROL_FD"#,
        r#": > "$SAFEPOINT_DONE""#,
    ] {
        let place = Place::new();
        let script = format!(
            "trap '{}; exit 0' TERM; echo $$ > pid; while :; do sleep 0.01; done",
            say.replace('\'', "'\\''")
        );
        let running = supervise(&place, &[], &script);
        pid_in(&place, "pid");
        running.signal(Signal::TERM);
        let ran = running.ended();
        assert_eq!(ran.code, Some(0), "{say}: {}", ran.stderr);
        assert_eq!(place.events("job", "run_ended")[0]["outcome"], "completed");
    }
}

#[test]
fn signals_are_forwarded_mapped_and_left_out() {
    let place = Place::new();
    let running = patient(
        &place,
        &["--map-signal", "USR2=HUP", "--map-signal", "WINCH="],
    );
    running.signal(Signal::HUP);
    wait_until("HUP", || place.lines("got") == ["HUP"]);
    running.signal(Signal::WINCH);
    running.signal(Signal::USR2);
    wait_until("USR2 as HUP", || place.lines("got") == ["HUP", "HUP"]);
    running.signal(Signal::INT);
    assert_eq!(running.ended().code, Some(75));
    assert_eq!(place.lines("got"), ["HUP", "HUP", "INT"]);
}

#[test]
fn a_checkpoint_is_asked_for_before_the_stop() {
    let place = Place::new();
    let options = [
        "--checkpoint-signal",
        "USR1",
        "--checkpoint-grace",
        "20s",
        "--stop-signal",
        "INT",
    ];
    let running = patient(&place, &options);
    running.signal(Signal::TERM);
    assert_eq!(running.ended().code, Some(75));
    // That it has saved cuts the 20 seconds short.
    assert_eq!(place.lines("got"), ["USR1", "saved", "INT"]);
    assert_eq!(place.events("job", "checkpoint")[0]["id"], "c1");
    let completed = place.events("job", "interrupt_completed");
    assert_eq!(completed[0]["checkpoint_id"], "c1");
}

#[test]
fn what_outlives_the_grace_period_is_killed_with_all_it_started() {
    let place = Place::new();
    // Deaf, and so is what it started in a session of its own.
    let script = "trap '' TERM INT; setsid sh -c 'trap \"\" TERM INT; echo $$ > far; while :; do sleep 0.01; done' & echo $$ > pid; while :; do sleep 0.01; done";
    let running = supervise(&place, &["--grace", "0.3"], script);
    let (near, far) = (pid_in(&place, "pid"), pid_in(&place, "far"));
    running.signal(Signal::TERM);
    let ran = running.ended();
    assert_eq!((ran.code, ran.signal), (None, Some(9)), "{}", ran.stderr);
    assert!(ran.stderr.contains("its time is over"), "{}", ran.stderr);
    for pid in [near, far] {
        assert!(test_kill_process(pid).is_err(), "{pid:?} lives");
    }
}

#[test]
fn a_second_signal_reaches_the_command_and_a_third_ends_everything() {
    let place = Place::new();
    let script = "trap 'echo TERM >> got' TERM; echo $$ > pid; while :; do sleep 0.01; done";
    let running = supervise(&place, &["--kill-after", "1h", "--grace", "1h"], script);
    let child = pid_in(&place, "pid");
    for count in 1..=2 {
        running.signal(Signal::TERM);
        wait_until("a TERM", || place.lines("got").len() == count);
        std::thread::sleep(APART);
    }
    running.signal(Signal::TERM);
    let ran = running.ended();
    assert_eq!((ran.code, ran.signal), (None, Some(15)), "{}", ran.stderr);
    wait_until("the command to be gone", || {
        test_kill_process(child).is_err()
    });
}

#[test]
fn nothing_survives_a_kill_of_the_supervisor() {
    let place = Place::new();
    let script = "setsid env -i PATH=$PATH sh -c 'sleep 1000 & echo $! > grandchild; echo $$ > far; wait' & echo $$ > pid; wait";
    let running = supervise(&place, &[], script);
    let all = ["pid", "far", "grandchild"].map(|file| pid_in(&place, file));
    running.signal(Signal::KILL);
    assert_eq!(running.ended().signal, Some(9));
    for pid in all {
        wait_until("it to be gone", || test_kill_process(pid).is_err());
    }
    // The next run knows of it.
    let ran = run(&place, &[], "exit 0");
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stderr.contains("the run before was killed"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_command_ends_with_a_guard_that_is_killed() {
    let place = Place::new();
    let script = "setsid env -i PATH=$PATH sh -c 'echo $$ > far; while :; do sleep 0.01; done' & echo $$ > pid; while :; do sleep 0.01; done";
    let running = supervise(&place, &[], script);
    let (child, far) = (pid_in(&place, "pid"), pid_in(&place, "far"));
    let guard = parent_of(child).expect("a parent");
    assert_eq!(parent_of(guard), Some(running.pid()));
    // Killed before it has said that the command runs, that one has not been started.
    wait_for_start(&place);
    kill_process(guard, Signal::KILL).expect("it lives");
    let ran = running.ended();
    assert_eq!((ran.code, ran.signal), (None, Some(9)), "{}", ran.stderr);
    for pid in [child, far] {
        wait_until("it to be gone", || test_kill_process(pid).is_err());
    }
}

#[test]
fn what_a_command_leaves_behind_is_ended_when_it_ends() {
    let place = Place::new();
    let script = "setsid sh -c 'echo $$ > far; exec sleep 1000' & while [ ! -s far ]; do sleep 0.01; done; exit 3";
    let ran = run(&place, &[], script);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(
        test_kill_process(pid_in(&place, "far")).is_err(),
        "it lives"
    );
}

#[test]
fn a_failed_command_is_started_again_and_told_how_often_and_why() {
    let place = Place::new();
    let script = r#"echo "$SAFEPOINT_RESTART_COUNT $SAFEPOINT_LAST_EXIT" >> starts; [ $SAFEPOINT_RESTART_COUNT = 2 ] || exit 9"#;
    let ran = run(
        &place,
        &["--restart", "on-failure", "--restart-delay", "10ms"],
        script,
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(place.lines("starts"), ["0 ", "1 exit 9", "2 exit 9"]);
    assert_eq!(place.events("job", "restarting").len(), 2);
}

#[test]
fn a_crash_loop_is_named_and_ended() {
    let place = Place::new();
    let options = [
        "--restart",
        "always",
        "--restart-delay",
        "1ms",
        "--max-restarts",
        "3",
    ];
    let ran = run(&place, &options, "echo x >> starts; exit 4");
    assert_eq!(ran.code, Some(4));
    assert_eq!(place.lines("starts").len(), 4);
    assert!(
        ran.stderr
            .contains("crash loop: 3 restarts in a row and never healthy, last exit 4"),
        "{}",
        ran.stderr
    );
    assert_eq!(place.events("job", "crash_loop")[0]["restarts"], 3);
}

#[test]
fn what_is_started_again_has_its_own_time() {
    let place = Place::new();
    let options = [
        "--restart",
        "on-failure",
        "--restart-delay",
        "1ms",
        "--max-restarts",
        "1",
        "--kill-after",
        "50ms",
    ];
    // The second one lives longer than what is left of the first has to end.
    let script = "[ $SAFEPOINT_RESTART_COUNT = 0 ] && exit 1; sleep 0.5; exit 7";
    let ran = run(&place, &options, script);
    assert_eq!(ran.code, Some(7), "{}", ran.stderr);
    assert!(!ran.stderr.contains("killing"), "{}", ran.stderr);
}

#[test]
fn a_stop_while_it_waits_to_start_again_ends_it() {
    let place = Place::new();
    let running = supervise(
        &place,
        &["--restart", "always", "--restart-delay", "1h"],
        "exit 4",
    );
    running.says("restart 1 in 1h");
    running.signal(Signal::TERM);
    let ran = running.ended();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
}

#[test]
fn limits_become_stop_requests_with_a_warning_before() {
    let place = Place::new();
    let spend = r#"trap 'exit 0' TERM; while :; do echo '{"cost":"0.10"}' >&$SAFEPOINT_CONTROL_FD; sleep 0.02; done"#;
    let ran = run(&place, &["--budget", "1.00"], spend);
    assert_eq!(ran.code, Some(75));
    assert!(
        ran.stderr.contains("0.80 of the budget of 1.00 are spent"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("budget of 1.00 reached"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        place.events("job", "interrupt_initiated")[0]["source"],
        "BUDGET"
    );

    let place = Place::new();
    let talk = "trap 'exit 0' TERM; for i in 1 2 3; do echo $i; sleep 0.2; done; while :; do sleep 0.01; done";
    let ran = run(&place, &["--idle-limit", "0.5"], talk);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(75), "1\n2\n3\n"));
    assert!(
        ran.stderr.contains("no output and no heartbeat for 0.5 s"),
        "{}",
        ran.stderr
    );
    assert_eq!(place.events("job", "limit_warning").len(), 1);

    let place = Place::new();
    // Not one long sleep: a signal that comes just before it would be looked at after it.
    let grow = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nhog = bytearray(b'x') * (96 << 20)\nwhile True: time.sleep(0.01)";
    let ran = place.run(&[
        "supervise",
        "--name",
        "job",
        "--memory-limit",
        "64M",
        "--",
        "python3",
        "-c",
        grow,
    ]);
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("memory limit of 64 MiB reached"),
        "{}",
        ran.stderr
    );

    let place = Place::new();
    let ran = run(
        &place,
        &["--time-limit", "0.2"],
        "trap 'exit 0' TERM; while :; do sleep 0.01; done",
    );
    assert_eq!(ran.code, Some(75));
    assert!(
        ran.stderr.contains("the time limit of 0.2 s was reached"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        place.events("job", "interrupt_initiated")[0]["source"],
        "TIMEOUT"
    );
}

#[test]
fn a_heartbeat_counts_as_life() {
    let place = Place::new();
    let script = r#"for i in 1 2 3 4 5; do sleep 0.2; echo '{"heartbeat":true}' >&$SAFEPOINT_CONTROL_FD; done"#;
    let ran = run(&place, &["--idle-limit", "0.6"], script);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_file_or_a_command_gives_notice() {
    let place = Place::new();
    let running = patient(
        &place,
        &["--notice-file", "going", "--notice-interval", "10ms"],
    );
    place.write("going", "maintenance at noon\nmore\n");
    let ran = running.ended();
    assert_eq!(ran.code, Some(75));
    assert!(
        ran.stderr
            .contains("maintenance at noon: the command may finish"),
        "{}",
        ran.stderr
    );

    let place = Place::new();
    let ask = "[ -f pid ] && echo asked >> asked && [ $(wc -l < asked) -ge 3 ] && echo 'host is draining'";
    let running = patient(
        &place,
        &["--notice-command", ask, "--notice-interval", "10ms"],
    );
    let ran = running.ended();
    assert_eq!(ran.code, Some(75));
    assert!(ran.stderr.contains("host is draining"), "{}", ran.stderr);
    assert_eq!(place.lines("asked").len(), 3);
}

/// A metadata service that answers by path until it is asked no more; what it was asked goes to `asked`.
fn metadata(answer: fn(&str) -> (u16, &'static str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let (code, body) = answer(&request);
            let _ = write!(
                stream,
                "HTTP/1.0 {code} X\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

#[test]
fn a_cloud_that_takes_the_machine_back_gives_notice() {
    let aws = metadata(|request| {
        if request.starts_with("PUT /latest/api/token ") {
            (200, "secret")
        } else if !request.contains("X-aws-ec2-metadata-token: secret") {
            (401, "")
        } else {
            (
                200,
                r#"{"action":"terminate","time":"2026-11-21T10:00:00Z"}"#,
            )
        }
    });
    let gcp = metadata(|request| {
        if request.contains("Metadata-Flavor: Google") {
            (200, "TRUE")
        } else {
            (403, "")
        }
    });
    let azure = metadata(|request| {
        let asks = request.starts_with("GET /metadata/scheduledevents?api-version=");
        if asks && request.contains("Metadata: true") {
            (
                200,
                r#"{"Events":[{"EventType":"Freeze"},{"EventType":"Preempt","NotBefore":"soon"}]}"#,
            )
        } else {
            (400, "")
        }
    });
    for (cloud, endpoint, says) in [
        (
            "aws",
            &aws,
            "AWS takes the spot instance back (terminate at 2026-11-21T10:00:00Z)",
        ),
        ("gcp", &gcp, "Google Cloud takes the spot machine back"),
        ("azure", &azure, "Azure takes the spot machine back"),
        ("auto", &gcp, "Google Cloud takes the spot machine back"),
    ] {
        let place = Place::new();
        let options = [
            "--spot",
            cloud,
            "--spot-endpoint",
            endpoint,
            "--notice-interval",
            "10ms",
        ];
        let ran = supervise(&place, &options, PATIENT).ended();
        assert!(ran.stderr.contains(says), "{cloud}: {}", ran.stderr);
        assert_eq!(
            place.events("job", "interrupt_initiated")[0]["source"],
            "SYSTEM"
        );
    }
    let quiet = metadata(|_| (404, ""));
    let place = Place::new();
    let options = [
        "--spot",
        "auto",
        "--spot-endpoint",
        &quiet,
        "--notice-interval",
        "1ms",
    ];
    let ran = run(&place, &options, "sleep 0.2");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn why_it_ended_is_written_where_kubernetes_reads_it() {
    let place = Place::new();
    let running = patient(&place, &["--termination-log", "why"]);
    running.signal(Signal::TERM);
    running.ended();
    assert_eq!(
        place.lines("why"),
        ["stopped: SIGTERM (system, graceful); exit 0"]
    );
    let ran = run(&place, &["--termination-log", "why"], "exit 0");
    assert_eq!(ran.code, Some(0));
    let ran = run(&place, &["--termination-log", "why"], "exit 5");
    assert_eq!(ran.code, Some(5));
    assert_eq!(place.lines("why"), ["ended; exit 5"]);
}

#[test]
fn output_passes_whole_and_is_kept_in_files_of_bounded_size() {
    let place = Place::new();
    let script = "i=0; while [ $i -lt 2000 ]; do echo \"line $i of the output\"; i=$((i+1)); done; echo oops >&2";
    let options = ["--log", "--log-size", "16K", "--log-files", "2", "-q"];
    let ran = run(&place, &options, script);
    assert_eq!(ran.code, Some(0));
    let lines: Vec<String> = (0..2000)
        .map(|i| format!("line {i} of the output\n"))
        .collect();
    assert_eq!(ran.stdout, lines.concat());
    assert_eq!(ran.stderr, "oops\n");
    let logs = place.state("job").join("logs");
    let names = ["output.log", "output.log.1", "output.log.2", "output.log.3"];
    let sizes = names.map(|name| {
        std::fs::metadata(logs.join(name))
            .map(|file| file.len())
            .ok()
    });
    assert!(
        sizes[0].is_some() && sizes[1].is_some() && sizes[3].is_none(),
        "{sizes:?}"
    );
}

#[test]
fn a_supervised_job_is_seen_and_stopped_as_any_other() {
    let place = Place::new();
    let script = r#"trap 'exit 0' TERM; echo '{"progress":{"epoch":3},"cost":1.5}' >&$SAFEPOINT_CONTROL_FD; echo $$ > pid; while :; do sleep 0.01; done"#;
    let running = supervise(&place, &[], script);
    let child = pid_in(&place, "pid");
    wait_until("the progress", || {
        let status = place.run(&["status", "job", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
        status["child"]["progress"]["epoch"] == 3
            && status["child"]["pid"] == child.as_raw_nonzero().get()
            && status["child"]["cost"] == 1.5
    });
    assert!(place.run(&["list"]).stdout.contains("running"));
    let second = run(&place, &[], "exit 0");
    assert_eq!(second.code, Some(4), "{}", second.stderr);
    let stopped = place.run(&["stop", "job", "--wait"]);
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    assert_eq!(running.ended().code, Some(75));
    let status = place.run(&["status", "job"]).stdout;
    assert!(status.contains("interrupted (safepoint stop)"), "{status}");
    assert!(place.run(&["events", "job"]).stdout.contains("child_ended"));
    assert_eq!(place.run(&["validate", "job"]).code, Some(0));
}

#[test]
fn a_job_of_items_is_not_taken_for_a_supervised_one() {
    let place = Place::new();
    place.write("job.txt", "a\n");
    assert_eq!(place.run(&["run", "job.txt", "--", "true"]).code, Some(0));
    let ran = run(&place, &[], "exit 0");
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("one of items or steps"),
        "{}",
        ran.stderr
    );
    let place = Place::new();
    assert_eq!(run(&place, &[], "exit 0").code, Some(0));
    place.write("job.txt", "a\n");
    let ran = place.run(&["run", "job.txt", "--", "true"]);
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
}

#[test]
fn what_was_ignored_or_blocked_stays_so_for_the_command() {
    let place = Place::new();
    let program = place.safepoint(&[]).get_program().to_owned();
    // An ignored SIGINT is what a shell gives to what it starts in the background.
    let mut command = Command::new("python3");
    let start = format!(
        "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\nos.execv({program:?}, ['safepoint', 'supervise', '--no-state', '--', 'grep', '-E', '^Sig(Ign|Blk)', '/proc/self/status'])"
    );
    command.args(["-c", &start]).current_dir(place.path());
    let ran = place.start(command).ended();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let masks: Vec<u64> = ran
        .stdout
        .lines()
        .map(|line| {
            u64::from_str_radix(line.split_whitespace().last().expect("a mask"), 16)
                .expect("hexadecimal")
        })
        .collect();
    let bit = |signal: i32| 1_u64 << (signal - 1);
    assert_eq!(masks[0] & bit(12), bit(12), "blocked: {}", ran.stdout);
    assert_eq!(masks[1] & bit(2), bit(2), "ignored: {}", ran.stdout);
    assert_eq!(masks[1] & bit(13), 0, "SIGPIPE is ignored: {}", ran.stdout);
}

#[test]
fn in_a_namespace_of_its_own_it_is_the_first_process_and_reaps_all() {
    let place = Place::new();
    let made = place.safepoint(&[]);
    let program = made.get_program().to_string_lossy().into_owned();
    // Orphans of the command and of the namespace, none of which may stay a zombie.
    let script = "for i in 1 2 3 4 5; do (sleep 0.02 &) ; done; sleep 0.3; ps -eo stat= | grep -c '^Z'; echo $PPID; exit 6";
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", &program])
        .args(["supervise", "--no-state", "--", "sh", "-c", script])
        .current_dir(place.path());
    let ran = place.start(command).ended();
    assert_eq!(ran.code, Some(6), "{} {}", ran.stdout, ran.stderr);
    assert!(ran.stdout.starts_with("0\n"), "zombies: {}", ran.stdout);
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.file("notify")).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("set");
    let heard = move || {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).expect("told in time");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let script = "trap 'exit 0' TERM; read x < gate; echo '{\"ready\":true}' >&$SAFEPOINT_CONTROL_FD; while :; do sleep 0.01; done";
    let gate = place.gate("gate");
    let mut command = place.safepoint(&arguments(&["--wait-ready"], script));
    command.env("NOTIFY_SOCKET", place.file("notify"));
    let running = place.start(command);
    wait_for_start(&place);
    gate.pass(1);
    assert!(heard().contains("READY=1"));
    running.signal(Signal::TERM);
    let mut told = heard();
    while !told.contains("STOPPING=1") {
        told = heard();
    }
    assert_eq!(running.ended().code, Some(75));
}

/// The processor time of a process so far, in clock ticks (10 ms).
fn ticks(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let stat = stat.expect("it lives");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .collect();
    let time = |at: usize| fields[at].parse::<u64>().expect("a number");
    time(11) + time(12)
}

#[test]
fn it_waits_without_using_the_processor() {
    for options in [&["--no-state"][..], &[]] {
        let place = Place::new();
        let running = supervise(&place, options, "echo $$ > pid; exec sleep 1000");
        pid_in(&place, "pid");
        let before = ticks(running.pid());
        // Spinning, this would be some 60 ticks.
        std::thread::sleep(Duration::from_millis(600));
        let used = ticks(running.pid()) - before;
        assert!(used < 15, "{used} ticks with {options:?}");
        running.signal(Signal::TERM);
        running.ended();
    }
}

#[test]
fn a_standard_error_that_nobody_reads_holds_no_stop_up() {
    let place = Place::new();
    let (_reading, writing) = std::io::pipe().expect("a pipe");
    let mut filling = writing.try_clone().expect("a copy");
    // All that a pipe holds, so that the next byte would have to wait.
    filling.write_all(&vec![b'.'; 64 * 1024]).expect("filled");
    let mut command = place.safepoint(&arguments(&["--grace", "20s"], PATIENT));
    let mut child = command.stderr(writing).spawn().expect("it starts");
    pid_in(&place, "pid");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("ended").code(), Some(75));
    assert_eq!(place.lines("got"), ["TERM"]);
}

#[test]
fn a_namespace_with_the_proc_of_another_is_ended_with_all_in_it() {
    let place = Place::new();
    let program = place
        .safepoint(&[])
        .get_program()
        .to_string_lossy()
        .into_owned();
    let script = "setsid sleep 1000 & sleep 0.1; exit 3";
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", &program, "supervise", "--no-state"])
        .args(["--kill-after", "0.2", "--", "sh", "-c", script])
        .current_dir(place.path());
    let ran = place.start(command).ended();
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}

#[test]
fn nothing_survives_a_kill_of_the_supervisors_group() {
    let place = Place::new();
    let script =
        "setsid env -i PATH=$PATH sh -c 'echo $$ > far; exec sleep 1000' & echo $$ > pid; wait";
    let mut command = place.safepoint(&arguments(&[], script));
    command.process_group(0);
    let running = place.start(command);
    let all = ["pid", "far"].map(|file| pid_in(&place, file));
    kill_process_group(running.pid(), Signal::KILL).expect("it lives");
    assert_eq!(running.ended().signal, Some(9));
    for pid in all {
        wait_until("it to be gone", || test_kill_process(pid).is_err());
    }
}

#[test]
fn a_guard_that_was_stopped_does_what_it_is_told() {
    let place = Place::new();
    let running = patient(&place, &[]);
    let guard = parent_of(pid_in(&place, "pid")).expect("a parent");
    kill_process(guard, Signal::STOP).expect("it lives");
    running.signal(Signal::TERM);
    assert_eq!(running.ended().code, Some(75));
    assert_eq!(place.lines("got"), ["TERM"]);
}

#[test]
fn a_stopped_command_gets_its_stop() {
    let place = Place::new();
    let running = patient(&place, &[]);
    kill_process(pid_in(&place, "pid"), Signal::STOP).expect("it lives");
    running.signal(Signal::TERM);
    assert_eq!(running.ended().code, Some(75));
}

#[test]
fn a_full_disk_behind_standard_output_does_not_end_the_command() {
    let place = Place::new();
    let script = "echo hi; sleep 0.1; echo again; sleep 0.1; exit 0";
    let command = place.safepoint(&arguments(&["--idle-limit", "1h"], script));
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("it is there");
    let ran = place.start_into(command, full.into()).ended();
    assert_eq!((ran.code, ran.signal), (Some(0), None), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("could not be passed on"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_command_that_gives_notice_leaves_nothing_behind() {
    let place = Place::new();
    let ask = "echo $$ > asking; exec sleep 1000";
    let ran = run(
        &place,
        &["--notice-command", ask],
        "while [ ! -s asking ]; do sleep 0.01; done",
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        test_kill_process(pid_in(&place, "asking")).is_err(),
        "it lives"
    );

    // What it starts in the background does not keep its notice back.
    let place = Place::new();
    let ask = "[ -f pid ] && { sleep 1000 & echo $! > left; echo going; }";
    let running = patient(
        &place,
        &["--notice-command", ask, "--notice-interval", "10ms"],
    );
    let ran = running.ended();
    assert!(
        ran.stderr.contains("going: the command may finish"),
        "{}",
        ran.stderr
    );
    let left = pid_in(&place, "left");
    wait_until("what it left to be gone", || {
        test_kill_process(left).is_err()
    });
}

#[test]
fn options_that_came_by_variables_are_not_for_the_command() {
    let place = Place::new();
    let script = "echo ${SAFEPOINT_NAME-none} ${SAFEPOINT_TIME_LIMIT-none} $SAFEPOINT_JOB";
    let mut command = place.safepoint(&["supervise", "--", "sh", "-c", script]);
    command
        .env("SAFEPOINT_NAME", "named")
        .env("SAFEPOINT_TIME_LIMIT", "1h");
    let ran = place.start(command).ended();
    assert_eq!(ran.stdout, "none none named\n", "{}", ran.stderr);
}

#[test]
fn the_hang_up_of_a_terminal_reaches_the_command_of_a_sessions_leader() {
    let place = Place::new();
    let program = place.safepoint(&[]).get_program().to_owned();
    // The kernel tells only the leader of the session.
    let leader = format!(
        "import os, pty, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv({program:?}, ['safepoint', 'supervise', '--name', 'job', '--grace', '1', '--', 'sh', '-c', {PATIENT:?}])
while not (os.path.exists('pid') and os.path.getsize('pid')):
    time.sleep(0.01)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    );
    let mut command = Command::new("python3");
    command.args(["-c", &leader]).current_dir(place.path());
    let ran = place.start(command).ended();
    assert_eq!(place.lines("got"), ["HUP"], "{}", ran.stderr);
    assert_eq!(ran.stdout, "-9\n", "it is deaf to HUP, and was killed");
}

#[test]
fn a_command_may_ask_its_terminal_though_standard_input_is_none() {
    let place = Place::new();
    let program = place.safepoint(&[]).get_program().to_owned();
    let script = "echo $$ > pid; read word < /dev/tty; echo \"heard $word\" > heard";
    let asked = format!(
        "import os, pty, time
pid, terminal = pty.fork()
if pid == 0:
    os.dup2(os.open('/dev/null', os.O_RDONLY), 0)
    os.execv({program:?}, ['safepoint', 'supervise', '--name', 'job', '--', 'sh', '-c', {script:?}])
while not (os.path.exists('pid') and os.path.getsize('pid')):
    time.sleep(0.01)
os.write(terminal, b'password\\r')
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    );
    let mut command = Command::new("python3");
    command.args(["-c", &asked]).current_dir(place.path());
    let ran = place.start(command).ended();
    assert_eq!(ran.stdout, "0\n", "{}", ran.stderr);
    assert_eq!(place.lines("heard"), ["heard password"]);
}
