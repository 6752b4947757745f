//! One run of a job from beginning to end: take it, find out where it stands, work, and leave it so that it can be resumed.
//!
//! The order is the promise: nothing is changed before the definition and the input have been checked, and nothing is begun before
//! what a killed owner left behind has ended.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::control::Control;
use super::definition::{Definition, Delivery};
use super::dispatcher::{Commits, Dispatcher, Intake, Launch, Ledger, Parts, Tally};
use super::events::Events;
use super::handle::Handle;
use super::in_progress::{InProgressFile, InProgressView};
use super::input::{Feed, Position, Reconciled, Spool, reconcile, start_reader};
use super::layout::{self, JobPath};
use super::notice::{Notice, Observer};
use super::options::Options;
use super::owner;
use super::publish::Publisher;
use super::report::{Outcome, Report};
use super::sink::{ResultSink, Sink};
use super::template::Template;
use crate::clock::wall_ms;
use crate::disk::{self, InputFile, Reserve, StateDir};
use crate::error::{Error, ErrorKind, Result};
use crate::owner::Ownership;
use crate::process::{
    CONTROL_FD, Suspect, become_subreaper, children, end_descendants, end_left_behind,
    find_program, open_null,
};
use crate::queue::{
    Chunk, Database, JOB_DB, JobRow, Locking, Progress, RunRow, Store, StoreOptions,
};
use crate::shutdown::{Phase, ShutdownToken};

/// Names that an attempt gets from us, so that an outer job's are not passed on.
const OWN_VARIABLES: [&str; 9] = [
    "SAFEPOINT_JOB",
    "SAFEPOINT_RUN",
    "SAFEPOINT_KEY",
    "SAFEPOINT_INDEX",
    "SAFEPOINT_ATTEMPT",
    "SAFEPOINT_IDEMPOTENCY_KEY",
    "SAFEPOINT_OUT",
    "SAFEPOINT_STATE",
    "SAFEPOINT_CONTROL_FD",
];

/// Everything one run is given.
pub struct Run<'a> {
    /// Where the job's state is.
    pub path: &'a JobPath,
    /// What decides its results.
    pub definition: &'a Definition,
    /// What decides its speed and bounds.
    pub options: &'a Options,
    /// Through which other threads ask it for things.
    pub handle: Handle,
    /// Through which it is asked to stop.
    pub token: ShutdownToken,
    /// Who is told what happens.
    pub observer: &'a mut dyn Observer,
    /// Who is told the results.
    pub results: Box<dyn ResultSink>,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("path", &self.path)
            .field("definition", &self.definition)
            .finish_non_exhaustive()
    }
}

/// Runs a job until all its items are settled or a stop was carried out; the same call resumes it.
///
/// # Durability
///
/// A result is told to `results` only after it survives a kill and a power cut. Whatever ends this call, what was acknowledged stays.
///
/// # Errors
///
/// [`ErrorKind::Invalid`]: the definition, an input or the command is refused, and nothing was changed.
/// [`ErrorKind::Busy`]: another live process owns the job.
/// [`ErrorKind::Incompatible`]: the job was made by another command or from another input.
/// [`ErrorKind::Corrupt`]: its state is damaged.
/// [`ErrorKind::Io`]: the system refused something; the job can be resumed.
pub fn run(run: Run<'_>) -> Result<Report> {
    let Run {
        path,
        definition,
        options,
        handle,
        token,
        observer,
        results,
    } = run;
    let template = Template::new(definition)?;
    let search_path = options.environment.iter().find(|(name, _)| name == "PATH");
    let program = find_program(
        template.program(),
        search_path.map(|(_, value)| value.as_os_str()),
    )?;
    check(definition, options)?;
    // A shell that starts something and then executes us has made it our child.
    let not_ours = children();
    if options.owns_process {
        become_subreaper()?;
    }

    let mut opened = open(path, definition, options)?;
    let spool = start_spool(definition, &opened, &token)?;
    let feed = Arc::new(Feed::new(definition, spool)?);
    if token.is_stopping() {
        return stopped_early(path, &opened, &token);
    }
    let reread = opened.changed;
    let reconciled = reconcile(&opened.database, &feed, options.accept_changes, reread)?;
    let furniture = Furniture::new(&opened.dir, options)?;
    let begun = begin(&mut opened, definition, options, reconciled)?;

    let mut events = Events::open(&path.events(), &path.name, begun.number)?;
    let done = begun.progress.counts.done;
    events.write(
        "run_started",
        json!({"pid": std::process::id(), "done": done, "after_crash": opened.crashed, "ended_strays": opened.ended_strays}),
    )?;
    observer.notice(Notice::Started {
        run: begun.number,
        done,
        after_crash: opened.crashed,
        ended_strays: opened.ended_strays,
        renewed: begun.renewed,
        retried: begun.retried,
    });
    let launch = Launch {
        program,
        template,
        environment: environment(
            options,
            path,
            &opened.dir,
            begun.number,
            definition.delivery,
        ),
        item_on_stdin: definition.delivery == Delivery::Stdin,
        is_worker: definition.delivery == Delivery::Worker,
        items_are_json: definition
            .inputs
            .iter()
            .all(|input| definition.format_of(input).is_json()),
        uuid: begun.uuid.clone(),
        null: open_null()?,
    };
    let reserve = Reserve::take(opened.dir.file(layout::RESERVE));
    let ending = Ending {
        path,
        dir: opened.dir.clone(),
        locking: opened.locking,
        number: begun.number,
        reserve,
        token: token.clone(),
        handle: handle.clone(),
        not_ours,
    };
    let outcome = work(
        opened, begun, furniture, &feed, launch, options, definition, handle, token, observer,
        results, events,
    )?;
    ending.end(outcome, options, observer)
}

