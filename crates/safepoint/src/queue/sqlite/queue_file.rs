//! The file of a queue in the hands of one of the processes that share it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::database::Locking;
use super::failure::queue_failure as failure;
use super::queue_rows::Rows;
use super::queue_schema::{self as schema, QUEUE_DB};
use crate::clock::{Clock, wall_ms};
use crate::disk::{self, StateDir, Turns};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::claims::{Demand, Operation, Round};
use crate::queue::{Durability, RetryPolicy};

/// The file that stands for whose turn it is to write.
const QUEUE_LOCK: &str = "queue.lock";

/// How long another program (a database tool) may hold the file before it is told. Processes of ours wait for their turn instead.
const PATIENCE: Duration = Duration::from_secs(5);

/// What this process grants and asks.
#[derive(Debug, Clone, Copy)]
pub(in crate::queue) struct Terms {
    /// How long a lease lasts.
    pub(in crate::queue) lease: Duration,
    pub(in crate::queue) retry: RetryPolicy,
    pub(in crate::queue) durability: Durability,
}

/// The file of a queue, opened by the one thread of this process that uses it.
#[derive(Debug)]
pub(in crate::queue) struct QueueFile {
    /// `None` only while it is being closed.
    connection: Option<Connection>,
    /// None where no other process can have the file.
    turns: Option<Turns>,
    log: PathBuf,
    terms: Terms,
    uuid: String,
    pid: u32,
    clock: Clock,
}

impl QueueFile {
    /// Opens the file in a directory, and makes it where there is none.
    pub(in crate::queue) fn open(dir: &StateDir, terms: Terms) -> Result<Self> {
        Self::open_as(dir, terms, Locking::of(dir.path())?)
    }

    fn open_as(dir: &StateDir, terms: Terms, locking: Locking) -> Result<Self> {
        let path = dir.file(QUEUE_DB);
        let mut turns = Turns::open(&dir.file(QUEUE_LOCK))?;
        let (connection, uuid) = {
            // So that two processes do not both make it, nor one reads the log back while another one closes it.
            let _turn = turns.wait()?;
            if !dir.has(QUEUE_DB) {
                create(dir, &path)?;
            }
            let connection = connect(&path, locking, terms.durability)?;
            let uuid = connection
                .query_row("SELECT uuid FROM queue WHERE id = 1", (), |row| row.get(0))
                .map_err(|error| failure("read", error))?;
            (connection, uuid)
        };
        Ok(Self {
            connection: Some(connection),
            log: dir.file(&format!("{QUEUE_DB}-wal")),
            turns: (locking == Locking::Shared).then_some(turns),
            terms,
            uuid,
            pid: std::process::id(),
            clock: Clock::start(),
        })
    }

    /// The identity of the queue, which a copy keeps.
    pub(in crate::queue) fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Whether other processes may have the file open.
    pub(in crate::queue) fn is_shared(&self) -> bool {
        self.turns.is_some()
    }

    /// The file that each transaction writes to.
    pub(in crate::queue) fn log_path(&self) -> PathBuf {
        self.log.clone()
    }

    /// When there is something to be claimed, without a turn: in the past if there is now, none if nothing is.
    pub(in crate::queue) fn next_due_ms(&self) -> Result<Option<i64>> {
        let connection = self.connection.as_ref().ok_or_else(closed)?;
        super::queue_claims::next_due_ms(connection).map_err(|error| failure("read", error))
    }

    /// Does what was asked, and claims what is wanted, in one transaction.
    ///
    /// # Durability
    ///
    /// As the terms say, when this returns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when another program holds the file: nothing was done, and the file can be used on. After any other error it cannot.
    pub(in crate::queue) fn transact(
        &mut self,
        operations: Vec<Operation>,
        demand: Demand,
    ) -> Result<Round> {
        let write = |error| failure("write", error);
        let _turn = self.turns.as_mut().map(Turns::wait).transpose()?;
        let connection = self.connection.as_ref().ok_or_else(closed)?;
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
            .map_err(write)?;
        // Read after the wait for the turn: a lease is as long as it was granted.
        let mut rows = Rows::new(&transaction, self.terms, self.pid, wall_ms());
        let mut round = Round::default();
        for operation in operations {
            round
                .answers
                .push(rows.perform(operation).map_err(in_transaction)?);
        }
        rows.claim(demand, &mut round).map_err(write)?;
        rows.finish().map_err(write)?;
        let before = self.clock.now();
        transaction.commit().map_err(write)?;
        round.commit = self.clock.now().since(before);
        Ok(round)
    }

