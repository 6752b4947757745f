//! `safepoint report`: what it says of runs, that texts stay texts, and where it is written.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Place, Ran, wait_until};

/// Keys that would be markup, steer a terminal, or turn the text around.
const HOSTILE: [&str; 5] = [
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "plain & 'simple'",
    "\u{202e}txt.exe\u{2066}",
    "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m",
];

/// Writes its item to standard error and fails, for all but the first item.
const ECHO: &str = r#"read -r item < /dev/null; if [ "$SAFEPOINT_INDEX" = 0 ]; then printf %s "$1"; else printf '%s\n' "$1" >&2; exit 3; fi"#;

/// A job of four runs: stopped by its limit of items, killed, given up after a dead item, and completed.
fn interrupted(place: &Place) {
    place.write("in.txt", "a\nb\nc\nd\ne\nf\ng\nh\n");
    let gate = place.gate("gate");
    let script = "read x < gate; if [ \"$1\" = c ] && ! [ -e mended ]; then echo no >&2; exit 7; fi; echo $1";
    let run = |options: &[&str]| {
        let mut arguments = vec!["run", "in.txt", "-j1", "--retries", "0"];
        arguments.extend(options);
        arguments.extend(["--shell", "--", script]);
        place.begin(&arguments)
    };
    gate.pass(2);
    assert_eq!(run(&["--limit", "2"]).ended().code, Some(75));
    let killed = run(&[]);
    wait_until("the third item to begin", || {
        !place.events("in", "run_started").is_empty() && in_progress(place) == 1
    });
    killed.signal(Signal::KILL);
    assert_eq!(killed.ended().signal, Some(Signal::KILL.as_raw()));
    let gave_up = run(&["--fail-fast"]);
    // What the kill left behind would take what is meant for its successor; it is ended before the run begins.
    wait_until("the third run", || {
        place.events("in", "run_started").len() == 3
    });
    // Which item comes first is not said: the one that was in progress is suspected, and runs alone.
    gate.pass(6);
    assert_eq!(gave_up.ended().code, Some(3));
    place.write("mended", "");
    gate.pass(6);
    assert_eq!(run(&["--retry-failed"]).ended().code, Some(0));
}

fn in_progress(place: &Place) -> usize {
    let status: Value =
        serde_json::from_str(&place.run(&["status", "in", "--json"]).stdout).unwrap_or_default();
    status["in_progress"].as_array().map_or(0, Vec::len)
}