/// A job in our hands, before its run has begun.
struct Opened {
    dir: StateDir,
    ownership: Ownership,
    control: Control,
    database: Database,
    locking: Locking,
    /// The definition is not the stored one, and that was accepted.
    changed: bool,
    /// The run before this one was killed.
    crashed: bool,
    /// What was in progress then.
    in_progress: HashSet<u64>,
    ended_strays: usize,
}

/// Takes the job, checks whose it is, and ends what a killed owner left behind.
fn open(path: &JobPath, definition: &Definition, options: &Options) -> Result<Opened> {
    let dir = prepare_directory(path, options.fresh, options.kill_after)?;
    let ownership = owner::take(path)?;
    // From now on others see an owner whom they may ask to stop.
    let control = Control::watch(&dir)?;
    let (database, locking) = open_database(path, &dir, definition)?;
    let stored = database.definition()?;
    Definition::check_kind(&path.name, &stored)?;
    let checked = definition.check_against(&path.name, &stored);
    let changed = checked.is_err();
    if !options.accept_changes {
        checked?;
    }
    definition.check_key_against(&path.name, &stored)?;
    let crashed_run = database.crashed_run()?;
    let crashed = crashed_run.is_some();
    let (mut in_progress, mut ended_strays) = (HashSet::new(), 0);
    if crashed {
        let left = InProgressView::read(&dir)?;
        // A run that was killed before it began an item left the list of an earlier run, whose crash is counted already.
        // A kill while a stop was under way (a third signal, an orchestrator's deadline) is no item's fault.
        if crashed_run == Some(left.run) && !left.is_stopping {
            in_progress = left.entries.iter().map(|entry| entry.index).collect();
        }
        ended_strays =
            end_left_behind(&left.suspects(), &state_variable(&dir), options.kill_after)?;
    }
    Ok(Opened {
        dir,
        ownership,
        control,
        database,
        locking,
        changed,
        crashed,
        in_progress,
        ended_strays,
    })
}

/// What a run needs in its directory. Made before the run begins, so that a run that cannot work was never begun.
struct Furniture {
    publisher: Publisher,
    logs: PathBuf,
}

impl Furniture {
    fn new(dir: &StateDir, options: &Options) -> Result<Self> {
        Ok(Self {
            publisher: Publisher::new(dir, options.slots)?,
            logs: dir.subdir(layout::LOGS)?.path().to_path_buf(),
        })
    }
}

/// A run that has begun: where it stands and where it reads on.
struct Begun {
    number: u32,
    uuid: String,
    progress: Progress,
    /// The number of items in the input is not known, or no longer.
    is_total_stale: bool,
    start: (usize, Position),
    skip: Vec<u64>,
    /// The lowest index that may get a result in this run.
    first_told: u64,
    renewed: usize,
    retried: u64,
}

