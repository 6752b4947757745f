//! Opening a directory of items.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::books::{Books, Lanes};
use super::durable::Durable;
use super::lookup::Lookup;
use super::owner::Items;
use super::place::{check, job_path, make_database};
use super::room::{Counters, Held, Inner, Room};
use super::watch::Watch;
use crate::clock::{Clock, wall_ms};
use crate::disk::StateDir;
use crate::error::{Error, Result};
use crate::job::{Control, Events, InProgressFile, InProgressView, move_aside, take_job};
use crate::queue::{
    Change, Database, Locking, MAX_CRASHES, RetryPolicy, RunRow, Store, StoreOptions,
};
use crate::shutdown::ShutdownToken;

/// The grace period of a run that was given no token.
const GRACE: Duration = Duration::from_secs(25);

/// Settings of [`Items`], before they are opened.
#[derive(Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    path: PathBuf,
    token: Option<ShutdownToken>,
    retry: RetryPolicy,
    total: Option<u64>,
    in_flight: usize,
    wait_in_line: bool,
    is_keyed: bool,
    is_fresh: bool,
    retries_dead: bool,
}

impl Builder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            token: None,
            retry: RetryPolicy::default(),
            total: None,
            in_flight: 1,
            wait_in_line: false,
            is_keyed: false,
            is_fresh: false,
            retries_dead: false,
        }
    }

    /// Makes each item a unit of this token: a stop waits for those in progress, and no other begins. `safepoint stop` asks it, too.
    pub fn token(mut self, token: &ShutdownToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// How often, and after how long, a failed item is attempted again. Three times by default.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How many items there are, if that is known; for those who look.
    pub fn total(mut self, total: u64) -> Self {
        self.total = Some(total);
        self
    }

    /// How many items may be in progress at a time and be seen as such. Default 1.
    pub fn in_flight(mut self, items: usize) -> Self {
        self.in_flight = items;
        self
    }

    /// Items that were begun wait in a line until [`in_process`](super::Item::in_process) says that they are worked on. Only from then on they are shown as in
    /// progress, and counted for a crash.
    pub fn wait_in_line(mut self, wait: bool) -> Self {
        self.wait_in_line = wait;
        self
    }

    /// Items are told apart by a key of their own instead of by place and content.
    pub fn keyed(mut self, is_keyed: bool) -> Self {
        self.is_keyed = is_keyed;
        self
    }

    /// Begins anew. What is there is kept beside, as `<name>.previous`.
    pub fn fresh(mut self, is_fresh: bool) -> Self {
        self.is_fresh = is_fresh;
        self
    }

    /// Makes dead items pending again.
    pub fn retry_dead(mut self, retries_dead: bool) -> Self {
        self.retries_dead = retries_dead;
        self
    }

    /// Opens the directory for this process and begins a run, and makes it where it does not exist. It is private from then on (0700).
    ///
    /// # Durability
    ///
    /// When this returns, the directory and the beginning of the run survive a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when another process has the directory, with its name;
    /// [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) when it is of another kind of job or a newer program, or its items are told apart otherwise;
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when it is damaged; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) and
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) as the settings and the directory are.
    pub fn open(self) -> Result<Items> {
        if self.retry.max_attempts == 0 {
            return Err(Error::invalid("there must be at least one attempt"));
        }
        let path = job_path(&self.path)?;
        StateDir::create(&path.root)?;
        if self.is_fresh && path.dir().exists() {
            move_aside(&path, |_| Ok(()))?;
        }
        let dir = StateDir::create(&path.dir())?;
        let ownership = take_job(&path)?;
        dir.make_private()?;
        // From now on others see an owner whom they may ask to stop.
        let control = Control::watch(&dir)?;
        make_database(&path, &dir, self.is_keyed)?;
        let locking = Locking::of(dir.path())?;
        let mut database = Database::open(&path.db(), locking)?;
        check(&path, self.is_keyed, &database.definition()?)?;
        let crashed = crashed(&database, &dir)?;
        if self.retries_dead {
            database.retry(None)?;
        }
        let started_at_ms = wall_ms();
        let row = RunRow {
            pid: ownership.owner().pid,
            host: ownership.owner().host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms,
            ..RunRow::default()
        };
        let after_crash = database.crashed_run()?.is_some();
        let in_progress: Vec<u64> = crashed.iter().copied().collect();
        let run = database.begin_run(&row, &in_progress, MAX_CRASHES)?;
        let progress = database.progress()?;
        let end = database.rows_end()?;
        let gaps = database.gaps_from(progress.frontier)?;
        let lanes = InProgressFile::create(&dir, run, self.in_flight, 1)?;
        let lanes = Arc::new(Mutex::new(lanes));
        let mut events = Events::open(&path.events(), &path.name, run)?;
        events.write(
            "run_started",
            json!({"pid": row.pid, "done": progress.counts.done, "after_crash": after_crash, "ended_strays": 0}),
        )?;
        let token = self
            .token
            .unwrap_or_else(|| ShutdownToken::detached(Clock::start(), GRACE));
        let durable = Arc::new(Durable::new(progress.counts));
        let told = Arc::clone(&durable);
        let store = Store::start(
            database,
            run,
            StoreOptions::default(),
            Box::new(move |news| told.told(news)),
        )?;
        let total = self.total.or(progress.total);
        if let Some(total) = total.filter(|total| progress.total != Some(*total)) {
            store.submit(&mut vec![Change::Total(total)], 0);
        }
        let watch = Watch::start(
            control,
            locking == Locking::Exclusive,
            token.clone(),
            events,
            Arc::clone(&lanes),
        )?;
        let lookup = Lookup::open(&path.db(), locking, end)?;
        let clock = Clock::start();
        Ok(Items::new(Arc::new(Room {
            path,
            run,
            wait_in_line: self.wait_in_line,
            is_keyed: self.is_keyed,
            retry: self.retry,
            token,
            started: clock.now(),
            clock,
            total,
            durable,
            counters: Counters::default(),
            inner: Mutex::new(Inner {
                books: Books::new(gaps, end, self.is_keyed),
                held: Some(Held {
                    store,
                    watch,
                    ownership,
                }),
                crashed,
                lanes: Lanes::new(self.in_flight),
            }),
            lookup: Mutex::new(lookup),
            in_progress: lanes,
            pid: std::process::id(),
        })))
    }
}

/// What was in progress when the last run was killed. A run that was killed before it began an item left the list of an earlier one, whose crash is
/// counted already; a kill while a stop was under way is no item's fault.
fn crashed(database: &Database, dir: &StateDir) -> Result<HashSet<u64>> {
    let Some(run) = database.crashed_run()? else {
        return Ok(HashSet::new());
    };
    let left = InProgressView::read(dir)?;
    if left.run != run || left.is_stopping {
        return Ok(HashSet::new());
    }
    Ok(left.entries.iter().map(|entry| entry.index).collect())
}