    /// Closes the file; the last one to do so copies the log into it.
    pub(in crate::queue) fn close(mut self) -> Result<()> {
        self.disconnect()
    }

    fn disconnect(&mut self) -> Result<()> {
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        let _turn = self.turns.as_mut().map(Turns::wait).transpose()?;
        connection
            .close()
            .map_err(|(_, error)| failure("close", error))
    }
}

impl Drop for QueueFile {
    fn drop(&mut self) {
        // Whoever wants to know has closed it.
        let _ = self.disconnect();
    }
}

fn in_transaction(error: rusqlite::Error) -> Error {
    let error = failure("write", error);
    // Only the beginning of a transaction may be refused without harm.
    if error.kind() == ErrorKind::Busy {
        return Error::new(ErrorKind::Io, error.to_string());
    }
    error
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the queue was closed")
}

/// Makes the file beside its name, synced and renamed: a crash leaves none or a whole one.
fn create(dir: &StateDir, path: &Path) -> Result<()> {
    let log = format!("{QUEUE_DB}-wal");
    if dir.has(&log) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "`{}` has a `{log}`, but its `{QUEUE_DB}` is gone",
                dir.path().display()
            ),
        )
        .with_hint("put it back from a backup, or begin anew in another directory"));
    }
    let unfinished = format!("{QUEUE_DB}.new");
    for rest in [&unfinished, &format!("{unfinished}-journal")] {
        dir.remove(rest)?;
    }
    // SQLite gives its log the mode of the file.
    dir.make_empty(&unfinished)?;
    let unfinished = dir.file(&unfinished);
    {
        let make = |error| failure("make", error);
        let connection = Connection::open_with_flags(&unfinished, flags()).map_err(make)?;
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(make)?;
        schema::create(&connection, &uuid::Uuid::now_v7().to_string(), wall_ms())?;
    }
    disk::rename(&unfinished, path)
}

pub(super) fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

fn connect(path: &Path, locking: Locking, durability: Durability) -> Result<Connection> {
    let open = |error| failure("open", error);
    let connection = Connection::open_with_flags(path, flags()).map_err(open)?;
    connection.busy_timeout(PATIENCE).map_err(open)?;
    let set = |name, value: &str| connection.pragma_update(None, name, value).map_err(open);
    if locking == Locking::Exclusive {
        // Who comes second is told at once.
        connection.busy_timeout(Duration::ZERO).map_err(open)?;
        set("locking_mode", "EXCLUSIVE")?;
    }
    schema::check(&connection)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(open)?;
    if mode != "wal" {
        return Err(Error::new(
            ErrorKind::Io,
            format!("`{QUEUE_DB}` cannot use a write-ahead log here (it says `{mode}`)"),
        )
        .with_hint("choose a directory on another file system"));
    }
    set(
        "synchronous",
        match durability {
            Durability::PowerCut => "FULL",
            Durability::Kill => "NORMAL",
        },
    )?;
    // 16 MiB of log between checkpoints: long enough to be cheap, short enough to be read back quickly after a kill.
    connection
        .pragma_update(None, "wal_autocheckpoint", 4000)
        .map_err(open)?;
    set("trusted_schema", "OFF")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::claims::{Answer, NewItem};

    #[test]
    fn on_a_network_file_system_one_process_has_it_and_a_second_is_told_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(directory.path()).expect("opened");
        let terms = Terms {
            lease: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            durability: Durability::PowerCut,
        };
        let mut first = QueueFile::open_as(&dir, terms, Locking::Exclusive).expect("opened");
        assert!(!first.is_shared());
        let push = || vec![Operation::Push(vec![NewItem::new("x")])];
        let one = Demand {
            waiting: 1,
            ahead: 0,
        };
        let round = first.transact(push(), one).expect("written");
        assert!(matches!(&round.answers[..], [Answer::Pushed(_)]));
        assert_eq!(round.claimed.len(), 1);
        let second = QueueFile::open_as(&dir, terms, Locking::Exclusive).expect_err("refused");
        assert_eq!(second.kind(), ErrorKind::Busy);
        first.close().expect("closed");
        let mut second = QueueFile::open_as(&dir, terms, Locking::Exclusive).expect("free again");
        second.transact(push(), Demand::default()).expect("written");
    }
}