/// Takes over what changed, and records that a run begins.
fn begin(
    opened: &mut Opened,
    definition: &Definition,
    options: &Options,
    reconciled: Reconciled,
) -> Result<Begun> {
    let database = &mut opened.database;
    let renewed = reconciled.renewed.len();
    let is_total_stale = reconciled.reread.is_some();
    take_over(database, reconciled, opened.changed.then_some(definition))?;
    let retried = if options.retry_failed {
        database.retry(None)?
    } else {
        0
    };
    let row = RunRow {
        pid: std::process::id(),
        host: opened.ownership.owner().host.clone(),
        version: options.version.clone(),
        started_at_ms: wall_ms(),
        ..RunRow::default()
    };
    let crashed: Vec<u64> = opened.in_progress.iter().copied().collect();
    let number = database.begin_run(&row, &crashed, options.crash_limit)?;
    let progress = database.progress()?;
    let (start, skip) = where_to_read(database, progress.frontier)?;
    let first_open = database.first_open()?.unwrap_or(progress.frontier);
    Ok(Begun {
        number,
        uuid: database.job()?.uuid,
        progress,
        is_total_stale,
        start,
        skip,
        first_told: first_open.min(progress.frontier),
        renewed,
        retried,
    })
}

/// What the work led to, with the store still open.
struct Worked {
    tally: Result<Tally>,
    store: Arc<Store>,
    /// Why results could not be written, if they could not.
    untold: Option<std::io::Error>,
}

/// Starts the threads and works until all is done or a stop was carried out.
#[expect(
    clippy::too_many_arguments,
    reason = "called once: everything that was prepared, by name"
)]
fn work(
    mut opened: Opened,
    begun: Begun,
    furniture: Furniture,
    feed: &Arc<Feed>,
    launch: Launch,
    options: &Options,
    definition: &Definition,
    handle: Handle,
    token: ShutdownToken,
    observer: &mut dyn Observer,
    results: Box<dyn ResultSink>,
    events: Events,
) -> Result<Worked> {
    let progress = begun.progress;
    let commits = Arc::new(Mutex::new(Commits::default()));
    let (told, wake) = (Arc::clone(&commits), handle.wake.clone());
    let on_commit = Box::new(move |committed| {
        told.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(committed);
        wake.call();
    });
    let store = Arc::new(Store::start(
        opened.database,
        begun.number,
        StoreOptions::default(),
        on_commit,
    )?);
    let wake = handle.wake.clone();
    let sink = Sink::start(
        results,
        options.order,
        &store,
        begun.number,
        begun.first_told,
        wake,
    )?;
    let wake = handle.wake.clone();
    token.follow(move |_| wake.call()).for_good();
    let wake = handle.wake.clone();
    let reader = start_reader(
        Arc::clone(feed),
        begun.start,
        progress.frontier,
        begun.skip,
        move || wake.call(),
    )?;
    let total = Arc::new(Mutex::new(None));
    let counting = match progress.total {
        Some(known) if !begun.is_total_stale => {
            handle.gauge().total.store(known, Ordering::Relaxed);
            None
        }
        _ => Counting::start(feed, Arc::clone(&total), &handle),
    };
    let asked = token.clone();
    let per_slot = if launch.is_worker {
        options.pipeline
    } else {
        1
    };
    let parts = Parts {
        in_progress: InProgressFile::create(&opened.dir, begun.number, options.slots, per_slot)?,
        options,
        launch,
        handle,
        token,
        observer,
        store: Arc::clone(&store),
        commits,
        sink,
        intake: Intake::new(reader, opened.in_progress, definition.key_field.is_some()),
        ledger: Ledger::new(progress.frontier),
        events,
        ownership: &mut opened.ownership,
        control: opened.control,
        polls_control: opened.locking == Locking::Exclusive,
        publisher: furniture.publisher,
        counts: progress.counts,
        logs: furniture.logs,
        total,
    };
    let (tally, sink) = Dispatcher::new(parts)?.run();
    drop(counting);
    let untold = sink.finish(|| asked.phase() >= Phase::Terminating);
    Ok(Worked {
        tally,
        store,
        untold,
    })
}

