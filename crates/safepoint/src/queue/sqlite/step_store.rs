//! The writer thread for steps and effects: callers wait until what they wrote is durable, and share syncs.
//!
//! A commit begins as soon as the one before is over, with all that has arrived. Those who were answered together tend to come back
//! together, so the writer gives them a moment, never more than a quarter of what a commit takes: with eight callers most commits carry eight
//! changes instead of now one and now seven.
//!
//! What nobody waits for, the row that says that a step has begun, is written only if the step takes long, so that short ones cost no
//! commit but their own.
//!
//! Lock order: `Shared::inbox`, the writing connection and the reading connection are each taken alone. SQLite is never called, and nobody is
//! answered, with the inbox locked.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::database::{DONE, Database, Locking};
use super::failure::failure;
use super::step_rows as rows;
use super::view::View;
use crate::clock::{Clock, Moment, wall_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::group::Group;
use crate::queue::step::{EffectRow, StepChange, StepRow, StepState};

/// A step that takes longer than this has a row that says that it has begun.
const LONG: Duration = Duration::from_millis(50);

/// A handle to the writer thread of steps and effects. Threads share it.
pub struct StepStore {
    shared: Arc<Shared>,
    writing: Connected,
    /// The writing one where nobody else may have the file open.
    reading: Connected,
    clock: Clock,
    run: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// `None` once it was closed.
type Connected = Arc<Mutex<Option<Connection>>>;

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inbox {
    arrived: Together,
    /// Steps in progress that have no row yet, oldest first.
    begun: Vec<Begun>,
    last_serial: u64,
    sleep: Sleep,
    closing: bool,
    failed: bool,
}

/// How the writer sleeps, so that callers wake it only if they must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sleep {
    /// Not at all: it will look before it sleeps.
    #[default]
    Awake,
    /// Until something is to be committed; it looks for long steps by itself.
    Lightly,
    /// Until it is woken.
    Deeply,
}

struct Begun {
    serial: u64,
    name: Box<str>,
    started_at_ms: i64,
    since: Moment,
}

/// The mark of a step in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InProgress(u64);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the writer see what `inbox` holds now.
    fn notify(&self, mut inbox: MutexGuard<'_, Inbox>) {
        let asleep = std::mem::take(&mut inbox.sleep) != Sleep::Awake;
        drop(inbox);
        if asleep {
            self.arrived.notify_one();
        }
    }
}

impl StepStore {
    /// Starts the writer thread for a run of the job in `database`. `reading` is another connection to the same file, or none where the file is
    /// opened exclusively.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when no thread can be started.
    pub fn start(database: Database, reading: Option<View>, run: u32) -> Result<Self> {
        Self::start_with(database, reading, run, Writer::work)
    }

