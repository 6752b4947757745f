//! `safepoint run --http`: what a job answers while it runs, and how it is stopped that way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::support::{Place, Ran, Running, wait_for, wait_until};

/// Waits at the gate, and then does as its item says.
const GATED: &str = r#"echo "$1" >> began; read x < gate; case $1 in bad*) echo "no $1" >&2; exit 3;; esac; echo "did $1""#;

/// A job of these items in one slot that answers on a port of its own.
fn answering(place: &Place, items: &str, options: &[&str]) -> (Running, String) {
    place.write("in.txt", items);
    let mut arguments = vec!["run", "-j1", "--http", "127.0.0.1:0"];
    arguments.extend(options);
    arguments.extend(["in.txt", "--shell", "--", GATED]);
    let running = place.begin(&arguments);
    let at = address(&running);
    (running, at)
}

/// Where a run says that it answers.
fn address(running: &Running) -> String {
    wait_for("the address", || {
        let said = running.stderr();
        let (_, address) = said.split_once("answering on http://")?;
        let (address, _) = address.split_once("/\n")?;
        Some(address.to_owned())
    })
}

/// One request on a connection of its own: status and body.
pub(super) fn ask(at: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).expect("somebody listens");
    exchange(&mut stream, at, method, path, headers, body)
}

fn exchange(
    stream: &mut (impl Read + Write),
    host: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

fn get(at: &str, path: &str) -> (u16, String) {
    ask(at, "GET", path, "", "")
}

fn status(at: &str) -> Value {
    let (code, body) = get(at, "/status");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

const READY: &str = r#"{"status":"ready","accepting_traffic":true}"#;
const SHUTTING_DOWN: &str = r#"{"status":"shutting_down","accepting_traffic":false}"#;

#[test]
fn a_job_answers_until_its_end_and_a_post_stops_it() {
    let place = Place::new();
    let gate = place.gate("gate");
    let (running, at) = answering(&place, "a\nb\nc\n", &[]);
    wait_until("readiness", || get(&at, "/ready") == (200, READY.into()));
    wait_until("an item", || place.lines("began") == ["a"]);
    gate.pass(1);
    wait_until("the second item", || place.lines("began") == ["a", "b"]);
    let said = wait_for("the first item to be done", || {
        Some(status(&at)).filter(|status| status["done"] == 1)
    });
    assert_eq!(
        (
            &said["schema"],
            &said["job"],
            &said["status"],
            &said["total"],
            &said["phase"]
        ),
        (
            &1.into(),
            &"in".into(),
            &"running".into(),
            &3.into(),
            &"running".into()
        )
    );
    assert_eq!(said["in_progress"][0]["index"], 1);
    assert_eq!(said["in_progress"][0]["key"], "1");

    let stop = ask(&at, "POST", "/shutdown", "", r#"{"message":"an update"}"#);
    assert_eq!(stop, (200, r#"{"status":"shutdown_initiated"}"#.into()));
    assert_eq!(get(&at, "/ready"), (503, SHUTTING_DOWN.into()));
    assert_eq!(get(&at, "/health"), (200, r#"{"status":"alive"}"#.into()));
    let said = wait_for("the stop to be told", || {
        Some(status(&at)).filter(|status| status["phase"] == "draining")
    });
    let request = &said["stop_requests"][0];
    assert_eq!(
        (&request["source"], &request["mode"], &request["message"]),
        (&"SYSTEM".into(), &"GRACEFUL".into(), &"an update".into())
    );
    running.says("an update: 1 in progress may finish");
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("stopped by an update"),
        "{}",
        ran.stderr
    );
    let initiated = place.events("in", "interrupt_initiated");
    assert_eq!(
        (&initiated[0]["source"], &initiated[0]["message"]),
        (&"SYSTEM".into(), &"an update".into())
    );
    assert!(TcpStream::connect(&at).is_err(), "nobody listens any more");
    place.is_left_alone();
}

#[test]
fn an_immediate_post_gives_up_what_is_in_progress() {
    let place = Place::new();
    let _gate = place.gate("gate");
    let (running, at) = answering(&place, "a\nb\n", &[]);
    wait_until("an item", || place.lines("began") == ["a"]);
    ask(&at, "POST", "/shutdown", "", "");
    ask(&at, "POST", "/shutdown", "", r#"{"mode":"immediate"}"#);
    let ran = running.ended();
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("1 given up in the middle"),
        "{}",
        ran.stderr
    );
    place.is_left_alone();
}

#[test]
fn what_failed_is_told_with_what_it_said() {
    let place = Place::new();
    let gate = place.gate("gate");
    let (running, at) = answering(&place, "bad 1\ngood\nbad 2\nlast\n", &["--retries", "0"]);
    gate.pass(3);
    wait_until("the last item", || place.lines("began").len() == 4);
    let said = wait_for("the failures", || {
        Some(status(&at)).filter(|status| status["dead"] == 2)
    });
    let failures = said["failures"].as_array().expect("a list");
    let told: Vec<_> = failures
        .iter()
        .map(|failure| {
            (
                failure["key"].as_str().unwrap_or(""),
                failure["error"].as_str().unwrap_or(""),
                failure["stderr"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("2", "exit 3: no bad 2", "no bad 2\n"),
            ("0", "exit 3: no bad 1", "no bad 1\n")
        ]
    );
    assert!(
        failures
            .iter()
            .all(|failure| failure["is_dead"] == true && failure["attempt"] == 1)
    );
    gate.pass(1);
    assert_eq!(running.ended().code, Some(3));
}

/// Python's own client of Prometheus, which reads the format strictly.
fn parse_metrics(text: &str) -> String {
    const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin/python");
    const SCRIPT: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        print(family.type, sample.name, dict(sorted(sample.labels.items())), float(sample.value))
";
    let child = Command::new(PYTHON)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("`.venv/bin/python` is missing: `scripts/setup` makes it");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn metrics_are_read_by_the_client_of_prometheus() {
    let place = Place::new();
    let gate = place.gate("gate");
    let saved = place.state("in").join("checkpoints/model/7.ckpt");
    let (running, at) = answering(
        &place,
        "a\nb\nbad\nc\n",
        &["--retries", "0", "--ready-command", "true"],
    );
    std::fs::create_dir_all(saved.parent().expect("a folder")).expect("made");
    std::fs::write(&saved, "").expect("written");
    gate.pass(3);
    wait_until("the last item", || place.lines("began").len() == 4);
    wait_until("readiness", || get(&at, "/ready").0 == 200);
    wait_until("the counts", || {
        get(&at, "/metrics").1.contains("status=\"dead\"} 1")
    });
    ask(&at, "POST", "/shutdown", "", "");
    let text = wait_for("the stop to be counted", || {
        let (code, text) = get(&at, "/metrics");
        assert_eq!(code, 200);
        text.contains("stop_requests_total{").then_some(text)
    });
    let parsed = parse_metrics(&text);
    for line in [
        "counter safepoint_items_total {'status': 'done'} 2.0",
        "counter safepoint_items_total {'status': 'dead'} 1.0",
        "counter safepoint_stop_requests_total {'mode': 'graceful', 'source': 'system'} 1.0",
        "counter safepoint_attempt_failures_total {} 1.0",
        "gauge safepoint_items_in_progress {} 1.0",
        "gauge safepoint_items_expected {} 4.0",
        "gauge safepoint_check {'check': 'command'} 1.0",
        "gauge safepoint_ready {} 0.0",
        "stateset safepoint_phase {'safepoint_phase': 'draining'} 1.0",
        "stateset safepoint_phase {'safepoint_phase': 'running'} 0.0",
        "info safepoint_job_info {'job': 'in', 'status': 'running'} 1.0",
        &format!(
            "info safepoint_build_info {{'version': '{}'}} 1.0",
            env!("CARGO_PKG_VERSION")
        ),
        "histogram safepoint_item_duration_seconds_bucket {'le': '+Inf'} 3.0",
        "histogram safepoint_item_duration_seconds_count {} 3.0",
    ] {
        assert!(
            parsed.lines().any(|found| found == line),
            "{line}\n{parsed}"
        );
    }
    for beginning in [
        "gauge safepoint_last_checkpoint_timestamp_seconds {} 1",
        "counter process_cpu_seconds_total {} ",
        "gauge process_resident_memory_bytes {} ",
        "gauge process_open_fds {} ",
        "gauge process_start_time_seconds {} 1",
    ] {
        assert!(
            parsed.lines().any(|found| found.starts_with(beginning)),
            "{beginning}\n{parsed}"
        );
    }
    gate.pass(1);
    // Nothing was left to be stopped, and one item is dead.
    assert_eq!(running.ended().code, Some(3));
}

#[test]
fn a_ready_delay_lets_items_begin_and_a_second_request_ends_it() {
    let place = Place::new();
    let gate = place.gate("gate");
    let (running, at) = answering(
        &place,
        "a\nb\nc\nd\n",
        &["--ready-delay", "1h", "--grace", "2h"],
    );
    wait_until("an item", || place.lines("began") == ["a"]);
    ask(&at, "POST", "/shutdown", "", "");
    assert_eq!(get(&at, "/ready"), (503, SHUTTING_DOWN.into()));
    gate.pass(2);
    wait_until("items to begin in spite of the request", || {
        place.lines("began") == ["a", "b", "c"]
    });
    assert_eq!(
        place.events("in", "interrupt_initiated").len(),
        1,
        "it is told at once"
    );
    ask(&at, "POST", "/shutdown", "", "");
    wait_until("the second request to be told", || {
        place.events("in", "interrupt_initiated").len() == 2
    });
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    assert_eq!(
        place.lines("began"),
        ["a", "b", "c"],
        "nothing begins any more"
    );
    assert_eq!(ran.stdout, "did a\ndid b\ndid c\n");
}

#[test]
fn a_ready_delay_is_over_when_it_is_over() {
    let place = Place::new();
    let gate = place.gate("gate");
    let (running, _) = answering(&place, "a\nb\nc\n", &["--ready-delay", "300ms"]);
    wait_until("an item", || place.lines("began") == ["a"]);
    let begun = Instant::now();
    running.signal(Signal::TERM);
    running.says("1 in progress may finish");
    gate.pass(1);
    wait_until("an item to begin in spite of the signal", || {
        place.lines("began") == ["a", "b"]
    });
    std::thread::sleep(Duration::from_millis(310).saturating_sub(begun.elapsed()));
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(ran.code, Some(143), "{}", ran.stderr);
    assert_eq!(ran.stdout, "did a\ndid b\n");
}

#[test]
fn a_token_file_is_made_private_and_is_needed_from_then_on() {
    let place = Place::new();
    let gate = place.gate("gate");
    let (running, at) = answering(&place, "a\n", &["--http-token-file", "token"]);
    let token = std::fs::read_to_string(place.file("token")).expect("a token");
    let mode = std::fs::metadata(place.file("token"))
        .expect("a file")
        .mode();
    assert_eq!((token.trim().len(), mode & 0o777), (64, 0o600));
    wait_until("an item", || place.lines("began") == ["a"]);
    assert_eq!(ask(&at, "POST", "/shutdown", "", "").0, 401);
    assert_eq!(
        ask(&at, "POST", "/shutdown", "authorization: Bearer x\r\n", "").0,
        401
    );
    assert_eq!(status(&at)["phase"], "running");
    let bearer = format!("authorization: Bearer {}\r\n", token.trim());
    assert_eq!(ask(&at, "POST", "/shutdown", &bearer, "").0, 200);
    gate.pass(1);
    running.ended();

    std::fs::set_permissions(place.file("token"), PermissionsExt::from_mode(0o644))
        .expect("changed");
    let refused = place.run(&[
        "run",
        "--http",
        ":0",
        "--http-token-file",
        "token",
        "in.txt",
        "--",
        "true",
    ]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("chmod 600"), "{}", refused.stderr);
}

#[test]
fn a_ready_command_decides_and_a_hung_one_is_ended() {
    let place = Place::new();
    let gate = place.gate("gate");
    place.write("check.sh", "echo $$ >> checks; case $(cat mode) in good) exit 0;; bad) exit 1;; esac; sleep 1000 & wait");
    place.write("mode", "bad");
    let check = ["--ready-command", "/bin/sh", "--ready-arg", "check.sh"];
    let (running, at) = answering(&place, "a\n", &check);
    wait_until("an item", || place.lines("began") == ["a"]);
    assert_eq!(
        get(&at, "/ready"),
        (503, r#"{"status":"not_ready"}"#.into())
    );
    place.write("mode", "good");
    wait_until("readiness", || get(&at, "/ready") == (200, READY.into()));
    place.write("mode", "hang");
    wait_until("the check to hang", || get(&at, "/ready").0 == 503);
    let hung = place.lines("checks").pop().expect("it was begun");
    wait_until("the hung check to be gone", || {
        !std::path::Path::new("/proc").join(&hung).exists()
    });
    gate.pass(1);
    assert_eq!(running.ended().code, Some(0));
    place.is_left_alone();
}

#[test]
fn a_socket_left_by_a_killed_run_is_taken_over_and_a_live_one_is_not() {
    let place = Place::new();
    let gate = place.gate("gate");
    place.write("in.txt", "a\n");
    let arguments = [
        "run",
        "-j1",
        "--http",
        "unix:job.sock",
        "in.txt",
        "--shell",
        "--",
        GATED,
    ];
    let running = place.begin(&arguments);
    wait_until("an item", || place.lines("began").len() == 1);
    let refused: Ran = place.run(&[
        "run",
        "--name",
        "other",
        "--http",
        "unix:job.sock",
        "in.txt",
        "--",
        "true",
    ]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("another process listens at `job.sock`"),
        "{}",
        refused.stderr
    );
    assert!(!place.state("other").exists(), "nothing was begun");
    running.signal(Signal::KILL);
    running.ended();
    assert!(place.file("job.sock").exists());

    let running = place.begin(&arguments);
    wait_until("the item again", || place.lines("began").len() == 2);
    let mut stream = UnixStream::connect(place.file("job.sock")).expect("it listens");
    assert_eq!(
        exchange(&mut stream, "job", "GET", "/health", "", ""),
        (200, r#"{"status":"alive"}"#.into())
    );
    gate.pass(2);
    assert_eq!(running.ended().code, Some(0));
    assert!(!place.file("job.sock").exists());
}

#[test]
fn what_cannot_be_listened_on_is_refused_before_anything_is_begun() {
    let place = Place::new();
    let gate = place.gate("gate");
    let (running, at) = answering(&place, "a\n", &[]);
    let taken = place.run(&[
        "run", "--name", "other", "--http", &at, "in.txt", "--", "true",
    ]);
    assert_eq!(taken.code, Some(1), "{}", taken.stderr);
    assert!(
        taken.stderr.contains(&format!("cannot listen on `{at}`")),
        "{}",
        taken.stderr
    );
    assert!(
        taken.stderr.contains("choose another port"),
        "{}",
        taken.stderr
    );
    assert!(!place.state("other").exists());
    let wrong = place.run(&["run", "--http", "example.org:80", "in.txt", "--", "true"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("names are not looked up"),
        "{}",
        wrong.stderr
    );
    gate.pass(1);
    running.ended();
}

#[test]
fn the_settings_may_stand_in_the_file_or_in_variables() {
    let place = Place::new();
    place.write("in.txt", "a\n");
    place.write(
        "safepoint.toml",
        "[run]\nhttp = \"127.0.0.1:0\"\nhttp-host = [\"job.example\"]\nready-delay = \"1s\"\n",
    );
    let gate = place.gate("gate");
    let running = place.begin(&["run", "in.txt", "--shell", "--", GATED]);
    let at = address(&running);
    let mut stream = TcpStream::connect(&at).expect("it listens");
    assert_eq!(
        exchange(&mut stream, "job.example", "GET", "/status", "", "").0,
        200
    );
    let mut stream = TcpStream::connect(&at).expect("it listens");
    assert_eq!(
        exchange(&mut stream, "evil.example", "GET", "/status", "", "").0,
        421
    );
    gate.pass(1);
    running.ended();

    let mut command = place.safepoint(&["run", "--fresh", "in.txt", "--shell", "--", GATED]);
    command
        .env("SAFEPOINT_HTTP", ":0")
        .env("SAFEPOINT_HTTP_HOST", "one.example,two.example");
    let running = place.start(command);
    let at = address(&running);
    for host in ["one.example", "two.example"] {
        let mut stream = TcpStream::connect(&at).expect("it listens");
        assert_eq!(exchange(&mut stream, host, "GET", "/status", "", "").0, 200);
    }
    gate.pass(1);
    running.ended();

    place.write("safepoint.toml", "[run]\nhttp = \"nowhere\"\n");
    let refused = place.run(&["run", "in.txt", "--", "true"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("no address to listen on"),
        "{}",
        refused.stderr
    );
}
