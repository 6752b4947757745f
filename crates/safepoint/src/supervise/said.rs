//! What a child says on its control descriptor: JSON objects, one a line.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::shutdown::Amount;

/// The longest line, in bytes; what is longer is left out.
const MAX_LINE: usize = 64 * 1024;

/// One line of a child. Fields that are not known are ignored.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    /// How far it is, as JSON.
    pub(super) progress: Option<Value>,
    /// What it spent since it said so last.
    pub(super) cost: Option<Amount>,
    /// It has saved its state under this name.
    pub(super) checkpoint: Option<String>,
    /// It is ready to be used, or no longer.
    pub(super) ready: Option<bool>,
    /// All its work is done.
    pub(super) done: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    progress: Option<Value>,
    #[serde(borrow, default)]
    cost: Option<&'a RawValue>,
    #[serde(borrow, default)]
    checkpoint: Option<&'a RawValue>,
    ready: Option<bool>,
    #[serde(default)]
    done: bool,
}

impl Said {
    /// Reads a line. The error says what is wrong with it.
    pub(super) fn parse(line: &[u8]) -> std::result::Result<Self, String> {
        let parsed: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let cost = match parsed.cost {
            None => None,
            Some(raw) => {
                // Decimal text is exact, a float is not.
                let text = raw.get().trim_matches('"');
                let amount = text.parse().or_else(|_| {
                    let units: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
                    Amount::try_from_f64(units).map_err(|error| error.to_string())
                });
                Some(amount.map_err(|why| format!("`cost` is {why}"))?)
            }
        };
        Ok(Self {
            progress: parsed.progress,
            cost,
            checkpoint: parsed.checkpoint.map(|raw| {
                serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
            }),
            ready: parsed.ready,
            done: parsed.done,
        })
    }
}

/// The pipe on which a child speaks.
#[derive(Debug)]
pub(super) struct Ear {
    reading: OwnedFd,
    writing: Option<OwnedFd>,
    line: Vec<u8>,
    /// The line so far is too long, and is left out up to its end.
    is_lost: bool,
    is_closed: bool,
}

impl Ear {
    pub(super) fn new() -> Result<Self> {
        let (reading, writing) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|error| {
                Error::new(ErrorKind::Io, "cannot make a control descriptor")
                    .with_source(std::io::Error::from(error))
            })?;
        // The child's end blocks, as programs expect.
        let flags = rustix::fs::fcntl_getfl(&writing);
        if let Ok(flags) = flags {
            let _ = rustix::fs::fcntl_setfl(&writing, flags - rustix::fs::OFlags::NONBLOCK);
        }
        Ok(Self {
            reading,
            writing: Some(writing),
            line: Vec::new(),
            is_lost: false,
            is_closed: false,
        })
    }

    /// The end for the child, until it is given away.
    pub(super) fn mouth(&self) -> Option<BorrowedFd<'_>> {
        self.writing.as_ref().map(AsFd::as_fd)
    }

    /// Closes our copy of the child's end.
    pub(super) fn given(&mut self) {
        self.writing = None;
    }

    /// Whether more may come.
    pub(super) fn is_open(&self) -> bool {
        !self.is_closed
    }

    /// Hands over each line that has come, without waiting, at most so much that others get their turn.
    pub(super) fn listen(&mut self, mut each: impl FnMut(&[u8])) {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..16 {
            let count = match rustix::io::read(&self.reading, &mut buffer) {
                Ok(0) => {
                    self.is_closed = true;
                    return;
                }
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    self.is_closed = true;
                    return;
                }
            };
            for byte in &buffer[..count] {
                if *byte == b'\n' {
                    if !self.is_lost && !self.line.trim_ascii().is_empty() {
                        each(&self.line);
                    }
                    self.line.clear();
                    self.is_lost = false;
                } else if self.line.len() < MAX_LINE {
                    self.line.push(*byte);
                } else {
                    self.is_lost = true;
                }
            }
        }
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reading.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_says_is_understood() {
        let said = Said::parse(br#"{"progress":{"epoch":3},"cost":0.1,"checkpoint":17,"later":1}"#);
        let said = said.expect("parses");
        assert_eq!(said.progress, Some(serde_json::json!({"epoch": 3})));
        assert_eq!(said.cost.map(Amount::micros), Some(100_000));
        assert_eq!(said.checkpoint.as_deref(), Some("17"));
        assert!(Said::parse(br#"{"done":true}"#).expect("parses").done);
        assert_eq!(Said::parse(br#"{"heartbeat":true}"#), Ok(Said::default()));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for bad in ["hello", "{\"cost\":-1}", "{\"cost\":\"NaN\"}", "[1]", ""] {
            assert!(Said::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_the_next_one_heard() {
        let mut ear = Ear::new().expect("a pipe");
        let long = vec![b'x'; 2 * MAX_LINE];
        let text = [&long[..], b"\n\n{\"a\":1}\n{\"b\""].concat();
        let mouth = ear
            .mouth()
            .expect("open")
            .try_clone_to_owned()
            .expect("cloned");
        ear.given();
        let writer = std::thread::spawn(move || {
            let mut rest = &text[..];
            while !rest.is_empty() {
                let count = rustix::io::write(&mouth, rest).expect("written");
                rest = &rest[count..];
            }
        });
        let mut lines = Vec::new();
        while ear.is_open() {
            ear.listen(|line| lines.push(line.to_vec()));
        }
        writer.join().expect("no panic");
        assert_eq!(lines, [b"{\"a\":1}".to_vec()]);
    }
}
