//! Children of the program, and the program as a child: real processes that are asked, told and killed.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid,
};
use safepoint::children::{Child, Children, Parent, STOP_FD_VARIABLE};
use safepoint::shutdown::{Order, Shutdown};
use safepoint::{ErrorKind, Result};

use crate::support::{Lines, PATIENCE, graceful, immediate, is_role, patient, role, say};

/// Says what it sees of its stop descriptor and of SIGTERM, until the hang-up; and on a line of input, that it is there.
const LOOKS: &str = r#"
import os, select, signal, sys
fd, name = int(os.environ["SAFEPOINT_STOP_FD"]), " ".join(sys.argv[1:])
def say(word): os.write(1, (word + name + "\n").encode())
signal.signal(signal.SIGTERM, lambda *_: say("TERM"))
poll = select.poll()
poll.register(fd, select.POLLIN)
say("ready" if not poll.poll(0) else "early")
if poll.poll(100000)[0][1] == select.POLLIN:
    say("asked")
    if os.read(0, 1): say("here")
    poll.modify(fd, 0)
    poll.poll(100000)
say("hang-up")
os._exit(0)  # not by a SIGTERM that comes while Python ends
"#;

fn looks() -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", LOOKS]);
    command
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Starts it, with a pipe for what it says.
fn start(children: &Children, mut command: Command) -> Result<(Child, Lines)> {
    let mut child = children.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let lines = Lines::of(child.stdout.take());
    Ok((child, lines))
}

fn pid(child: &Child) -> Pid {
    let id = i32::try_from(child.id()).expect("a process number");
    Pid::from_raw(id).expect("a process number")
}

#[test]
fn a_stop_reaches_a_child_by_the_descriptor_alone() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?.descriptor_only();
    let mut command = looks();
    let mut child = children.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let lines = Lines::of(child.stdout.take());
    assert_eq!(lines.next(), "ready");
    shutdown.token().request(graceful());
    assert_eq!(lines.next(), "asked");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"x").expect("it reads");
    // It has come so far without a SIGTERM.
    assert_eq!(lines.next(), "here");
    shutdown.token().request(immediate());
    lines.expect(&["hang-up"]);
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn a_stop_reaches_a_child_by_descriptor_and_signal() -> Result<()> {
    let shutdown = patient();
    let (child, lines) = start(&Children::new(&shutdown.token())?, looks())?;
    lines.expect(&["ready"]);
    shutdown.token().request(graceful());
    lines.expect(&["asked", "TERM"]);
    shutdown.token().request(immediate());
    lines.expect(&["hang-up"]);
    drop(child);
    assert!(shutdown.finish().given_up.is_empty());
    Ok(())
}

#[test]
fn the_stop_signal_can_be_chosen() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?;
    let script = |name| {
        sh(&format!(
            "trap 'echo told; kill $!; exit 7' {name}; sleep 1000 & echo ready; wait"
        ))
    };
    let (mut by_default, first) = start(&children, script("TERM"))?;
    let numbered = children.clone().stop_signal(libc::SIGRTMIN() + 3);
    // The other shell knows no names of such signals.
    let in_bash = |script: Command| {
        let mut command = Command::new("bash");
        command.args(script.get_args());
        command
    };
    let (mut by_number, second) = start(&numbered, in_bash(script("RTMIN+3")))?;
    first.expect(&["ready"]);
    second.expect(&["ready"]);
    shutdown.token().request(graceful());
    assert_eq!(first.rest(), ["told"]);
    assert_eq!(second.rest(), ["told"]);
    assert_eq!(by_default.wait()?.code(), Some(7));
    assert_eq!(by_number.wait()?.code(), Some(7));
    Ok(())
}

#[test]
fn one_child_can_be_stopped_alone() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?;
    let (mut one, first) = start(&children, looks())?;
    let (other, second) = start(&children, looks())?;
    first.expect(&["ready"]);
    second.expect(&["ready"]);
    one.token().request(immediate());
    first.expect(&["hang-up"]);
    assert!(one.wait()?.success());
    assert_eq!(other.try_wait()?, None);
    assert!(!shutdown.token().is_stopping());
    shutdown.token().request(immediate());
    // The first thing it heard of.
    second.expect(&["hang-up"]);
    Ok(())
}