    fn start_with(
        database: Database,
        reading: Option<View>,
        run: u32,
        work: impl FnOnce(Writer) + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let writing: Connected = Arc::new(Mutex::new(Some(database.connection)));
        let reading = reading.map_or_else(
            || Arc::clone(&writing),
            |view| Arc::new(Mutex::new(Some(view.connection))),
        );
        let clock = Clock::start();
        let writer = Writer {
            shared: Arc::clone(&shared),
            connection: Arc::clone(&writing),
            clock: clock.clone(),
            run,
            due: Due::default(),
        };
        let thread = std::thread::Builder::new()
            .name("safepoint-steps".into())
            .spawn(move || work(writer))
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the writer thread").with_source(error)
            })?;
        Ok(Self {
            shared,
            writing,
            reading,
            clock,
            run,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Opens `path` for a run: the file for the writer, and a second connection to read, where `locking` lets there be one.
    ///
    /// # Errors
    ///
    /// As [`Database::open`] and [`start`](Self::start).
    pub fn open(path: &std::path::Path, locking: Locking, run: &super::RunRow) -> Result<Self> {
        let mut database = Database::open(path, locking)?;
        let number = database.begin_run(run, &[], u32::MAX)?;
        let reading = match locking {
            Locking::Shared => Some(View::open(path)?),
            Locking::Exclusive => None,
        };
        Self::start(database, reading, number)
    }

    /// The run that it writes for.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The clock that steps are measured by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Notes that a step has begun; if it takes long, its row says so.
    ///
    /// # Durability
    ///
    /// None to rely on: it is a help for those who look at a job.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after [`close`](Self::close) or a failed write, so that nothing begins whose end cannot be written.
    pub fn begin(&self, name: &str, started_at_ms: i64) -> Result<InProgress> {
        let mut inbox = self.shared.lock();
        if inbox.failed || inbox.closing {
            return Err(closed());
        }
        inbox.last_serial += 1;
        let serial = inbox.last_serial;
        inbox.begun.push(Begun {
            serial,
            name: name.into(),
            started_at_ms,
            since: self.clock.now(),
        });
        if inbox.sleep == Sleep::Deeply {
            self.shared.notify(inbox);
        }
        Ok(InProgress(serial))
    }

    /// Ends a step in progress without writing anything.
    pub fn end(&self, step: InProgress) {
        self.shared.lock().end(step);
    }

    /// Writes a change and waits until it is durable; ends the step in progress that it is of.
    ///
    /// # Durability
    ///
    /// When this returns, the change survives `kill -9` and a power cut.
    ///
    /// # Errors
    ///
    /// The kind of a failed write, which closes the store for good; [`ErrorKind::Closed`] after one.
    pub fn write(&self, change: StepChange, step: Option<InProgress>) -> Result<()> {
        let group = {
            let mut inbox = self.shared.lock();
            if let Some(step) = step {
                inbox.end(step);
            }
            if inbox.failed || inbox.closing {
                return Err(closed());
            }
            inbox.arrived.changes.push(change);
            inbox.arrived.callers += 1;
            let group = Arc::clone(&inbox.arrived.group);
            self.shared.notify(inbox);
            group
        };
        match group.wait() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(again(error)),
            None => Err(closed()),
        }
    }

    /// Writes a change with the next commit, and does not wait for it; ends the step in progress that it is of.
    ///
    /// # Durability
    ///
    /// It is durable when a later [`write`](Self::write), or [`close`](Self::close), returns.
    pub fn submit(&self, change: StepChange, step: Option<InProgress>) {
        let mut inbox = self.shared.lock();
        if let Some(step) = step {
            inbox.end(step);
        }
        if !inbox.failed && !inbox.closing {
            inbox.arrived.changes.push(change);
            self.shared.notify(inbox);
        }
    }

    /// What is recorded of a step.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after [`close`](Self::close); otherwise as the file is.
    pub fn step(&self, name: &str) -> Result<Option<StepRow>> {
        self.read(|connection| rows::step(connection, name))
    }

    /// What is recorded of an effect.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub fn effect(&self, key: &str) -> Result<Option<EffectRow>> {
        self.read(|connection| rows::effect(connection, key))
    }

    /// Calls `each` for the name, state, memoisation and run of every step, in no order.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub fn for_each_name(&self, each: impl FnMut(Box<str>, StepState, bool, u32)) -> Result<()> {
        self.read(|connection| rows::for_each_name(connection, each))
    }

    fn read<T>(&self, question: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let connection = lock(&self.reading);
        question(connection.as_ref().ok_or_else(closed)?)
    }

    /// Commits what is left, records how the run ended, and closes the file. Later calls are refused.
    ///
    /// # Durability
    ///
    /// When this returns, all that was submitted is durable.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after an earlier failure, or a second time; otherwise as the last writes went.
    pub fn close(&self, outcome: &str, reason: Option<&str>) -> Result<()> {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else {
            return Err(closed());
        };
        {
            let mut inbox = self.shared.lock();
            inbox.closing = true;
            self.shared.notify(inbox);
        }
        // It ends by itself; a panic in it has closed the store, which the mark below tells.
        let _ = thread.join();
        let failed = self.shared.lock().failed;
        if !Arc::ptr_eq(&self.reading, &self.writing) {
            // Closed first: the last to close the file copies the log into it.
            drop(lock(&self.reading).take());
        }
        let Some(connection) = lock(&self.writing).take() else {
            return Err(closed());
        };
        if failed {
            return Err(closed());
        }
        connection
            .execute(
                &format!(
                    "UPDATE runs SET ended_at_ms = ?2, outcome = ?3, reason = ?4, done_after = {DONE} WHERE run = ?1"
                ),
                params![self.run, wall_ms(), outcome, reason],
            )
            .map_err(|error| failure("write", error))?;
        connection
            .close()
            .map_err(|(_, error)| failure("close", error))
    }
}

impl Drop for StepStore {
    fn drop(&mut self) {
        // Whoever wants to know has closed it.
        let _ = self.close("interrupted", None);
    }
}

impl fmt::Debug for StepStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepStore")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

fn lock(connected: &Connected) -> MutexGuard<'_, Option<Connection>> {
    connected.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the store of the steps was closed, by its owner or by an earlier failure",
    )
}

