//! The commands around a queue, as a shell script uses them.

use std::io::Write;
use std::process::Stdio;

use safepoint::Queue;
use safepoint::queue::NewItem;

use crate::shown::shows;
use crate::support::{Place, Ran};

/// A token ends with what is random of the queue.
macro_rules! shows_queue {
    ($place:expr, $ran:expr, @$text:literal) => {
        insta::with_settings!({filters => vec![
            (r"\d+-\d+-[0-9a-f]{12}", "[TOKEN]"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{22}-", "[QUEUE]-"),
            (r#""pid":\d+"#, r#""pid":[PID]"#),
        ]}, {
            shows!($place, $ran, @$text);
        });
    };
}

fn token(ran: &Ran) -> String {
    let claimed: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    claimed["token"].as_str().expect("a token").to_owned()
}

#[test]
fn items_are_pushed_claimed_and_settled() {
    let place = Place::new();
    shows_queue!(place, place.run(&["queue", "stats", "mails"]), @"");
    shows_queue!(place, place.run(&["queue", "push", "mails", "--key", "a", r#"{"to": "ada"}"#]), @"");
    shows_queue!(place, place.run(&["queue", "push", "mails", "--key", "a", "again", "--json"]), @"");
    shows_queue!(place, place.run(&["queue", "push", "mails", "plain", "later"]), @"");
    let claimed = place.run(&["queue", "claim", "mails", "--json"]);
    shows_queue!(place, claimed, @"");
    let first = token(&claimed);
    shows_queue!(place, place.run(&["queue", "extend", "mails", &first, "2h"]), @"");
    shows_queue!(place, place.run(&["queue", "acknowledge", "mails", &first, "--result", "sent"]), @"");
    // Asked again, for example by a script that was killed before it could write down the answer.
    shows_queue!(place, place.run(&["queue", "acknowledge", "mails", &first]), @"");
    shows_queue!(place, place.run(&["queue", "release", "mails", &first]), @"");
    let second = token(&place.run(&["queue", "claim", "mails"]));
    shows_queue!(place, place.run(&["queue", "fail", "mails", &second, "--error", "no\u{1b}[2J such host", "--attempts", "1"]), @"");
    let third = token(&place.run(&["queue", "claim", "mails"]));
    shows_queue!(place, place.run(&["queue", "release", "mails", &third, "--delay", "1h"]), @"");
    shows_queue!(place, place.run(&["queue", "claim", "mails", "--wait", "10ms"]), @"");
    shows_queue!(place, place.run(&["queue", "stats", "mails"]), @"");
    shows_queue!(place, place.run(&["queue", "stats", "mails", "--json"]), @"");
    shows_queue!(place, place.run(&["queue", "list", "mails"]), @"");
    shows_queue!(place, place.run(&["queue", "list", "mails", "--json", "--state", "done"]), @"");
    shows_queue!(place, place.run(&["queue", "retry", "mails", "a"]), @"");
    shows_queue!(place, place.run(&["queue", "retry", "mails"]), @"");
    shows_queue!(place, place.run(&["queue", "forget", "mails", "--done-before", "1h"]), @"");
    let queue = Queue::open(place.file(".safepoint/mails")).expect("opened");
    let stats = queue.stats().expect("counted");
    assert_eq!(
        (stats.pending, stats.waiting, stats.done, stats.dead),
        (1, 1, 1, 0)
    );
}

#[test]
fn lines_of_standard_input_are_items_and_known_ones_are_passed_over() {
    let place = Place::new();
    let push = || {
        let mut command = place.safepoint(&["queue", "push", "./files", "--unique", "-"]);
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().expect("started");
        let mut input = child.stdin.take().expect("a pipe");
        let lines: String = (0..2500)
            .map(|number| format!("line {number}\n\n"))
            .collect();
        input.write_all(lines.as_bytes()).expect("written");
        drop(input);
        Ran::of(child.wait_with_output().expect("ended"))
    };
    shows_queue!(place, push(), @"");
    shows_queue!(place, push(), @"");
    let queue = Queue::open(place.file("files")).expect("opened");
    assert_eq!(queue.stats().expect("counted").pending, 2500);
    let last = queue.list(None, 2499, 10).expect("listed");
    assert_eq!(last[0].payload.as_text(), Some("line 2499"));
}

#[test]
fn what_cannot_be_is_refused_with_a_way_out() {
    let place = Place::new();
    let queue = Queue::open(place.file("one")).expect("a queue");
    queue
        .push_many([NewItem::new(vec![0xFF_u8, 0])])
        .expect("pushed");
    queue.close().expect("closed");
    shows_queue!(place, place.run(&["queue", "claim", "./none"]), @"");
    shows_queue!(place, place.run(&["queue", "push", "..", "x"]), @"");
    shows_queue!(place, place.run(&["queue", "push", "./one", "--key", "a", "x", "y"]), @"");
    shows_queue!(place, place.run(&["queue", "acknowledge", "./one", "what"]), @"");
    shows_queue!(place, place.run(&["queue", "acknowledge", "./one", "1-1-0123456789ab"]), @"");
    shows_queue!(place, place.run(&["queue", "retry", "./one", "1"]), @"");
    shows_queue!(place, place.run(&["queue", "retry", "./one", "nobody"]), @"");
    shows_queue!(place, place.run(&["queue", "claim", "./one"]), @"");
    std::fs::write(place.file("one/queue.db"), "no database").expect("written");
    shows_queue!(place, place.run(&["queue", "stats", "./one"]), @"");
}

#[test]
fn two_consumers_in_a_shell_share_a_queue() {
    let place = Place::new();
    let lines: String = (0..30).map(|number| format!("{number}\n")).collect();
    place.write("items", lines);
    let script = r#"
        "$SAFEPOINT" queue push ./q - < items
        consume() {
            while claimed=$("$SAFEPOINT" queue claim ./q --quiet); do
                token=$(printf %s "$claimed" | sed 's/.*"token":"\([^"]*\)".*/\1/')
                "$SAFEPOINT" queue acknowledge ./q "$token" --quiet && echo "$token" >> done
            done
        }
        consume & consume & wait
    "#;
    let mut command = std::process::Command::new("sh");
    command.args(["-ec", script]).current_dir(place.path());
    command.env("SAFEPOINT", env!("CARGO_BIN_EXE_safepoint"));
    assert!(command.status().expect("ran").success());
    let mut done = place.lines("done");
    done.sort();
    done.dedup();
    assert_eq!(done.len(), 30);
    let queue = Queue::open(place.file("q")).expect("opened");
    assert_eq!(queue.stats().expect("counted").done, 30);
}
