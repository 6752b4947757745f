//! The commands around a queue, as a shell script uses them.

use std::io::Write;
use std::process::Stdio;

use safepoint::Queue;
use safepoint::queue::NewItem;

use crate::shown::{FILTERS, shown};
use crate::support::{Place, Ran};

/// As `shows`, for what ends with something random of the queue, too.
macro_rules! shows_queue {
    ($place:expr, $ran:expr, @$text:literal) => {
        let more = [
            (r#""token":"\d+-\d+-[0-9a-f]{12}""#, r#""token":"[TOKEN]""#),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}-\d+", "[QUEUE]"),
        ];
        insta::with_settings!({filters => FILTERS.iter().copied().chain(more)}, {
            insta::assert_snapshot!(shown(&$place, &$ran), @$text);
        });
    };
}

fn token(ran: &Ran) -> String {
    let claimed: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    claimed["token"].as_str().expect("a token").to_owned()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn items_are_pushed_claimed_and_settled() {
    let place = Place::new();
    shows_queue!(place, place.run(&["queue", "stats", "mails"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: no queue in `.safepoint/mails`
    hint: `safepoint queue push` makes one; for the path of a directory write a `/` into it
    "#);
    shows_queue!(place, place.run(&["queue", "push", "mails", "--key", "a", r#"{"to": "ada"}"#]), @r#"
    exit 0
    --- stdout
    --- stderr
    1 item pushed
    "#);
    shows_queue!(place, place.run(&["queue", "push", "mails", "--key", "a", "again", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"new":0,"known":1}
    --- stderr
    "#);
    shows_queue!(place, place.run(&["queue", "push", "mails", "plain", "later"]), @r#"
    exit 0
    --- stdout
    --- stderr
    2 items pushed
    "#);
    let claimed = place.run(&["queue", "claim", "mails", "--json"]);
    shows_queue!(place, claimed, @r#"
    exit 0
    --- stdout
    {"schema":1,"token":"[TOKEN]","key":"a","number":1,"payload":{"to":"ada"},"attempt":1,"idempotency_key":"[QUEUE]","expires_at":"[TIME]"}
    --- stderr
    "#);
    let first = token(&claimed);
    shows_queue!(place, place.run(&["queue", "extend", "mails", &first, "2h"]), @r#"
    exit 0
    --- stdout
    --- stderr
    the lease on item a lasts for 2h 00m
    "#);
    shows_queue!(place, place.run(&["queue", "acknowledge", "mails", &first, "--result", "sent"]), @r#"
    exit 0
    --- stdout
    --- stderr
    item a is done
    "#);
    // Asked again, for example by a script that was killed before it could write down the answer.
    shows_queue!(place, place.run(&["queue", "acknowledge", "mails", &first]), @r#"
    exit 0
    --- stdout
    --- stderr
    it is done already
    "#);
    shows_queue!(place, place.run(&["queue", "release", "mails", &first]), @r#"
    exit 1
    --- stdout
    --- stderr
    error: the lease on item `a` is over: the item is done
    hint: ask for longer leases when the queue is opened, or extend a lease during long work
    "#);
    let second = token(&place.run(&["queue", "claim", "mails"]));
    shows_queue!(place, place.run(&["queue", "fail", "mails", &second, "--error", "no\u{1b}[2J such host", "--attempts", "1"]), @r#"
    exit 0
    --- stdout
    --- stderr
    item 2 is dead
    "#);
    let third = token(&place.run(&["queue", "claim", "mails"]));
    shows_queue!(place, place.run(&["queue", "release", "mails", &third, "--delay", "1h"]), @r#"
    exit 0
    --- stdout
    --- stderr
    item 3 is waiting
    "#);
    shows_queue!(place, place.run(&["queue", "claim", "mails", "--wait", "10ms"]), @r#"
    exit 75
    --- stdout
    --- stderr
    nothing to claim
    "#);
    shows_queue!(place, place.run(&["queue", "stats", "mails"]), @r#"
    exit 0
    --- stdout
    pending          0
    waiting          1
    leased           0
    done             1
    dead             1
    --- stderr
    "#);
    shows_queue!(place, place.run(&["queue", "stats", "mails", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"path":"[DIR]/.safepoint/mails","pending":0,"waiting":1,"leased":0,"done":1,"dead":1}
    --- stderr
    "#);
    shows_queue!(place, place.run(&["queue", "list", "mails"]), @r#"
    exit 0
    --- stdout
    ITEM  STATE    ATTEMPTS  PUSHED    PAYLOAD
    a     done            1  [AGO]  {"to": "ada"}
    2     dead            1  [AGO]  plain
      error: no\u{1b}[2J such host
    3     waiting         0  [AGO]  later
    --- stderr
    "#);
    shows_queue!(place, place.run(&["queue", "list", "mails", "--json", "--state", "done"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"path":"[DIR]/.safepoint/mails","items":[{"number":1,"key":"a","state":"done","attempts":1,"pushed_at":"[TIME]","due_at":null,"settled_at":"[TIME]","pid":null,"payload":{"to":"ada"},"result":"sent","error":null}]}
    --- stderr
    "#);
    shows_queue!(place, place.run(&["queue", "retry", "mails", "a"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: item `a` is done, not dead
    "#);
    shows_queue!(place, place.run(&["queue", "retry", "mails"]), @r#"
    exit 0
    --- stdout
    --- stderr
    1 item pending again
    "#);
    shows_queue!(place, place.run(&["queue", "forget", "mails", "--done-before", "1h"]), @r#"
    exit 0
    --- stdout
    --- stderr
    0 items forgotten
    "#);
    shows_queue!(place, place.run(&["queue", "validate", "mails"]), @r#"
    exit 0
    --- stdout
    `.safepoint/mails` is whole
    --- stderr
    "#);
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
    shows_queue!(place, push(), @r#"
    exit 0
    --- stdout
    --- stderr
    2,500 items pushed
    "#);
    shows_queue!(place, push(), @r#"
    exit 0
    --- stdout
    --- stderr
    0 items pushed, 2,500 known already
    "#);
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
    shows_queue!(place, place.run(&["queue", "claim", "./none"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: no queue in `./none`
    hint: `safepoint queue push` makes one; for the path of a directory write a `/` into it
    "#);
    shows_queue!(place, place.run(&["queue", "push", "..", "x"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: `..` cannot name a queue
    hint: use up to 100 letters, digits, dots, underscores and hyphens, not beginning with a dot or hyphen
    "#);
    shows_queue!(place, place.run(&["queue", "push", "./one", "--key", "a", "x", "y"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: one key cannot be that of several items
    hint: push them one by one, or let each be its own key with `--unique`
    "#);
    shows_queue!(place, place.run(&["queue", "acknowledge", "./one", "what"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: `what` is not the token of a lease
    hint: it is what a claim gave, such as `12-1-0c5cbd0a1f2e`
    "#);
    shows_queue!(place, place.run(&["queue", "acknowledge", "./one", "1-1-0123456789ab"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: `1-1-0123456789ab` is the token of a lease in another queue
    hint: name the queue that the item was claimed from
    "#);
    shows_queue!(place, place.run(&["queue", "retry", "./one", "1"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: item `1` is pending, not dead
    "#);
    shows_queue!(place, place.run(&["queue", "retry", "./one", "nobody"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: no item `nobody` in the queue
    hint: `safepoint queue list --state dead` shows the dead ones
    "#);
    shows_queue!(place, place.run(&["queue", "claim", "./one"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"token":"[TOKEN]","key":null,"number":1,"payload_hex":"ff00","attempt":1,"idempotency_key":"[QUEUE]","expires_at":"[TIME]"}
    --- stderr
    "#);
    std::fs::write(place.file("one/queue.db"), "no database").expect("written");
    shows_queue!(place, place.run(&["queue", "stats", "./one"]), @r#"
    exit 5
    --- stdout
    --- stderr
    error: `queue.db` is damaged: SQLite cannot read it: file is not a database
    hint: put a backup back, or rescue what can be read with `sqlite3 queue.db .recover`
    "#);
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
