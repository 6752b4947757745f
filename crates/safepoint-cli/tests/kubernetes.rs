//! Kubernetes on one machine: a test plays the kubelet of a pod that `safepoint init k8s` describes, in a PID namespace of its own.
//!
//! The kubelet begins with the preStop hook, sends SIGTERM, and kills at the deadline. It asks the probes throughout. Times are a tenth of the real ones.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::http::ask;
use super::support::{Place, wait_for, wait_until};

/// preStop, grace period and what is to spare, of which the pod has the sum.
const PRE_STOP: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(6);

/// Units of work that may not be broken, each saved when it is done. SIGTERM is heard between two of them.
///
/// `$1` and `$2` are how long a unit and a save take. A grandchild in a session of its own ignores SIGTERM.
const WORK: &str = r#"
    trap 'echo asked >> told; stop=1' TERM
    setsid sh -c 'trap "" TERM; while :; do sleep 0.05; done' &
    done=$(cat state 2>/dev/null || echo 0); echo "from $done" >> told
    while [ -z "$stop" ]; do
        echo begun >> told; sleep "$1"; done=$((done + 1))
        printf "$done" > state.new; sleep "$2"; mv state.new state; echo "saved $done" >> told
    done
    echo left >> told; exit 0"#;

/// What happens before SIGTERM.
enum Hook {
    /// The template's: wait until nobody sends requests any more.
    Sleep,
    /// A `POST /shutdown` from within the pod.
    Post,
    /// `safepoint stop` in the container.
    Stop,
}

/// What a probe was answered, and when.
type Answers = Vec<(Instant, u16)>;

/// A pod that runs.
struct Pod<'a> {
    place: &'a Place,
    /// `unshare`, whose only child is process 1 of the pod.
    container: Child,
    first: Pid,
    at: String,
    gone: Arc<AtomicBool>,
    probes: [JoinHandle<Answers>; 2],
}

/// What a pod's end was like.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    /// The kubelet had to kill it.
    was_killed: bool,
    took: Duration,
    ready: Answers,
    live: Answers,
    asked_at: Instant,
    term_at: Option<Instant>,
}

