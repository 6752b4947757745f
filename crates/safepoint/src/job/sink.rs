//! The sink thread: tells results to the caller, after they are durable, without making the dispatcher wait for a slow reader.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::options::Order;
use super::wake::Wake;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Change, State, Store, Verdict};

/// A result, told once it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done<'a> {
    /// The item's index in the input, from 0.
    pub index: u64,
    /// Its key, if that is not the index.
    pub key: Option<&'a str>,
    /// What the input says of it.
    pub content: &'a [u8],
    /// Standard output, or a worker's answer.
    pub result: &'a [u8],
    /// Bytes of the result that were left out.
    pub omitted: u64,
    /// The exit code of its command.
    pub exit_code: Option<i32>,
    /// How long the attempt took, in microseconds.
    pub duration_us: u64,
    /// Attempts that counted.
    pub attempts: u32,
}

/// Who is told the results of a run.
pub trait ResultSink: Send {
    /// Is told a result that is durable. Called on a thread of its own, which may wait.
    ///
    /// # Errors
    ///
    /// An error means that nobody listens any more: the run stops gracefully.
    fn result(&mut self, done: &Done<'_>) -> io::Result<()>;

    /// Is told that no result follows at once.
    ///
    /// # Errors
    ///
    /// As [`result`](Self::result).
    fn flush(&mut self) -> io::Result<()>;
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Untold;

impl ResultSink for Untold {
    fn result(&mut self, _: &Done<'_>) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How often it is asked, at the end of a run, whether to wait on for a slow reader.
const GIVE_UP_LOOK: Duration = Duration::from_millis(20);

enum Message {
    /// These became durable; with their weight in bytes.
    Committed(Vec<Change>, usize),
    /// The run is over.
    End,
}

/// The dispatcher's side.
pub(super) struct Sink {
    sender: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected by the end of the thread.
    finished: Receiver<()>,
    backlog: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
    order: Order,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Sink {
    /// Starts the thread. Rows of `run` from index `first` on are told if the order is that of the input.
    pub(super) fn start(
        target: Box<dyn ResultSink>,
        order: Order,
        store: &Arc<Store>,
        run: u32,
        first: u64,
        wake: Wake,
    ) -> Result<Self> {
        let (sender, receiver) = channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let closed = Arc::new(AtomicBool::new(false));
        let failure = Arc::default();
        let teller = Teller {
            target,
            order,
            store: Arc::downgrade(store),
            run,
            next: first,
            backlog: Arc::clone(&backlog),
            failure: Arc::clone(&failure),
            wake,
        };
        let is_closed = Arc::clone(&closed);
        let (at_end, finished) = channel();
        let thread = std::thread::Builder::new()
            .name("safepoint-sink".into())
            .spawn(move || {
                teller.work(&receiver, &is_closed);
                drop(at_end);
            })
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the sink thread").with_source(error)
            })?;
        Ok(Self {
            sender,
            thread: Some(thread),
            finished,
            backlog,
            closed,
            order,
            failure,
        })
    }

    /// Hands over changes that became durable.
    pub(super) fn tell(&self, changes: Vec<Change>) {
        // Only results that are told as they come have to be carried; in input order they are read back from the file.
        let carried = if self.order == Order::Arrival {
            changes
        } else {
            Vec::new()
        };
        let weight = 64 + carried.iter().map(weight).sum::<usize>();
        // Relaxed: a count that only slows the dispatcher down.
        self.backlog.fetch_add(weight, Ordering::Relaxed);
        // The thread ends only after `End`.
        let _ = self.sender.send(Message::Committed(carried, weight));
    }

    /// Bytes that were handed over and not yet told.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Whether nobody listens any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits until all was told, or until `give_up` says that nobody wants to wait for a reader that does not read: what was not
    /// told is durable all the same. Returns why results could not be written, if they could not.
    pub(super) fn finish(mut self, give_up: impl Fn() -> bool) -> Option<io::Error> {
        let _ = self.sender.send(Message::End);
        let thread = self.thread.take()?;
        while self.finished.recv_timeout(GIVE_UP_LOOK) == Err(RecvTimeoutError::Timeout) {
            if give_up() {
                return None;
            }
        }
        let _ = thread.join();
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// What a change weighs while it waits, in bytes.
fn weight(change: &Change) -> usize {
    match change {
        Change::Settle(settlement) => {
            let result = match &settlement.verdict {
                Verdict::Done { result, .. } => result.len(),
                _ => 0,
            };
            128 + settlement.content.len() + result
        }
        _ => 64,
    }
}

struct Teller {
    target: Box<dyn ResultSink>,
    order: Order,
    /// Not held for long: the store is closed at the end of the run, even if the one who is told does not listen.
    store: Weak<Store>,
    run: u32,
    next: u64,
    backlog: Arc<AtomicUsize>,
    failure: Arc<Mutex<Option<io::Error>>>,
    wake: Wake,
}

/// Rows that are asked for at a time.
const ROWS: usize = 256;

impl Teller {
    fn work(mut self, receiver: &Receiver<Message>, closed: &AtomicBool) {
        while let Ok(message) = receiver.recv() {
            let (count, told) = match message {
                Message::End => {
                    if !closed.load(Ordering::Relaxed) {
                        let told = if self.order == Order::Input {
                            self.tell_rest()
                        } else {
                            Ok(())
                        };
                        let told = told.and_then(|()| self.target.flush());
                        self.note_failure(told.err());
                    }
                    return;
                }
                Message::Committed(_, weight) if closed.load(Ordering::Relaxed) => (weight, Ok(())),
                Message::Committed(changes, weight) => {
                    let told = match self.order {
                        Order::Arrival => self.tell_all(&changes),
                        Order::Input => self.tell_in_order(),
                        Order::Silent => Ok(()),
                    };
                    (weight, told)
                }
            };
            let before = self.backlog.fetch_sub(count, Ordering::Relaxed);
            let told = if before == count {
                told.and_then(|()| self.target.flush())
            } else {
                told
            };
            if let Err(error) = told {
                self.note_failure(Some(error));
                closed.store(true, Ordering::Relaxed);
            }
            self.wake.call();
        }
    }

    /// Keeps why results could not be told. A reader that has gone away is its own business.
    fn note_failure(&self, error: Option<io::Error>) {
        let error = error.filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
        if let Some(error) = error {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    fn tell_all(&mut self, changes: &[Change]) -> io::Result<()> {
        for change in changes {
            if let Change::Settle(settlement) = change
                && let Verdict::Done {
                    exit_code,
                    result,
                    omitted,
                } = &settlement.verdict
            {
                self.target.result(&Done {
                    index: settlement.index,
                    key: settlement.key.as_deref(),
                    content: &settlement.content,
                    result,
                    omitted: *omitted,
                    exit_code: *exit_code,
                    duration_us: settlement.duration_us,
                    attempts: settlement.attempts,
                })?;
            }
        }
        Ok(())
    }

    /// Tells the rows that follow each other without a gap.
    fn tell_in_order(&mut self) -> io::Result<()> {
        loop {
            // A store that was closed by a failure has nothing more to tell; the dispatcher knows why.
            let Some(Ok(rows)) = self
                .store
                .upgrade()
                .map(|store| store.settled_from(self.next, ROWS))
            else {
                return Ok(());
            };
            let more = rows.len() == ROWS;
            self.tell_rows(&rows)?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Tells what is left at the end, over the gaps.
    fn tell_rest(&mut self) -> io::Result<()> {
        loop {
            let Some(Ok(rows)) = self
                .store
                .upgrade()
                .map(|store| store.rows_from(self.next, ROWS))
            else {
                return Ok(());
            };
            if rows.is_empty() {
                return Ok(());
            }
            self.tell_rows(&rows)?;
        }
    }

    fn tell_rows(&mut self, rows: &[crate::queue::ItemRow]) -> io::Result<()> {
        for row in rows {
            self.next = row.index + 1;
            if row.state == State::Done && row.run == self.run {
                self.target.result(&Done {
                    index: row.index,
                    key: row.key.as_deref(),
                    content: &row.content,
                    result: row.result.as_deref().unwrap_or_default(),
                    omitted: row.omitted,
                    exit_code: row.exit_code,
                    duration_us: row.duration_us.unwrap_or_default(),
                    attempts: row.attempts,
                })?;
            }
        }
        Ok(())
    }
}