#[test]
fn a_signal_reaches_the_whole_group() -> Result<()> {
    let shutdown = patient();
    let grandchild = "trap 'echo told; exit' TERM; echo ready; sleep 1000 & wait";
    // The first `wait` ends with the signal.
    let script = format!("trap : TERM; ({grandchild}) & wait; wait; exit 4");
    let (mut child, lines) = start(&Children::new(&shutdown.token())?, sh(&script))?;
    lines.expect(&["ready"]);
    shutdown.token().request(graceful());
    assert_eq!(lines.rest(), ["told"]);
    assert_eq!(child.wait()?.code(), Some(4));
    Ok(())
}

#[test]
fn a_grandchild_that_ignores_sigterm_ends_with_its_group() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?.descriptor_only();
    let script = "(trap '' TERM; echo ready; exec sleep 1000) & wait";
    let (mut child, lines) = start(&children, sh(script))?;
    lines.expect(&["ready"]);
    shutdown.token().request(immediate());
    assert_eq!(child.wait()?.signal(), Some(libc::SIGTERM));
    // The grandchild had the other end of this pipe.
    assert_eq!(lines.rest(), [""; 0]);
    Ok(())
}

#[test]
fn what_a_child_leaves_in_its_group_ends_with_it() -> Result<()> {
    let shutdown = patient();
    let (mut child, lines) = start(
        &Children::new(&shutdown.token())?,
        sh("sleep 1000 & echo ready"),
    )?;
    assert_eq!(lines.rest(), ["ready"]);
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn a_child_that_ignores_sigterm_is_killed() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?.kill_after(Duration::from_millis(50));
    let (mut child, lines) = start(
        &children,
        sh("trap '' TERM; echo ready; sleep 1000 & sleep 1000; exit 3"),
    )?;
    lines.expect(&["ready"]);
    shutdown.token().request(graceful());
    assert_eq!(child.try_wait()?, None);
    shutdown.token().request(immediate());
    assert_eq!(child.wait()?.signal(), Some(libc::SIGKILL));
    assert_eq!(lines.rest(), [""; 0]);
    Ok(())
}

#[test]
fn a_child_that_is_stopped_ends_all_the_same() -> Result<()> {
    let shutdown = patient();
    let (mut child, lines) = start(
        &Children::new(&shutdown.token())?,
        sh("echo ready; kill -STOP $$; exec sleep 1000"),
    )?;
    lines.expect(&["ready"]);
    let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid(&child)), stopped).expect("it stops itself");
    shutdown.token().request(graceful());
    assert_eq!(child.wait()?.signal(), Some(libc::SIGTERM));
    Ok(())
}

#[test]
fn finish_names_the_child_that_holds_it_up() -> Result<()> {
    let shutdown = patient();
    let token = shutdown.token();
    let children = Children::new(&token)?;
    let mut child = children.spawn(
        sh("trap '' TERM; echo ready; read line; exit 0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    )?;
    let lines = Lines::of(child.stdout.take());
    lines.expect(&["ready"]);
    let name = format!("sh (pid {})", child.id());
    assert_eq!(child.name(), name);
    // By the time of the last hook before the wait, finish is under way and the child is still open.
    token.hook(
        Order::Drain,
        "let the child go",
        move |share: &safepoint::shutdown::Share| {
            let open = share.token().status().open;
            assert_eq!(
                open.iter()
                    .map(|open| open.name.as_str())
                    .collect::<Vec<_>>(),
                [name]
            );
            drop(child.stdin.take());
        },
    )?;
    token.request(graceful());
    let report = shutdown.finish();
    assert!(report.given_up.is_empty(), "{report}");
    let held_up: Vec<&str> = report
        .held_up
        .iter()
        .map(|held| held.open.name.as_str())
        .collect();
    assert_eq!(held_up.len(), 1, "{report}");
    assert!(held_up[0].starts_with("sh (pid "), "{report}");
    assert!(
        report
            .hooks
            .iter()
            .all(|hook| hook.outcome == safepoint::shutdown::HookOutcome::Done),
        "{report}"
    );
    Ok(())
}

#[test]
fn a_child_that_outlasts_the_grace_period_is_named_and_gone_when_finish_returns() -> Result<()> {
    // Little time to end by itself, and much to be killed in, for a busy machine.
    let shutdown = Shutdown::builder()
        .grace(Duration::from_secs(5))
        .reserve(Duration::from_millis(4_800))
        .build()?;
    let children = Children::new(&shutdown.token())?.kill_after(Duration::from_secs(1000));
    let (child, lines) = start(
        &children,
        sh("trap '' TERM; echo ready; sleep 1000; exit 0"),
    )?;
    lines.expect(&["ready"]);
    shutdown.token().request(graceful());
    let report = shutdown.finish();
    let given_up: Vec<&str> = report
        .given_up
        .iter()
        .map(|held| held.open.name.as_str())
        .collect();
    assert_eq!(given_up, [child.name()], "{report}");
    let status = child.try_wait()?.expect("it has ended");
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    Ok(())
}

#[test]
fn finish_lets_a_child_that_was_given_up_come_to_its_end() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?.kill_after(PATIENCE);
    // Longer than the wait for what is open takes, once the phase is Terminating.
    let script = "trap 'sleep 0.3; exit 9' TERM; echo ready; sleep 1000 & wait";
    let (child, lines) = start(&children, sh(script))?;
    lines.expect(&["ready"]);
    shutdown.token().request(immediate());
    let report = shutdown.finish();
    assert_eq!(report.given_up.len(), 1, "{report}");
    let status = child.try_wait()?.expect("it has ended");
    assert_eq!(status.code(), Some(9));
    Ok(())
}

#[test]
fn no_zombie_is_left_and_the_end_can_be_asked_for_again() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?;
    for code in [0, 1, 42] {
        let mut child = children.spawn(&mut sh(&format!("exit {code}")))?;
        assert_eq!(child.wait()?.code(), Some(code));
        assert_eq!(child.wait()?.code(), Some(code));
        assert_eq!(
            child.try_wait()?.and_then(|status| status.code()),
            Some(code)
        );
        assert_eq!(test_kill_process(pid(&child)), Err(rustix::io::Errno::SRCH));
    }
    Ok(())
}

