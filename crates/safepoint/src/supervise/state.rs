//! The state directory of a supervised job: whose it is, what happened, which child runs.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Report;
use crate::clock::wall_ms;
use crate::disk::StateDir;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{
    ChildView, Control, Entry, Events, InProgressFile, InProgressView, JobPath, LOGS, quote,
    take_job,
};
use crate::owner::Ownership;
use crate::process::{Guard, end_left_behind};
use crate::queue::{Database, JOB_DB, JobRow, Locking, RunRow};
use crate::shutdown::{Mode, StopRequest};

/// How often a request of another machine is looked for, where the file system does not tell.
const LOOK: Duration = Duration::from_secs(1);

/// The same before there is a watch.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// The completion marker's name in the state directory.
const DONE: &str = "done";

/// The state of the job, in our hands.
pub(super) struct State {
    dir: StateDir,
    database: Database,
    /// The system does not tell: the file system is that of other machines, too, or there is no watch to be had.
    polls: bool,
    has_tried: bool,
    _ownership: Ownership,
    /// The watch for `safepoint stop`; nothing in the first moments.
    control: Option<Control>,
    events: Events,
    in_progress: InProgressFile,
    /// The run's number, from 1.
    pub(super) run: u32,
    /// What to tell of the run before.
    pub(super) after_crash: bool,
    pub(super) ended_strays: usize,
}

impl State {
    /// Takes the job, ends what a killed run left behind, and begins a run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when a live process owns the job, [`ErrorKind::Incompatible`] when it is a job of items or steps, [`ErrorKind::Corrupt`] when its state
    /// is damaged, [`ErrorKind::Io`] when nothing can be written there.
    pub(super) fn begin(
        path: &JobPath,
        command: &[OsString],
        version: &str,
        kill_after: Duration,
    ) -> Result<Self> {
        let hint = "name another place with `--state-dir`, or keep no state with `--no-state`";
        StateDir::create(&path.root).map_err(|error| error.with_hint(hint))?;
        let dir = StateDir::create(&path.dir()).map_err(|error| error.with_hint(hint))?;
        dir.make_private()?;
        let ownership = take_job(path)?;
        Control::forget(&dir)?;
        let locking = Locking::of(dir.path())?;
        let mut database = open(path, &dir, command, version, locking)?;
        let after_crash = database.crashed_run()?.is_some();
        let mut ended_strays = 0;
        if after_crash {
            let left = InProgressView::read(&dir)?;
            let variable = [b"SAFEPOINT_STATE=", dir.path().as_os_str().as_bytes()].concat();
            ended_strays = end_left_behind(&left.suspects(), &variable, kill_after)?;
        }
        let row = RunRow {
            pid: std::process::id(),
            host: ownership.owner().host.clone(),
            version: version.to_owned(),
            started_at_ms: wall_ms(),
            ..RunRow::default()
        };
        // The command need not wait for the disk: that it began is durable with how it ended.
        database.wait_for_syncs(false)?;
        let run = database.begin_run(&row, &[], u32::MAX)?;
        database.wait_for_syncs(true)?;
        let mut events = Events::open(&path.events(), &path.name, run)?;
        events.write(
            "run_started",
            json!({"pid": std::process::id(), "after_crash": after_crash, "ended_strays": ended_strays}),
        )?;
        Ok(Self {
            in_progress: InProgressFile::create(&dir, run, 1, 1)?,
            dir,
            database,
            polls: locking == Locking::Exclusive,
            has_tried: false,
            _ownership: ownership,
            control: None,
            events,
            run,
            after_crash,
            ended_strays,
        })
    }

    /// The state directory.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the child writes that all its work is done.
    pub(super) fn done_marker(&self) -> std::path::PathBuf {
        self.dir.file(DONE)
    }

    /// Forgets a marker of an earlier child.
    pub(super) fn clear_done(&self) -> Result<()> {
        self.dir.remove(DONE)
    }

    /// Whether the child has written the marker.
    pub(super) fn is_done(&self) -> bool {
        self.dir.has(DONE)
    }

    /// The file that keeps what the child writes.
    pub(super) fn log(&self) -> Result<std::path::PathBuf> {
        Ok(self.dir.subdir(LOGS)?.file("output.log"))
    }

    /// How often `safepoint stop` has to be looked for; not at all where the system tells.
    pub(super) fn polls(&self) -> Option<Duration> {
        match &self.control {
            None if !self.polls => Some(FIRST_LOOK),
            _ => self.polls.then_some(LOOK),
        }
    }

