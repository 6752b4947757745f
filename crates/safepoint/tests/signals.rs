//! Signals to a real process, rung by rung. The program is `stopper` of the testkit; it says a line when it has got somewhere, so nothing here waits
//! for a time to pass.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(scenario: &str) -> Self {
        Self::start_as(Command::new(stopper()).arg(scenario))
    }

    fn start_as(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
        let out = child.stdout.take().expect("piped");
        Self {
            child,
            lines: BufReader::new(out).lines(),
        }
    }

    /// The next line; an end of the output is a line too.
    fn line(&mut self) -> String {
        match self.lines.next() {
            Some(line) => line.expect("text"),
            None => "(end)".into(),
        }
    }

    fn expect(&mut self, expected: &str) {
        assert_eq!(self.line(), expected);
    }

    /// Reads on to a line that begins with `start`.
    fn find(&mut self, start: &str) -> String {
        loop {
            let line = self.line();
            assert_ne!(line, "(end)", "no line `{start}…`");
            if line.starts_with(start) {
                return line;
            }
        }
    }

    fn send(&self, signal: Signal) {
        kill(self.pid(), signal).expect("sent");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// What is left of the output, and how the program ended.
    fn end(mut self) -> (String, ExitStatus) {
        let mut rest = Vec::new();
        for line in self.lines.by_ref() {
            rest.push(line.expect("text"));
        }
        (rest.join("\n"), self.child.wait().expect("waited"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stopper() -> std::path::PathBuf {
    safepoint_testkit::helper("stopper").expect("built")
}

#[test]
fn each_stop_signal_is_a_graceful_request_with_its_source() {
    for (signal, reason) in [
        (Signal::SIGINT, "SIGINT (user, graceful)"),
        (Signal::SIGTERM, "SIGTERM (system, graceful)"),
        (Signal::SIGHUP, "SIGHUP (system, graceful)"),
    ] {
        let mut program = Program::start("loop");
        program.expect("ready");
        program.send(signal);
        program.expect("stopping");
        let (report, status) = program.end();
        assert!(
            report.starts_with("stopped in ") && report.contains(reason),
            "{report}"
        );
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn a_signal_runs_the_hooks() {
    let mut program = Program::start("hooks");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    program.expect("stopping");
    program.expect("accept: draining");
    program.expect("saved");
    let (report, status) = program.end();
    assert!(report.contains("hook `save` (save): done in"), "{report}");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_second_signal_is_an_immediate_request_and_the_third_ends_the_process() {
    let mut program = Program::start("phases");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    program.expect("draining after 1: SYSTEM SIGTERM");
    program.send(Signal::SIGINT);
    program.expect("terminating after 2: USER SIGINT");
    program.send(Signal::SIGHUP);
    let (rest, status) = program.end();
    assert_eq!(rest, "");
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32));
}

#[test]
fn the_same_signal_ten_times_in_a_row_counts_once() {
    let mut program = Program::start("phases");
    program.expect("ready");
    // Stopped, the program takes them in one go, and no time passes between them.
    program.send(Signal::SIGSTOP);
    for _ in 0..10 {
        program.send(Signal::SIGTERM);
    }
    program.send(Signal::SIGCONT);
    program.expect("draining after 1: SYSTEM SIGTERM");
    program.send(Signal::SIGINT);
    program.expect("terminating after 2: USER SIGINT");
}

#[test]
fn a_ladder_may_have_other_rungs() {
    let mut program = Program::start("ladder");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    program.expect("draining after 1: SYSTEM SIGTERM");
    program.send(Signal::SIGINT);
    let (rest, status) = program.end();
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{rest}");
}

#[test]
fn another_signal_may_be_a_stop_signal() {
    let mut program = Program::start("extra-signal");
    program.expect("ready");
    program.send(Signal::SIGUSR2);
    let report = program.find("stopped in");
    assert!(report.ends_with("SIGUSR2 (parent, graceful)"), "{report}");
}

#[test]
fn the_last_act_comes_before_the_end() {
    let mut program = Program::start("last-act");
    program.expect("ready");
    program.send(Signal::SIGINT);
    program.expect("draining");
    program.send(Signal::SIGTERM);
    program.expect("terminating");
    program.send(Signal::SIGHUP);
    let (rest, status) = program.end();
    assert_eq!(rest, "last act");
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32));
}

#[test]
fn the_last_rung_works_though_an_observer_hangs_on_the_keeper_thread() {
    let mut program = Program::start("stuck");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    program.expect("hanging in draining");
    let pid = program.pid();
    let (ended, end) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || ended.send(program.end().1));
    // A keeper counts as stuck only after a second, and a repeat within 100 ms does not count: so it is asked until it ends.
    let status = loop {
        // It may have ended since the last look.
        let _ = kill(pid, Signal::SIGTERM);
        if let Ok(status) = end.recv_timeout(Duration::from_millis(150)) {
            break status;
        }
    };
    waiting.join().expect("no panic").expect("heard");
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn a_callback_may_send_its_own_process_a_stop_signal() {
    let mut program = Program::start("raises");
    program.expect("ready");
    program.send(Signal::SIGUSR1);
    program.find("raised");
    let (_, status) = program.end();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_default_action_is_back_after_the_end() {
    let mut program = Program::start("restores");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    program.expect("Restored");
    program.send(Signal::SIGTERM);
    let (_, status) = program.end();
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn another_librarys_handler_is_kept_and_said() {
    let mut program = Program::start("replaced");
    program.expect("Replaced([15])");
    program.expect("foreign: 1");
    program.expect("Restored");
    program.expect("foreign: 2");
    assert_eq!(program.end().1.code(), Some(0));
}

#[test]
fn an_earlier_handler_still_gets_its_signals_and_is_back_after_the_end() {
    let mut program = Program::start("earlier");
    program.expect("stopping: true");
    program.expect("foreign: 1");
    program.expect("Restored");
    program.expect("foreign: 2");
    assert_eq!(program.end().1.code(), Some(0));
}

#[test]
fn several_shutdowns_share_a_signal_and_the_last_one_puts_it_back() {
    let mut program = Program::start("several");
    program.expect("[true, true, false]");
    program.expect("Restored Restored");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    assert_eq!(program.end().1.signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn a_fork_has_the_flag_and_its_parent_is_left_alone() {
    let mut program = Program::start("fork-flag");
    let ready = program.find("ready ");
    let fork: i32 = ready["ready ".len()..].parse().expect("a pid");
    kill(Pid::from_raw(fork), Signal::SIGTERM).expect("sent");
    program.expect("the fork saw the flag");
    program.expect("Exited(Pid(N), 0)");
    program.expect("parent stopping: false");
    assert_eq!(program.end().1.code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_fork_that_does_not_look() {
    let mut program = Program::start("fork-default");
    let ready = program.find("ready ");
    let fork = Pid::from_raw(ready["ready ".len()..].parse().expect("a pid"));
    kill(fork, Signal::SIGTERM).expect("sent");
    kill(fork, Signal::SIGINT).expect("sent");
    let ended = program.find("Signaled(Pid(N), ");
    assert!(
        ended.contains("SIGTERM") || ended.contains("SIGINT"),
        "{ended}"
    );
    program.expect("parent stopping: false");
}

#[test]
fn the_info_signal_names_what_is_open_and_steers_no_terminal() {
    let mut program = Program::start("info");
    program.expect("ready");
    program.send(Signal::SIGUSR1);
    program.expect("running");
    let open = program.line();
    assert!(
        open.contains("unit `record 17\\u{1b}[2J` (main, open for"),
        "{open}"
    );
    program.expect("  the next stop signal asks for a graceful stop");
    program.send(Signal::SIGINT);
    let report = program.find("stopped in");
    assert!(report.contains("SIGINT"), "{report}");
}

#[test]
fn a_grace_period_that_is_over_ends_the_wait() {
    let mut program = Program::start("unit");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    let (report, status) = program.end();
    assert!(
        report.contains("gave up: unit `endless` (main, open for"),
        "{report}"
    );
    assert_eq!(status.code(), Some(0));
}

#[test]
fn an_inherited_ignored_sighup_stays_ignored() {
    let mut command = Command::new("nohup");
    command.arg(stopper()).arg("loop").stderr(Stdio::null());
    let mut program = Program::start_as(&mut command);
    program.expect("ready");
    program.send(Signal::SIGHUP);
    program.send(Signal::SIGTERM);
    let report = program.find("stopped in");
    assert!(report.contains("SIGTERM"), "{report}");
}
