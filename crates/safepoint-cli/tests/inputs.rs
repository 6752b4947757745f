//! Inputs in every shape, how items reach a command, what comes back, and what a changed input or command leads to.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use safepoint::queue::State;

use super::support::{Place, Ran, Running, wait_until};

/// Runs with the given bytes on standard input.
fn fed(place: &Place, input: &[u8], arguments: &[&str]) -> Ran {
    feed(place, input, arguments).ended()
}

fn feed(place: &Place, input: &[u8], arguments: &[&str]) -> Running {
    place.write("fed", input);
    let mut command = place.safepoint(arguments);
    command.stdin(File::open(place.file("fed")).expect("opens"));
    place.start(command)
}

/// The contents of the items that are done, and the errors of those that are dead.
fn outcome(place: &Place, job: &str) -> (Vec<String>, Vec<String>) {
    let (mut done, mut dead) = (Vec::new(), Vec::new());
    for row in place.rows(job) {
        match row.state {
            State::Done => done.push(String::from_utf8_lossy(&row.content).into_owned()),
            State::Dead => dead.push(row.error.unwrap_or_default()),
            _ => {}
        }
    }
    (done, dead)
}

#[test]
fn inputs_are_cut_as_documented() {
    for (name, bytes, items, errors) in [
        ("empty.txt", &b""[..], &[][..], &[][..]),
        ("blank.txt", b"\n\n  \n\na\n", &["a"], &[]),
        ("last.txt", b"a\nb", &["a", "b"], &[]),
        ("crlf.txt", b"a\r\nb\r\n\r\n", &["a", "b"], &[]),
        ("bom.txt", b"\xef\xbb\xbfa\nb\n", &["a", "b"], &[]),
        ("nul.txt", b"a\nb\0c\nd\n", &["a", "d"], &["NUL byte"]),
        (
            "some.jsonl",
            b"{\"a\":1}\n\n{\"a\":\n7\r\nnope\n\"s\"",
            &["{\"a\":1}", "7", "\"s\""],
            &["line 3 of `some.jsonl`", "line 5 of `some.jsonl`"],
        ),
        (
            "some.csv",
            b"\xef\xbb\xbfid,text\r\n1,\"two\nlines, one \"\"field\"\"\"\r\n2\r\n3,x,y\r\n\r\n4,ok",
            &[
                "{\"id\":\"1\",\"text\":\"two\\nlines, one \\\"field\\\"\"}",
                "{\"id\":\"4\",\"text\":\"ok\"}",
            ],
            &["line 4 of `some.csv`", "line 5 of `some.csv`"],
        ),
        ("header.csv", b"id,text\n", &[], &[]),
        ("none.csv", b"", &[], &[]),
    ] {
        let place = Place::new();
        place.write(name, bytes);
        let ran = place.run(&[
            "run",
            name,
            "--name",
            "cut",
            "-j1",
            "--retries",
            "0",
            "--",
            "test",
            "-n",
            "{}",
        ]);
        let (done, dead) = outcome(&place, "cut");
        assert_eq!(done, items, "{name}: {}", ran.stderr);
        assert_eq!(dead.len(), errors.len(), "{name}: {dead:?}");
        for (error, wanted) in dead.iter().zip(errors) {
            assert!(error.contains(wanted), "{name}: {error} has no {wanted}");
        }
        assert_eq!(
            ran.code,
            Some(if errors.is_empty() { 0 } else { 3 }),
            "{name}: {}",
            ran.stderr
        );
    }

    // NUL-separated: newlines are part of items, and nothing is dropped from them.
    let place = Place::new();
    let ran = fed(
        &place,
        b"a\nb\r\0 c \0last",
        &[
            "run", "-", "-0", "-j1", "--name", "cut", "--json", "--", "true",
        ],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(outcome(&place, "cut").0, ["a\nb\r", " c ", "last"]);

    // Several files, one after another; formats that do not go together are refused.
    let place = Place::new();
    place.write("a.txt", "1\n2");
    place.write("b.txt", "3\n");
    place.write("c.jsonl", "{}\n");
    let ran = place.run(&["run", "-j1", "a.txt", "b.txt", "--", "echo", "{index}:{}"]);
    assert_eq!(ran.stdout, "0:1\n1:2\n2:3\n", "{}", ran.stderr);
    for (inputs, said) in [
        (
            &["a.txt", "c.jsonl"][..],
            "some inputs have fields and some have plain items",
        ),
        (&["missing.txt"], "missing.txt"),
        (&["."], "."),
        (&["-", "-"], "only once"),
        (&["/dev/zero"], "not a regular file"),
    ] {
        let mut arguments = vec!["run", "--name", "refused"];
        arguments.extend(inputs);
        arguments.extend(["--", "true"]);
        let ran = place.run(&arguments);
        assert_eq!(ran.code, Some(2), "{inputs:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{inputs:?}: {}", ran.stderr);
        assert!(
            !place.state("refused").join("job.db").exists() || inputs == ["/dev/zero"],
            "nothing is made"
        );
    }
}

#[test]
fn bytes_that_are_no_text_reach_a_command_but_no_worker() {
    let place = Place::new();
    place.write("in.txt", b"ok\n\xff\xfe\n");
    let ran = place.run(&[
        "run",
        "-j1",
        "in.txt",
        "--shell",
        "--",
        "printf %s \"$1\" | od -An -tx1",
    ]);
    assert_eq!(ran.stdout, " 6f 6b\n ff fe\n", "{}", ran.stderr);
    let ran = place.run(&[
        "run", "-j1", "in.txt", "--name", "stdin", "--stdin", "--", "od", "-An", "-tx1",
    ]);
    assert_eq!(ran.stdout, " 6f 6b 0a\n ff fe 0a\n", "{}", ran.stderr);
    let ran = place.run(&[
        "run", "-j1", "in.txt", "--name", "worker", "--worker", "--", "python3", "-c",
        "import sys, json\nfor line in sys.stdin: print(json.dumps({'id': json.loads(line)['id'], 'result': 1}), flush=True)",
    ]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let (done, dead) = outcome(&place, "worker");
    assert_eq!(done, ["ok"]);
    assert!(
        dead[0].contains("line 2 of `in.txt` is not valid UTF-8"),
        "{dead:?}"
    );
}

#[test]
fn a_huge_line_is_dead_and_memory_stays_small() {
    let place = Place::new();
    let mut file = File::create(place.file("in.txt")).expect("a file");
    file.write_all(b"small\n").expect("written");
    for _ in 0..100 {
        file.write_all(&vec![b'x'; 1 << 20]).expect("written");
    }
    file.write_all(b"\nlast\n").expect("written");
    drop(file);
    // It asks for its own peak by way of its child.
    let ran = place.run(&[
        "run",
        "-j1",
        "in.txt",
        "--shell",
        "--",
        "grep VmHWM /proc/$PPID/status > peak; echo \"$1\"",
    ]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(3), "small\nlast\n"),
        "{}",
        ran.stderr
    );
    let (_, dead) = outcome(&place, "in");
    assert!(
        dead[0].contains("line 2 of `in.txt` has 104857600 bytes, more than the 16 MiB"),
        "{dead:?}"
    );
    let peak: u64 = place.lines("peak")[0]
        .split_whitespace()
        .nth(1)
        .and_then(|kilobytes| kilobytes.parse().ok())
        .expect("a number");
    assert!(peak < 100 * 1024, "{peak} kB");
    let row = &place.rows("in")[1];
    assert!(row.content.len() < 1 << 20, "it is not kept either");
}

#[test]
fn an_item_that_is_too_long_for_an_argument_fits_on_standard_input() {
    let place = Place::new();
    place.write("in.txt", format!("{}\nb\n", "x".repeat(200_000)));
    let ran = place.run(&["run", "-j1", "in.txt", "--", "echo"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "b\n"));
    let (_, dead) = outcome(&place, "in");
    assert!(
        dead[0].contains("128 KiB") && dead[0].contains("--stdin"),
        "{dead:?}"
    );
    let ran = place.run(&[
        "run", "-j1", "in.txt", "--name", "other", "--stdin", "--", "wc", "-c",
    ]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "200001\n2\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn keys_name_items_and_duplicates_are_left_out() {
    let place = Place::new();
    place.write(
        "in.jsonl",
        "{\"id\":\"a\",\"n\":{\"k\":1}}\n{\"id\":7}\n{\"id\":\"a\"}\n{\"x\":1}\n{\"id\":\"\"}\n{\"id\":\"7\"}\n{\"id\":null}\n",
    );
    let ran = place.run(&[
        "run", "-j1", "in.jsonl", "--key", "id", "-v", "--", "echo", "{key}", "{index}",
    ]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(3), "a 0\n7 1\n"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("2 left out as duplicates"),
        "{}",
        ran.stderr
    );
    let (_, dead) = outcome(&place, "in");
    assert_eq!(dead.len(), 3, "{dead:?}");
    assert!(dead[0].contains("line 4 of `in.jsonl` has no field `id` for its key"));
    assert!(dead[1].contains("line 5") && dead[1].contains("empty key"));
    assert!(dead[2].contains("line 7"), "{dead:?}");
    place.write("in.txt", "a\n");
    let ran = place.run(&[
        "run", "in.txt", "--name", "plain", "--key", "id", "--", "echo",
    ]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn placeholders_are_filled_and_never_read_by_a_shell() {
    let hostile = "$(touch hacked) `touch hacked` ; touch hacked 'q' \"d\" \\ * {} {index} é";
    let place = Place::new();
    place.write("in.txt", format!("{hostile}\n-n\n"));
    for (arguments, wanted) in [
        // Without a placeholder, the item comes last.
        (
            &["--", "printf", "[%s]"][..],
            format!("[{hostile}]\n[-n]\n"),
        ),
        (
            &[
                "--", "printf", "[%s]", "a{}b", "{index}", "{key}", "{other}", "{",
            ],
            format!("[a{hostile}b][0][0][{{other}}][{{]\n[a-nb][1][1][{{other}}][{{]\n"),
        ),
        (
            &["--shell", "--", "printf '[%s]' \"$1\" \"$#\""],
            format!("[{hostile}][1]\n[-n][1]\n"),
        ),
        (
            &[
                "--shell",
                "--",
                "printf '[%s]' \"$1\" \"$2\"",
                "{index}",
                "<{}>",
            ],
            format!("[0][<{hostile}>]\n[1][<-n>]\n"),
        ),
    ] {
        let mut all = vec!["run", "-j1", "in.txt", "--fresh"];
        all.extend(arguments);
        let ran = place.run(&all);
        assert_eq!(ran.stdout, wanted, "{}", ran.stderr);
        assert!(!place.file("hacked").exists());
    }
    let ran = place.run(&["run", "in.txt", "--fresh", "--shell", "--", "echo {}"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    place.write(
        "in.jsonl",
        "{\"a\":{\"b\":[1,2.5]},\"s\":\"x y\",\"t\":true,\"n\":null}\n{}\n",
    );
    let ran = place.run(&[
        "run", "-j1", "in.jsonl", "--name", "fields", "--", "printf", "[%s]", "{.a.b}", "{.s}",
        "{.t}", "{.a}",
    ]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(3), "[[1,2.5]][x y][true][{\"b\":[1,2.5]}]\n"),
        "{}",
        ran.stderr
    );
    // A newline in an item.
    let ran = fed(
        &place,
        b"two\nlines; touch hacked\0",
        &["run", "-", "-0", "--shell", "--", "printf '[%s]' \"$1\""],
    );
    assert_eq!(ran.stdout, "[two\nlines; touch hacked]\n", "{}", ran.stderr);
    assert!(!place.file("hacked").exists());
}

#[test]
fn standard_input_is_kept_so_that_it_can_be_resumed() {
    let place = Place::new();
    let run = |input: &[u8], options: &[&str]| {
        let mut all = vec!["run", "-", "-j1", "--name", "fed"];
        all.extend(options);
        let script = "while [ ! -e go ]; do sleep 0.01; done; echo $0";
        all.extend(["--", "sh", "-c", script]);
        feed(&place, input, &all)
    };
    // Items wait until standard input was read to its end and that is written down: a run that ends before has not kept all of it.
    let running = run(b"1\n2\n3\n4\n5\n", &["--limit", "2"]);
    wait_until("the end of standard input to be known", || {
        let told = place.run(&["status", "fed", "--json"]).stdout;
        told.contains("\"total\":5,")
    });
    place.write("go", "");
    let ran = running.ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(75), "1\n2\n"),
        "{}",
        ran.stderr
    );
    let ran = run(b"1\n2\nX\n4\n5\n", &[]).ended();
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(ran.stderr.contains("differs at byte 4"), "{}", ran.stderr);
    let ran = run(b"1\n2\n3\n", &[]).ended();
    assert_eq!(ran.code, Some(5), "shorter: {}", ran.stderr);
    let ran = run(b"", &["--limit", "1"]).ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(75), "3\n"),
        "nothing on it means what was kept: {}",
        ran.stderr
    );
    let ran = run(b"1\n2\n3\n4\n5\n6\n", &[]).ended();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "4\n5\n6\n"),
        "the same and more: {}",
        ran.stderr
    );
    let ran = run(b"", &[]).ended();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));

    // Killed before the end of standard input: what is there is not all.
    let place = Place::new();
    let mut command = place.safepoint(&["run", "-", "-j1", "--name", "fed", "--", "echo"]);
    command.stdin(Stdio::piped());
    let mut running = place.start(command);
    let mut stdin = running.stdin().expect("a pipe");
    stdin.write_all(b"1\n2\n").expect("written");
    wait_until("the results", || running.stdout() == "1\n2\n");
    running.signal(rustix::process::Signal::KILL);
    assert_eq!(running.ended().signal, Some(9));
    drop(stdin);
    let ran = place.run(&["run", "-", "-j1", "--name", "fed", "--", "echo"]);
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("give the same standard input again"),
        "{}",
        ran.stderr
    );
    let ran = fed(
        &place,
        b"1\n2\n3\n",
        &["run", "-", "-j1", "--name", "fed", "--", "echo"],
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "3\n"));
}