    /// Has the system tell of `safepoint stop` from now on. Not from the beginning: closing the watch takes the kernel some 20 ms, which a command that ends at once
    /// need not wait for.
    pub(super) fn watch(&mut self) -> Result<()> {
        if self.control.is_none() && !self.has_tried {
            self.has_tried = true;
            match Control::listen(&self.dir) {
                Ok(control) => self.control = Some(control),
                Err(error) => {
                    self.polls = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What `safepoint stop` asked for since the last call.
    pub(super) fn request(&self) -> Option<StopRequest> {
        match &self.control {
            Some(control) => control.take(),
            None => Control::take_from(&self.dir),
        }
    }

    /// Readable when there may be a request.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    /// Appends an event.
    pub(super) fn event(&mut self, event: &str, fields: Value) -> Result<()> {
        self.events.write(event, fields)
    }

    /// A stop was asked for.
    pub(super) fn stopping(&mut self, request: &StopRequest) -> Result<()> {
        self.events.interrupt_initiated(request)
    }

    /// Notes the child, for `status` and for a run after a kill.
    pub(super) fn child_started(&mut self, guard: &Guard, attempt: u32) -> Result<()> {
        let entry = Entry {
            index: 0,
            attempt,
            pid: guard.child().as_raw_nonzero().get().cast_unsigned(),
            started_at_ms: wall_ms(),
            ticks: guard.ticks(),
        };
        self.in_progress.write(0, 1, std::iter::once(entry))
    }

    /// Notes that there is no child.
    pub(super) fn child_ended(&mut self) -> Result<()> {
        self.in_progress.write(0, 1, std::iter::empty())
    }

    /// Says how the child is, for those who look.
    pub(super) fn show(&self, child: &ChildView) -> Result<()> {
        child.show(&self.dir)
    }

    /// How an earlier child was, as it was shown last.
    pub(super) fn shown(&self) -> Option<ChildView> {
        ChildView::read(&self.dir).ok().flatten()
    }

    /// Records how the run ended.
    pub(super) fn end(
        &mut self,
        report: &Report,
        outcome: &str,
        reason: Option<&str>,
    ) -> Result<()> {
        if !report.requests.is_empty() {
            let count = |mode| {
                let of_mode = report.requests.iter();
                of_mode
                    .filter(|recorded| recorded.request.mode == mode)
                    .count()
            };
            self.event(
                "interrupt_completed",
                json!({
                    "checkpoint_id": report.checkpoint,
                    "total_interrupts": report.requests.len(),
                    "graceful_interrupts": count(Mode::Graceful),
                    "immediate_interrupts": count(Mode::Immediate),
                }),
            )?;
        }
        self.event(
            "run_ended",
            json!({
                "outcome": outcome,
                "exit": report.exit.map(crate::process::Exit::describe),
                "restarts": report.restarts,
                "elapsed_seconds": report.elapsed.as_secs_f64(),
            }),
        )?;
        self.database.end_run(self.run, outcome, reason, wall_ms())
    }
}

/// Opens the database, or makes it; refuses that of another kind of job.
fn open(
    path: &JobPath,
    dir: &StateDir,
    command: &[OsString],
    version: &str,
    locking: Locking,
) -> Result<Database> {
    let words: Vec<String> = command.iter().map(|word| quote(word.as_bytes())).collect();
    let definition = vec![
        ("command".to_owned(), words.join(" ")),
        ("kind".to_owned(), "supervise".to_owned()),
    ];
    if !dir.has(JOB_DB) {
        let job = JobRow {
            uuid: uuid::Uuid::now_v7().to_string(),
            name: path.name.clone(),
            created_at_ms: wall_ms(),
            created_by: version.to_owned(),
        };
        Database::create(&path.db(), &job, &definition)?;
        return Database::open(&path.db(), locking);
    }
    let mut database = Database::open(&path.db(), locking)?;
    let stored = database.definition()?;
    if !stored
        .iter()
        .any(|(name, value)| name == "kind" && value == "supervise")
    {
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!(
                "job `{}` is one of items or steps, not of a supervised command",
                path.name
            ),
        )
        .with_hint("choose another name with `--name`"));
    }
    // What the command's arguments mean for its state is the command's own business.
    if stored != definition {
        database.set_definition(&definition)?;
    }
    Ok(database)
}