impl<'a> Pod<'a> {
    /// Starts what the manifest says, with the probes on a port of its own and the state below the place.
    fn start(place: &'a Place, unit: &str, save: &str) -> Self {
        let command = ["sh", "-c", WORK, "work", unit, save];
        let init = ["init", "k8s", "--kind", "deployment", "--name", "pod"];
        let times = ["--grace", "5s", "--pre-stop", "500ms", "--"];
        let manifest = place.run(&[&init[..], &times, &command].concat());
        assert_eq!(manifest.code, Some(0), "{}", manifest.stderr);
        let mut words = words(&manifest.stdout);
        for (option, instead) in [("--http", "127.0.0.1:0"), ("--state-dir", ".safepoint")] {
            let at = words.iter().position(|word| word == option);
            instead.clone_into(&mut words[at.expect("an option of the manifest") + 1]);
        }
        assert_eq!(words[..2], ["safepoint", "supervise"]);
        let end = words
            .iter()
            .position(|word| word == "--")
            .expect("a command");
        words.splice(end..end, ["--termination-log", "why"].map(str::to_owned));

        let safepoint = place.safepoint(&[]).get_program().to_owned();
        let errors = place.file("pod.stderr");
        let container = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(safepoint)
            .args(&words[1..])
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&errors).expect("a file"))
            .spawn()
            .expect("`unshare` of util-linux starts");
        let at = wait_for("the address", || said_address(&errors));
        let children = format!("/proc/{0}/task/{0}/children", container.id());
        let first = std::fs::read_to_string(children).expect("its children");
        let first = first.trim().parse().ok().and_then(Pid::from_raw);
        wait_until("the first unit", || {
            place.lines("told").iter().any(|line| line == "begun")
        });
        wait_until("readiness", || answer(&at, "/ready") == Some(200));
        let gone = Arc::new(AtomicBool::new(false));
        let probes = ["/ready", "/health"].map(|path| {
            let (at, gone) = (at.clone(), Arc::clone(&gone));
            std::thread::spawn(move || probe(&at, path, &gone))
        });
        Self {
            place,
            container,
            first: first.expect("process 1 of the pod"),
            at,
            gone,
            probes,
        }
    }

    /// Deletes the pod as the kubelet does. `again`: a second SIGTERM comes so long after the first.
    fn delete(mut self, hook: &Hook, deadline: Duration, again: Option<Duration>) -> Ended {
        let began = Instant::now();
        match hook {
            Hook::Sleep => {}
            Hook::Post => {
                let (code, body) = ask(&self.at, "POST", "/shutdown", "", "");
                assert_eq!(
                    (code, body.as_str()),
                    (200, r#"{"status":"shutdown_initiated"}"#)
                );
            }
            Hook::Stop => {
                let ran = self.place.run(&["stop", "pod"]);
                assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            }
        }
        let asked_at = Instant::now();
        let mut signals: Vec<Instant> = vec![began + PRE_STOP];
        signals.extend(again.map(|later| began + PRE_STOP + later));
        let (mut term_at, mut was_killed) = (None, false);
        let status = loop {
            if let Some(status) = self.container.try_wait().expect("it is our child") {
                break status;
            }
            let now = Instant::now();
            if signals.first().is_some_and(|at| now >= *at) {
                signals.remove(0);
                term_at.get_or_insert(now);
                let _ = kill_process(self.first, Signal::TERM);
            }
            if now >= began + deadline && !was_killed {
                was_killed = true;
                let _ = kill_process(self.first, Signal::KILL);
            }
            // The clock of the kubelet, not a wait for something to have happened.
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = began.elapsed();
        self.gone.store(true, Ordering::Relaxed);
        let [ready, live] = self.probes.map(|probe| probe.join().expect("no panic"));
        Ended {
            code: status.code().or(status.signal().map(|signal| 128 + signal)),
            was_killed,
            took,
            ready,
            live,
            asked_at,
            term_at,
        }
    }
}

/// The words of `command:` in a manifest. What YAML has in double quotes is JSON here.
fn words(manifest: &str) -> Vec<String> {
    let lines = manifest
        .lines()
        .skip_while(|line| line.trim() != "command:");
    lines
        .skip(1)
        .map_while(|line| line.trim().strip_prefix("- "))
        .map(|word| serde_json::from_str::<String>(word).expect("a string"))
        // The kubelet reads `$$` as one dollar sign.
        .map(|word| word.replace("$$", "$"))
        .collect()
}

fn said_address(errors: &PathBuf) -> Option<String> {
    let said = std::fs::read_to_string(errors).ok()?;
    let (_, address) = said.split_once("answering on http://")?;
    Some(address.split_once("/\n")?.0.to_owned())
}

/// The status of what a probe is answered, nothing if nobody answers.
fn answer(at: &str, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(at).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.get(9..12)?.parse().ok()
}

/// Asks again and again until the pod is gone, as a probe with a short period.
fn probe(at: &str, path: &str, gone: &AtomicBool) -> Answers {
    let mut answers = Vec::new();
    while !gone.load(Ordering::Relaxed) {
        let asked = Instant::now();
        // Nobody listens when the pod has just gone.
        let Some(code) = answer(at, path) else {
            break;
        };
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{path} took {:?}",
            asked.elapsed()
        );
        answers.push((asked, code));
        std::thread::sleep(Duration::from_millis(20));
    }
    answers
}

impl Ended {
    /// Liveness was always 200; readiness was 200 up to the stop request and 503 from then on.
    fn was_probed_well(&self, stopped_at: Instant) {
        assert!(
            self.live.len() > 3 && self.live.iter().all(|(_, code)| *code == 200),
            "{:?}",
            self.live
        );
        for (asked, code) in &self.ready {
            if *asked >= stopped_at + Duration::from_secs(1) {
                assert_eq!(*code, 503, "{:?} after the stop", *asked - stopped_at);
            } else if *asked + Duration::from_millis(200) < stopped_at {
                assert_eq!(*code, 200, "{:?} before the stop", stopped_at - *asked);
            }
        }
        assert!(
            self.ready.iter().any(|(_, code)| *code == 503),
            "it was never not ready"
        );
    }
}

fn saved(place: &Place) -> u32 {
    let state = std::fs::read_to_string(place.file("state")).unwrap_or_default();
    state.parse().unwrap_or(0)
}

/// Whether this user may make a PID namespace.
#[expect(
    clippy::print_stderr,
    reason = "what is left out is said, for whoever reads the test's output"
)]
fn may_unshare() -> bool {
    let tried = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .output();
    let may = tried.is_ok_and(|tried| tried.status.success());
    if !may {
        eprintln!("SKIPPED: this process may not make a PID namespace (it has to be root)");
    }
    may
}

