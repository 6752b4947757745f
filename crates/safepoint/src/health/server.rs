//! A server with a thread of its own.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::runtime;
use tokio::sync::oneshot;

use super::address::Address;
use super::answer::Health;
use super::listener::{Bound, Listener, accept};
use super::seats::Seats;
use crate::error::{Error, ErrorKind, Result};

/// So many connections at a time, or a quarter of the descriptors that the process may have if that is less.
pub const MAX_CONNECTIONS: usize = 256;

/// How often it is looked who is late.
const SWEEP: Duration = Duration::from_millis(250);
/// How long an answer that is on its way may take at the end.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Answers until it is dropped; see [`Health::serve`].
///
/// Keep it until the program ends, so that `/health` answers during the whole stop. At the end an answer that is on its way has a quarter of a second
/// to be sent.
#[derive(Debug)]
#[must_use = "it answers no longer once this is dropped"]
pub struct Server {
    address: Address,
    /// Dropping it ends the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(health: Health, address: &Address) -> Result<Self> {
        let refuse = |error: std::io::Error| {
            Error::new(ErrorKind::Io, "cannot start the thread that answers HTTP")
                .with_source(error)
        };
        let (bound, address) = Bound::new(address)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(refuse)?;
        let listener = {
            let _inside = runtime.enter();
            bound.listen().map_err(refuse)?
        };
        // Before the program goes on, and may use up all that there are.
        let spare = bound.spare();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("safepoint-http".into())
            .spawn(move || runtime.block_on(run(&bound, spare, listener, health, ended)))
            .map_err(refuse)?;
        Ok(Self {
            address,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Where it listens: with the port that was found, if none was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was told when it happened.
            let _ = thread.join();
        }
    }
}

async fn run(
    bound: &Bound,
    spare: Option<OwnedFd>,
    listener: Listener,
    health: Health,
    ended: oneshot::Receiver<()>,
) {
    let seats = Arc::new(Seats::new(most_connections()));
    let sweeping = tokio::spawn(sweep(Arc::clone(&seats)));
    let mut ended = pin!(ended);
    let mut accepting = pin!(accept(bound, spare, listener, &seats, &health));
    poll_fn(|context| {
        if ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        accepting.as_mut().poll(context)
    })
    .await;
    let mut waited = Duration::ZERO;
    while seats.are_answering() && waited < LAST_WORDS {
        let moment = Duration::from_millis(2);
        tokio::time::sleep(moment).await;
        waited += moment;
    }
    sweeping.abort();
}

/// Ends the connections of those who are late; sleeps while there are none.
async fn sweep(seats: Arc<Seats>) {
    loop {
        seats.are_taken().await;
        tokio::time::sleep(SWEEP).await;
        seats.sweep();
    }
}

fn most_connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 4).map_or(MAX_CONNECTIONS, |most| most.clamp(4, MAX_CONNECTIONS))
}