/// Refuses settings and inputs before anything is made.
fn check(definition: &Definition, options: &Options) -> Result<()> {
    if options.slots == 0 || options.pipeline == 0 {
        return Err(Error::invalid(
            "there must be at least one slot, and one item in flight per worker",
        ));
    }
    if options.retry.max_attempts == 0 {
        return Err(Error::invalid("there must be at least one attempt"));
    }
    if definition.inputs.is_empty() {
        return Err(
            Error::invalid("there is no input").with_hint("name a file, or `-` for standard input")
        );
    }
    if definition
        .inputs
        .iter()
        .filter(|input| input.as_os_str() == "-")
        .count()
        > 1
    {
        return Err(Error::invalid("standard input (`-`) can be read only once"));
    }
    let json: HashSet<bool> = definition
        .inputs
        .iter()
        .map(|input| definition.format_of(input).is_json())
        .collect();
    if json.len() > 1 {
        return Err(
            Error::invalid("some inputs have fields and some have plain items")
                .with_hint("say how all of them are to be read with `--format`"),
        );
    }
    // It is made again when the job is ours; here it only looks at the inputs.
    Feed::new(definition, None)?;
    Ok(())
}

/// Makes or opens the job's directory; with `fresh`, moves what is there aside.
fn prepare_directory(path: &JobPath, fresh: bool, kill_after: Duration) -> Result<StateDir> {
    StateDir::create(&path.root)?;
    if fresh && path.dir().exists() {
        owner::move_aside(path, |old| {
            // What a killed owner left behind works in the directory that the new run will have.
            let left = InProgressView::read(old)?;
            end_left_behind(&left.suspects(), &state_variable(old), kill_after)?;
            Ok(())
        })?;
    }
    let dir = StateDir::create(&path.dir())?;
    dir.make_private()?;
    Ok(dir)
}

