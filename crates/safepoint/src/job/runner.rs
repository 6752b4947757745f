//! One run of a job from beginning to end: take it, find out where it stands, work, and leave it so that it can be resumed.
//!
//! The order is the promise: nothing is changed before the definition and the input have been checked, and nothing is begun before
//! what a killed owner left behind has ended.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
use super::owner::Ownership;
use super::publish::Publisher;
use super::report::{Outcome, Report};
use super::sink::{ResultSink, Sink};
use super::template::Template;
use crate::clock::wall_ms;
use crate::disk::{self, FilesystemKind, InputFile, Reserve, StateDir};
use crate::error::{Error, ErrorKind, Result};
use crate::process::{CONTROL_FD, end_descendants, end_left_behind, find_program, open_null};
use crate::queue::{Database, JOB_DB, JobRow, Locking, RunRow, Store, StoreOptions};
use crate::shutdown::ShutdownToken;

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
    let search_path = options
        .environment
        .iter()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value.as_os_str());
    let program = find_program(template.program(), search_path)?;
    check(definition, options)?;

    let dir = prepare_directory(path, options.fresh)?;
    let mut ownership = Ownership::take(path)?;
    let (mut database, locking) = open_database(path, &dir, definition)?;
    let changed = definition.check_against(&path.name, &database.definition()?);
    let is_changed = changed.is_err();
    if !options.accept_changes {
        changed?;
    }
    let crashed = database.last_run_crashed()?;
    let left = InProgressView::read(
        &dir,
        if definition.delivery == Delivery::Worker {
            options.pipeline
        } else {
            1
        },
    )?;
    let ended_strays = if crashed {
        end_left_behind(&left.suspects(), &state_variable(&dir), options.kill_after)?
    } else {
        0
    };

    let feed = Arc::new(Feed::new(
        definition,
        start_spool(definition, &dir, &database, &token)?,
    )?);
    if token.is_stopping() {
        return stopped_early(path, &dir, &database, &token);
    }
    let reconciled = reconcile(&database, &feed, options.accept_changes, is_changed)?;
    let renewed = reconciled.renewed.len();
    let reread = reconciled.reread.is_some();
    take_over(&mut database, reconciled, is_changed.then_some(definition))?;
    let retried = if options.retry_failed {
        database.retry(None)?
    } else {
        0
    };

    let in_progress_then: HashSet<u64> = if crashed {
        left.entries.iter().map(|entry| entry.index).collect()
    } else {
        HashSet::new()
    };
    let counted: Vec<u64> = in_progress_then.iter().copied().collect();
    let begin = RunRow {
        pid: std::process::id(),
        host: ownership.owner().host.clone(),
        version: options.version.clone(),
        started_at_ms: wall_ms(),
        ..RunRow::default()
    };
    let number = database.begin_run(&begin, &counted, options.crash_limit)?;
    let progress = database.progress()?;
    let job = database.job()?;
    let (start, skip) = where_to_read(&database, progress.frontier)?;
    let first_told = database
        .first_open()?
        .unwrap_or(progress.frontier)
        .min(progress.frontier);

    let mut events = Events::open(&path.events(), &path.name, number)?;
    events.write(
        "run_started",
        json!({"pid": std::process::id(), "done": progress.counts.done, "after_crash": crashed, "ended_strays": ended_strays}),
    )?;
    let reserve = Reserve::take(dir.file(layout::RESERVE));
    observer.notice(Notice::Started {
        run: number,
        done: progress.counts.done,
        after_crash: crashed,
        ended_strays,
        renewed,
        retried,
    });

    let commits = Arc::new(Mutex::new(Commits::default()));
    let told = Arc::clone(&commits);
    let wake = handle.wake.clone();
    let on_commit = Box::new(move |committed| {
        told.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(committed);
        wake.call();
    });
    let store = Arc::new(Store::start(
        database,
        number,
        StoreOptions::default(),
        on_commit,
    )?);
    let sink = Sink::start(
        results,
        options.order,
        Arc::clone(&store),
        number,
        first_told,
        handle.wake.clone(),
    )?;
    let waking = handle.wake.clone();
    token.observe(move |_| waking.call());
    let wake = handle.wake.clone();
    let reader = start_reader(
        Arc::clone(&feed),
        start,
        progress.frontier,
        skip,
        move || wake.call(),
    )?;
    let total = Arc::new(Mutex::new(None));
    let counting = match progress.total {
        Some(known) if !reread => {
            handle.gauge().total.store(known, Ordering::Relaxed);
            None
        }
        _ => Counting::start(&feed, Arc::clone(&total), &handle),
    };
    let launch = Launch {
        program,
        template,
        environment: environment(options, path, &dir, number, definition.delivery),
        item_on_stdin: definition.delivery == Delivery::Stdin,
        is_worker: definition.delivery == Delivery::Worker,
        items_are_json: definition
            .inputs
            .iter()
            .all(|input| definition.format_of(input).is_json()),
        uuid: job.uuid,
        null: open_null()?,
    };
    let lanes = options.slots
        * if launch.is_worker {
            options.pipeline
        } else {
            1
        };
    let parts = Parts {
        options,
        launch,
        handle: handle.clone(),
        token: token.clone(),
        observer,
        store: Arc::clone(&store),
        commits,
        sink,
        intake: Intake::new(reader, in_progress_then, definition.key_field.is_some()),
        ledger: Ledger::new(progress.frontier),
        events,
        ownership: &mut ownership,
        control: Control::watch(&dir)?,
        polls_control: locking == Locking::Exclusive,
        publisher: Publisher::new(&dir, options.slots)?,
        in_progress: InProgressFile::create(&dir, number, lanes)?,
        counts: progress.counts,
        logs: dir.subdir(layout::LOGS)?.path().to_path_buf(),
        total,
    };
    let (worked, sink) = Dispatcher::new(parts)?.run();
    drop(counting);
    sink.finish();
    let left_behind = end_descendants(options.kill_after)?;
    if left_behind > 0 {
        observer.notice(Notice::LeftBehind(left_behind));
    }
    // Nothing is in progress any more, so the next run must not take anything for crashed.
    InProgressFile::create(&dir, number, 0)?;
    let ending = Ending {
        path,
        dir: &dir,
        locking,
        number,
        reserve: &reserve,
        token: &token,
    };
    match worked {
        Ok(tally) => ending.finish(store, tally, &handle),
        Err(error) => Err(ending.fail(store, error)),
    }
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
fn prepare_directory(path: &JobPath, fresh: bool) -> Result<StateDir> {
    StateDir::create(&path.root)?;
    if fresh && path.dir().exists() {
        let old = path.open()?;
        let owned = Ownership::take(path)?;
        let aside = path.root.join(format!("{}.previous", path.name));
        disk::remove_tree(&aside)?;
        disk::rename(old.path(), &aside)?;
        drop(owned);
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
    let locking = if FilesystemKind::of(dir.path())?.is_network() {
        Locking::Exclusive
    } else {
        Locking::Shared
    };
    Ok((Database::open(&path.db(), locking)?, locking))
}

/// Begins to spool standard input, if it is an input, and waits until what was spooled before was repeated.
fn start_spool(
    definition: &Definition,
    dir: &StateDir,
    database: &Database,
    token: &ShutdownToken,
) -> Result<Option<Spool>> {
    if !definition
        .inputs
        .iter()
        .any(|input| input.as_os_str() == "-")
    {
        return Ok(None);
    }
    let complete = database
        .sources()?
        .iter()
        .any(|source| source.path == "-" && source.complete);
    let spool = Spool::start(InputFile::spool(&dir.file(layout::SPOOL))?, complete)?;
    spool.wait_verified(|| token.is_stopping())?;
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
fn stopped_early(
    path: &JobPath,
    dir: &StateDir,
    database: &Database,
    token: &ShutdownToken,
) -> Result<Report> {
    let progress = database.progress()?;
    Ok(Report {
        job: path.name.clone(),
        state: dir.path().to_path_buf(),
        run: 0,
        outcome: Outcome::Interrupted,
        counts: progress.counts,
        total: progress.total,
        done_now: 0,
        failures: 0,
        given_up: 0,
        elapsed: std::time::Duration::ZERO,
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

/// What is needed to leave a job.
struct Ending<'a> {
    path: &'a JobPath,
    dir: &'a StateDir,
    locking: Locking,
    number: u32,
    reserve: &'a Reserve,
    token: &'a ShutdownToken,
}

impl Ending<'_> {
    fn finish(&self, store: Arc<Store>, tally: Tally, handle: &Handle) -> Result<Report> {
        let reason = self.token.reason();
        let outcome = match (tally.gave_up, tally.work_left) {
            (true, _) => Outcome::GaveUp,
            (false, true) => Outcome::Interrupted,
            (false, false) => Outcome::Completed,
        };
        let store = Arc::try_unwrap(store)
            .map_err(|_| Error::new(ErrorKind::Closed, "the store is still in use"))?;
        let message = reason
            .as_ref()
            .filter(|_| outcome != Outcome::Completed)
            .map(|reason| reason.message.as_str());
        let counts = match store.close(outcome.name(), message) {
            Ok(counts) => counts,
            Err(error) => return Err(self.record_failure(error)),
        };
        let has_published = disk::list_dirs(&self.path.out()).is_ok_and(|names| !names.is_empty());
        disk::remove_tree(&self.dir.file(layout::WORK))?;
        let gauge = handle.gauge();
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
            elapsed: std::time::Duration::from_micros(gauge.elapsed_us.load(Ordering::Relaxed)),
            requests: self.token.requests(),
            has_published,
        };
        Events::open(&self.path.events(), &self.path.name, self.number)?.run_ended(&report)?;
        Ok(report)
    }

    /// Closes what is left after an error of ours, and passes the error on.
    fn fail(&self, store: Arc<Store>, error: Error) -> Error {
        drop(store);
        self.record_failure(error)
    }

    /// Records that the run failed, in the room that was kept back for that. What cannot be recorded now shows as a crash of the run,
    /// with nothing in progress.
    fn record_failure(&self, error: Error) -> Error {
        self.reserve.give_back();
        if let Ok(mut database) = Database::open(&self.path.db(), self.locking) {
            let _ = database.end_run(self.number, "failed", &error.chain(), wall_ms());
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
