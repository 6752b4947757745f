//! The examples as a person runs them: stopped, killed, started again, and asked what became of their work.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint does not take for tests"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TRAINING: &str = env!("CARGO_BIN_EXE_training");
const AGENT: &str = env!("CARGO_BIN_EXE_agent");

struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Program {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Reads on to the first line that contains `text`, and returns it.
    fn wait_for(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line).unwrap();
            assert!(read > 0, "no line with `{text}` after:\n{seen}");
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// The rest of what it says, and its exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing stays behind when a test has failed; otherwise it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn training(dir: &Path, more: &[&str]) -> Program {
    let mut arguments = vec!["--dir", dir.to_str().unwrap()];
    arguments.extend(more);
    Program::start(TRAINING, &arguments)
}

fn digest(out: &str) -> String {
    let line = out.lines().find(|line| line.starts_with("complete:"));
    line.unwrap_or_else(|| panic!("not complete:\n{out}"))
        .to_owned()
}

#[test]
fn an_interrupted_training_ends_bit_for_bit_as_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let (out, code) = training(&whole, &["--epochs", "8"]).end();
    assert_eq!(code, Some(0));
    let wanted = digest(&out);
    assert!(wanted.starts_with("complete: 8 epochs"), "{wanted}");

    let mut first = training(&parts, &["--epochs", "8"]);
    first.wait_for("new training");
    first.wait_for("epoch 1 ");
    first.signal(Signal::SIGINT);
    let (out, code) = first.end();
    assert_eq!(code, Some(130), "{out}");
    assert!(out.contains("stopped at"), "{out}");

    // Killed before it could save again: it goes on from what the one before it saved.
    let mut second = training(&parts, &[]);
    second.wait_for("resumed generation");
    second.wait_for("epoch 4 ");
    second.signal(Signal::SIGKILL);
    assert_eq!(second.end().1, None);

    let (out, code) = training(&parts, &[]).end();
    assert_eq!(code, Some(0));
    assert_eq!(digest(&out), wanted);
}

#[test]
fn epochs_asked_for_on_resume_are_exactly_so_many_more() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = training(folder.path(), &["--epochs", "3", "--quiet"]).end();
    assert!(out.contains("complete: 3 epochs"), "{out}");
    let (out, _) = training(folder.path(), &["--epochs", "2", "--quiet"]).end();
    assert!(out.contains("complete: 5 epochs"), "{out}");
    let (again, _) = training(folder.path(), &["--quiet"]).end();
    assert_eq!(
        digest(&again),
        digest(&out),
        "nothing is left to do, and nothing is done twice"
    );
}

#[test]
fn an_agent_stopped_in_its_second_cycle_goes_on_with_the_third() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let mut first = Program::start(AGENT, &[dir, "20"]);
    first.wait_for("new: 10 cycles");
    first.wait_for("cycle 2");
    first.wait_for("  1");
    first.signal(Signal::SIGINT);
    let (out, code) = first.end();
    assert_eq!(code, Some(130), "{out}");
    assert!(
        out.contains("cycle 2 saved") && out.contains("stopped after 2 of 10"),
        "{out}"
    );

    let mut second = Program::start(AGENT, &[dir, "20"]);
    assert!(second.wait_for("resumed").contains("going on with cycle 3"));
    second.wait_for("cycle 5");
    second.wait_for("  2");
    second.signal(Signal::SIGKILL);
    assert_eq!(second.end().1, None);

    let mut third = Program::start(AGENT, &[dir, "1"]);
    assert!(third.wait_for("resumed").contains("going on with cycle 5"));
    let (out, code) = third.end();
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("complete: [15, 30, 45, 60, 75, 90, 105, 120, 135, 150]"),
        "{out}"
    );
}

#[test]
fn an_agent_told_twice_gives_its_cycle_up() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let mut agent = Program::start(AGENT, &[dir, "200"]);
    agent.wait_for("cycle 1");
    agent.signal(Signal::SIGINT);
    agent.signal(Signal::SIGTERM);
    let (out, _) = agent.end();
    assert!(
        out.contains("cycle 1 is given up") && out.contains("stopped after 0 of 10"),
        "{out}"
    );
    let mut again = Program::start(AGENT, &[dir, "1"]);
    again.wait_for("new: 10 cycles");
}
