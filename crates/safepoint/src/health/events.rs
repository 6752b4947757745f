//! The status as a stream of server-sent events.
//!
//! # Sources
//!
//! The HTML standard, "Server-sent events": `data:` lines, an empty line after each event, lines that begin with a colon are comments.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::kept::{FRESH, Kept};

/// So many streams of events at a time; a page that finds none free asks now and then instead.
pub const MAX_STREAMS: usize = 8;

/// A stream in which nothing changes says so this often, so that proxies keep it open and a reader that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How many streams are open.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<AtomicUsize>);

/// A place among the streams that may be open.
#[derive(Debug)]
pub(super) struct Seat(Streams);

impl Streams {
    pub(super) fn take(&self) -> Option<Seat> {
        // Relaxed: a count, which orders nothing else.
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < MAX_STREAMS).then_some(open + 1)
            });
        taken.is_ok().then(|| Seat(self.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is needed for the next event, and what becomes of it.
struct Source {
    status: Kept<String>,
    told: Option<Arc<String>>,
    quiet: Duration,
    has_begun: bool,
    _seat: Seat,
}

type Step = Pin<Box<dyn Future<Output = (Source, Bytes)> + Send>>;

/// An open stream. It never ends by itself.
pub(super) struct Events(Step);

impl Events {
    pub(super) fn new(status: Kept<String>, seat: Seat) -> Self {
        Self(Box::pin(next(Source {
            status,
            told: None,
            quiet: Duration::ZERO,
            has_begun: false,
            _seat: seat,
        })))
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let (source, bytes) = std::task::ready!(self.0.as_mut().poll(context));
        self.0 = Box::pin(next(source));
        Poll::Ready(bytes)
    }
}

/// Waits until there is something to say.
async fn next(mut source: Source) -> (Source, Bytes) {
    loop {
        if source.has_begun {
            tokio::time::sleep(FRESH).await;
            source.quiet += FRESH;
        }
        source.has_begun = true;
        let status = source.status.get(FRESH).await;
        if let Some(status) = status
            && source.told.as_ref() != Some(&status)
        {
            // One line in JSON, whatever it says; a subject that writes several gets them joined.
            let event = format!("data: {}\n\n", status.replace(['\n', '\r'], " "));
            source.told = Some(status);
            source.quiet = Duration::ZERO;
            return (source, event.into());
        }
        if source.quiet >= KEEP_ALIVE || source.told.is_none() {
            source.quiet = Duration::ZERO;
            source.told.get_or_insert_default();
            return (source, Bytes::from_static(b": nothing new\n\n"));
        }
    }
}