#[test]
fn nothing_is_started_once_a_stop_was_asked_for() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?;
    let wrong = |error: Result<Child>| error.expect_err("refused").kind();
    assert_eq!(
        wrong(children.spawn(&mut Command::new("/nowhere/to/be/found"))),
        ErrorKind::Invalid
    );
    for signal in [0, -1, 10_000, libc::SIGKILL, libc::SIGSTOP] {
        let children = children.clone().stop_signal(signal);
        assert_eq!(wrong(children.spawn(&mut sh("exit"))), ErrorKind::Invalid);
    }
    assert!(shutdown.token().status().open.is_empty());
    shutdown.token().request(graceful());
    assert_eq!(wrong(children.spawn(&mut sh("exit"))), ErrorKind::Closed);
    let token = shutdown.token();
    shutdown.finish();
    let error = Children::new(&token).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Closed);
    Ok(())
}

const ONE_END: &str = "children::a_child_has_one_end_of_one_pipe_also_at_a_second_start";

#[test]
fn a_child_has_one_end_of_one_pipe_also_at_a_second_start() -> Result<()> {
    // In a process of its own: what other tests have open is inherited too.
    if !is_role(ONE_END) {
        let alone = role(ONE_END).stdout(Stdio::null()).status();
        assert!(alone.expect("this binary").success());
        return Ok(());
    }
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?;
    let others: Vec<(Child, Lines)> = (0..3)
        .map(|_| start(&children, looks()))
        .collect::<Result<_>>()?;
    // What is inherited from whoever runs the tests is there in any process.
    let script = r#"
import fcntl, os, sys
there = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")]
stop = int(os.environ.get("SAFEPOINT_STOP_FD", -1))
if stop > 0:
    print(fcntl.fcntl(stop, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY, os.getpgrp() == os.getpid())
print(sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in there if fd != stop))
"#;
    let mut command = Command::new("python3");
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let plain = command.output().expect("python");
    let plain = String::from_utf8_lossy(&plain.stdout).trim().to_owned();
    for _ in 0..2 {
        let mut child = children.spawn(&mut command)?;
        assert_eq!(
            Lines::of(child.stdout.take()).rest(),
            ["True True", plain.as_str()]
        );
    }
    // Started by other means, it gets neither.
    let script = format!("echo \"${{{STOP_FD_VARIABLE}-unset}}\"");
    let mut plain = sh(&script);
    children.spawn(plain.stdout(Stdio::piped()))?.wait()?;
    let output = plain.output().expect("a shell");
    assert_eq!(output.stdout, b"unset\n");
    drop(others);
    Ok(())
}

#[test]
fn kill_all_ends_every_group_at_once() -> Result<()> {
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?;
    let script = "trap '' TERM; sleep 1000 & echo ready; wait";
    let (mut child, lines) = start(&children, sh(script))?;
    lines.expect(&["ready"]);
    children.kill_all();
    assert_eq!(child.wait()?.signal(), Some(libc::SIGKILL));
    assert_eq!(lines.rest(), [""; 0]);
    Ok(())
}