fn json(place: &Place, job: &str) -> Value {
    let ran = place.run(&["report", job, "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

fn page(place: &Place, job: &str) -> String {
    let ran = place.run(&["report", job]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}

/// What a small Python program says of a text on its standard input.
fn asked(place: &Place, program: &str, text: &str) -> Ran {
    let file = place.write("asked", text);
    let mut command = Command::new("python3");
    command
        .args(["-IS", "-c", program])
        .stdin(std::fs::File::open(file).expect("a file"));
    Ran::of(command.output().expect("python3 is installed"))
}

#[test]
fn every_run_is_there_with_its_end_and_why() {
    let place = Place::new();
    interrupted(&place);
    let report = json(&place, "in");
    let list = |name: &str, field: &str| -> Vec<Value> {
        let all = report[name].as_array().expect("a list");
        all.iter().map(|one| one[field].clone()).collect()
    };
    assert_eq!(report["schema"], 1);
    assert_eq!(
        list("runs", "outcome"),
        ["interrupted", "crashed", "failed", "completed"]
    );
    assert_eq!(list("runs", "end_told"), [true, false, true, true]);
    assert_eq!(list("stops", "run"), [3]);
    assert_eq!(
        (&report["done"], &report["dead"], &report["total"]),
        (&8.into(), &0.into(), &8.into())
    );
    // Eight done, and the third failed once; what the kill cut off left no trace.
    let buckets = report["over_time"]["buckets"].as_array().expect("buckets");
    let sum = |field: &str| {
        buckets
            .iter()
            .filter_map(|bucket| bucket[field].as_u64())
            .sum::<u64>()
    };
    assert_eq!((sum("done"), sum("failed")), (8, 1));
    assert_eq!(report["durations"]["done"]["count"], 8);
    assert_eq!(report["durations"]["failed"]["count"], 1);
    assert_eq!(report["total_spans"], 9);
    let worked: u64 = list("runs", "lasted_ms")
        .iter()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(report["worked_ms"], worked);
    assert_eq!(sum("lasts_ms").max(worked), sum("lasts_ms"));

    let page = page(&place, "in");
    for text in [
        "Report of a job",
        ">completed</span>",
        "3 interruptions.",
        "killed or crashed",
        "class=\"stop\"",
        "class=\"crash\"",
        "limit of 2 items",
    ] {
        assert!(page.contains(text), "`{text}` is not in the page");
    }
}

/// Reads a page as a browser does, and fails where an element is not closed, may not be there, or loads or runs something.
const CHECK_PAGE: &str = r#"
import sys
from html.parser import HTMLParser
VOID = {"meta", "link", "br", "img", "input", "hr"}
KNOWN = set("html head meta title style body main header footer section figure figcaption h1 h2 h3 p b small dl dt dd div span ul li i code pre bdi table thead tbody tr th td details summary svg g rect line circle path text desc".split())
class Check(HTMLParser):
    stack = []
    def handle_starttag(self, tag, attributes):
        assert tag in KNOWN, tag
        for name, value in attributes:
            assert not name.startswith("on") and name not in ("src", "href", "srcset", "action", "xlink:href"), (tag, name)
            assert name != "style" or "url" not in value, value
        if tag not in VOID:
            self.stack.append(tag)
    def handle_startendtag(self, tag, attributes):
        assert tag in KNOWN, tag
    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, (tag, self.getpos())
text = sys.stdin.buffer.read().decode()
assert not [letter for letter in text if letter != "\n" and letter != "\t" and (ord(letter) < 32 or 127 <= ord(letter) < 160)]
assert not [letter for letter in text if "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"]
assert "default-src 'none'" in text and "http" not in text.replace("http-equiv", "")
check = Check()
check.feed(text)
check.close()
assert not check.stack, check.stack
"#;

#[test]
fn texts_of_commands_stay_texts() {
    let place = Place::new();
    let lines: Vec<String> = HOSTILE
        .iter()
        .map(|text| serde_json::json!({ "id": text }).to_string() + "\n")
        .collect();
    place.write("in.jsonl", lines.concat());
    let ran = place.run(&[
        "run",
        "in.jsonl",
        "--key",
        "id",
        "-j1",
        "--retries",
        "0",
        "--shell",
        "--",
        ECHO,
        "{.id}",
    ]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let report = json(&place, "in");
    assert_eq!(report["dead_items"][0]["key"], HOSTILE[1]);
    let page = page(&place, "in");
    let checked = asked(&place, CHECK_PAGE, &page);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    for text in [
        "&lt;/script&gt;&lt;script&gt;alert(1)",
        "&quot;&gt;&lt;img src=x onerror=alert(1)&gt;",
        "plain &amp; &#39;simple&#39;",
        "\\u{202e}txt.exe\\u{2066}",
        "\\u{1b}[2J",
    ] {
        assert!(page.contains(text), "`{text}` is not in the page");
    }
}

#[test]
fn the_page_of_every_kind_of_job_is_whole() {
    let place = Place::new();
    interrupted(&place);
    place.write("none.txt", "");
    assert_eq!(place.run(&["run", "none.txt", "--", "true"]).code, Some(0));
    crate::steps::experiment(&place);
    for job in ["in", "none", "experiment"] {
        let checked = asked(&place, CHECK_PAGE, &page(&place, job));
        assert_eq!(checked.code, Some(0), "{job}: {}", checked.stderr);
    }
    let steps = page(&place, "experiment");
    for text in ["Report of a job of steps", "T0/</span>run-1", "fill-fail"] {
        assert!(steps.contains(text), "`{text}` is not in the page");
    }
    let report = json(&place, "experiment");
    assert_eq!(
        (&report["kind"], &report["total_spans"]),
        (&"steps".into(), &3.into())
    );
}

#[test]
fn a_line_of_csv_for_each_attempt_and_an_event_of_the_trace() {
    let place = Place::new();
    interrupted(&place);
    let csv = place.run(&["report", "in", "--format", "csv"]).stdout;
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        lines[0].join(","),
        "kind,index,key,attempt,run,end,started_at,duration_us,exit_code,signal,error"
    );
    let ends: Vec<(&str, &str, &str)> = lines[1..]
        .iter()
        .map(|line| (line[1], line[4], line[5]))
        .collect();
    assert_eq!(
        ends[..3],
        [("0", "1", "done"), ("1", "1", "done"), ("2", "3", "failed")]
    );
    assert_eq!(ends[3], ("2", "4", "done"));
    assert_eq!(ends.len(), 9);
    assert_eq!(lines[3][8], "7");

    let trace = place.run(&["report", "in", "--format", "perfetto"]).stdout;
    let checked = asked(&place, CHECK_TRACE, &trace);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert_eq!(checked.stdout.trim(), "4 runs, 9 attempts, 1 stops");
}

/// Checks what viewers of the Trace Event Format rely on: the fields of each kind of event, and that what is on one thread does not overlap.
const CHECK_TRACE: &str = r#"
import json, sys
events = json.load(sys.stdin)["traceEvents"]
ends, counts = {}, {"run": 0, "attempt": 0, "stop": 0}
for event in events:
    assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and isinstance(event["name"], str), event
    if event["ph"] == "M":
        assert event["name"] in ("process_name", "process_sort_index", "thread_name") and event["args"], event
    elif event["ph"] == "i":
        assert event["s"] == "p" and event["ts"] >= 0, event
        counts["stop"] += event["cat"] == "stop"
    else:
        assert event["ph"] == "X" and event["ts"] >= 0 and event["dur"] >= 0, event
        thread = event["pid"], event["tid"]
        assert event["ts"] >= ends.get(thread, 0), (event, ends[thread])
        ends[thread] = event["ts"] + event["dur"]
        counts["run" if event["cat"] == "run" else "attempt"] += 1
print("%(run)s runs, %(attempt)s attempts, %(stop)s stops" % counts)
"#;

#[test]
fn the_file_is_replaced_whole_and_nothing_else_is() {
    let place = Place::new();
    place.write("in.txt", "a\n");
    assert_eq!(place.run(&["run", "in.txt", "--", "echo"]).code, Some(0));
    let (report, link) = (place.file("report.html"), place.file("link.html"));
    for _ in 0..2 {
        let ran = place.run(&["report", "in", "-o", "report.html"]);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(0), ""),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("report.html"), "{}", ran.stderr);
    }
    assert!(
        std::fs::read_to_string(&report)
            .expect("a page")
            .ends_with("</html>\n")
    );
    let mode = std::fs::metadata(&report)
        .expect("a file")
        .permissions()
        .mode();
    let plain = std::fs::metadata(place.write("plain", ""))
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode, plain, "as any other file of this user");

    // The ending tells the format, and a link is followed.
    symlink("figures.json", &link).expect("a link");
    place.write("figures.json", "old");
    assert_eq!(
        place
            .run(&["report", "in", "-o", "link.html", "--json"])
            .code,
        Some(0)
    );
    assert!(link.is_symlink());
    let figures = std::fs::read_to_string(place.file("figures.json")).expect("figures");
    assert_eq!(
        serde_json::from_str::<Value>(&figures).expect("JSON")["job"],
        "in"
    );
    assert_eq!(place.run(&["report", "in", "-o", "x.csv"]).code, Some(0));
    assert_eq!(place.lines("x.csv").len(), 2);

    std::fs::create_dir(place.file("folder")).expect("a directory");
    for (target, why) in [
        ("folder", "it is a directory"),
        ("/dev/null", "it is no regular file"),
        ("missing/report.html", "nothing can be made there"),
    ] {
        let ran = place.run(&["report", "in", "-o", target]);
        assert_eq!(ran.code, Some(2), "{target}");
        assert!(
            ran.stderr.contains(why) && ran.stderr.contains("hint"),
            "{}",
            ran.stderr
        );
    }
    let nothing_new = std::fs::read_dir(place.path()).expect("a directory");
    let hidden = nothing_new.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().ends_with(".new")
    });
    assert_eq!(hidden.count(), 0);
    let unknown = place.run(&["report", "nobody", "-o", "never.html"]);
    assert_eq!(unknown.code, Some(2));
    assert!(!place.file("never.html").exists());
}

