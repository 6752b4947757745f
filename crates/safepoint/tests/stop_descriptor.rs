//! The stop descriptor by itself: what its owner says, what each language sees, and what is refused.

use std::fs::File;
use std::io::{PipeReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use safepoint::children::{Parent, STOP_FD_VARIABLE};
use safepoint::shutdown::{Phase, Source};
use safepoint::{ErrorKind, Result};

use crate::support::patient;

#[test]
fn the_phases_of_a_parent() -> Result<()> {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let parent = Parent::from_descriptor(reader.into())?;
    assert_eq!(
        (parent.phase(), parent.is_stopping()),
        (Phase::Running, false)
    );
    writer.write_all(b"\n").expect("written");
    assert_eq!(
        (parent.phase(), parent.is_stopping()),
        (Phase::Draining, true)
    );
    // A phase does not go back when somebody takes the byte away.
    rustix::io::read(&parent, &mut [0; 8]).expect("a byte");
    assert_eq!(parent.phase(), Phase::Draining);
    drop(writer);
    assert_eq!(
        (parent.phase(), parent.is_stopping()),
        (Phase::Terminating, true)
    );
    Ok(())
}

#[test]
fn a_watch_makes_both_requests_and_ends_with_its_handle() -> Result<()> {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let parent = Parent::from_descriptor(reader.into())?;
    let shutdown = patient();
    let token = shutdown.token();
    let watch = parent.watch(&token)?;
    writer.write_all(b"\n").expect("written");
    token.wait();
    assert_eq!(token.phase(), Phase::Draining);
    drop(writer);
    while token.requests().len() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(token.phase(), Phase::Terminating);
    assert!(
        token
            .requests()
            .iter()
            .all(|recorded| recorded.request.source == Source::Parent)
    );
    drop(watch);
    Ok(())
}

#[test]
fn an_inherited_descriptor_is_duplicated_and_kept_from_children() -> Result<()> {
    let (reader, writer) = inheritable();
    let number = reader.as_raw_fd().to_string();
    let parent = Parent::inherited(Some(&number))?.expect("a descriptor");
    let again = Parent::inherited(Some(&number))?.expect("a descriptor");
    assert_ne!(parent.as_fd().as_raw_fd(), reader.as_raw_fd());
    for descriptor in [parent.as_fd(), again.as_fd(), reader.as_fd()] {
        let flags = fcntl_getfd(descriptor).expect("it is open");
        assert_eq!(flags, FdFlags::CLOEXEC);
    }
    drop(writer);
    assert_eq!(again.phase(), Phase::Terminating);
    Ok(())
}

#[test]
fn rubbish_is_refused_by_kind() {
    assert!(Parent::inherited(None::<&str>).is_ok_and(|parent| parent.is_none()));
    let null = File::open("/dev/null").expect("it is everywhere");
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let file = null.as_raw_fd().to_string();
    let wrong_end = writer.as_raw_fd().to_string();
    let values = [
        "",
        " 3",
        "+3",
        "-1",
        "0",
        "2",
        "x",
        "3\n",
        "99999999999",
        "1000000",
        "2147483647",
        &file,
        &wrong_end,
    ];
    for value in values {
        let error = Parent::inherited(Some(value)).expect_err(value);
        assert_eq!(
            error.kind(),
            ErrorKind::Invalid,
            "{value:?}: {}",
            error.chain()
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    let error = Parent::from_descriptor(OwnedFd::from(null)).expect_err("no pipe");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// A pipe whose read end is for children.
fn inheritable() -> (PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fcntl_setfd(&reader, FdFlags::empty()).expect("a flag");
    (reader, writer)
}

/// The exit code of `command`, in each state of the descriptor: nothing is asked; asked; asked, then hung up; hung up at once.
fn codes(mut command: impl FnMut() -> Command) -> Vec<Option<i32>> {
    [(false, false), (true, false), (true, true), (false, true)]
        .into_iter()
        .map(|(asks, hangs_up)| {
            let (reader, mut writer) = inheritable();
            if asks {
                writer.write_all(b"\n").expect("written");
            }
            let writer = (!hangs_up).then_some(writer);
            let status = command()
                .env(STOP_FD_VARIABLE, reader.as_raw_fd().to_string())
                .stdin(Stdio::null())
                .status()
                .expect("it runs");
            drop(writer);
            status.code()
        })
        .collect()
}

/// The examples of the page in the book, each with a few lines that ask.
#[test]
fn the_examples_in_the_book_see_each_state() {
    let page =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/formats/stop-descriptor.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let example = |language: &str| {
        let begin = format!("```{language}\n");
        let (_, rest) = page.split_once(&begin).expect("an example");
        rest.split_once("```").expect("its end").0.to_owned()
    };
    let expected = [Some(1), Some(0), Some(0), Some(0)];

    let python = example("python") + "raise SystemExit(0 if is_stopping() else 1)\n";
    let run = |program: &str, script: &str| {
        let mut command = Command::new(program);
        command.args(["-c", script]);
        command
    };
    assert_eq!(codes(|| run("python3", &python)), expected);

    let bash = example("bash") + "is_stopping\n";
    assert_eq!(codes(|| run("bash", &bash)), expected);

    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("ask.c");
    let c = example("c") + "int main(void) { return is_stopping() ? 0 : 1; }\n";
    std::fs::write(&source, c).expect("written");
    let program = directory.path().join("ask");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Werror", "-o"])
        .args([&program, &source])
        .status();
    assert!(compiled.expect("a C compiler, as for SQLite").success());
    assert_eq!(codes(|| Command::new(&program)), expected);
}
