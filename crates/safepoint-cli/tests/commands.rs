//! The whole output of every command and of every kind of error: exit code, standard output, standard error.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::shown::shows;
use crate::support::{Place, Ran, wait_until};

/// A place with a job `words` of five lines, all done.
fn done_job() -> Place {
    let place = Place::new();
    place.write("words.txt", "one\ntwo\nthree\nfour\nfive\n");
    let ran = place.run(&[
        "run",
        "words.txt",
        "-j1",
        "-q",
        "--",
        "sh",
        "-c",
        "echo noise >&2; echo \"<$0>\"",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    place
}

/// A place with a job `words` of five lines, of which `two` and `four` died.
fn job_with_dead_items() -> Place {
    let place = Place::new();
    place.write("words.txt", "one\ntwo\nthree\nfour\nfive\n");
    let ran = place.run(DEAD_RUN);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    place
}

const DEAD_RUN: &[&str] = &[
    "run",
    "words.txt",
    "-j1",
    "-q",
    "--retries",
    "1",
    "--retry-delay",
    "1ms",
    "--",
    "sh",
    "-c",
    "case $0 in t[w]o | four) [ -e mended ] || { echo \"no $0\" >&2; exit 9; } ;; esac; echo \"$0\"",
];

/// A job whose only attempt waits until it is released. It is killed if the test does not end it.
struct Waiting {
    child: Child,
    go: PathBuf,
}

impl Waiting {
    fn start(place: &Place) -> Self {
        place.write("words.txt", "one\ntwo\n");
        for name in ["ready", "go"] {
            let made = std::process::Command::new("mkfifo")
                .arg(place.file(name))
                .status()
                .expect("it starts");
            assert!(made.success());
        }
        let child = place
            .safepoint(&[
                "run",
                "words.txt",
                "-j1",
                "-q",
                "--",
                "sh",
                "-c",
                "echo here > ready; read line < go; echo \"$0 $line\"",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let waiting = Self {
            child,
            go: place.file("go"),
        };
        // Ends when the attempt has opened and closed its end.
        let ready = std::fs::read_to_string(place.file("ready")).expect("the attempt says so");
        assert_eq!(ready, "here\n");
        // The attempt runs before it is written down who it is, and the input is counted beside the work.
        loop {
            let told = place.run(&["status", "words", "--json"]).stdout;
            let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
            if told["total"] == 2 && told["in_progress"][0]["pid"].is_u64() {
                return waiting;
            }
        }
    }

    /// Lets the attempt in progress finish, once the run has heard of its stop.
    fn release(&self, place: &Place) {
        wait_until("the stop to be heard", || {
            !place.events("words", "interrupt_initiated").is_empty()
        });
        std::fs::OpenOptions::new()
            .write(true)
            .open(&self.go)
            .expect("the attempt reads")
            .write_all(b"gone\n")
            .expect("written");
    }

    fn end(mut self) -> Ran {
        let stdout = self.child.stdout.take().expect("piped");
        let stderr = self.child.stderr.take().expect("piped");
        let status = self.child.wait().expect("it ends");
        Ran::of(std::process::Output {
            status,
            stdout: std::io::read_to_string(stdout).expect("text").into_bytes(),
            stderr: std::io::read_to_string(stderr).expect("text").into_bytes(),
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Both fail if it has ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- bad usage

#[test]
fn bad_usage_is_refused_with_exit_code_2() {
    let place = Place::new();
    place.write("words.txt", "one\n");
    shows!(place, place.run(&["frobnicate"]), @"
    exit 2
    --- stdout
    --- stderr
    error: unrecognized subcommand 'frobnicate'

    Usage: safepoint [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    shows!(place, place.run(&["run", "words.txt"]), @"
    exit 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <COMMAND>...

    Usage: safepoint run <INPUT>... -- <COMMAND>...

    For more information, try '--help'.
    ");
    shows!(place, place.run(&["run", "words.txt", "--timeout", "5 parsecs", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value '5 parsecs' for '--timeout <TIME>': `5 parsecs` is not a duration; write for example 90, 90s, 10m, 1.5h or 2d

    For more information, try '--help'.
    ");
    shows!(place, place.run(&["run", "words.txt", "--slots", "0", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `--slots 0` would do nothing
    hint: leave it out for one slot per processor
    ");
    shows!(place, place.run(&["run", "words.txt", "--slots", "5000", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `--slots 5000` is more than the 4096 that one run may have
    ");
    shows!(place, place.run(&["run", "words.txt", "--max-failures", "some", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `--max-failures some` is neither a number nor a percentage
    hint: write for example 10 or 5%
    ");
    shows!(place, place.run(&["run", "words.txt", "--pipeline", "4", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `--pipeline` is for persistent workers
    hint: add `--worker`, or use more slots (`-j`)
    ");
    shows!(place, place.run(&["run", "words.txt", "--fresh", "--accept-changes", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: the argument '--fresh' cannot be used with '--accept-changes'

    Usage: safepoint run --fresh <INPUT>... -- <COMMAND>...

    For more information, try '--help'.
    ");
    shows!(place, place.run(&["run", "words.txt", "--name", "a/b", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `a/b` cannot name a job
    hint: use up to 100 letters, digits, dots, underscores and hyphens, not beginning with a dot or hyphen
    ");
    shows!(place, place.run(&["completions", "dos"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'dos' for '<SHELL>'
      [possible values: bash, elvish, fish, powershell, zsh]

    For more information, try '--help'.
    ");
    shows!(place, place.run(&["man", "frobnicate"]), @"
    exit 2
    --- stdout
    --- stderr
    error: there is no command `frobnicate`
    hint: `safepoint --help` lists the commands
    ");
    assert!(!place.file(".safepoint").exists(), "nothing was made");
}

#[test]
fn inputs_and_templates_that_cannot_work_are_refused_before_anything_is_made() {
    let place = Place::new();
    place.write("words.txt", "one\n");
    place.write("items.jsonl", "{\"f\":1}\n");
    shows!(place, place.run(&["run", "missing.txt", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: cannot read input `missing.txt`: No such file or directory (os error 2)
    ");
    shows!(place, place.run(&["run", ".", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: input `.` is a directory
    hint: make a list of its files first, for example `find DIR -type f > files.txt`
    ");
    shows!(place, place.run(&["run", "words.txt", "--key", "id", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `--key` needs items with fields, and `words.txt` has plain items
    hint: use `--format jsonl` or `--format csv`, or leave out `--key`
    ");
    shows!(place, place.run(&["run", "words.txt", "--", "echo", "{.f}"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `{.field}` needs items with fields, and `words.txt` has plain items
    hint: use `{}` for the whole item, or `--format jsonl` or `--format csv`
    ");
    shows!(place, place.run(&["run", "words.txt", "items.jsonl", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: some inputs have fields and some have plain items
    hint: say how all of them are to be read with `--format`
    ");
    shows!(place, place.run(&["run", "-", "-", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: standard input (`-`) can be read only once
    ");
    shows!(place, place.run(&["run", "words.txt", "--shell", "--", "echo {}"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: a script for the shell cannot have placeholders
    hint: use "$1" in the script; further arguments may have placeholders and become $1, $2 and so on
    "#);
    shows!(place, place.run(&["run", "words.txt", "--", "no-such-command-here"]), @"
    exit 2
    --- stdout
    --- stderr
    error: command `no-such-command-here` was not found
    hint: check its spelling and PATH; shell built-ins and pipelines need `--shell`
    ");
    shows!(place, place.run(&["run", "words.txt", "--", "./words.txt"]), @"
    exit 2
    --- stdout
    --- stderr
    error: command `./words.txt` is not an executable file
    hint: make it executable with `chmod +x`, or name its interpreter first
    ");
    assert!(!place.file(".safepoint").exists(), "nothing was made");
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let place = Place::new();
    place.write("words.txt", "one\n");
    let run = &["run", "words.txt", "--", "true"];
    place.write("safepoint.toml", "[run]\nslotz = 2\n");
    shows!(place, place.run(run), @"
    exit 2
    --- stdout
    --- stderr
    error: `safepoint.toml` is not as it must be: TOML parse error at line 2, column 1
      |
    2 | slotz = 2
      | ^^^^^
    unknown field `slotz`, expected one of `slots`, `pipeline`, `retries`, `retry-delay`, `timeout`, `max-failures`, `crash-limit`, `time-limit`, `limit`, `grace`, `kill-after`, `stop-exit-code`, `output`, `progress`, `http`, `http-token-file`, `http-host`, `ready-command`, `ready-arg`, `ready-delay`
    hint: settings stand in a table [run] and have the names of the flags, for example `slots = 8`
    ");
    place.write("safepoint.toml", "[run]\ntimeout = \"soon\"\n");
    shows!(place, place.run(run), @r#"
    exit 2
    --- stdout
    --- stderr
    error: `safepoint.toml` is not as it must be: TOML parse error at line 2, column 11
      |
    2 | timeout = "soon"
      |           ^^^^^^
    `soon` is not a duration; write for example 90, 90s, 10m, 1.5h or 2d
    hint: settings stand in a table [run] and have the names of the flags, for example `slots = 8`
    "#);
    place.write("safepoint.toml", "[run\n");
    shows!(place, place.run(run), @"
    exit 2
    --- stdout
    --- stderr
    error: `safepoint.toml` is not as it must be: TOML parse error at line 1, column 5
      |
    1 | [run
      |     ^
    unclosed table, expected `]`
    hint: settings stand in a table [run] and have the names of the flags, for example `slots = 8`
    ");
    std::fs::remove_file(place.file("safepoint.toml")).expect("removed");
    let ran = Ran::of(
        place
            .safepoint(run)
            .env("SHUTDOWN_TIMEOUT", "soon")
            .output()
            .expect("it starts"),
    );
    shows!(place, ran, @"
    exit 2
    --- stdout
    --- stderr
    error: SHUTDOWN_TIMEOUT cannot be used: `soon` is not a duration; write for example 90, 90s, 10m, 1.5h or 2d
    ");
    let ran = Ran::of(
        place
            .safepoint(run)
            .env("SAFEPOINT_GRACE", "soon")
            .output()
            .expect("it starts"),
    );
    shows!(place, ran, @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'soon' for '--grace <TIME>': `soon` is not a duration; write for example 90, 90s, 10m, 1.5h or 2d

    For more information, try '--help'.
    ");
}

// ---- no such job

#[test]
fn without_jobs_each_command_says_so() {
    let place = Place::new();
    shows!(place, place.run(&["list"]), @"
    exit 0
    --- stdout
    --- stderr
    no jobs in `.safepoint`
    ");
    shows!(place, place.run(&["list", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"jobs":[]}
    --- stderr
    "#);
    for command in [
        "status", "show", "results", "events", "retry", "stop", "validate", "clean",
    ] {
        let ran = place.run(&[command]);
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (
                Some(2),
                "",
                "error: there are no jobs in `.safepoint`\nhint: start one with `safepoint run`, or name another place with `--state-dir`\n"
            ),
            "{command}"
        );
    }
    assert!(!place.file(".safepoint").exists(), "looking makes nothing");
}

#[test]
fn a_job_is_named_whole_or_by_an_unambiguous_beginning() {
    let place = done_job();
    place.write("work.txt", "x\n");
    assert_eq!(
        place.run(&["run", "work.txt", "-q", "--", "true"]).code,
        Some(0)
    );
    shows!(place, place.run(&["status", "nowhere"]), @"
    exit 2
    --- stdout
    --- stderr
    error: no job `nowhere` in `.safepoint`
    hint: `safepoint list` shows the jobs there are
    ");
    shows!(place, place.run(&["status", "wor"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `wor` is the beginning of several jobs: work, words
    hint: give more of the name
    ");
    shows!(place, place.run(&["show", "3"]), @"
    exit 2
    --- stdout
    --- stderr
    error: no job `3` in `.safepoint`
    hint: `safepoint list` shows the jobs there are; an item is shown with `safepoint show JOB 3`
    ");
    shows!(place, place.run(&["events", "../words"]), @"
    exit 2
    --- stdout
    --- stderr
    error: no job `../words` in `.safepoint`
    hint: `safepoint list` shows the jobs there are
    ");
    shows!(place, place.run(&["validate", "nowhere"]), @"
    exit 2
    --- stdout
    --- stderr
    error: no job `nowhere` in `.safepoint`
    hint: name a job (`safepoint list` shows them), a state directory or a `job.db`
    ");
    assert!(
        place
            .run(&["status", "word"])
            .stdout
            .starts_with("job words: completed\n")
    );
    assert!(
        place
            .run(&["status"])
            .stdout
            .starts_with("job work: completed\n"),
        "the latest"
    );
}

// ---- a job that is done

#[test]
fn a_done_job_is_shown_from_all_sides() {
    let place = done_job();
    shows!(place, place.run(&["list"]), @"
    exit 0
    --- stdout
    NAME   STATUS     DONE  DEAD  RUNS  CHANGED
    words  completed   5/5     0     1  [AGO]
    --- stderr
    ");
    shows!(place, place.run(&["list", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"jobs":[{"job":"words","status":"completed","done":5,"total":5,"dead":0,"waiting":0,"runs":1,"changed_at":"[TIME]","error":null}]}
    --- stderr
    "#);
    shows!(place, place.run(&["status"]), @"
    exit 0
    --- stdout
    job words: completed
      items        5 of 5 items done (100 %)
      speed        [RATE]
      runs         1: [TIME], completed, 5 items done
    --- stderr
    ");
    shows!(place, place.run(&["status", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","status":"completed","done":5,"dead":0,"waiting":0,"duplicate":0,"total":5,"left":0,"items_per_second":[N],"eta_seconds":null,"cost":null,"owner":null,"in_progress":[],"runs":[{"run":1,"pid":[PID],"host":"[HOST]","version":"[VERSION]","started_at":"[TIME]","ended_at":"[TIME]","outcome":"completed","reason":null,"done_before":0,"done_after":5}]}
    --- stderr
    "#);
    shows!(place, place.run(&["status", "--watch"]), @"
    exit 0
    --- stdout
    words: completed, 5 of 5 items done (100 %), [RATE]
    --- stderr
    ");
    shows!(place, place.run(&["show"]), @"
    exit 0
    --- stdout
    job words: completed, 5/5 items done, 0 dead, 0 waiting
    --- stderr
    ");
    shows!(place, place.run(&["show", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","status":"completed","done":5,"total":5,"dead":0,"waiting":0,"items":[],"more":0}
    --- stderr
    "#);
}

#[test]
fn an_item_and_the_events_of_a_done_job_are_shown() {
    let place = done_job();
    shows!(place, place.run(&["show", "words", "2"]), @"
    exit 0
    --- stdout
    item 2
      state      done
      attempts   1
      run        1
      started    [TIME]
      took       [DURATION]
      exit code  0
      content
        three
      result
        <three>
      stderr
        noise
    --- stderr
    ");
    shows!(place, place.run(&["show", "words", "2", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"index":2,"key":"2","state":"done","item":"three","result":"<three>","exit_code":0,"duration_us":[N],"attempts":1,"run":1,"crashes":0,"started_at":"[TIME]","not_before":null,"in_progress":null,"failed_attempts":[],"stderr":"noise\n"}
    --- stderr
    "#);
    shows!(place, place.run(&["show", "words", "5"]), @"
    exit 2
    --- stdout
    --- stderr
    error: job `words` has no item `5`
    hint: its items are 0 to 4; a key is known from its first attempt on
    ");
    shows!(place, place.run(&["show", "words", "three"]), @"
    exit 2
    --- stdout
    --- stderr
    error: job `words` has no item `three`
    hint: its items are 0 to 4; a key is known from its first attempt on
    ");
    shows!(place, place.run(&["events"]), @"
    exit 0
    --- stdout
    [TIME]  run 1  run_started          pid=[PID] done=0 after_crash=false ended_strays=0
    [TIME]  run 1  run_ended            outcome=completed done=5 dead=0 waiting=0 total=5 done_in_run=5 elapsed_seconds=[N]
    --- stderr
    ");
    shows!(place, place.run(&["validate"]), @"
    exit 0
    --- stdout
    job `words` is whole: 5 items, 2 events
    --- stderr
    ");
    shows!(place, place.run(&["validate", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","path":".safepoint/words/job.db","whole":true,"items":5,"steps":0,"events":2,"generations":0,"cache_entries":0,"problems":[]}
    --- stderr
    "#);
    shows!(place, place.run(&["retry"]), @"
    exit 0
    --- stdout
    --- stderr
    job `words`: nothing to attempt again
    ");
    shows!(place, place.run(&["stop"]), @"
    exit 2
    --- stdout
    --- stderr
    error: job `words` is not running
    hint: `safepoint status words` says how far it is
    ");
}

#[test]
fn results_are_printed_in_input_order() {
    let place = done_job();
    shows!(place, place.run(&["results"]), @r#"
    exit 0
    --- stdout
    {"index":0,"key":"0","state":"done","item":"one","result":"<one>","exit_code":0,"duration_us":[N],"attempts":1}
    {"index":1,"key":"1","state":"done","item":"two","result":"<two>","exit_code":0,"duration_us":[N],"attempts":1}
    {"index":2,"key":"2","state":"done","item":"three","result":"<three>","exit_code":0,"duration_us":[N],"attempts":1}
    {"index":3,"key":"3","state":"done","item":"four","result":"<four>","exit_code":0,"duration_us":[N],"attempts":1}
    {"index":4,"key":"4","state":"done","item":"five","result":"<five>","exit_code":0,"duration_us":[N],"attempts":1}
    --- stderr
    "#);
    shows!(place, place.run(&["results", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"index":0,"key":"0","state":"done","item":"one","result":"<one>","exit_code":0,"duration_us":[N],"attempts":1}
    {"schema":1,"index":1,"key":"1","state":"done","item":"two","result":"<two>","exit_code":0,"duration_us":[N],"attempts":1}
    {"schema":1,"index":2,"key":"2","state":"done","item":"three","result":"<three>","exit_code":0,"duration_us":[N],"attempts":1}
    {"schema":1,"index":3,"key":"3","state":"done","item":"four","result":"<four>","exit_code":0,"duration_us":[N],"attempts":1}
    {"schema":1,"index":4,"key":"4","state":"done","item":"five","result":"<five>","exit_code":0,"duration_us":[N],"attempts":1}
    --- stderr
    "#);
    shows!(place, place.run(&["results", "--format", "csv"]), @"
    exit 0
    --- stdout
    index,key,state,item,result,omitted,exit_code,duration_us,attempts,error
    0,0,done,one,<one>,,0,[N],1,
    1,1,done,two,<two>,,0,[N],1,
    2,2,done,three,<three>,,0,[N],1,
    3,3,done,four,<four>,,0,[N],1,
    4,4,done,five,<five>,,0,[N],1,
    --- stderr
    ");
}

#[test]
fn the_same_command_again_finds_nothing_to_do() {
    let place = done_job();
    let ran = place.run(&[
        "run",
        "words.txt",
        "-j1",
        "--",
        "sh",
        "-c",
        "echo noise >&2; echo \"<$0>\"",
    ]);
    shows!(place, ran, @"
    exit 0
    --- stdout
    --- stderr
    safepoint: job `words`, run 2, 5 items are done already
    safepoint: nothing left to do after [DURATION]: 5 of 5 items done
      results: safepoint results words
    ");
}

#[test]
fn raw_events_are_the_lines_of_the_file() {
    let place = done_job();
    let lines = place.lines(".safepoint/words/events.jsonl");
    assert_eq!(lines.len(), 2);
    let ran = place.run(&["events", "--json"]);
    assert_eq!((ran.code, ran.stdout), (Some(0), lines.join("\n") + "\n"));
}

#[test]
fn cleaning_asks_or_is_told() {
    let place = done_job();
    shows!(place, place.run(&["clean", "words"]), @"
    exit 2
    --- stdout
    --- stderr
    error: not removing job `words` unasked: 5 results, [SIZE]
    hint: say so with `safepoint clean words --yes`
    ");
    shows!(place, place.run(&["clean", "--yes"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `clean --yes` needs the name of the job
    hint: `safepoint list` shows the jobs there are
    ");
    assert!(place.file(".safepoint/words/job.db").exists());
    shows!(place, place.run(&["clean", "words", "--yes"]), @"
    exit 0
    --- stdout
    --- stderr
    removed job `words`: 5 results, [SIZE]
    ");
    shows!(place, place.run(&["list"]), @"
    exit 0
    --- stdout
    --- stderr
    no jobs in `.safepoint`
    ");
    assert_eq!(
        std::fs::read_dir(place.file(".safepoint"))
            .expect("it is there")
            .count(),
        0
    );

    let place = done_job();
    shows!(place, place.run(&["clean", "words", "--yes", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","removed":{"results":5,"published":0,"bytes":[N]}}
    --- stderr
    "#);
}

// ---- dead items

#[test]
fn dead_items_are_shown_with_their_attempts() {
    let place = job_with_dead_items();
    shows!(place, place.run(&["list"]), @"
    exit 0
    --- stdout
    NAME   STATUS     DONE  DEAD  RUNS  CHANGED
    words  completed   3/5     2     1  [AGO]
    --- stderr
    ");
    shows!(place, place.run(&["show"]), @"
    exit 0
    --- stdout
    job words: completed, 3/5 items done, 2 dead, 0 waiting
      dead item 1, 2 attempts: exit 9: no two
      dead item 3, 2 attempts: exit 9: no four
    --- stderr
      all about one of them: safepoint show words 1
    ");
    shows!(place, place.run(&["show", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","status":"completed","done":3,"total":5,"dead":2,"waiting":0,"items":[{"index":1,"key":"1","state":"dead","item":"two","result":null,"exit_code":9,"duration_us":[N],"attempts":2,"error":"exit 9: no two"},{"index":3,"key":"3","state":"dead","item":"four","result":null,"exit_code":9,"duration_us":[N],"attempts":2,"error":"exit 9: no four"}],"more":0}
    --- stderr
    "#);
    shows!(place, place.run(&["show", "words", "3"]), @"
    exit 0
    --- stdout
    item 3
      state      dead
      error      exit 9: no four
      attempts   2
      run        1
      started    [TIME]
      took       [DURATION]
      exit code  9
      content
        four
      attempt 1 failed in run 1, [TIME], after [DURATION]: exit 9: no four
        no four
      attempt 2 failed in run 1, [TIME], after [DURATION]: exit 9: no four
        no four
    --- stderr
    ");
    shows!(place, place.run(&["show", "words", "3", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"index":3,"key":"3","state":"dead","item":"four","result":null,"exit_code":9,"duration_us":[N],"attempts":2,"error":"exit 9: no four","run":1,"crashes":0,"started_at":"[TIME]","not_before":null,"in_progress":null,"failed_attempts":[{"attempt":1,"run":1,"started_at":"[TIME]","duration_us":[N],"exit_code":9,"signal":null,"error":"exit 9: no four","stderr":"no four\n"},{"attempt":2,"run":1,"started_at":"[TIME]","duration_us":[N],"exit_code":9,"signal":null,"error":"exit 9: no four","stderr":"no four\n"}],"stderr":null}
    --- stderr
    "#);
    shows!(place, place.run(&["results", "--all"]), @r#"
    exit 0
    --- stdout
    {"index":0,"key":"0","state":"done","item":"one","result":"one","exit_code":0,"duration_us":[N],"attempts":1}
    {"index":1,"key":"1","state":"dead","item":"two","result":null,"exit_code":9,"duration_us":[N],"attempts":2,"error":"exit 9: no two"}
    {"index":2,"key":"2","state":"done","item":"three","result":"three","exit_code":0,"duration_us":[N],"attempts":1}
    {"index":3,"key":"3","state":"dead","item":"four","result":null,"exit_code":9,"duration_us":[N],"attempts":2,"error":"exit 9: no four"}
    {"index":4,"key":"4","state":"done","item":"five","result":"five","exit_code":0,"duration_us":[N],"attempts":1}
    --- stderr
    "#);
}

#[test]
fn dead_items_are_retried() {
    let place = job_with_dead_items();
    shows!(place, place.run(&["retry", "words", "nowhere"]), @"
    exit 2
    --- stdout
    --- stderr
    error: job `words` has no dead item `nowhere`
    hint: `safepoint show words` lists the dead items; nothing was changed
    ");
    shows!(place, place.run(&["retry", "words", "3", "0"]), @"
    exit 0
    --- stdout
    --- stderr
    item 0 is not dead but done
    job `words`: 1 dead item is pending again
      to attempt them: the same `safepoint run` command again
    ");
    shows!(place, place.run(&["status"]), @"
    exit 0
    --- stdout
    job words: interrupted
      items        3 of 5 items done (60 %), 1 dead
      speed        [RATE]
      runs         1: [TIME], completed, 3 items done
    --- stderr
    ");
    shows!(place, place.run(&["show", "words", "3"]), @"
    exit 0
    --- stdout
    item 3
      state      pending
      attempts   0
      run        1
      started    [TIME]
      took       [DURATION]
      exit code  9
      content
        four
      attempt 1 failed in run 1, [TIME], after [DURATION]: exit 9: no four
        no four
      attempt 2 failed in run 1, [TIME], after [DURATION]: exit 9: no four
        no four
    --- stderr
    ");
    shows!(place, place.run(&["retry", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","retried":1,"not_dead":[]}
    --- stderr
    "#);
    place.write("mended", "");
    let ran = place.run(DEAD_RUN);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "two\nfour\n"),
        "{ran:?}"
    );
}

#[test]
fn a_run_with_dead_items_ends_with_exit_code_3() {
    let place = Place::new();
    place.write("words.txt", "one\ntwo\n");
    let ran = place.run(&[
        "run",
        "words.txt",
        "-j1",
        "--retries",
        "1",
        "--retry-delay",
        "1ms",
        "--",
        "sh",
        "-c",
        "[ $0 = one ]",
    ]);
    shows!(place, ran, @"
    exit 3
    --- stdout
    --- stderr
    safepoint: job `words`, run 1
    item 1: attempt 1 failed: exit 1; again in [DURATION]
    item 1: attempt 2 failed: exit 1; dead
    safepoint: finished after [DURATION]: 1 of 2 items done, 1 dead
      results: safepoint results words
      dead items: safepoint show words; attempt them again: the same command with --retry-failed
    ");
}

#[test]
fn an_item_with_a_key_is_found_by_it() {
    let place = Place::new();
    place.write("people.csv", "id,name\nann,Ann\nbob,Bob\nann,Ann again\n");
    let ran = place.run(&[
        "run",
        "people.csv",
        "-j1",
        "-v",
        "--key",
        "id",
        "--",
        "echo",
        "{key}",
        "{.name}",
    ]);
    shows!(place, ran, @"
    exit 0
    --- stdout
    ann Ann
    bob Bob
    --- stderr
    safepoint: job `people`, run 1
    item ann: left out, the key is that of item 0
    safepoint: finished after [DURATION]: 2 of 2 items done, 1 left out as duplicates
      results: safepoint results people
    ");
    shows!(place, place.run(&["show", "people", "bob"]), @r#"
    exit 0
    --- stdout
    item 1
      key        bob
      state      done
      attempts   1
      run        1
      started    [TIME]
      took       [DURATION]
      exit code  0
      content
        {"id":"bob","name":"Bob"}
      result
        bob Bob
    --- stderr
    "#);
    shows!(place, place.run(&["show", "people", "2"]), @r#"
    exit 0
    --- stdout
    item 2
      key        ann
      state      duplicate
      error      same key as item 0
      attempts   0
      run        1
      started    [TIME]
      took       [DURATION]
      content
        {"id":"ann","name":"Ann again"}
    --- stderr
    "#);
    shows!(place, place.run(&["status"]), @"
    exit 0
    --- stdout
    job people: completed
      items        2 of 2 items done (100 %), 1 left out as duplicates
      speed        [RATE]
      runs         1: [TIME], completed, 2 items done
    --- stderr
    ");
}

// ---- a job that runs

#[test]
fn a_second_owner_is_refused_by_name() {
    let place = Place::new();
    let waiting = Waiting::start(&place);
    shows!(place, place.run(&["run", "words.txt", "-q", "--", "sh", "-c", "echo here > ready; read line < go; echo \"$0 $line\""]), @"
    exit 4
    --- stdout
    --- stderr
    error: job `words` is owned by process [PID] on `[HOST]` since [TIME]
    hint: wait for it, or stop it with `safepoint stop words`
    ");
    shows!(place, place.run(&["retry"]), @"
    exit 4
    --- stdout
    --- stderr
    error: job `words` is owned by process [PID] on `[HOST]` since [TIME]
    hint: wait for it, or stop it with `safepoint stop words`
    ");
    shows!(place, place.run(&["clean", "words", "--yes"]), @"
    exit 4
    --- stdout
    --- stderr
    error: job `words` is owned by process [PID] on `[HOST]` since [TIME]
    hint: wait for it, or stop it with `safepoint stop words`
    ");
    let fresh = place.run(&["run", "words.txt", "-q", "--fresh", "--", "true"]);
    shows!(place, fresh, @"
    exit 4
    --- stdout
    --- stderr
    error: job `words` is owned by process [PID] on `[HOST]` since [TIME]
    hint: wait for it, or stop it with `safepoint stop words`
    ");
    drop(waiting);
    // A killed owner's job is free at once.
    let ran = place.run(&["run", "words.txt", "-q", "--accept-changes", "--", "true"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_job_that_runs_is_shown_and_stopped() {
    let place = Place::new();
    let waiting = Waiting::start(&place);
    shows!(place, place.run(&["list"]), @"
    exit 0
    --- stdout
    NAME   STATUS   DONE  DEAD  RUNS  CHANGED
    words  running   0/2     0     1  [AGO]
    --- stderr
    ");
    shows!(place, place.run(&["status"]), @"
    exit 0
    --- stdout
    job words: running
      items        0 of 2 items done (0 %)
      owner        process [PID] on `[HOST]` since [TIME]
      in progress  item 0, attempt 1, process [PID], [DURATION]
      runs         1: [TIME], running
    --- stderr
    ");
    shows!(place, place.run(&["status", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","status":"running","done":0,"dead":0,"waiting":0,"duplicate":0,"total":2,"left":2,"items_per_second":null,"eta_seconds":null,"cost":null,"owner":{"pid":[PID],"host":"[HOST]","since":"[TIME]"},"in_progress":[{"index":0,"attempt":1,"pid":[PID],"age_ms":[N]}],"runs":[{"run":1,"pid":[PID],"host":"[HOST]","version":"[VERSION]","started_at":"[TIME]","ended_at":null,"outcome":"running","reason":null,"done_before":0,"done_after":null}]}
    --- stderr
    "#);
    shows!(place, place.run(&["show", "words", "0"]), @"
    exit 0
    --- stdout
    item 0
      state      pending
      now        in progress: attempt 1, process [PID], [DURATION]
    --- stderr
    ");
    shows!(place, place.run(&["show", "words", "0", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"index":0,"state":"pending","in_progress":{"attempt":1,"pid":[PID],"age_ms":[N]},"attempts":0}
    --- stderr
    "#);
    shows!(place, place.run(&["show", "words", "1"]), @"
    exit 0
    --- stdout
    item 1
      state      pending
    --- stderr
    ");
    shows!(place, place.run(&["validate"]), @"
    exit 0
    --- stdout
    job `words` is whole: 0 items, 1 event
    --- stderr
    ");
    shows!(place, place.run(&["stop"]), @"
    exit 0
    --- stdout
    --- stderr
    asked process [PID] on `[HOST]` to stop job `words`: what is in progress may finish
      to wait for it: `safepoint stop words --wait`; to end it now: `safepoint stop words --now`
    ");
    waiting.release(&place);
    let ran = waiting.end();
    shows!(place, ran, @"
    exit 75
    --- stdout
    one gone
    --- stderr
    safepoint: safepoint stop: 1 in progress may finish (up to [DURATION])
    ");
    shows!(place, place.run(&["status"]), @"
    exit 0
    --- stdout
    job words: interrupted
      items        1 of 2 items done (50 %)
      speed        [RATE]
      runs         1: [TIME], interrupted (safepoint stop), 1 item done
    --- stderr
    ");
    shows!(place, place.run(&["events"]), @r#"
    exit 0
    --- stdout
    [TIME]  run 1  run_started          pid=[PID] done=0 after_crash=false ended_strays=0
    [TIME]  run 1  interrupt_initiated  source=USER mode=GRACEFUL message="safepoint stop"
    [TIME]  run 1  interrupt_completed  total_interrupts=1 graceful_interrupts=1 immediate_interrupts=0 given_up=0
    [TIME]  run 1  run_ended            outcome=interrupted done=1 dead=0 waiting=0 total=2 done_in_run=1 elapsed_seconds=[N]
    --- stderr
    "#);
}

#[test]
fn a_stop_can_be_waited_for_and_hurried() {
    let place = Place::new();
    let waiting = Waiting::start(&place);
    shows!(place, place.run(&["stop", "--now", "--wait"]), @"
    exit 0
    --- stdout
    --- stderr
    asked process [PID] on `[HOST]` to stop job `words`: what is in progress is given up, to run again next time
    job `words` has stopped
    ");
    let ran = waiting.end();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(75), ""), "{ran:?}");

    let place = Place::new();
    let waiting = Waiting::start(&place);
    shows!(place, place.run(&["stop", "--now", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","mode":"IMMEDIATE","owner":{"pid":[PID],"host":"[HOST]","since":"[TIME]"},"stopped":false}
    --- stderr
    "#);
    drop(waiting);
}

#[test]
fn watching_ends_with_the_run() {
    let place = Place::new();
    let waiting = Waiting::start(&place);
    let mut watching = place
        .safepoint(&["status", "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        watching.stdout.take().expect("piped"),
    ));
    let first = lines.next().expect("a line").expect("text");
    assert_eq!(
        first,
        "words: running, 0 of 2 items done (0 %), 1 in progress"
    );
    assert_eq!(place.run(&["stop", "-q"]).code, Some(0));
    waiting.release(&place);
    assert_eq!(waiting.end().code, Some(75));
    let last = lines.last().expect("a line").expect("text");
    assert!(
        last.starts_with("words: interrupted, 1 of 2 items done (50 %)"),
        "{last}"
    );
    assert!(watching.wait().expect("it ends").success());
}

// ---- what changed

#[test]
fn a_changed_command_is_refused_with_the_exact_difference() {
    let place = done_job();
    let db = std::fs::read(place.file(".safepoint/words/job.db")).expect("it is there");
    shows!(place, place.run(&["run", "words.txt", "-q", "--", "wc", "-c"]), @r#"
    exit 5
    --- stdout
    --- stderr
    error: job `words` was made by another command
      command was `sh -c 'echo noise >&2; echo "<$0>"'`
      command is  `wc -c`
    hint: keep what is done and go on with the new command: `--accept-changes`; begin anew: `--fresh`; keep both: another `--name`
    "#);
    shows!(place, place.run(&["run", "words.txt", "-q", "--stdin", "--null", "--", "wc", "-c"]), @r#"
    exit 5
    --- stdout
    --- stderr
    error: job `words` was made by another command
      command was `sh -c 'echo noise >&2; echo "<$0>"'`
      command is  `wc -c`
      delivery was `arguments`
      delivery is  `stdin`
      format was `lines`
      format is  `null`
    hint: keep what is done and go on with the new command: `--accept-changes`; begin anew: `--fresh`; keep both: another `--name`
    "#);
    assert_eq!(
        std::fs::read(place.file(".safepoint/words/job.db")).expect("it is there"),
        db
    );
}

#[test]
fn a_changed_or_lost_line_is_refused_and_named() {
    let again = &[
        "run",
        "words.txt",
        "-j1",
        "-q",
        "--",
        "sh",
        "-c",
        "echo noise >&2; echo \"<$0>\"",
    ];
    let place = done_job();
    place.write("words.txt", "one\ntwo\n\nTHREE\nfour\nfive\n");
    shows!(place, place.run(again), @"
    exit 5
    --- stdout
    --- stderr
    error: line 4 of `words.txt` changed after it was done
      it was `three`
      it is  `THREE`
    hint: put the line back; or run what changed again with `--accept-changes`; or begin anew with `--fresh`; or keep both with another `--name`
    ");
    place.write("words.txt", "one\ntwo\n");
    shows!(place, place.run(again), @"
    exit 5
    --- stdout
    --- stderr
    error: the input has only 2 items now, and later ones are done
    hint: put the missing lines back; or forget their results with `--accept-changes`; or begin anew with `--fresh`
    ");
    place.write("words.txt", "one\ntwo\nthree\nfour\nfive\nsix\n");
    shows!(place, place.run(again), @"
    exit 0
    --- stdout
    <six>
    --- stderr
    ");
}

#[test]
fn the_commands_can_be_tried_without_running_them() {
    let place = Place::new();
    place.write("words.txt", "one\nit's\n");
    shows!(place, place.run(&["run", "words.txt", "--dry-run", "--", "echo", "{index}:{}"]), @r#"
    exit 0
    --- stdout
    echo 0:one
    echo '1:it'\''s'
    --- stderr
    "#);
    shows!(place, place.run(&["run", "-", "--dry-run", "--", "echo"]), @"
    exit 2
    --- stdout
    --- stderr
    error: standard input cannot be tried without being used up
    hint: put it into a file first
    ");
    assert!(!place.file(".safepoint").exists(), "nothing was made");
}

// ---- damage

type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_database_is_never_a_fresh_start() {
    let run = &[
        "run",
        "words.txt",
        "-q",
        "--",
        "sh",
        "-c",
        "echo noise >&2; echo \"<$0>\"",
    ];
    let db = ".safepoint/words/job.db";
    let kinds: [(&str, Damage); 5] = [
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("zeroed in the middle", |bytes| bytes[4096..].fill(0)),
        ("not a database", |bytes| {
            *bytes = b"dear diary\n".repeat(1000);
        }),
        ("empty", Vec::clear),
        // `PRAGMA application_id`.
        ("of another program", |bytes| bytes[68..72].fill(7)),
    ];
    for (kind, damage) in kinds {
        let place = done_job();
        let mut bytes = std::fs::read(place.file(db)).expect("it is there");
        damage(&mut bytes);
        place.write(db, &bytes);
        for arguments in [
            run.as_slice(),
            &["status"],
            &["results"],
            &["show"],
            &["retry"],
            &["validate"],
        ] {
            let ran = place.run(arguments);
            assert_eq!(ran.code, Some(5), "{kind}: {arguments:?}: {ran:?}");
            assert!(
                ran.stderr.contains("damaged") && ran.stderr.contains("hint: "),
                "{kind}: {ran:?}"
            );
        }
        assert_eq!(
            std::fs::read(place.file(db)).expect("it is there"),
            bytes,
            "{kind}: it was written to"
        );
        let listed = place.run(&["list"]);
        assert!(
            listed.code == Some(0) && listed.stdout.contains("unreadable"),
            "{kind}: {listed:?}"
        );
        let cleaned = place.run(&["clean", "words", "--yes"]);
        assert_eq!(cleaned.code, Some(0), "{kind}: {cleaned:?}");
    }
}

#[test]
fn damage_is_told_with_a_way_out() {
    let run = &[
        "run",
        "words.txt",
        "-q",
        "--",
        "sh",
        "-c",
        "echo noise >&2; echo \"<$0>\"",
    ];
    let place = done_job();
    let whole = std::fs::read(place.file(".safepoint/words/job.db")).expect("it is there");
    place.write(".safepoint/words/job.db", b"dear diary\n".repeat(1000));
    shows!(place, place.run(run), @"
    exit 5
    --- stdout
    --- stderr
    error: `job.db` is damaged: SQLite cannot read it: file is not a database
    hint: `safepoint validate` shows what can be read; put a backup back, or begin anew with `--fresh` (which keeps the old state)
    ");
    shows!(place, place.run(&["status"]), @"
    exit 5
    --- stdout
    --- stderr
    error: `job.db` is damaged: SQLite cannot read it: file is not a database
    hint: `safepoint validate` shows what can be read; put a backup back, or begin anew with `--fresh` (which keeps the old state)
    ");
    shows!(place, place.run(&["list"]), @"
    exit 0
    --- stdout
    NAME   STATUS      DONE  DEAD  RUNS  CHANGED
    words  unreadable     ?     ?     ?  [AGO]
      error: `job.db` is damaged: SQLite cannot read it: file is not a database
    --- stderr
    ");
    shows!(place, place.run(&["list", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"jobs":[{"job":"words","status":null,"changed_at":"[TIME]","error":{"kind":"corrupt","message":"`job.db` is damaged: SQLite cannot read it: file is not a database"}}]}
    --- stderr
    "#);
    shows!(place, place.run(&["validate"]), @"
    exit 5
    --- stdout
    problem: `job.db` is damaged: SQLite cannot read it: file is not a database
    --- stderr
    error: job `words` is damaged: 1 problem found
    hint: put a backup back; or copy what is readable with SQLite's own shell: `sqlite3 .safepoint/words/job.db .recover | sqlite3 recovered.db` (or `.dump`, if it was built without that); or begin anew with `safepoint run --fresh`, which keeps this state as `words.previous`
    ");
    shows!(place, place.run(&["validate", "--json"]), @r#"
    exit 5
    --- stdout
    {"schema":1,"job":"words","path":".safepoint/words/job.db","whole":false,"items":null,"steps":0,"events":2,"generations":0,"cache_entries":0,"problems":["`job.db` is damaged: SQLite cannot read it: file is not a database"]}
    --- stderr
    error: job `words` is damaged: 1 problem found
    hint: put a backup back; or copy what is readable with SQLite's own shell: `sqlite3 .safepoint/words/job.db .recover | sqlite3 recovered.db` (or `.dump`, if it was built without that); or begin anew with `safepoint run --fresh`, which keeps this state as `words.previous`
    "#);

    let mut newer = whole.clone();
    // `PRAGMA user_version`, big-endian.
    newer[60..64].copy_from_slice(&9_u32.to_be_bytes());
    place.write(".safepoint/words/job.db", &newer);
    shows!(place, place.run(run), @"
    exit 5
    --- stdout
    --- stderr
    error: `job.db` has format 9, newer than this program's 2
    hint: use the newer safepoint that wrote it
    ");
    shows!(place, place.run(&["validate"]), @"
    exit 5
    --- stdout
    --- stderr
    error: `job.db` has format 9, newer than this program's 2
    hint: use the newer safepoint that wrote it
    ");

    std::fs::remove_file(place.file(".safepoint/words/job.db")).expect("removed");
    shows!(place, place.run(run), @"
    exit 5
    --- stdout
    --- stderr
    error: job `words` has run before, but its `job.db` is gone
    hint: put `.safepoint/words/job.db` back from a backup, or begin anew with `--fresh`
    ");
    shows!(place, place.run(&["results"]), @"
    exit 5
    --- stdout
    --- stderr
    error: job `words` has run before, but its `job.db` is gone
    hint: put `.safepoint/words/job.db` back from a backup, or begin anew with `--fresh`
    ");
    shows!(place, place.run(&["validate"]), @"
    exit 5
    --- stdout
    problem: `.safepoint/words/job.db` is gone
    --- stderr
    error: job `words` is damaged: 1 problem found
    hint: put a backup back; or begin anew with `safepoint run --fresh`, which keeps this state as `words.previous`
    ");

    place.write(".safepoint/words/job.db", &whole);
    assert_eq!(place.run(&["validate"]).code, Some(0));
}

#[test]
fn a_page_lost_in_the_middle_is_found_although_the_rest_can_be_read() {
    let place = Place::new();
    let lines = format!("{}\n", "x".repeat(1000)).repeat(40);
    place.write("long.txt", lines);
    let ran = place.run(&["run", "long.txt", "-q", "--output", "none", "--", "echo"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let db = ".safepoint/long/job.db";
    let mut bytes = std::fs::read(place.file(db)).expect("it is there");
    let page = bytes.len() / 4096 - 4;
    bytes[page * 4096..(page + 1) * 4096].fill(0);
    place.write(db, &bytes);
    let ran = place.run(&["validate"]);
    assert!(
        ran.code == Some(5)
            && ran.stdout.starts_with("problem: ")
            && ran.stderr.contains(".recover"),
        "{ran:?}"
    );
    let ran = place.run(&["results"]);
    assert!(
        ran.code == Some(5) && ran.stdout.lines().count() > 10,
        "{ran:?}"
    );
}

#[test]
fn a_path_can_be_validated_and_events_are_checked() {
    let place = done_job();
    shows!(place, place.run(&["validate", ".safepoint/words"]), @"
    exit 0
    --- stdout
    `.safepoint/words` is whole: 5 items, 2 events
    --- stderr
    ");
    std::fs::copy(place.file(".safepoint/words/job.db"), place.file("copy.db")).expect("copied");
    shows!(place, place.run(&["validate", "copy.db"]), @"
    exit 0
    --- stdout
    `copy.db` is whole: 5 items, 0 events
    --- stderr
    ");
    shows!(place, place.run(&["validate", "words.txt"]), @"
    exit 5
    --- stdout
    problem: `job.db` is damaged: SQLite cannot read it: file is not a database
    --- stderr
    error: `words.txt` is damaged: 1 problem found
    hint: put a backup back; or copy what is readable with SQLite's own shell: `sqlite3 words.txt .recover | sqlite3 recovered.db` (or `.dump`, if it was built without that)
    ");
    let events =
        std::fs::read_to_string(place.file(".safepoint/words/events.jsonl")).expect("it is there");
    place.write(
        ".safepoint/words/events.jsonl",
        format!("{events}{{\"event\":"),
    );
    assert_eq!(
        place.run(&["validate", "words"]).code,
        Some(0),
        "a last line may be cut short"
    );
    place.write(
        ".safepoint/words/events.jsonl",
        format!("{events}nonsense\n{events}"),
    );
    shows!(place, place.run(&["validate", "words"]), @"
    exit 5
    --- stdout
    problem: line 3 of `events.jsonl` is no event
    --- stderr
    error: job `words` is damaged: 1 problem found
    hint: only `events.jsonl` is damaged, which no run depends on: move it away
    ");
    let ran = place.run(&["events"]);
    assert!(
        ran.code == Some(0) && ran.stderr.contains("left out 1 line"),
        "{ran:?}"
    );
}

// ---- bystanders

#[test]
fn nothing_that_came_from_elsewhere_steers_the_terminal() {
    let place = Place::new();
    place.write("words.txt", "a\u{1b}[2Jb\nc\u{9b}2Jd\n");
    let script = "printf '%s\\033]0;x\\007' \"$0\" >&2; printf '%s\\033[31m' \"$0\"; case $0 in a*) exit 1 ;; esac";
    let ran = place.run(&[
        "run",
        "words.txt",
        "-j1",
        "--retries",
        "0",
        "--output",
        "none",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let mut told = vec![ran];
    for arguments in [
        &["show"][..],
        &["show", "words", "0"],
        &["show", "words", "1"],
        &["show", "words", "1", "--json"],
        &["results", "--all"],
        &["events"],
        &["events", "--json"],
        &["run", "words.txt", "--dry-run", "--", "echo"],
    ] {
        told.push(place.run(arguments));
    }
    for ran in told {
        for text in [&ran.stdout, &ran.stderr] {
            let control = text
                .chars()
                .find(|letter| letter.is_control() && *letter != '\n');
            assert_eq!(control, None, "{text:?}");
        }
    }
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let place = job_with_dead_items();
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["status"],
        &["status", "--watch"],
        &["show"],
        &["show", "words", "0"],
        &["results"],
        &["results", "--format", "csv"],
        &["events"],
        &["validate"],
        &["doctor"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["run", "words.txt", "--dry-run", "--", "echo"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = place
            .safepoint(arguments)
            .stdout(writer)
            .output()
            .expect("it starts");
        let ran = Ran::of(output);
        assert!(
            ran.code == Some(0) && !ran.stderr.contains("panicked"),
            "{arguments:?}: {ran:?}"
        );
    }
}

#[test]
fn the_doctor_looks_at_everything_and_marks_what_is_wrong() {
    let place = Place::new();
    let ran = place.run(&["doctor", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let names: Vec<&str> = told["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|check| check["name"].as_str())
        .collect();
    insta::assert_snapshot!(names.join(", "), @"safepoint, SQLite, job.db format, state directory, file system, free room, grace period, process, parent, SIGHUP, SIGINT, terminal, processors, open files, processes, cgroup, kernel, pidfd, clock ticks");
    assert_eq!((ran.code, &told["schema"]), (Some(0), &1.into()));
    assert!(!place.file(".safepoint").exists(), "looking makes nothing");

    let line = |ran: &Ran, name: &str| {
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let at = lines
            .iter()
            .position(|line| line[2..].starts_with(name))
            .expect("it is there");
        lines[at..(at + 2).min(lines.len())].join("\n")
    };
    let asked = |variables: &[(&str, &str)]| {
        let mut command = place.safepoint(&["doctor"]);
        Ran::of(
            command
                .envs(variables.iter().copied())
                .output()
                .expect("it starts"),
        )
    };
    assert!(
        line(&asked(&[]), "grace period").starts_with("  grace period     25s, from the default\n")
    );
    assert!(
        line(&asked(&[("SHUTDOWN_TIMEOUT", "20")]), "grace period")
            .starts_with("  grace period     20s, from SHUTDOWN_TIMEOUT\n")
    );
    insta::assert_snapshot!(line(&asked(&[("SAFEPOINT_GRACE", "40s")]), "grace period"), @"
    ! grace period     40s, from SAFEPOINT_GRACE
                       warning: orchestrators usually kill 30 s after they asked to stop
    ");
    insta::assert_snapshot!(line(&asked(&[("SHUTDOWN_TIMEOUT", "soon")]), "grace period"), @"
    ! grace period     unknown
                       warning: SHUTDOWN_TIMEOUT cannot be used: `soon` is not a duration; write for example 90, 90s, 10m, 1.5h or 2d
    ");
    place.write("safepoint.toml", "[run]\ngrace = 12\n");
    assert!(
        line(&asked(&[]), "grace period")
            .starts_with("  grace period     12s, from safepoint.toml\n")
    );

    let mut nohup = std::process::Command::new("nohup");
    nohup
        .arg(env!("CARGO_BIN_EXE_safepoint"))
        .arg("doctor")
        .current_dir(place.path())
        .stdin(Stdio::null());
    let ran = Ran::of(nohup.output().expect("it starts"));
    assert!(line(&ran, "SIGHUP").contains("ignored (nohup)"), "{ran:?}");
}

#[test]
fn completions_and_manual_pages_are_made_from_the_definition() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = place.run(&["completions", shell]);
        assert!(
            ran.code == Some(0) && ran.stdout.contains("retry-failed"),
            "{shell}: {ran:?}"
        );
    }
    let ran = place.run(&["man"]);
    assert!(
        ran.code == Some(0) && ran.stdout.contains(".TH safepoint 1"),
        "{ran:?}"
    );
    let ran = place.run(&["man", "run"]);
    assert!(
        ran.code == Some(0) && ran.stdout.contains("retry\\-failed"),
        "{ran:?}"
    );
}