/// A stop that goes well: the unit in progress is saved, nothing is killed from outside, and the next pod goes on.
fn goes_well(hook: &Hook, source: &str) {
    if !may_unshare() {
        return;
    }
    let place = Place::new();
    let pod = Pod::start(&place, "0.9", "0.1");
    let ended = pod.delete(hook, DEADLINE, None);
    assert!(!ended.was_killed && ended.took < DEADLINE, "{ended:?}");
    // Asked to stop, so not done, though it exits 0.
    assert_eq!(ended.code, Some(75));
    let asked_at = if matches!(hook, Hook::Sleep) {
        ended.term_at
    } else {
        None
    };
    ended.was_probed_well(asked_at.unwrap_or(ended.asked_at));
    let told = place.lines("told");
    assert_eq!(
        told[told.len() - 2..],
        [format!("saved {}", saved(&place)), "left".into()],
        "{told:?}"
    );
    assert_eq!(
        told.iter().filter(|line| *line == "asked").count(),
        1,
        "{told:?}"
    );
    let stops = place.events("pod", "interrupt_initiated");
    assert_eq!(
        (stops[0]["source"].as_str(), stops[0]["mode"].as_str()),
        (Some(source), Some("GRACEFUL"))
    );
    assert!(
        place.lines("why")[0].starts_with("stopped: "),
        "{:?}",
        place.lines("why")
    );

    let before = saved(&place);
    std::fs::remove_file(place.file("told")).expect("removed");
    let next = Pod::start(&place, "0.1", "0");
    assert_eq!(place.lines("told")[0], format!("from {before}"));
    assert_eq!(next.delete(&Hook::Sleep, DEADLINE, None).code, Some(75));
}

#[test]
fn a_pod_that_is_deleted_saves_and_leaves_in_time() {
    goes_well(&Hook::Sleep, "SYSTEM");
}

#[test]
fn a_post_in_the_pre_stop_hook_begins_the_stop_and_sigterm_does_not_hurry_it() {
    goes_well(&Hook::Post, "SYSTEM");
}

#[test]
fn safepoint_stop_in_the_pre_stop_hook_begins_the_stop_and_sigterm_does_not_hurry_it() {
    goes_well(&Hook::Stop, "USER");
}

#[test]
fn a_unit_longer_than_the_grace_period_is_given_up_before_the_kubelet_kills() {
    if !may_unshare() {
        return;
    }
    let place = Place::new();
    let pod = Pod::start(&place, "600", "0");
    let ended = pod.delete(&Hook::Sleep, DEADLINE, None);
    assert!(!ended.was_killed, "{ended:?}");
    assert!(ended.took >= GRACE + PRE_STOP, "{:?}", ended.took);
    assert_eq!((ended.code, saved(&place)), (Some(137), 0));
    ended.was_probed_well(ended.term_at.expect("asked"));
    assert!(
        place.lines("why")[0].contains("SIGKILL"),
        "{:?}",
        place.lines("why")
    );
}

#[test]
fn a_save_longer_than_what_is_left_leaves_the_state_before_it() {
    if !may_unshare() {
        return;
    }
    let place = Place::new();
    place.write("state", "41");
    let pod = Pod::start(&place, "0", "600");
    let ended = pod.delete(&Hook::Sleep, DEADLINE, None);
    assert!(!ended.was_killed, "{ended:?}");
    assert_eq!((ended.code, saved(&place)), (Some(137), 41));
    // The next one has the old state, and the half save disturbs nobody.
    std::fs::remove_file(place.file("told")).expect("removed");
    let next = Pod::start(&place, "0.1", "0");
    assert_eq!(place.lines("told")[0], "from 41");
    assert_eq!(next.delete(&Hook::Sleep, DEADLINE, None).code, Some(75));
    assert!(saved(&place) > 41);
}

#[test]
fn a_second_sigterm_means_now() {
    if !may_unshare() {
        return;
    }
    let place = Place::new();
    let pod = Pod::start(&place, "600", "0");
    let ended = pod.delete(&Hook::Sleep, DEADLINE, Some(Duration::from_millis(300)));
    assert!(!ended.was_killed, "{ended:?}");
    // Two seconds to obey, where the grace period would have been five.
    assert!(
        ended.took < PRE_STOP + Duration::from_millis(300) + Duration::from_secs(4),
        "{:?}",
        ended.took
    );
    assert_eq!(ended.code, Some(137));
    let modes: Vec<Value> = place
        .events("pod", "interrupt_initiated")
        .iter()
        .map(|event| event["mode"].clone())
        .collect();
    assert_eq!(modes, ["GRACEFUL", "IMMEDIATE"]);
}

#[test]
fn a_pod_that_is_killed_at_a_deadline_too_early_leaves_nothing_that_holds_up_the_next() {
    if !may_unshare() {
        return;
    }
    let place = Place::new();
    place.write("state", "7");
    let pod = Pod::start(&place, "600", "0");
    let ended = pod.delete(&Hook::Sleep, Duration::from_secs(1), None);
    assert!(ended.was_killed, "{ended:?}");
    place.is_left_alone();
    std::fs::remove_file(place.file("told")).expect("removed");
    let next = Pod::start(&place, "0.1", "0");
    assert_eq!(place.lines("told")[0], "from 7");
    assert_eq!(next.delete(&Hook::Sleep, DEADLINE, None).code, Some(75));
    let starts = place.events("pod", "run_started");
    assert_eq!(starts[1]["after_crash"], true, "{starts:?}");
}