fn open_database(
    path: &JobPath,
    dir: &StateDir,
    definition: &Definition,
) -> Result<(Database, Locking)> {
    if !dir.has(JOB_DB) {
        if dir.has(layout::EVENTS) {
            return Err(super::status::gone(path));
        }
        let job = JobRow {
            uuid: uuid::Uuid::now_v7().to_string(),
            name: path.name.clone(),
            created_at_ms: wall_ms(),
            created_by: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Database::create(&path.db(), &job, &definition.fingerprint())?;
    }
    let locking = Locking::of(dir.path())?;
    Ok((Database::open(&path.db(), locking)?, locking))
}

/// Begins to spool standard input, if it is an input, and waits until what was spooled before was repeated.
fn start_spool(
    definition: &Definition,
    opened: &Opened,
    token: &ShutdownToken,
) -> Result<Option<Spool>> {
    if !definition
        .inputs
        .iter()
        .any(|input| input.as_os_str() == "-")
    {
        return Ok(None);
    }
    let complete = opened
        .database
        .sources()?
        .iter()
        .any(|source| source.path == "-" && source.complete);
    let place = definition
        .inputs
        .iter()
        .position(|input| input.as_os_str() == "-");
    let is_its = |chunk: &&Chunk| Some(chunk.source as usize) == place;
    let chunks = opened.database.chunks()?;
    // The last chunk begins at a byte that was there.
    let read = chunks
        .iter()
        .filter(is_its)
        .map(|chunk| chunk.offset + 1)
        .max()
        .unwrap_or(0);
    let spool = Spool::start(
        InputFile::spool(&opened.dir.file(layout::SPOOL))?,
        complete,
        read,
    )?;
    spool.wait_verified(|| {
        if let Some(request) = opened.control.take() {
            token.request(request);
        }
        token.is_stopping()
    })?;
    Ok(Some(spool))
}

fn take_over(
    database: &mut Database,
    reconciled: Reconciled,
    definition: Option<&Definition>,
) -> Result<()> {
    if !reconciled.renewed.is_empty() || reconciled.removed_from.is_some() {
        database.renew(&reconciled.renewed, reconciled.removed_from)?;
    }
    if let Some((sources, chunks)) = reconciled.reread {
        database.replace_input(&sources, &chunks)?;
    }
    if let Some(definition) = definition {
        database.set_definition(&definition.fingerprint())?;
    }
    Ok(())
}

/// The source and place from which every index from `frontier` on is read, and the indexes among them that have a row.
fn where_to_read(database: &Database, frontier: u64) -> Result<((usize, Position), Vec<u64>)> {
    let chunks = database.chunks()?;
    let chunk = chunks
        .iter()
        .rev()
        .find(|chunk| chunk.first_index <= frontier);
    let start = chunk.map_or(
        (
            0,
            Position {
                index: 0,
                line: 1,
                offset: 0,
            },
        ),
        |chunk| {
            (
                chunk.source as usize,
                Position {
                    index: chunk.first_index,
                    line: chunk.line,
                    offset: chunk.offset,
                },
            )
        },
    );
    Ok((start, database.touched_from(frontier)?))
}

fn state_variable(dir: &StateDir) -> Vec<u8> {
    [b"SAFEPOINT_STATE=", dir.path().as_os_str().as_bytes()].concat()
}

/// What all children get: the caller's environment, and which job and run they belong to.
fn environment(
    options: &Options,
    path: &JobPath,
    dir: &StateDir,
    run: u32,
    delivery: Delivery,
) -> Vec<CString> {
    let pair = |name: &OsStr, value: &OsStr| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    let inherited = options
        .environment
        .iter()
        .filter(|(name, _)| !OWN_VARIABLES.iter().any(|own| name == own));
    let mut environment: Vec<CString> = inherited
        .filter_map(|(name, value)| pair(name, value))
        .collect();
    let run = run.to_string();
    let mut own = vec![
        ("SAFEPOINT_JOB", OsStr::new(&path.name)),
        ("SAFEPOINT_RUN", OsStr::new(&run)),
    ];
    let control = CONTROL_FD.to_string();
    if delivery != Delivery::Worker {
        own.push(("SAFEPOINT_CONTROL_FD", OsStr::new(&control)));
    }
    environment.extend(
        own.into_iter()
            .filter_map(|(name, value)| pair(OsStr::new(name), value)),
    );
    environment.extend(CString::new(state_variable(dir)));
    environment
}

/// A stop was asked for before the run began.
fn stopped_early(path: &JobPath, opened: &Opened, token: &ShutdownToken) -> Result<Report> {
    let progress = opened.database.progress()?;
    Ok(Report {
        job: path.name.clone(),
        state: opened.dir.path().to_path_buf(),
        run: 0,
        outcome: Outcome::Interrupted,
        counts: progress.counts,
        total: progress.total,
        done_now: 0,
        failures: 0,
        given_up: 0,
        elapsed: Duration::ZERO,
        requests: token.requests(),
        has_published: false,
    })
}

/// Counts the items of the input beside the work, for progress and ETA.
struct Counting(Arc<AtomicBool>);

impl Counting {
    fn start(feed: &Arc<Feed>, total: Arc<Mutex<Option<u64>>>, handle: &Handle) -> Option<Self> {
        if !feed.is_all_here() {
            return None;
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let (feed, stop, wake) = (Arc::clone(feed), Arc::clone(&stopped), handle.wake.clone());
        let count = move || {
            // An input that cannot be read is the reader's to tell.
            if let Ok(Some(count)) = feed.count(&stop) {
                *total.lock().unwrap_or_else(PoisonError::into_inner) = Some(count);
                wake.call();
            }
        };
        // Without the thread there is no ETA; the work does not depend on it.
        std::thread::Builder::new()
            .name("safepoint-count".into())
            .spawn(count)
            .ok()?;
        Some(Self(stopped))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // Relaxed: a lone flag.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The store itself, once nobody else holds it: the sink may have it for the moment of a question.
fn last_holder(mut store: Arc<Store>) -> Result<Store> {
    for _ in 0..1000 {
        store = match Arc::try_unwrap(store) {
            Ok(store) => return Ok(store),
            Err(shared) => shared,
        };
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::new(ErrorKind::Closed, "the store is still in use"))
}

/// What is needed to leave a job.
struct Ending<'a> {
    path: &'a JobPath,
    dir: StateDir,
    locking: Locking,
    number: u32,
    reserve: Reserve,
    token: ShutdownToken,
    handle: Handle,
    /// Children that this process had before the run.
    not_ours: Vec<Suspect>,
}

impl Ending<'_> {
    /// Ends what is left of the children, records how the run ended, and says so.
    fn end(
        &self,
        worked: Worked,
        options: &Options,
        observer: &mut dyn Observer,
    ) -> Result<Report> {
        let left_behind = if options.owns_process {
            end_descendants(options.kill_after, &self.not_ours)
        } else {
            end_left_behind(&[], &state_variable(&self.dir), options.kill_after)
        };
        match left_behind {
            Ok(0) => {}
            Ok(count) => observer.notice(Notice::LeftBehind(count)),
            // How the run ended is to be recorded all the same.
            Err(error) => observer.notice(Notice::Warning(error.chain())),
        }
        // Nothing is in progress any more, so the next run must not take anything for crashed.
        if let Err(error) = InProgressFile::create(&self.dir, self.number, 0, 1) {
            observer.notice(Notice::Warning(error.chain()));
        }
        match worked.tally {
            Ok(tally) => {
                let report = self.finish(worked.store, tally)?;
                let Some(error) = worked.untold else {
                    return Ok(report);
                };
                Err(Error::new(ErrorKind::Io, "cannot write the results")
                    .with_source(error)
                    .with_hint(format!(
                        "they are kept: `safepoint results {}`",
                        self.path.name
                    )))
            }
            Err(error) => {
                drop(worked.store);
                Err(self.record_failure(error))
            }
        }
    }

    fn finish(&self, store: Arc<Store>, tally: Tally) -> Result<Report> {
        let outcome = match (tally.gave_up, tally.work_left) {
            (true, _) => Outcome::GaveUp,
            (false, true) => Outcome::Interrupted,
            (false, false) => Outcome::Completed,
        };
        let store = last_holder(store)?;
        let reason = self
            .token
            .reason()
            .filter(|_| outcome != Outcome::Completed);
        let counts = match store.close(
            outcome.name(),
            reason.as_ref().map(|reason| reason.message.as_str()),
        ) {
            Ok(counts) => counts,
            Err(error) => return Err(self.record_failure(error)),
        };
        let has_published = disk::list_dirs(&self.path.out()).is_ok_and(|names| !names.is_empty());
        disk::remove_tree(&self.dir.file(layout::WORK))?;
        let gauge = self.handle.gauge();
        let total = Some(gauge.total.load(Ordering::Relaxed)).filter(|total| *total != u64::MAX);
        let report = Report {
            job: self.path.name.clone(),
            state: self.dir.path().to_path_buf(),
            run: self.number,
            outcome,
            counts,
            total: if outcome == Outcome::Completed {
                Some(counts.touched())
            } else {
                total
            },
            done_now: tally.done,
            failures: tally.failures,
            given_up: tally.given_up,
            elapsed: Duration::from_micros(gauge.elapsed_us.load(Ordering::Relaxed)),
            requests: self.token.requests(),
            has_published,
        };
        Events::open(&self.path.events(), &self.path.name, self.number)?.run_ended(&report)?;
        Ok(report)
    }

    /// Records that the run failed, in the room that was kept back for that, and passes the error on. What cannot be recorded now
    /// shows as a crash of the run, with nothing in progress.
    fn record_failure(&self, error: Error) -> Error {
        self.reserve.give_back();
        if let Ok(mut database) = Database::open(&self.path.db(), self.locking) {
            let _ = database.end_run(self.number, "failed", Some(&error.chain()), wall_ms());
        }
        if let Ok(mut events) = Events::open(&self.path.events(), &self.path.name, self.number) {
            let _ = events.write(
                "run_ended",
                json!({"outcome": "failed", "error": error.chain()}),
            );
        }
        error
    }
}

/// Calls `each` with the command line of every item, or why it has none, until it returns false; nothing is run or changed.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] when the definition or an input is refused.
pub fn preview(
    definition: &Definition,
    limit: u64,
    mut each: impl FnMut(std::result::Result<Vec<CString>, String>) -> bool,
) -> Result<()> {
    let template = Template::new(definition)?;
    check(
        definition,
        &Options {
            slots: 1,
            ..Options::default()
        },
    )?;
    if definition
        .inputs
        .iter()
        .any(|input| input.as_os_str() == "-")
    {
        return Err(
            Error::invalid("standard input cannot be tried without being used up")
                .with_hint("put it into a file first"),
        );
    }
    let feed = Feed::new(definition, None)?;
    let mut position = Position {
        index: 0,
        line: 1,
        offset: 0,
    };
    for source in 0..feed.len() {
        let mut reader = feed.open(source, position)?;
        while let Some(item) = reader.next()? {
            if item.index >= limit {
                return Ok(());
            }
            let key = item
                .key
                .as_deref()
                .map_or_else(|| item.index.to_string(), str::to_owned);
            let filled = match item.refusal {
                Some(why) => Err(why),
                None => template.fill(super::template::Values {
                    index: item.index,
                    key: &key,
                    content: &item.content,
                }),
            };
            if !each(filled) {
                return Ok(());
            }
        }
        position = Position {
            index: reader.index(),
            line: 1,
            offset: 0,
        };
    }
    Ok(())
}
