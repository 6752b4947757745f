use std::ffi::CString;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::process::procfs;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

fn start(script: &str, own_group: bool) -> Guard {
    let program = CString::new("/bin/sh").expect("no NUL");
    let arguments = ["sh", "-c", script].map(|text| CString::new(text).expect("no NUL"));
    let environment = [CString::new("PATH=/usr/bin:/bin").expect("no NUL")];
    let request = GuardedProgram {
        program: &program,
        arguments: &arguments,
        environment: &environment,
        stdout: None,
        stderr: None,
        control: None,
        own_group,
        ignored: SignalSet::default(),
        blocked: SignalSet::default(),
    };
    Guard::start(&request).expect("starts")
}

fn news(guard: &mut Guard) -> News {
    loop {
        if let Some(news) = guard.next() {
            return news;
        }
        let mut asked = [PollFd::new(&*guard, PollFlags::IN)];
        let ready = poll(&mut asked, Some(&timespec(LONG))).expect("polls");
        assert!(ready > 0, "the guard says nothing");
    }
}

#[test]
fn every_code_and_signal_is_passed_on() {
    for code in [0, 1, 3, 127, 255] {
        let mut guard = start(&format!("exit {code}"), true);
        assert_eq!(news(&mut guard), News::Ended(Exit::Code(code)));
        assert_eq!(news(&mut guard), News::Empty);
        assert_eq!(guard.next(), None);
    }
    let mut guard = start("kill -USR1 $$", false);
    assert_eq!(news(&mut guard), News::Ended(Exit::Signal(libc::SIGUSR1)));
    assert_eq!(news(&mut guard), News::Empty);
}

#[test]
fn what_left_its_session_and_its_environment_is_ended_with_the_rest() {
    // The pipe hangs up when the last of them is gone.
    let (reading, writing) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let program = CString::new("/bin/sh").expect("no NUL");
    let script = "for i in 1 2 3; do (setsid env -i /bin/sh -c 'sleep 1000 & echo up >&9; wait' &) & done; wait; exit 7";
    let arguments = ["sh", "-c", script].map(|text| CString::new(text).expect("no NUL"));
    let environment = [CString::new("PATH=/usr/bin:/bin").expect("no NUL")];
    let mut guard = Guard::start(&GuardedProgram {
        program: &program,
        arguments: &arguments,
        environment: &environment,
        stdout: None,
        stderr: None,
        control: Some((writing.as_fd(), 9)),
        own_group: true,
        ignored: SignalSet::default(),
        blocked: SignalSet::default(),
    })
    .expect("starts");
    drop(writing);
    assert_eq!(news(&mut guard), News::Ended(Exit::Code(7)));
    let mut up = 0;
    while up < 9 {
        up += rustix::io::read(&reading, &mut [0_u8; 9]).expect("they are up");
    }
    assert!(!procfs::descendants_of(guard.pid()).is_empty());
    guard.signal(Target::Tree, libc::SIGKILL);
    assert_eq!(news(&mut guard), News::Empty);
    assert_eq!(rustix::io::read(&reading, &mut [0_u8; 9]), Ok(0));
}

#[test]
fn a_guard_that_is_dropped_leaves_nothing() {
    let guard = start("sleep 1000 & sleep 1000", false);
    let (child, pid) = (guard.child(), guard.pid());
    assert!(procfs::is_alive(child));
    drop(guard);
    assert!(!procfs::is_alive(child) && !procfs::is_alive(pid));
}

#[test]
fn a_guard_that_is_stopped_while_it_starts_or_ends_holds_nobody_up() {
    // Only what this thread starts, for other tests may have guards too.
    let thread = rustix::thread::gettid().as_raw_nonzero();
    let list = format!("/proc/self/task/{thread}/children");
    // Even while a guard starts, odd while it ends.
    let moment = AtomicUsize::new(0);
    let stops = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let is_enough = || stops.iter().all(|stops| stops.load(Ordering::Relaxed) >= 5);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stopped_at = None;
            while !is_enough() {
                let now = moment.load(Ordering::Relaxed);
                let children = std::fs::read_to_string(&list).expect("the kernel keeps it");
                let guard = children.split_whitespace().next();
                let guard = guard.and_then(|pid| Pid::from_raw(pid.parse().ok()?));
                // Once in each moment: it is continued for good.
                if let Some(guard) = guard.filter(|pid| procfs::is_alive(*pid))
                    && stopped_at != Some(now)
                    && kill_process(guard, Signal::STOP).is_ok()
                {
                    stopped_at = Some(now);
                    stops[now % 2].fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        while !is_enough() {
            let guard = start("exec sleep 1000", true);
            moment.fetch_add(1, Ordering::Relaxed);
            drop(guard);
            moment.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[test]
fn a_program_that_cannot_be_executed_is_refused_with_the_reason() {
    let program = CString::new("/etc/passwd").expect("no NUL");
    let refused = Guard::start(&GuardedProgram {
        program: &program,
        arguments: std::slice::from_ref(&program),
        environment: &[],
        stdout: None,
        stderr: None,
        control: None,
        own_group: true,
        ignored: SignalSet::default(),
        blocked: SignalSet::default(),
    })
    .expect_err("no program");
    assert_eq!(refused.execution, Some(libc::EACCES));
    assert_eq!(refused.error.kind(), ErrorKind::Invalid);
}

#[test]
fn the_child_ends_with_a_guard_that_is_killed() {
    let mut guard = start("sleep 1000", true);
    super::super::strays::become_subreaper().expect("subreaper");
    let killed = rustix::process::kill_process(guard.pid(), rustix::process::Signal::KILL);
    assert_eq!(killed, Ok(()));
    assert_eq!(news(&mut guard), News::Lost);
    assert_eq!(guard.reap_orphan(), Some(Exit::Signal(libc::SIGKILL)));
    // What the shell started is ours now; the group's number is still its own, for that one has not ended.
    let _ = rustix::process::kill_process_group(guard.child(), rustix::process::Signal::KILL);
    assert!(super::super::wait_for_group(guard.child(), LONG));
}

#[test]
fn a_signal_reaches_whom_it_is_for() {
    let mut guard = start("trap 'exit 5' TERM; while :; do sleep 0.01; done", true);
    // The shell has its trap when it has started its first command.
    while procfs::descendants_of(guard.pid()).len() < 2 {
        std::thread::yield_now();
    }
    guard.signal(Target::Child, libc::SIGTERM);
    assert_eq!(news(&mut guard), News::Ended(Exit::Code(5)));
    assert_eq!(news(&mut guard), News::Empty);
}