impl Inbox {
    /// Closes the store for good, and gives what will not be written.
    fn fail(&mut self) -> Together {
        self.failed = true;
        self.begun.clear();
        std::mem::take(&mut self.arrived)
    }

    fn end(&mut self, InProgress(serial): InProgress) {
        // Few steps are in progress at a time: as many as there are threads in one.
        if let Some(place) = self.begun.iter().position(|begun| begun.serial == serial) {
            self.begun.remove(place);
        }
    }
}

/// The same error once more, for each of those who waited for one commit.
fn again(error: &Error) -> Error {
    let again = Error::new(error.kind(), error.chain());
    match error.hint() {
        Some(hint) => again.with_hint(hint),
        None => again,
    }
}

/// What one commit writes, and those who wait for it: whatever becomes of the writer, they are answered.
#[derive(Default)]
struct Together {
    changes: Vec<StepChange>,
    group: Arc<Group<Result<()>>>,
    /// How many wait.
    callers: usize,
}

impl Drop for Together {
    fn drop(&mut self) {
        if self.callers > 0 {
            self.group.answer(Err(closed()));
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    connection: Connected,
    clock: Clock,
    run: u32,
    due: Due,
}

/// When the next commit is worth its sync: when those who were answered by the last one are back, or will not be for a while.
#[derive(Default)]
struct Due {
    callers: usize,
    at: Moment,
}

impl Writer {
    fn work(mut self) {
        loop {
            let (together, closing) = self.gather();
            if !together.changes.is_empty() && !self.commit(&together) {
                return;
            }
            if closing {
                return;
            }
        }
    }

    /// Commits and answers; false if that failed, which closes the store.
    fn commit(&mut self, together: &Together) -> bool {
        let began = self.clock.now();
        let committed = match lock(&self.connection).as_ref() {
            Some(connection) => rows::commit(connection, self.run, &together.changes),
            None => Err(closed()),
        };
        if committed.is_err() {
            // Marked before anybody is answered, so that who is told of the failure finds the store closed.
            let left = self.shared.lock().fail();
            together.group.answer(committed);
            // Those who came meanwhile are told that it is closed.
            drop(left);
            return false;
        }
        together.group.answer(committed);
        let now = self.clock.now();
        self.due = Due {
            callers: together.callers,
            at: now + now.since(began) / 4,
        };
        true
    }

    /// Waits until there is something to commit, and whether the store is closing.
    fn gather(&mut self) -> (Together, bool) {
        let due = std::mem::take(&mut self.due);
        let mut inbox = self.shared.lock();
        if due.callers > 1 {
            let expected = due.callers + inbox.arrived.callers;
            while inbox.arrived.callers < expected && !inbox.closing && self.clock.now() < due.at {
                drop(inbox);
                std::thread::yield_now();
                inbox = self.shared.lock();
            }
        }
        let mut sleep = Sleep::Lightly;
        loop {
            let closing = inbox.closing;
            let now = self.clock.now();
            let is_long = |begun: &Begun| closing || now.since(begun.since) >= LONG;
            let has_long = inbox.begun.first().is_some_and(is_long);
            if closing || has_long || !inbox.arrived.changes.is_empty() {
                let mut together = std::mem::take(&mut inbox.arrived);
                if has_long {
                    let long = inbox.begun.partition_point(is_long);
                    let begun = inbox.begun.drain(..long).map(StepChange::from);
                    // Before what came later of the same steps.
                    together.changes.splice(..0, begun);
                }
                inbox.sleep = Sleep::Awake;
                return (together, closing);
            }
            inbox.sleep = sleep;
            inbox = match (sleep, inbox.begun.first()) {
                (Sleep::Deeply, None) => self
                    .shared
                    .arrived
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner),
                (_, first) => {
                    let left =
                        first.map_or(LONG, |begun| LONG.saturating_sub(now.since(begun.since)));
                    let (guard, _) = self
                        .shared
                        .arrived
                        .wait_timeout(inbox, left)
                        .unwrap_or_else(PoisonError::into_inner);
                    guard
                }
            };
            // After a while in which nothing began it need not look by itself any more.
            sleep = if inbox.begun.is_empty() {
                Sleep::Deeply
            } else {
                Sleep::Lightly
            };
        }
    }
}

impl From<Begun> for StepChange {
    fn from(begun: Begun) -> Self {
        Self::Begun {
            name: begun.name,
            started_at_ms: begun.started_at_ms,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Also after a panic, callers are answered and new ones refused; and a run whose last changes were lost in one has not ended well.
        let left = {
            let mut inbox = self.shared.lock();
            if inbox.closing && !std::thread::panicking() {
                Together::default()
            } else {
                inbox.fail()
            }
        };
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{JOB_DB, JobRow, RunRow};

    fn place() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(JOB_DB);
        let job = JobRow {
            uuid: "u".into(),
            name: "j".into(),
            created_at_ms: 0,
            created_by: "a test".into(),
        };
        Database::create(&path, &job, &[]).expect("made");
        (directory, path)
    }

    fn complete(name: &str) -> StepChange {
        StepChange::Complete {
            name: name.into(),
            started_at_ms: 1,
            duration_us: 2,
            result: "3".into(),
        }
    }

    #[test]
    fn what_was_written_is_there_before_the_writer_is_told() {
        let (_directory, path) = place();
        for locking in [Locking::Shared, Locking::Exclusive] {
            let store = StepStore::open(&path, locking, &RunRow::default()).expect("opened");
            let name = format!("{locking:?}");
            store.write(complete(&name), None).expect("written");
            assert_eq!(
                store.step(&name).expect("read").expect("there").run,
                store.run()
            );
            if locking == Locking::Shared {
                let view = View::open(&path).expect("viewed");
                assert_eq!(view.step_counts().expect("read").complete, 1);
            }
            store.close("completed", None).expect("closed");
            let late = store.write(complete("late"), None).expect_err("closed");
            assert_eq!(late.kind(), ErrorKind::Closed);
            assert!(store.step(&name).is_err() && store.begin("late", 0).is_err());
            assert!(store.close("completed", None).is_err());
        }
        let runs = View::open(&path).expect("viewed").runs().expect("read");
        assert_eq!(runs.len(), 2);
        assert_eq!(runs[1].done_after, Some(2));
    }

    #[test]
    fn a_failed_write_closes_the_store_and_everybody_is_answered() {
        let (_directory, path) = place();
        let store = StepStore::open(&path, Locking::Shared, &RunRow::default()).expect("opened");
        store.write(complete("first"), None).expect("written");
        let other = Connection::open(&path).expect("opened");
        other.execute_batch("DROP TABLE steps").expect("dropped");
        let refused = std::thread::scope(|threads| {
            let writing: Vec<_> = (0..8)
                .map(|number| {
                    let store = &store;
                    threads.spawn(move || store.write(complete(&number.to_string()), None))
                })
                .collect();
            let ended = writing
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            ended.filter(Result::is_err).count()
        });
        assert_eq!(refused, 8);
        let later = store.write(complete("later"), None).expect_err("closed");
        assert_eq!(later.kind(), ErrorKind::Closed);
        assert_eq!(
            store.begin("later", 0).expect_err("closed").kind(),
            ErrorKind::Closed
        );
        assert_eq!(
            store.close("completed", None).expect_err("closed").kind(),
            ErrorKind::Closed
        );
    }

    #[test]
    fn a_writer_that_panics_while_it_closes_ends_no_run_well() {
        let (_directory, path) = place();
        let mut database = Database::open(&path, Locking::Shared).expect("opened");
        let run = database
            .begin_run(&RunRow::default(), &[], u32::MAX)
            .expect("begun");
        let view = View::open(&path).expect("viewed");
        let store = StepStore::start_with(database, Some(view), run, |mut writer| {
            // The last group is lost in the hands of the writer.
            let (together, closing) = writer.gather();
            assert!(!closing, "planted, with {} changes", together.changes.len());
        })
        .expect("started");
        let mark = store.begin("cut off", 0).expect("begun");
        let closed = store.close("completed", None).expect_err("it failed");
        assert_eq!(closed.kind(), ErrorKind::Closed);
        store.end(mark);
        let runs = View::open(&path).expect("viewed").runs().expect("read");
        assert_eq!(runs[0].outcome, None);
    }

    #[test]
    fn a_short_step_writes_no_row_but_its_result() {
        let (_directory, path) = place();
        let store = StepStore::open(&path, Locking::Shared, &RunRow::default()).expect("opened");
        let other = View::open(&path).expect("viewed");
        let mark = store.begin("short", 0).expect("begun");
        store.write(complete("elsewhere"), None).expect("written");
        assert_eq!(other.step_counts().expect("read").running, 0);
        store.write(complete("short"), Some(mark)).expect("written");
        store.begin("cut off", 0).expect("begun");
        store.close("interrupted", None).expect("closed");
        let counts = other.step_counts().expect("read");
        assert_eq!((counts.complete, counts.running), (2, 1));
    }
}