const TWO_CHILDREN: &str = "children::a_parent_of_two";

/// In its role: starts two children one after the other, and does nothing more.
#[test]
fn a_parent_of_two() -> Result<()> {
    if !is_role(TWO_CHILDREN) {
        return Ok(());
    }
    let shutdown = Shutdown::builder().install()?;
    let children = Children::new(&shutdown.token())?;
    let first = children.spawn(looks().arg(" of the first"));
    let second = children.spawn(looks().arg(" of the second"));
    say("both started");
    shutdown.token().wait();
    drop((first, second));
    Ok(())
}

#[test]
fn children_see_that_their_parent_was_killed() {
    let mut parent = role(TWO_CHILDREN).spawn().expect("this binary");
    let lines = Lines::of(parent.stdout.take());
    lines.expect(&["both started", "ready of the first", "ready of the second"]);
    kill_process(Pid::from_child(&parent), Signal::KILL).expect("it runs");
    // Each of them: none has the write end of the other.
    lines.expect(&["hang-up of the first", "hang-up of the second"]);
    let status = parent.wait().expect("its end");
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert_eq!(lines.rest(), [""; 0]);
}

const CHILD_SIDE: &str = "children::a_child_that_follows_its_parent";

/// In its role: makes the parent's stop its own, and says what reaches it.
#[test]
fn a_child_that_follows_its_parent() -> Result<()> {
    if !is_role(CHILD_SIDE) {
        return Ok(());
    }
    let shutdown = Shutdown::builder().build()?;
    let token = shutdown.token();
    let number = std::env::var_os(STOP_FD_VARIABLE).expect("it was started by `Children`");
    let parent = Parent::inherited(Some(&number))?.expect("it was started by `Children`");
    let watch = parent.watch(&token)?;
    let seen = token.clone();
    token.observe(move |_| {
        if let Some(last) = seen.requests().last() {
            let request = &last.request;
            say(&format!(
                "{} {}",
                request.source.name(),
                request.mode.name()
            ));
        }
    });
    // Its own children do not get it by chance.
    let number = number.to_string_lossy();
    let there = sh(&format!(
        "[ -e /proc/$$/fd/{number} ] && echo inherited || echo kept"
    ));
    let output = { there }.output().expect("a shell");
    say(String::from_utf8_lossy(&output.stdout).trim());
    say(&format!(
        "{} {}",
        parent.phase().name(),
        parent.is_stopping()
    ));
    token.wait();
    say(&format!(
        "{} {}",
        parent.phase().name(),
        parent.is_stopping()
    ));
    shutdown.finish();
    drop(watch);
    Ok(())
}

#[test]
fn a_rust_child_makes_its_parents_stop_its_own() -> Result<()> {
    for (request, said, phase) in [
        (graceful(), "PARENT GRACEFUL", "draining true"),
        (immediate(), "PARENT IMMEDIATE", "terminating true"),
    ] {
        let shutdown = patient();
        // It ignores the SIGTERM of Terminating: it is the descriptor that is seen.
        let children = Children::new(&shutdown.token())?.descriptor_only();
        let mut command = Command::new("env");
        let inner = role(CHILD_SIDE);
        command
            .arg("--ignore-signal=TERM")
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.expect("a value"));
        }
        let (mut child, lines) = start(&children, command)?;
        lines.expect(&["kept", "running false"]);
        shutdown.token().request(request);
        lines.expect(&[said, phase]);
        assert!(child.wait()?.success());
    }
    Ok(())
}

const NO_READER: &str = "children::a_program_that_sigpipe_would_end";

/// In its role: asks a child that has closed its stop descriptor, where a write to it would end the program by SIGPIPE, as in C.
#[test]
#[expect(unsafe_code, reason = "a signal's default action")]
fn a_program_that_sigpipe_would_end() -> Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    if !is_role(NO_READER) {
        return Ok(());
    }
    // SAFETY: the default action runs no code of ours.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.expect("a default action");
    let shutdown = patient();
    let children = Children::new(&shutdown.token())?;
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "exec {SAFEPOINT_STOP_FD}<&-; echo ready; exec sleep 1000",
    ]);
    let (_child, lines) = start(&children, command)?;
    lines.expect(&["ready"]);
    shutdown.token().request(graceful());
    assert!(shutdown.finish().given_up.is_empty());
    Ok(())
}

#[test]
fn a_child_that_closes_its_descriptor_does_no_harm() {
    let status = role(NO_READER).stdout(Stdio::null()).status();
    assert!(status.expect("this binary").success());
}
