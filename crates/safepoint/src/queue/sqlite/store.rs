//! The writer thread: all changes of a run go through it, and many share one sync.
//!
//! An isolated change is committed at once. Under a flood, commits begin at least [`StoreOptions::spacing`] apart, so that the cost of a
//! sync is shared by all that came meanwhile. Nothing waits for a commit but the telling of a result.
//!
//! Lock order: `Shared::inbox` is the only lock; the callback and SQLite are called without it.

use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::database::{Database, Progress, read_bytes, read_state};
use super::failure::failure;
use super::view::{ItemRow, item_rows};
use super::write;
use crate::clock::{Clock, Moment, wall_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Change, Counts, OpenItem, State};

/// Settings of a [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// The least time between the beginnings of two commits. Default 10 ms.
    pub spacing: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            spacing: Duration::from_millis(10),
        }
    }
}

/// What one commit made durable.
#[derive(Debug)]
pub struct Committed {
    /// The changes, in the order in which they were submitted.
    pub changes: Vec<Change>,
    /// The counters after it.
    pub counts: Counts,
}

/// What the writer thread tells its owner: a commit, or the failure that closed the store.
type OnCommit = Box<dyn FnMut(Result<Committed>) + Send>;
type Question = Box<dyn FnOnce(&Connection) + Send>;

#[derive(Default)]
struct Inbox {
    changes: Vec<Change>,
    frontier: u64,
    questions: Vec<Question>,
    closing: bool,
    failed: bool,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to the writer thread.
pub struct Store {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<(Connection, Result<Counts>)>>,
    run: u32,
}

impl Store {
    /// Starts the writer thread for a run of the job in `database`.
    ///
    /// `on_commit` is called on that thread, after each commit or once with the failure that closed the store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when no thread can be started; as [`Database::open`] otherwise.
    pub fn start(
        database: Database,
        run: u32,
        options: StoreOptions,
        on_commit: OnCommit,
    ) -> Result<Self> {
        let progress = database.progress()?;
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            shared: Arc::clone(&shared),
            connection: database.connection,
            run,
            progress,
            spacing: options.spacing,
            on_commit,
        };
        let thread = std::thread::Builder::new()
            .name("safepoint-store".into())
            .spawn(move || writer.work())
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the writer thread").with_source(error)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
            run,
        })
    }

    /// Hands changes over, draining `changes`. `frontier`: every index below has a row, counting only what was committed before.
    ///
    /// # Durability
    ///
    /// They are durable when `on_commit` tells them, not before.
    pub fn submit(&self, changes: &mut Vec<Change>, frontier: u64) {
        let mut inbox = self.shared.lock();
        let was_empty = inbox.changes.is_empty();
        inbox.changes.append(changes);
        inbox.frontier = inbox.frontier.max(frontier);
        drop(inbox);
        if was_empty {
            self.shared.arrived.notify_one();
        }
    }

    /// Has what was submitted committed now, without waiting for it.
    pub fn hurry(&self) {
        self.shared.lock().questions.push(Box::new(|_| ()));
        self.shared.arrived.notify_one();
    }

    /// Items that may be attempted at `now_ms`, those due first at first; everything submitted before is taken into account.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after a failed write; otherwise as the file is.
    pub fn due(&self, now_ms: i64, limit: usize) -> Result<Vec<OpenItem>> {
        self.ask(move |connection| {
            let read = |error| failure("read", error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT item, key, state, attempts, crashes, content FROM items WHERE not_before_ms <= ?1 ORDER BY not_before_ms, item LIMIT ?2",
                )
                .map_err(read)?;
            let rows = statement
                .query_map(params![now_ms, limit], |row| {
                    Ok(OpenItem {
                        index: row.get(0)?,
                        key: row.get::<_, Option<String>>(1)?.map(String::into_boxed_str),
                        state: read_state(row, 2)?,
                        attempts: row.get(3)?,
                        crashes: row.get(4)?,
                        content: read_bytes(row, 5)?.into_boxed_slice(),
                    })
                })
                .map_err(read)?;
            rows.collect::<rusqlite::Result<_>>().map_err(read)
        })
    }

    /// When the next item may be attempted after `now_ms`, in milliseconds since 1970 UTC.
    ///
    /// # Errors
    ///
    /// As [`due`](Self::due).
    pub fn next_due(&self, after_ms: i64) -> Result<Option<i64>> {
        self.ask(move |connection| {
            connection
                .prepare_cached("SELECT min(not_before_ms) FROM items WHERE not_before_ms > ?1")
                .and_then(|mut statement| statement.query_row([after_ms], |row| row.get(0)))
                .map_err(|error| failure("read", error))
        })
    }

    /// Rows from index `first` on that follow each other without a gap and need no more work, at most `limit`; for telling results in
    /// input order.
    ///
    /// # Errors
    ///
    /// As [`due`](Self::due).
    pub fn settled_from(&self, first: u64, limit: usize) -> Result<Vec<ItemRow>> {
        self.ask(move |connection| {
            let rows = item_rows(connection, first, limit)?;
            let settled = |row: &ItemRow| !matches!(row.state, State::Pending | State::Waiting);
            Ok(rows
                .into_iter()
                .zip(first..)
                .take_while(|(row, index)| row.index == *index && settled(row))
                .map(|(row, _)| row)
                .collect())
        })
    }

    /// Rows from index `first` on, gaps or not, at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`due`](Self::due).
    pub fn rows_from(&self, first: u64, limit: usize) -> Result<Vec<ItemRow>> {
        self.ask(move |connection| item_rows(connection, first, limit))
    }

    /// For each key, the index of the item that has it, if any.
    ///
    /// # Errors
    ///
    /// As [`due`](Self::due).
    pub fn known_keys(&self, keys: Vec<Box<str>>) -> Result<Vec<Option<u64>>> {
        self.ask(move |connection| {
            let read = |error| failure("read", error);
            let mut statement = connection
                .prepare_cached("SELECT item FROM items WHERE key = ?1 AND key IS NOT NULL AND state <> 'duplicate'")
                .map_err(read)?;
            keys.iter()
                .map(|key| statement.query_row([key], |row| row.get(0)).optional().map_err(read))
                .collect()
        })
    }

    /// Runs `question` on the writer thread, after everything submitted so far, and waits for its answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        {
            let mut inbox = self.shared.lock();
            if inbox.failed {
                return Err(closed());
            }
            inbox.questions.push(Box::new(move |connection| {
                // The asker waits in `recv`; it is gone only if its thread was ended.
                let _ = sender.send(question(connection));
            }));
        }
        self.shared.arrived.notify_one();
        receiver.recv().map_err(|_| closed())?
    }

    /// Commits what is left, records how the run ended, and closes the file.
    ///
    /// # Durability
    ///
    /// When this returns, all that was submitted is durable.
    ///
    /// # Errors
    ///
    /// The failure that closed the store, if one did; otherwise as the last writes went.
    pub fn close(mut self, outcome: &str, reason: Option<&str>) -> Result<Counts> {
        let Some((connection, counts)) = self.stop_thread() else {
            return Err(closed());
        };
        let recorded = connection.execute(
            "UPDATE runs SET ended_at_ms = ?2, outcome = ?3, reason = ?4, done_after = (SELECT done FROM progress) WHERE run = ?1",
            params![self.run, wall_ms(), outcome, reason],
        );
        let counts = counts?;
        recorded.map_err(|error| failure("write", error))?;
        connection
            .close()
            .map_err(|(_, error)| failure("close", error))?;
        Ok(counts)
    }

    fn stop_thread(&mut self) -> Option<(Connection, Result<Counts>)> {
        self.shared.lock().closing = true;
        self.shared.arrived.notify_one();
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.stop_thread();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the job's store was closed by an earlier failure",
    )
}

struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    run: u32,
    progress: Progress,
    spacing: Duration,
    on_commit: OnCommit,
}

impl Writer {
    fn work(mut self) -> (Connection, Result<Counts>) {
        let clock = Clock::start();
        let mut may_commit_at = clock.now();
        loop {
            let (changes, frontier, questions, closing) = self.gather(&clock, may_commit_at);
            if !changes.is_empty() || (closing && frontier > self.progress.frontier) {
                may_commit_at = clock.now() + self.spacing;
                if let Err(error) = write::commit(
                    &mut self.connection,
                    self.run,
                    &changes,
                    frontier,
                    &mut self.progress,
                ) {
                    let again = Error::new(error.kind(), error.chain());
                    let again = match error.hint() {
                        Some(hint) => again.with_hint(hint),
                        None => again,
                    };
                    // Told before anybody's question is refused, so that whoever is refused can find out why.
                    (self.on_commit)(Err(error));
                    let mut inbox = self.shared.lock();
                    inbox.failed = true;
                    // Dropping the questions ends the wait of those who asked them.
                    inbox.questions.clear();
                    drop(inbox);
                    drop(questions);
                    return (self.connection, Err(again));
                }
                (self.on_commit)(Ok(Committed {
                    changes,
                    counts: self.progress.counts,
                }));
            }
            for question in questions {
                question(&self.connection);
            }
            if closing {
                return (self.connection, Ok(self.progress.counts));
            }
        }
    }

    /// Waits until there is something to do and it is time for it.
    fn gather(
        &self,
        clock: &Clock,
        may_commit_at: Moment,
    ) -> (Vec<Change>, u64, Vec<Question>, bool) {
        let mut inbox = self.shared.lock();
        loop {
            if inbox.closing || !inbox.questions.is_empty() {
                break;
            }
            if inbox.changes.is_empty() {
                inbox = self
                    .shared
                    .arrived
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let early = may_commit_at.since(clock.now());
            if early.is_zero() {
                break;
            }
            inbox = self
                .shared
                .arrived
                .wait_timeout(inbox, early)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        (
            std::mem::take(&mut inbox.changes),
            inbox.frontier,
            std::mem::take(&mut inbox.questions),
            inbox.closing,
        )
    }
}
