//! The thread that makes the parent's stop one of a token.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};

use super::parent::Parent;
use crate::bell::Bell;
use crate::shutdown::{ShutdownToken, Source, StopRequest};

/// Makes the parent's stop one of a token as long as it lives; see [`Parent::watch`].
#[derive(Debug)]
#[must_use = "the parent's stop goes unnoticed once this is dropped"]
pub struct Watch {
    bell: Arc<Bell>,
}

impl Watch {
    pub(super) fn start(parent: Parent, token: ShutdownToken) -> io::Result<Self> {
        let bell = Arc::new(Bell::new()?);
        let seen = Arc::clone(&bell);
        std::thread::Builder::new()
            .name("safepoint-parent".into())
            .spawn(move || watch(&parent, &token, &seen))?;
        Ok(Self { bell })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bell.ring();
    }
}

fn watch(parent: &Parent, token: &ShutdownToken, bell: &Bell) {
    // A byte stays where it is, so after it only the hang-up is of interest, which is told of in any case.
    let mut interest = PollFlags::IN;
    loop {
        let mut wait = [
            PollFd::from_borrowed_fd(parent.as_fd(), interest),
            PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN),
        ];
        if poll(&mut wait, None).is_err() {
            // Interrupted, or short of memory for an instant.
            std::thread::yield_now();
            continue;
        }
        if !wait[1].revents().is_empty() {
            return;
        }
        let seen = wait[0].revents();
        if seen.contains(PollFlags::HUP) {
            let why = "the parent process insists on its stop, or is gone";
            token.request(StopRequest::immediate(Source::Parent, why));
            return;
        }
        if seen.contains(PollFlags::IN) {
            interest = PollFlags::empty();
            let why = "the parent process is stopping";
            token.request(StopRequest::graceful(Source::Parent, why));
        }
    }
}
