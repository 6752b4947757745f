//! What we and the guard say to each other: messages of two numbers through a socket that keeps them apart.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
    socketpair,
};
use rustix::process::Pid;

/// What the guard is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A signal for the child.
    Child(i32),
    /// A signal for the child's group.
    Group(i32),
    /// A signal for everything below the guard; SIGKILL until nothing is left.
    Tree(i32),
}

/// What the guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// The program runs.
    Started(Pid),
    /// It could not be executed, for this error number.
    Failed(i32),
    /// It has ended with this status of wait(2).
    Ended(i32),
    /// Nothing is left.
    Empty,
    /// The guard is gone without a word.
    Gone,
}

/// One end.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl Line {
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(ours), Self(theirs)))
    }

    /// Sends an order, without waiting. One that cannot be sent has nobody to carry it out, or many before it.
    pub(super) fn order(&self, order: Order) {
        let (kind, signal) = match order {
            Order::Child(signal) => (0, signal),
            Order::Group(signal) => (1, signal),
            Order::Tree(signal) => (2, signal),
        };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = send(&self.0, &pack(kind, signal), flags);
    }

    /// What the guard has said, without waiting.
    pub(super) fn look(&self) -> Option<Said> {
        let mut bytes = [0; 8];
        loop {
            return match recv(&self.0, bytes.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((8, _)) => Said::unpack(bytes),
                // A reset comes once, before what was said last: the guard left with an order unread.
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                Err(Errno::AGAIN) => None,
                // The end of the line is a message of no bytes.
                Ok(_) | Err(_) => Some(Said::Gone),
            };
        }
    }

    /// Ends the line: the guard takes it as our end.
    pub(super) fn hang_up(&self) {
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Said {
    pub(super) fn pack(self) -> [u8; 8] {
        match self {
            Self::Started(pid) => pack(0, pid.as_raw_nonzero().get()),
            Self::Failed(code) => pack(1, code),
            Self::Ended(status) => pack(2, status),
            Self::Empty | Self::Gone => pack(3, 0),
        }
    }

    fn unpack(bytes: [u8; 8]) -> Option<Self> {
        match unpack(bytes) {
            (0, pid) => Pid::from_raw(pid).map(Self::Started),
            (1, code) => Some(Self::Failed(code)),
            (2, status) => Some(Self::Ended(status)),
            _ => Some(Self::Empty),
        }
    }
}

impl Order {
    pub(super) fn unpack(bytes: [u8; 8]) -> Self {
        match unpack(bytes) {
            (0, signal) => Self::Child(signal),
            (1, signal) => Self::Group(signal),
            (_, signal) => Self::Tree(signal),
        }
    }
}

fn pack(kind: i32, value: i32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    bytes
}

fn unpack(bytes: [u8; 8]) -> (i32, i32) {
    let half = |from: usize| {
        let mut half = [0; 4];
        half.copy_from_slice(&bytes[from..from + 4]);
        i32::from_ne_bytes(half)
    };
    (half(0), half(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_heard_though_an_order_was_not_read() {
        let (ours, theirs) = Line::pair().expect("a pair");
        for said in [Said::Ended(0), Said::Empty] {
            send(&theirs.0, &said.pack(), SendFlags::empty()).expect("sent");
        }
        ours.order(Order::Tree(15));
        drop(theirs);
        assert_eq!(
            [ours.look(), ours.look(), ours.look()],
            [Some(Said::Ended(0)), Some(Said::Empty), Some(Said::Gone)]
        );
    }
}
