//! Opening a directory of steps.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::{Index, Recorded};
use super::notice::Notice;
use super::owner::Steps;
use super::room::{Observer, Room};
use crate::clock::wall_ms;
use crate::disk::StateDir;
use crate::error::{Error, ErrorKind, Result};
use crate::owner::{Claim, OWNER_LOCK, Owner, Ownership};
use crate::queue::{Database, JOB_DB, JobRow, Locking, RunRow, StepState, StepStore};
use crate::shutdown::ShutdownToken;

/// What tells a job of steps from one of items, in its definition.
const KIND: (&str, &str) = ("kind", "steps");

/// Settings of a [`Steps`], before it is opened.
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    path: PathBuf,
    token: Option<ShutdownToken>,
    observer: Option<Observer>,
}

impl Builder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            token: None,
            observer: None,
        }
    }

    /// Makes each step and effect a [unit](ShutdownToken::unit) of this token: a stop waits for those in progress, and no other begins.
    pub fn token(mut self, token: &ShutdownToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// Tells `observer` what happens, on the thread that it happens on and without any lock held.
    pub fn on_notice(mut self, observer: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Opens the directory for this process, and makes it where it does not exist. It is private from then on (0700), also one that was there.
    ///
    /// Steps that were cut off in earlier runs are told now.
    ///
    /// # Durability
    ///
    /// When this returns, the directory and the beginning of the run survive a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when another process has the directory, with its name; [`ErrorKind::Incompatible`] when it is of a job of items, or of a
    /// newer program; [`ErrorKind::Corrupt`] when it is damaged; [`ErrorKind::Invalid`] and [`ErrorKind::Io`] as the directory is.
    pub fn open(self) -> Result<Steps> {
        let dir = StateDir::create(&self.path)?;
        let ownership = take(&dir)?;
        // One that was there already may let others in, and results are for nobody else.
        dir.make_private()?;
        let locking = prepare(&dir)?;
        let path = dir.file(JOB_DB);
        let (after_crash, run) = {
            let database = Database::open(&path, locking)?;
            check_kind(dir.path(), &database.definition()?)?;
            (
                database.crashed_run()?.is_some(),
                RunRow {
                    pid: ownership.owner().pid,
                    host: ownership.owner().host.clone(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    started_at_ms: wall_ms(),
                    ..RunRow::default()
                },
            )
        };
        let store = StepStore::open(&path, locking, &run)?;
        let (index, cut_off, complete) = load(&store)?;
        let room = Room::new(store, index, self.token, self.observer, ownership);
        if room.run() > 1 {
            room.tell(|| Notice::Resumed {
                run: room.run(),
                complete,
                after_crash,
            });
        }
        for (name, run) in cut_off {
            room.tell(|| Notice::Interrupted { name, run });
        }
        Ok(Steps::new(Arc::new(room)))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("path", &self.path)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Takes a directory of steps for this process.
pub(super) fn take(dir: &StateDir) -> Result<Ownership> {
    match Ownership::take(&dir.file(OWNER_LOCK))? {
        Claim::Ours(ours) => Ok(ours),
        Claim::Theirs(owner) => Err(refusal(dir.path(), &owner)),
    }
}

fn refusal(path: &Path, owner: &Owner) -> Error {
    let hint = "wait for it, or stop it; its steps go on where they were".to_owned();
    owner.refusal(&format!("`{}`", path.display()), hint)
}

/// Makes the file where there is none, and says how it is to be shared.
fn prepare(dir: &StateDir) -> Result<Locking> {
    if !dir.has(JOB_DB) {
        let log = format!("{JOB_DB}-wal");
        if dir.has(&log) {
            let error = Error::new(
                ErrorKind::Corrupt,
                format!(
                    "`{}` has a `{log}`, but its `{JOB_DB}` is gone",
                    dir.path().display()
                ),
            );
            return Err(
                error.with_hint("put it back from a backup, or begin anew in another directory")
            );
        }
        let name = dir.path().file_name().unwrap_or_default();
        let job = JobRow {
            uuid: uuid::Uuid::now_v7().to_string(),
            name: name.to_string_lossy().into_owned(),
            created_at_ms: wall_ms(),
            created_by: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let definition = [(KIND.0.to_owned(), KIND.1.to_owned())];
        Database::create(&dir.file(JOB_DB), &job, &definition)?;
    }
    Locking::of(dir.path())
}

/// Refuses the directory of a job that has items.
pub(super) fn check_kind(path: &Path, definition: &[(String, String)]) -> Result<()> {
    if definition
        .iter()
        .any(|(name, value)| (name.as_str(), value.as_str()) == KIND)
    {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::Incompatible,
        format!("`{}` holds a job of items, not of steps", path.display()),
    );
    Err(error.with_hint("give the steps a directory of their own"))
}

/// What is recorded, what was cut off with its run, and how many steps are complete.
type Loaded = (Index, Vec<(String, u32)>, u64);

fn load(store: &StepStore) -> Result<Loaded> {
    let (mut index, mut cut_off, mut complete) = (Index::default(), Vec::new(), 0);
    store.for_each_name(|name, state, memoised, run| {
        match state {
            StepState::Running => cut_off.push((name.to_string(), run)),
            StepState::Complete => complete += 1,
            StepState::Failed => {}
        }
        index.load(
            name,
            Recorded {
                state,
                memoised,
                run,
            },
        );
    })?;
    cut_off.sort();
    Ok((index, cut_off, complete))
}
