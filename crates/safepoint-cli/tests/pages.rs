//! The live page and the report in a real browser (Chromium, which `scripts/setup` installs).

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::{Place, wait_for, wait_until};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/browser");
const TOKEN: &str = "0123456789abcdef-sesame";
/// The first item passes, the second fails as hostile as can be, the rest wait at the gate.
const WORK: &str = r#"case $1 in
    first) echo ok;;
    bad) printf '\033[31mred\033[0m </script><script>alert(1)</script>\a\n' >&2; printf 'bad <b>item</b> \342\200\256 turned\n' >&2; exit 3;;
    *) read x < gate; echo "did $1";;
esac"#;

/// A script that speaks with a browser, and says line by line how far it is.
struct Browser {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Browser {
    fn start(place: &Place, script: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("python3");
        command.arg(format!("{SCRIPTS}/{script}")).args(arguments);
        // Where a person wants to look at the pages, too.
        if let Some(folder) = std::env::var_os("SAFEPOINT_TEST_PICTURES") {
            command.arg(folder);
        }
        let errors = std::fs::File::create(place.file("browser")).expect("a file");
        let mut child = command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("python3 is installed");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, said }
    }

    /// Waits until it has come so far; it gives up by itself if it does not.
    fn says(&mut self, place: &Place, word: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        assert_eq!(
            line.trim_end(),
            word,
            "{}",
            place.lines("browser").join("\n")
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_live_page_loads_updates_and_stops_the_job() {
    let place = Place::new();
    place.write("in.txt", "first\nbad\nc\nd\ne\n");
    let token = place.write("token", TOKEN);
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("private");
    let gate = place.gate("gate");
    let running = place.begin(&[
        "run",
        "in.txt",
        "-j1",
        "--retries",
        "0",
        "--http",
        "127.0.0.1:0",
        "--http-token-file",
        "token",
        "--shell",
        "--",
        WORK,
    ]);
    let address = wait_for("the address", || {
        let said = running.stderr();
        let (_, rest) = said.split_once("answering on ")?;
        let (address, _) = rest.split_once('\n')?;
        Some(address.to_owned())
    });
    let mut browser = Browser::start(&place, "live_page.py", &[&address, TOKEN]);
    browser.says(&place, "loaded");
    gate.pass(1);
    browser.says(&place, "updated");
    browser.says(&place, "stopping");
    assert_eq!(place.events("in", "interrupt_initiated").len(), 1);
    gate.pass(1);
    let ran = running.ended();
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    browser.says(&place, "ended");
    assert!(browser.child.wait().is_ok_and(|status| status.success()));
}

#[test]
fn a_report_reads_well_in_a_browser() {
    let place = Place::new();
    place.write("in.txt", "first\nbad\nc\nd\n");
    let gate = place.gate("gate");
    let running = place.begin(&[
        "run",
        "in.txt",
        "-j1",
        "--retries",
        "0",
        "--shell",
        "--",
        WORK,
    ]);
    wait_until("the first result", || !running.stdout().is_empty());
    gate.pass(1);
    wait_until("the third item", || running.stdout().lines().count() == 2);
    running.signal(rustix::process::Signal::TERM);
    running.says("once more ends them now");
    gate.pass(1);
    running.ended();
    assert_eq!(
        place.run(&["report", "in", "-o", "report.html"]).code,
        Some(0)
    );
    let report = place.file("report.html");
    let mut browser = Browser::start(&place, "report.py", &[report.to_str().expect("plain")]);
    browser.says(&place, "read");
    assert!(browser.child.wait().is_ok_and(|status| status.success()));
}

/// Prints the hashes of a page's style and script as a policy names them (Content Security Policy, level 3).
const HASHES: &str = r#"
import base64, hashlib, re, sys
page = sys.stdin.buffer.read()
for tag in (b"style", b"script"):
    (text,) = re.findall(b"<" + tag + b">(.*?)</" + tag + b">", page, re.S)
    print(tag.decode() + "-src 'sha256-" + base64.b64encode(hashlib.sha256(text).digest()).decode() + "';")
"#;

#[test]
fn the_policy_of_the_live_page_lets_its_own_script_run_and_no_other() {
    let live = |file: &str| {
        format!(
            "{}/../safepoint/src/health/{file}",
            env!("CARGO_MANIFEST_DIR")
        )
    };
    let mut command = Command::new("python3");
    let page = std::fs::File::open(live("page.html")).expect("a page");
    command.args(["-IS", "-c", HASHES]).stdin(page);
    let hashes = command.output().expect("python3 is installed").stdout;
    let policy = std::fs::read_to_string(live("page.rs")).expect("a file");
    for hash in String::from_utf8_lossy(&hashes).lines() {
        assert!(
            policy.contains(hash),
            "the page was changed: its policy in page.rs must have {hash}"
        );
    }
    assert!(!policy.contains("unsafe-"));
}

/// What the two have in common is written twice, as each has to be one file; it must be the same.
#[test]
fn the_live_page_and_the_report_look_alike() {
    let text = |path: &str| {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("a file")
    };
    let look = |text: &str| {
        let (_, from) = text.split_once("/* look: ").expect("a beginning");
        let (look, _) = from.split_once("/* end of look */").expect("an end");
        look.to_owned()
    };
    let live = text("../safepoint/src/health/page.html");
    assert_eq!(look(&live), look(&text("src/report/html/style.css")));
    assert!(live.len() < 60_000);
    assert_eq!(
        live.matches("<style").count() + live.matches("<script").count(),
        2
    );
}
