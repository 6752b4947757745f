//! What a recording holds: file operations and acknowledgements in one order.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A file's inode number at the time. It can be used again after the file is gone.
pub type Inode = u64;

/// One thing that happened. Paths are relative to the directory that was watched; the empty path is the directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file was opened so that it would be created if it was not there; without a path it has no name yet.
    Create {
        /// Its name, if it has one.
        path: Option<PathBuf>,
        /// What was opened.
        file: Inode,
    },
    /// Bytes were written.
    Write {
        /// Where to.
        file: Inode,
        /// Bytes from the file's start.
        offset: u64,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// The size was set.
    Truncate {
        /// Of which file.
        file: Inode,
        /// Its new size in bytes.
        size: u64,
    },
    /// A sync was asked for: what was done to the file before this will be durable.
    SyncBegin {
        /// The file or directory.
        file: Inode,
        /// Its name at the time.
        path: PathBuf,
        /// What the end will name.
        token: u64,
    },
    /// The sync with this token succeeded.
    SyncEnd {
        /// As in its begin.
        token: u64,
    },
    /// A name was given to what had another.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new one, whatever had it before.
        to: PathBuf,
    },
    /// A further name was given.
    Link {
        /// To which file.
        file: Inode,
        /// The name.
        to: PathBuf,
    },
    /// A name of a file was removed.
    Unlink {
        /// The name.
        path: PathBuf,
    },
    /// A directory was made.
    MakeDirectory {
        /// Its name.
        path: PathBuf,
        /// Its inode.
        file: Inode,
    },
    /// An empty directory was removed.
    RemoveDirectory {
        /// Its name.
        path: PathBuf,
    },
    /// The program wrote this to its standard output.
    Acknowledge {
        /// What it wrote.
        bytes: Vec<u8>,
    },
}

/// A recording, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// What happened. A *cut* is a number of these, from the first.
    pub events: Vec<Event>,
}

impl Trace {
    /// Reads what [`crate::faults::Faults::record`] wrote.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a trace (`InvalidData`).
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::parse(&fs::read(path)?)
    }

    /// Parses a recording. A last record that a kill left incomplete is ignored.
    ///
    /// # Errors
    ///
    /// `InvalidData`: a record of an unknown kind or with impossible lengths.
    pub fn parse(mut bytes: &[u8]) -> io::Result<Self> {
        let mut events = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let Some((record, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)
            else {
                break;
            };
            bytes = rest;
            let event = event(record).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("record {} of the trace makes no sense", events.len()),
                )
            })?;
            events.push(event);
        }
        Ok(Self { events })
    }

    /// All that the program had written to its standard output at a cut.
    pub fn acknowledged(&self, cut: usize) -> Vec<u8> {
        let written = self
            .events
            .iter()
            .take(cut)
            .filter_map(|event| match event {
                Event::Acknowledge { bytes } => Some(bytes.as_slice()),
                _ => None,
            });
        written.collect::<Vec<_>>().concat()
    }

    /// The complete lines among what was acknowledged at a cut.
    pub fn acknowledged_lines(&self, cut: usize) -> Vec<String> {
        complete_lines(&self.acknowledged(cut))
    }
}

/// A line without its end was not said yet.
pub(crate) fn complete_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .map(str::to_owned)
        .collect()
}

/// The layout is `struct head` in `preload/faults.c`, then the two paths, then data.
fn event(record: &[u8]) -> Option<Event> {
    let (head, rest) = record.split_first_chunk::<22>()?;
    let short = |at: usize| {
        Some(usize::from(u16::from_le_bytes(
            *head.get(at..)?.first_chunk()?,
        )))
    };
    let long = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let (first, second, file, value) = (short(2)?, short(4)?, long(6)?, long(14)?);
    let (path, rest) = rest.split_at_checked(first)?;
    let (other, data) = rest.split_at_checked(second)?;
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    let other = PathBuf::from(OsString::from_vec(other.to_vec()));
    Some(match head[0] {
        1 => Event::Create {
            path: (value == 0).then_some(path),
            file,
        },
        2 => Event::Write {
            file,
            offset: value,
            bytes: data.to_vec(),
        },
        3 => Event::Truncate { file, size: value },
        4 => Event::SyncBegin {
            file,
            path,
            token: value,
        },
        5 => Event::SyncEnd { token: value },
        6 => Event::Rename {
            from: path,
            to: other,
        },
        7 => Event::Unlink { path },
        8 => Event::MakeDirectory { path, file },
        9 => Event::RemoveDirectory { path },
        10 => Event::Link { file, to: other },
        11 => Event::Acknowledge {
            bytes: data.to_vec(),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, path: &str, other: &str, file: u64, value: u64, data: &[u8]) -> Vec<u8> {
        let mut body = vec![kind, 0];
        body.extend(u16::try_from(path.len()).unwrap().to_le_bytes());
        body.extend(u16::try_from(other.len()).unwrap().to_le_bytes());
        body.extend([file.to_le_bytes(), value.to_le_bytes()].concat());
        body.extend([path.as_bytes(), other.as_bytes(), data].concat());
        [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &body].concat()
    }

    #[test]
    fn records_become_events_and_a_torn_last_one_is_ignored() {
        let mut bytes = [
            record(1, "a", "", 5, 0, b""),
            record(2, "a", "", 5, 4096, b"data"),
            record(6, "a", "b", 5, 0, b""),
            record(11, "", "", 0, 0, b"one\ntw"),
            record(11, "", "", 0, 0, b"o\nthr"),
        ]
        .concat();
        let end = bytes.len();
        bytes.extend(record(7, "b", "", 0, 0, b""));
        for cut in end..bytes.len() {
            let trace = Trace::parse(&bytes[..cut]).unwrap();
            assert_eq!(trace.events.len(), 5);
            assert_eq!(
                trace.events[1],
                Event::Write {
                    file: 5,
                    offset: 4096,
                    bytes: b"data".to_vec()
                }
            );
            assert_eq!(
                trace.events[2],
                Event::Rename {
                    from: "a".into(),
                    to: "b".into()
                }
            );
            assert_eq!(trace.acknowledged_lines(5), ["one", "two"]);
            assert_eq!(trace.acknowledged_lines(4), ["one"]);
        }
    }

    #[test]
    fn an_unknown_record_is_refused() {
        assert_eq!(
            Trace::parse(&record(99, "", "", 0, 0, b""))
                .unwrap_err()
                .kind(),
            io::ErrorKind::InvalidData
        );
        assert!(Trace::parse(&[1, 0, 0, 0, 1]).is_err());
    }
}