#[test]
fn a_report_can_be_made_while_the_job_runs() {
    let place = Place::new();
    place.write("in.txt", "a\nb\n");
    let gate = place.gate("gate");
    let running = place.begin(&[
        "run",
        "in.txt",
        "-j1",
        "--shell",
        "--",
        "read x < gate; echo $1",
    ]);
    gate.pass(1);
    wait_until("the first result", || {
        !running.stdout().is_empty() && in_progress(&place) == 1
    });
    let report = json(&place, "in");
    assert_eq!(report["status"], "running");
    assert_eq!(report["runs"][0]["outcome"], "running");
    assert_eq!(report["done"], 1);
    assert!(page(&place, "in").contains("it still runs"));
    gate.pass(1);
    assert_eq!(running.ended().code, Some(0));
}

#[test]
fn html_is_not_printed_on_a_terminal() {
    let place = Place::new();
    place.write("in.txt", "a\n");
    assert_eq!(place.run(&["run", "in.txt", "--", "echo"]).code, Some(0));
    let terminal = crate::terminal::Terminal::start(&place, &["report", "in"], |_| {});
    terminal.shows("nothing to read on a terminal");
    terminal.shows("-o report.html");
}

#[test]
fn a_supervised_command_is_told_by_its_starts() {
    let place = Place::new();
    let script = "[ $SAFEPOINT_RESTART_COUNT = 0 ] && exit 3; echo '{\"checkpoint\":\"<c1>\",\"cost\":0.5,\"done\":true}' >&3";
    let ran = place.run(&[
        "supervise",
        "--name",
        "job",
        "--restart",
        "on-failure",
        "--restart-delay",
        "1ms",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = json(&place, "job");
    assert_eq!(report["kind"], "supervise");
    let children = report["children"].as_array().expect("children");
    let ends: Vec<_> = children
        .iter()
        .map(|child| (&child["exit"], &child["finished"]))
        .collect();
    assert_eq!(
        ends,
        [
            (&"exit 3".into(), &false.into()),
            (&"exit 0".into(), &true.into())
        ]
    );
    let events: Vec<&Value> = report["marks"]
        .as_array()
        .expect("marks")
        .iter()
        .map(|mark| &mark["event"])
        .collect();
    assert_eq!(events, ["restarting", "checkpoint"]);
    let page = page(&place, "job");
    let checked = asked(&place, CHECK_PAGE, &page);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    for text in [
        "Report of a supervised command",
        "&lt;c1&gt;",
        "exit 3",
        "exit 0 (finished)",
    ] {
        assert!(page.contains(text), "`{text}` is not in the page");
    }
    let csv = place.run(&["report", "job", "--format", "csv"]).stdout;
    assert_eq!(csv.lines().count(), 3);
    let trace = place.run(&["report", "job", "--format", "perfetto"]).stdout;
    assert_eq!(
        asked(&place, CHECK_TRACE, &trace).stdout.trim(),
        "1 runs, 2 attempts, 0 stops"
    );
}
