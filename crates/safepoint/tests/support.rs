//! Processes that say where they are, and this test binary in other roles.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use safepoint::Shutdown;
use safepoint::shutdown::{Source, StopRequest};

/// How long a test waits for something that happens at once on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const ROLE: &str = "SAFEPOINT_TEST_ROLE";

/// This test binary, to do what the test `name` (its whole path) does when it is in its role.
pub(crate) fn role(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", name, "--nocapture"])
        .env(ROLE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Whether this process was started as [`role`] of this name. If not, the test passes: it is run by another one.
pub(crate) fn is_role(name: &str) -> bool {
    std::env::var_os(ROLE).is_some_and(|role| role == name)
}

/// Says a line to the test that started this process.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("somebody listens");
}

/// What a process says, line by line.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(output: Option<impl Read + Send + 'static>) -> Self {
        let output = BufReader::new(output.expect("a pipe"));
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// Waits for the next line.
    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("a line")
    }

    /// Waits for these lines, in any order, and steps over others.
    pub(crate) fn expect(&self, lines: &[&str]) {
        let mut missing = lines.to_vec();
        let mut seen = Vec::new();
        while !missing.is_empty() {
            match self.0.recv_timeout(PATIENCE) {
                Ok(line) => {
                    missing.retain(|wanted| *wanted != line);
                    seen.push(line);
                }
                Err(error) => panic!("waited in vain for {missing:?} after {seen:#?}: {error}"),
            }
        }
    }

    /// Waits for the end, and gives what was said before.
    pub(crate) fn rest(&self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.0.recv_timeout(PATIENCE) {
                Ok(line) => seen.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return seen,
                Err(error) => panic!("waited in vain for the end after {seen:#?}: {error}"),
            }
        }
    }
}

/// A shutdown without signals whose grace period is longer than any test.
pub(crate) fn patient() -> Shutdown {
    let shutdown = Shutdown::builder().grace(2 * PATIENCE).build();
    shutdown.expect("a shutdown")
}

pub(crate) fn graceful() -> StopRequest {
    StopRequest::graceful(Source::User, "the test asks")
}

pub(crate) fn immediate() -> StopRequest {
    StopRequest::immediate(Source::User, "the test insists")
}
