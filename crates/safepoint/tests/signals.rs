//! Signals to a real process, rung by rung. The program is `stopper` of the testkit; it says a line when it has got somewhere, so nothing here waits
//! for a time to pass.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
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

    /// Has it stand still.
    fn stop(&self) {
        self.send(Signal::SIGSTOP);
        let stopped = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).expect("waited");
        assert_eq!(stopped, WaitStatus::Stopped(self.pid(), Signal::SIGSTOP));
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

/// The observers are told meanwhile, and say something or not.
fn only_once(line: &str, rest: &str) {
    assert_eq!(
        rest.lines().filter(|said| *said == line).count(),
        1,
        "{rest}"
    );
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
    let mut program = Program::start("ten");
    program.expect("1 request");
    assert_eq!(program.end().1.code(), Some(0));
}

#[test]
fn two_signals_at_once_are_told_and_their_grace_period_ends() {
    let mut program = Program::start("burst");
    program.expect("ready");
    program.stop();
    program.send(Signal::SIGTERM);
    program.send(Signal::SIGINT);
    program.send(Signal::SIGCONT);
    program.expect("told");
    let told = program.line();
    assert!(told.starts_with("terminating after 2: "), "{told}");
    assert_eq!(program.end().1.code(), Some(0));
}

#[test]
fn panics_of_the_callers_code_keep_no_later_signal_from_being_looked_after() {
    let mut program = Program::start("panics");
    program.expect("ready");
    for (signal, line) in [
        (Signal::SIGUSR1, "callback"),
        (Signal::SIGUSR2, "info"),
        (Signal::SIGUSR1, "callback"),
        (Signal::SIGUSR2, "info"),
        (Signal::SIGTERM, "draining"),
        (Signal::SIGUSR1, "callback"),
        (Signal::SIGINT, "terminating"),
    ] {
        program.send(signal);
        program.expect(line);
    }
    program.send(Signal::SIGHUP);
    let (rest, status) = program.end();
    only_once("last act", &rest);
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32));
}

#[test]
fn panics_of_the_callers_code_keep_no_grace_period_from_ending() {
    let mut program = Program::start("panics-briefly");
    program.expect("ready");
    program.send(Signal::SIGUSR1);
    program.expect("callback");
    program.send(Signal::SIGTERM);
    program.expect("draining");
    let (report, status) = program.end();
    assert!(report.contains("gave up: unit `endless`"), "{report}");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn an_observer_that_hangs_holds_neither_way_to_end_up() {
    let mut program = Program::start("observer-hangs");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    program.expect("saved");
    let (report, status) = program.end();
    assert!(report.contains("hook `hangs` (drain): hung"), "{report}");
    assert!(report.ends_with("\ndropped"), "{report}");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_last_rung_ends_the_process_whatever_the_signal_does_by_default() {
    let killed = libc::SIGKILL;
    for (signal, ends_by) in [
        (libc::SIGRTMIN(), libc::SIGRTMIN()),
        (libc::SIGCHLD, killed),
        (libc::SIGWINCH, killed),
        (libc::SIGCONT, killed),
    ] {
        let mut command = Command::new(stopper());
        command.args(["last-rung", &signal.to_string()]);
        let (rest, status) = Program::start_as(&mut command).end();
        assert_eq!(rest, "last act", "{signal}");
        assert_eq!(status.signal(), Some(ends_by), "{signal}");
    }
}

#[test]
fn a_signal_that_nobody_can_handle_is_refused_by_name_and_nothing_is_changed() {
    let mut program = Program::start("refused");
    for name in ["SIGSEGV", "SIGSTOP", "0", "-1", "99", "SIGKILL", "SIGKILL"] {
        let refused = program.line();
        let start = format!("Invalid: the signal `{name}` cannot be listened to: ");
        assert!(refused.starts_with(&start), "{refused}");
    }
    program.expect("changed: false");
    assert_eq!(program.end().1.code(), Some(0));
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
    only_once("last act", &rest);
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32));
}

#[test]
fn the_last_rung_works_though_an_observer_hangs() {
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
    let report = program.find("stopped in");
    assert!(report.contains("SIGTERM"), "{report}");
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
fn the_default_action_is_done_when_another_library_gives_our_handler_back_to_nobody() {
    let mut program = Program::start("left-behind");
    program.expect("Replaced([15])");
    program.expect("ready");
    program.send(Signal::SIGTERM);
    let (rest, status) = program.end();
    assert_eq!(rest, "");
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
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
fn a_system_call_goes_on_unless_an_earlier_handler_was_to_interrupt_it() {
    let mut program = Program::start("interrupting");
    program.expect("alone: true");
    program.expect("with an earlier one: false");
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
fn the_pool_of_handlers_has_its_limit_and_refuses_what_is_beyond() {
    let mut program = Program::start("many");
    program.expect(
        "32: cannot install a signal handler: 32 shutdowns have handlers in this process already",
    );
    program.expect("32 are stopping");
    program.expect("ready");
    program.send(Signal::SIGINT);
    let report = program.find("stopped in");
    assert!(report.contains("SIGINT"), "{report}");
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
fn a_fork_may_drop_or_finish_its_copy_and_runs_no_hook() {
    for (scenario, ended) in [
        ("fork-drop", "dropped"),
        ("fork-finish", "finished: 0 hooks"),
    ] {
        let mut program = Program::start(scenario);
        program.expect(ended);
        program.expect("Exited(Pid(N), 0)");
        program.expect("parent stopping: false");
        program.expect("hook ran");
        program.expect("observer ran");
        program.expect("Restored");
        assert_eq!(program.end().1.code(), Some(0));
    }
}

#[test]
fn a_fork_with_a_shutdown_of_its_own_has_the_whole_ladder_to_itself() {
    let mut program = Program::start("fork-own");
    let fork = program.find("fork ");
    let fork = Pid::from_raw(fork["fork ".len()..].parse().expect("a pid"));
    program.expect("ready");
    kill(fork, Signal::SIGTERM).expect("sent");
    program.expect("draining after 1: SYSTEM SIGTERM");
    kill(fork, Signal::SIGINT).expect("sent");
    program.expect("terminating after 2: USER SIGINT");
    kill(fork, Signal::SIGHUP).expect("sent");
    program.expect("Signaled(Pid(N), SIGHUP, false)");
    program.expect("parent stopping: false");
    program.expect("draining after 1: SYSTEM SIGTERM");
    assert_eq!(program.end().1.code(), Some(0));
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
