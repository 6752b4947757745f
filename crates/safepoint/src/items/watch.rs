//! A thread that hears of stops: `safepoint stop` from another process, and every request, which it writes to the events.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::bell::Bell;
use crate::clock::timespec;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Control, Events, InProgressFile};
use crate::shutdown::ShutdownToken;

/// How often the stop file is looked for where the file system tells nobody.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    bell: Arc<Bell>,
    closing: Arc<AtomicBool>,
    thread: JoinHandle<Events>,
}

struct Watcher {
    control: Control,
    polls: bool,
    bell: Arc<Bell>,
    closing: Arc<AtomicBool>,
    token: ShutdownToken,
    events: Events,
    in_progress: Arc<Mutex<InProgressFile>>,
    seen: usize,
}

impl Watch {
    pub(super) fn start(
        control: Control,
        polls: bool,
        token: ShutdownToken,
        events: Events,
        in_progress: Arc<Mutex<InProgressFile>>,
    ) -> Result<Self> {
        let refuse = |error| {
            Error::new(ErrorKind::Io, "cannot start a thread that hears of stops")
                .with_source(error)
        };
        let bell = Arc::new(Bell::new().map_err(refuse)?);
        let closing = Arc::new(AtomicBool::new(false));
        let watcher = Watcher {
            control,
            polls,
            bell: Arc::clone(&bell),
            closing: Arc::clone(&closing),
            token,
            events,
            in_progress,
            seen: 0,
        };
        let thread = std::thread::Builder::new()
            .name("safepoint-watch".into())
            .spawn(move || watcher.work())
            .map_err(refuse)?;
        Ok(Self {
            bell,
            closing,
            thread,
        })
    }

    /// Ends the thread, after it has written of every request so far, and gives the events back.
    pub(super) fn end(self) -> Option<Events> {
        self.closing.store(true, Ordering::Release);
        self.bell.ring();
        self.thread.join().ok()
    }
}

impl Watcher {
    fn work(mut self) -> Events {
        let bell = Arc::clone(&self.bell);
        let _following = self.token.follow(move |_| bell.ring());
        loop {
            let is_closing = self.closing.load(Ordering::Acquire);
            if let Some(request) = self.control.take() {
                self.token.request(request);
            }
            self.note_requests();
            if is_closing {
                return self.events;
            }
            let mut asked = [
                PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN),
            ];
            let patience = self.polls.then(|| timespec(LOOK_EVERY));
            // Interrupted or not: what there is to do is found by looking.
            let _ = poll(&mut asked, patience.as_ref());
            self.bell.hush();
        }
    }

    fn note_requests(&mut self) {
        let requests = self.token.requests();
        if requests.len() > self.seen && self.seen == 0 {
            // A kill that follows is part of the stop, and no item's fault. What cannot be noted is counted as a crash.
            let _ = self
                .in_progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .mark_stopping();
        }
        for recorded in requests.iter().skip(self.seen) {
            // The stop does not depend on it; a disk that cannot be written is told when the run ends.
            let _ = self.events.interrupt_initiated(&recorded.request);
        }
        self.seen = self.seen.max(requests.len());
    }
}