#[test]
fn a_changed_input_is_noticed() {
    let place = Place::new();
    let command = ["--", "test", "bad", "!=", "{}"];
    let run = |options: &[&str]| {
        let mut all = vec!["run", "-j1", "in.txt", "--retries", "0"];
        all.extend(options);
        all.extend(command);
        place.run(&all)
    };
    place.write("in.txt", "a\nbad\nc\n");
    assert_eq!(run(&[]).code, Some(3));
    // Grown, and the dead line mended.
    place.write("in.txt", "a\ngood\nc\nd\n");
    let ran = run(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("1 items have new content"),
        "{}",
        ran.stderr
    );
    assert_eq!(outcome(&place, "in").0, ["a", "good", "c", "d"]);
    // Only its times changed.
    place.write("in.txt", "a\ngood\nc\nd\n");
    assert!(run(&[]).stderr.contains("nothing left to do"));
    // An earlier line.
    place.write("in.txt", "a\ngood\nC\nd\n");
    let ran = run(&[]);
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("line 3 of `in.txt` changed after it was done"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        outcome(&place, "in").0,
        ["a", "good", "c", "d"],
        "nothing is changed by a refusal"
    );
    // Gone lines.
    place.write("in.txt", "a\ngood\n");
    let ran = run(&[]);
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(ran.stderr.contains("only 2 items now"), "{}", ran.stderr);
    // Accepted: what is the same stays done.
    place.write("in.txt", "a\nnew\nc\nd\n");
    let ran = run(&["--accept-changes", "-v"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 in this run"), "{}", ran.stderr);
    // Another command.
    let ran = place.run(&["run", "in.txt", "--", "echo"]);
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("command was `test bad '!=' {}`")
            && ran.stderr.contains("command is  `echo`"),
        "{}",
        ran.stderr
    );
    // Anew; the old state is kept aside.
    let ran = place.run(&["run", "in.txt", "-j1", "--fresh", "--", "echo"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "a\nnew\nc\nd\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(outcome(&place, "in.previous").0, ["a", "new", "c", "d"]);
    // Moved: the name is given, so it is the same job.
    std::fs::create_dir(place.file("moved")).expect("made");
    std::fs::copy(place.file("in.txt"), place.file("moved/in.txt")).expect("copied");
    std::fs::remove_file(place.file("in.txt")).expect("removed");
    let ran = place.run(&["run", "moved/in.txt", "-j1", "--", "echo"]);
    assert!(
        ran.code == Some(0) && ran.stderr.contains("nothing left to do"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_input_that_shrinks_before_all_is_done_is_read_as_it_is() {
    let place = Place::new();
    place.write("in.txt", "a\nb\nc\nd\n");
    let run = |options: &[&str]| {
        let mut all = vec!["run", "-j1", "in.txt"];
        all.extend(options);
        all.extend(["--", "echo"]);
        place.run(&all)
    };
    assert_eq!(run(&["--limit", "1"]).code, Some(75));
    place.write("in.txt", "a\nB\n");
    let ran = run(&[]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "B\n"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("2 of 2 items done"), "{}", ran.stderr);
}

#[test]
fn files_of_attempts_appear_whole_or_not_at_all() {
    let place = Place::new();
    place.write(
        "in.jsonl",
        "{\"k\":\"../up\"}\n{\"k\":\"a b/c\"}\n{\"k\":\"fails\"}\n{\"k\":\"none\"}\n{\"k\":\".\"}\n",
    );
    let script = r#"[ "$1" = none ] && exit 0
        mkdir "$SAFEPOINT_OUT/deep"; echo "$1 $SAFEPOINT_ATTEMPT" > "$SAFEPOINT_OUT/deep/file"
        [ -z "$(ls "$SAFEPOINT_OUT" | grep left)" ] || exit 9; : > "$SAFEPOINT_OUT/left"
        [ "$1" != fails ]"#;
    let arguments = [
        "run",
        "-j2",
        "in.jsonl",
        "--key",
        "k",
        "--retry-delay",
        "1ms",
        "--shell",
        "--",
        script,
        "{key}",
    ];
    let ran = place.run(&arguments);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let out = place.state("in").join("out");
    let mut published: Vec<String> = std::fs::read_dir(&out)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("plain")
        })
        .collect();
    published.sort();
    assert_eq!(published, ["%2E", "%2E.%2Fup", "a%20b%2Fc"]);
    assert_eq!(
        std::fs::read_to_string(out.join("a%20b%2Fc/deep/file")).expect("a file"),
        "a b/c 1\n"
    );
    assert!(!place.state("in").join("work").exists(), "nothing is left");
    assert!(ran.stderr.contains("files: "), "{}", ran.stderr);

    // What is done again replaces what was there, whole.
    let place = Place::new();
    place.write("in.txt", "one\n");
    let publish = |place: &Place| {
        place.run(&[
            "run",
            "in.txt",
            "--accept-changes",
            "--shell",
            "--",
            r#": > "$SAFEPOINT_OUT/$1""#,
        ])
    };
    assert_eq!(publish(&place).code, Some(0));
    place.write("in.txt", "two\n");
    let ran = publish(&place);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let folder = place.state("in").join("out/0");
    assert!(folder.join("two").exists() && !folder.join("one").exists());
}

#[test]
fn a_command_can_answer_through_its_control_descriptor() {
    let place = Place::new();
    place.write("in.txt", "result\nerror\nnever\nlast\nnonsense\nlater\n");
    let script = r#"exec >&"$SAFEPOINT_CONTROL_FD"
        case "$1" in
        result) echo '{"result":{"a":[1,null]}}' ;;
        error) echo '{"error":"said so"}' ;;
        never) echo '{"error":"for good","retry":false}'; exit 3 ;;
        last) echo '{"result":1}'; echo '{"result":2,"cost":0.5}' ;;
        nonsense) echo hello ;;
        later) [ $SAFEPOINT_ATTEMPT = 2 ] || { echo '{"error":"busy","retry_after":0.01}'; exit 1; } ;;
        esac"#;
    let ran = place.run(&[
        "run",
        "-j1",
        "in.txt",
        "--retries",
        "1",
        "--retry-delay",
        "1ms",
        "--shell",
        "--",
        script,
    ]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let rows: Vec<_> = place
        .rows("in")
        .into_iter()
        .map(|row| {
            (
                row.attempts,
                String::from_utf8(row.result.unwrap_or_default()).expect("text"),
                row.error.unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!((rows[0].0, rows[0].1.as_str()), (1, "{\"a\":[1,null]}"));
    assert_eq!((rows[1].0, rows[1].2.as_str()), (2, "said so"));
    assert_eq!((rows[2].0, rows[2].2.as_str()), (1, "for good"));
    assert_eq!((rows[3].0, rows[3].1.as_str()), (1, "2"));
    assert!(rows[4].2.contains("not an answer"), "{:?}", rows[4]);
    assert_eq!((rows[5].0, rows[5].1.as_str()), (2, ""));
}

#[test]
fn an_attempt_knows_where_it_stands() {
    let place = Place::new();
    place.write("in.csv", "id\nx\n");
    let script = "env | grep ^SAFEPOINT_ | sort >> seen; echo - >> seen; [ -e good ]";
    let arguments = [
        "run",
        "in.csv",
        "--key",
        "id",
        "--retries",
        "1",
        "--retry-delay",
        "1ms",
        "--shell",
        "--",
        script,
    ];
    let mut command = place.safepoint(&arguments);
    command.env("SAFEPOINT_KEY", "of an outer job");
    assert_eq!(place.start(command).ended().code, Some(3));
    place.write("good", "");
    let mut again = arguments.to_vec();
    again.insert(1, "--retry-failed");
    assert_eq!(place.run(&again).code, Some(0));
    let lines = place.lines("seen");
    let seen: Vec<&[String]> = lines.split(|line| line == "-").collect();
    let value = |attempt: usize, name: &str| {
        let prefix = format!("SAFEPOINT_{name}=");
        let mut found = seen[attempt]
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix));
        let value = found.next().expect(name).to_owned();
        assert_eq!(found.next(), None, "{name} once");
        value
    };
    for (attempt, number, run) in [(0, "1", "1"), (1, "2", "1"), (2, "1", "2")] {
        assert_eq!(value(attempt, "JOB"), "in");
        assert_eq!(value(attempt, "RUN"), run);
        assert_eq!(value(attempt, "KEY"), "x");
        assert_eq!(value(attempt, "INDEX"), "0");
        assert_eq!(value(attempt, "ATTEMPT"), number);
        assert_eq!(
            value(attempt, "IDEMPOTENCY_KEY"),
            value(0, "IDEMPOTENCY_KEY")
        );
        assert!(value(attempt, "STATE").ends_with(".safepoint/in"));
        assert!(value(attempt, "OUT").starts_with(&value(attempt, "STATE")));
    }
}

#[test]
fn results_come_in_the_order_that_was_asked_for() {
    // The first item ends last: the others wait for it in input order, and pass it in order of arrival.
    let safepoint = env!("CARGO_BIN_EXE_safepoint");
    let script = format!(
        r#"if [ "$1" = 0 ]; then
            until '{safepoint}' status --json | grep -q '"done":2,"dead":1,'; do sleep 0.01; done
        fi
        echo "$1"; [ "$1" != 2 ]"#
    );
    for (order, wanted) in [
        ("ordered", "0\n1\n3\n"),
        ("arrival", "1\n3\n0\n"),
        ("none", ""),
    ] {
        let place = Place::new();
        place.write("in.txt", "0\n1\n2\n3\n4\n");
        let arguments = |limit| {
            vec![
                "run",
                "-j2",
                "in.txt",
                "--retries",
                "0",
                "--output",
                order,
                "--limit",
                limit,
                "--shell",
                "--",
                &script,
            ]
        };
        let ran = place.run(&arguments("4"));
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(75), wanted),
            "{order}: {}",
            ran.stderr
        );
        // A resumed run tells its own results only.
        let ran = place.run(&arguments("9"));
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        assert_eq!(ran.stdout, if order == "none" { "" } else { "4\n" });
    }
    // As JSON, with what is no text, and bounded.
    let place = Place::new();
    place.write("in.txt", "{\"a\":1}\nplain\n\nbig\n");
    let script = r#"[ "$1" = big ] && head -c 1048579 /dev/zero | tr '\0' x || echo "$1""#;
    let ran = place.run(&["run", "-j1", "in.txt", "--json", "--shell", "--", script]);
    let lines: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 3, "{}", ran.stderr);
    assert_eq!(lines[0]["result"]["a"], 1);
    assert_eq!(
        (&lines[1]["result"], &lines[1]["item"]),
        (&"plain".into(), &"plain".into())
    );
    assert_eq!(lines[2]["omitted"], 3);
    let ran = place.run(&["run", "-j1", "in.txt", "--fresh", "--shell", "--", script]);
    assert!(
        ran.stdout.ends_with("x\n[safepoint: 3 bytes left out]\n"),
        "{:?}",
        &ran.stdout[ran.stdout.len() - 60..]
    );
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let script = r#"echo "$SAFEPOINT_ATTEMPT"; exit 1"#;
    let attempts = |flag: Option<&str>, variable: Option<&str>, file: Option<&str>| {
        let place = Place::new();
        place.write("in.txt", "x\n");
        if let Some(file) = file {
            place.write(
                "safepoint.toml",
                format!("[run]\nretries = {file}\nretry-delay = \"1ms\"\n"),
            );
        }
        let mut all = vec!["run", "in.txt"];
        if file.is_none() {
            all.extend(["--retry-delay", "1ms"]);
        }
        if let Some(flag) = flag {
            all.extend(["--retries", flag]);
        }
        all.extend(["--shell", "--", script]);
        let mut command = place.safepoint(&all);
        if let Some(variable) = variable {
            command.env("SAFEPOINT_RETRIES", variable);
        }
        let ran = place.start(command).ended();
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        place.rows("in")[0].attempts
    };
    assert_eq!(attempts(None, None, None), 3);
    assert_eq!(attempts(None, None, Some("0")), 1);
    assert_eq!(attempts(None, Some("1"), Some("0")), 2);
    assert_eq!(attempts(Some("3"), Some("1"), Some("0")), 4);

    let place = Place::new();
    place.write("in.txt", "x\n");
    for (text, said) in [
        ("[run]\nretires = 1\n", "retires"),
        ("[run]\ntimeout = \"soon\"\n", "soon"),
        ("slots", "safepoint.toml"),
    ] {
        place.write("safepoint.toml", text);
        let ran = place.run(&["run", "in.txt", "--", "true"]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}

#[test]
fn a_duplicate_further_on_does_not_let_a_stop_pass_over_what_is_before_it() {
    let place = Place::new();
    place.write("k.csv", "id\na\nb\nc\nd\na\n");
    let run = ["run", "-j1", "--key", "id", "k.csv", "--", "echo", "{.id}"];
    let mut first = vec!["run", "--limit", "1"];
    first.extend(&run[1..]);
    assert_eq!(place.run(&first).code, Some(75));
    let second = place.run(&run);
    assert_eq!(
        (second.code, second.stdout.as_str()),
        (Some(0), "b\nc\nd\n"),
        "{second:?}"
    );
}

#[test]
fn keys_that_move_to_other_lines_are_followed() {
    let place = Place::new();
    place.write("k.csv", "id\na\nb\nc\na\n");
    let run = ["run", "-j1", "--key", "id", "k.csv", "--", "echo", "{.id}"];
    assert_eq!(place.run(&run).stdout, "a\nb\nc\n");
    // Line 1 is gone, so b and c move up; and the last a is no duplicate any more.
    place.write("k.csv", "id\nb\nc\na\n");
    assert_eq!(place.run(&run).code, Some(5));
    let mut accepting = vec!["run", "--accept-changes"];
    accepting.extend(&run[1..]);
    let accepted = place.run(&accepting);
    assert_eq!(
        (accepted.code, accepted.stdout.as_str()),
        (Some(0), "b\nc\na\n"),
        "{accepted:?}"
    );
    let other_key = ["run", "--accept-changes", "k.csv", "--", "echo", "{.id}"];
    assert_eq!(place.run(&other_key).code, Some(5), "another key");
}

#[test]
fn what_was_refused_without_an_attempt_is_not_retried() {
    let place = Place::new();
    place.write("j.jsonl", "{\"a\":1}\n{broken\n");
    let run = ["run", "j.jsonl", "--", "echo", "{}"];
    assert_eq!(place.run(&run).code, Some(3));
    let mut again = vec!["run", "--retry-failed"];
    again.extend(&run[1..]);
    let retried = place.run(&again);
    assert_eq!(
        (retried.code, retried.stdout.as_str()),
        (Some(3), ""),
        "{retried:?}"
    );
    // A mended line is other content, and runs.
    place.write("j.jsonl", "{\"a\":1}\n{\"a\":22}\n");
    let mended = place.run(&run);
    assert_eq!(
        (mended.code, mended.stdout.as_str()),
        (Some(0), "{\"a\":22}\n"),
        "{mended:?}"
    );
}

#[test]
fn results_that_cannot_be_written_are_an_error_and_are_kept() {
    let place = Place::new();
    place.write("x.txt", "a\nb\n");
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("a device");
    let ran = place.start_into(
        place.safepoint(&["run", "x.txt", "--", "echo"]),
        full.into(),
    );
    let ran = ran.ended();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("cannot write the results"), "{ran:?}");
    assert_eq!(place.rows("x").len(), 2);
}
