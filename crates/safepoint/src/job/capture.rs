//! What children write, held within bounds.

use std::os::fd::AsFd;

/// The longest standard output of an attempt that is kept, in bytes. What is beyond is counted and left out.
pub const MAX_OUTPUT: usize = 1024 * 1024;

/// The end of an attempt's standard error that is kept with a failure, in bytes.
pub const MAX_STDERR_TAIL: usize = 4096;

/// The beginning of a stream.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    pub(super) omitted: u64,
}

impl Head {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.omitted += (bytes.len() - room) as u64;
    }
}

/// The end of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * MAX_STDERR_TAIL {
            self.bytes.drain(..self.bytes.len() - MAX_STDERR_TAIL);
        }
    }

    /// The last bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(MAX_STDERR_TAIL)..]
    }

    /// The last line that says something, without control characters; for an error of one line.
    pub(super) fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(self.bytes());
        let line = text
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())?
            .trim();
        Some(
            line.chars()
                .filter(|letter| !letter.is_control())
                .take(200)
                .collect(),
        )
    }
}

/// What a non-blocking read led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There may be more, now or later.
    Open,
    /// The other side is closed.
    Ended,
}

/// Reads what a non-blocking descriptor has, at most `rounds` buffers, handing each piece to `each`.
pub(super) fn read_available(
    descriptor: impl AsFd,
    buffer: &mut [u8],
    rounds: usize,
    mut each: impl FnMut(&[u8]),
) -> Read {
    for _ in 0..rounds {
        match rustix::io::read(&descriptor, &mut *buffer) {
            Ok(0) => return Read::Ended,
            Ok(count) => {
                each(&buffer[..count]);
                if count < buffer.len() {
                    return Read::Open;
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Read::Open,
            Err(_) => return Read::Ended,
        }
    }
    Read::Open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_cut_and_counted() {
        let mut head = Head::default();
        head.push(&vec![b'x'; MAX_OUTPUT - 1]);
        head.push(b"yz!");
        assert_eq!((head.bytes.len(), head.omitted), (MAX_OUTPUT, 2));
    }

    #[test]
    fn the_tail_keeps_the_end_and_its_last_line() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        tail.push(b"  \x1b[31mlast\x07\n\n");
        assert_eq!(tail.bytes().len(), MAX_STDERR_TAIL);
        assert_eq!(tail.last_line().as_deref(), Some("[31mlast"));
    }
}
