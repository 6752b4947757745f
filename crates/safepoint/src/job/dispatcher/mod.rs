//! The dispatcher: one thread that begins attempts, reads what they write, and decides what becomes of them.
//!
//! It waits in one place (`epoll`) for all it reacts to: ends of children (pidfds), their pipes, commits of the writer thread, stop
//! requests, requests of other processes (inotify) and its own timers. It never waits for a disk, but for publishing an attempt's files.
//!
//! Invariants:
//!
//! 1. An item is in one place: the intake, a slot, the held attempts, or noted in the ledger. What is in none is done or in the input.
//! 2. Nothing new is begun once a stop is asked for.
//! 3. A slot is free only when its child is reaped and its group is empty or listed as lingering.

mod command;
mod intake;
mod ledger;
mod worker;

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::{Pid, Signal};
use serde_json::json;

use self::command::CommandAttempt;
pub(super) use self::intake::Intake;
pub(super) use self::ledger::Ledger;
use self::worker::WorkerSlot;
use super::capture::Tail;
use super::control::Control;
use super::events::Events;
use super::handle::Handle;
use super::in_progress::InProgressFile;
use super::notice::{InProgress, Notice, Observer};
use super::options::{MaxFailures, Options};
use super::publish::Publisher;
use super::sink::Sink;
use super::template::Template;
use super::work::Work;
use crate::clock::{Moment, timespec, wall_ms};
use crate::disk::RotatingLog;
use crate::error::{Error, ErrorKind, Result};
use crate::owner::Ownership;
use crate::process::{Exit, Forgotten, signal_group, stop_self, wait_for_group};
use crate::queue::{Change, Committed, Counts, Settlement, Store, Verdict};
use crate::shutdown::{Phase, Recorded, ShutdownToken, Source, StopRequest};

/// An item this far behind the newest one gets a row, so that a resumed run need not begin to read there.
const STRAGGLER: u64 = 10_000;
/// Bytes of results that may wait to be told before nothing new is begun.
const MAX_BACKLOG: usize = 16 * 1024 * 1024;
/// How long an attempt that a stop signal ended waits for the same signal to reach us.
const HOLD: Duration = Duration::from_millis(100);
/// How often adopted orphans that have ended are reaped.
const SWEEP: Duration = Duration::from_secs(5);
/// The first pause after a command said "not now"; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// So many workers in a row that die before their first answer end the run.
const STARTUP_DEATHS: u32 = 8;
/// The size of a slot's log, in bytes, before it is rotated.
const LOG_BYTES: u64 = 8 * 1024 * 1024;
/// The exit code by which a command says "not now".
const NOT_NOW: i32 = 75;

/// Epoll tokens: a slot's number times eight, plus what of it; these are the others.
const WAKE: u64 = u64::MAX;
const CONTROL: u64 = u64::MAX - 1;

/// What of a slot an epoll token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    End = 0,
    Stdout = 1,
    Stderr = 2,
    Control = 3,
    Stdin = 4,
}

/// What the writer thread has told and the dispatcher has not yet looked at.
#[derive(Default)]
pub(super) struct Commits {
    pub(super) changes: Vec<Change>,
    pub(super) counts: Option<Counts>,
    pub(super) failure: Option<Error>,
}

impl Commits {
    /// Notes what the writer thread tells.
    pub(super) fn add(&mut self, committed: Result<Committed>) {
        match committed {
            Ok(mut committed) => {
                self.changes.append(&mut committed.changes);
                self.counts = Some(committed.counts);
            }
            Err(failure) => self.failure = Some(failure),
        }
    }
}

/// How the command is started.
pub(super) struct Launch {
    pub(super) program: CString,
    pub(super) template: Template,
    /// `NAME=value`, the same for all attempts.
    pub(super) environment: Vec<CString>,
    pub(super) item_on_stdin: bool,
    pub(super) is_worker: bool,
    /// By source: whether its items are JSON.
    pub(super) items_are_json: bool,
    /// Makes idempotency keys unlike those of any other job.
    pub(super) uuid: String,
    pub(super) null: OwnedFd,
}

enum Slot {
    Idle,
    Command(Box<CommandAttempt>),
    Worker(Box<WorkerSlot>),
}

/// What a run needs from the outside.
pub(super) struct Parts<'a> {
    pub(super) options: &'a Options,
    pub(super) launch: Launch,
    pub(super) handle: Handle,
    pub(super) token: ShutdownToken,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) store: Arc<Store>,
    pub(super) commits: Arc<Mutex<Commits>>,
    pub(super) sink: Sink,
    pub(super) intake: Intake,
    pub(super) ledger: Ledger,
    pub(super) events: Events,
    pub(super) ownership: &'a mut Ownership,
    pub(super) control: Control,
    pub(super) polls_control: bool,
    pub(super) publisher: Publisher,
    pub(super) in_progress: InProgressFile,
    pub(super) counts: Counts,
    pub(super) logs: PathBuf,
    pub(super) total: Arc<Mutex<Option<u64>>>,
}

/// What the loop counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) failures: u64,
    pub(super) died: u64,
    pub(super) given_up: u64,
    pub(super) gave_up: bool,
    pub(super) work_left: bool,
}

/// An attempt that a stop signal ended while no stop was asked for: one may be about to arrive.
struct Held {
    until: Moment,
    ended: command::Ended,
}

/// The dispatcher at work.
pub(super) struct Dispatcher<'a> {
    parts: Parts<'a>,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    logs: Vec<RotatingLog>,
    controls: Vec<command::ControlPipe>,
    /// Slots whose note of what is in progress names an attempt that has ended.
    stale_lanes: Vec<bool>,
    buffer: Vec<u8>,
    tally: Tally,
    started: Moment,
    /// Items that were begun in this run, counted once however often they were attempted; only kept if there is a limit.
    begun: u64,
    /// Items that were begun in this run and wait for another attempt; only kept if there is a limit.
    begun_before: HashSet<u64>,
    paused_until: Option<Moment>,
    pause: Duration,
    held: Vec<Held>,
    lingering: Vec<Pid>,
    startup_deaths: u32,
    /// Whether a worker has answered anything in this run.
    any_answer: bool,
    announced: Phase,
    announced_requests: usize,
    terminating: bool,
    time_limit_reached: bool,
    /// Until when items are begun although a stop was asked for; decided when the request is seen.
    ready_until: Option<Moment>,
    looked_at_control: Moment,
    swept: Moment,
    forgotten: Forgotten,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(parts: Parts<'a>) -> Result<Self> {
        let refuse = |error: rustix::io::Errno| {
            Error::new(ErrorKind::Io, "cannot make the dispatcher's descriptors")
                .with_source(std::io::Error::from(error))
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(refuse)?;
        epoll::add(
            &epoll,
            &parts.handle.wake,
            EventData::new_u64(WAKE),
            EventFlags::IN,
        )
        .map_err(refuse)?;
        epoll::add(
            &epoll,
            &parts.control,
            EventData::new_u64(CONTROL),
            EventFlags::IN,
        )
        .map_err(refuse)?;
        let slots = parts.options.slots;
        let mut controls = Vec::new();
        if !parts.launch.is_worker {
            for slot in 0..slots {
                let pipe = command::ControlPipe::new().map_err(refuse)?;
                epoll::add(
                    &epoll,
                    pipe.reader(),
                    token(slot, Part::Control),
                    EventFlags::IN,
                )
                .map_err(refuse)?;
                controls.push(pipe);
            }
        }
        let logs = (0..slots)
            .map(|slot| RotatingLog::new(parts.logs.join(format!("slot-{slot}.log")), LOG_BYTES))
            .collect();
        let started = parts.token.clock().now();
        Ok(Self {
            epoll,
            slots: (0..slots).map(|_| Slot::Idle).collect(),
            logs,
            controls,
            stale_lanes: vec![false; slots],
            buffer: vec![0; 64 * 1024],
            tally: Tally::default(),
            started,
            begun: 0,
            begun_before: HashSet::new(),
            paused_until: None,
            pause: PAUSE,
            held: Vec::new(),
            lingering: Vec::new(),
            startup_deaths: 0,
            any_answer: false,
            announced: Phase::Running,
            announced_requests: 0,
            terminating: false,
            time_limit_reached: false,
            ready_until: None,
            looked_at_control: started,
            swept: started,
            forgotten: Forgotten::default(),
            parts,
        })
    }

    /// Works until all is done or a stop was carried out. An error leaves no child behind; what was acknowledged is durable.
    pub(super) fn run(mut self) -> (Result<Tally>, Sink) {
        let mut worked = self.work();
        match &worked {
            Ok(()) => self.parts.ledger.finish(&self.parts.store),
            Err(error) => {
                self.end_children_now();
                // What was committed meanwhile is told; and that the store is closed has a cause, which is what people need to know.
                if let Err(cause) = self.take_commits()
                    && error.kind() == ErrorKind::Closed
                {
                    worked = Err(cause);
                }
            }
        }
        self.update_gauge();
        let tally = Tally {
            work_left: !self.is_all_done(),
            ..self.tally
        };
        (worked.map(|()| tally), self.parts.sink)
    }

    fn work(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            self.take_commits()?;
            self.look_at_limits();
            self.look_at_stop()?;
            self.look_at_requests()?;
            self.settle_held();
            self.enforce_time_limits();
            if self.may_begin() {
                self.fill()?;
                self.look_at_item_limit()?;
            }
            self.clear_stale_lanes()?;
            self.flush_workers();
            self.parts.ledger.submit(&self.parts.store);
            self.update_gauge();
            if self.is_over() {
                return Ok(());
            }
            let timeout = self.next_timer().map(timespec);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(Error::new(ErrorKind::Io, "cannot wait for events")
                        .with_source(std::io::Error::from(error)));
                }
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    WAKE => self.parts.handle.wake.clear(),
                    CONTROL => self.look_at_control(),
                    other => {
                        let slot = usize::try_from(other / 8).unwrap_or(usize::MAX);
                        self.handle_slot(slot, other % 8)?;
                    }
                }
            }
        }
    }

    fn handle_slot(&mut self, slot: usize, part: u64) -> Result<()> {
        match self.slots.get(slot) {
            Some(Slot::Command(_)) => self.handle_command(slot, part),
            Some(Slot::Worker(_)) => self.handle_worker(slot, part),
            _ => {
                if part == Part::Control as u64
                    && let Some(control) = self.controls.get(slot)
                {
                    // What a stray descendant writes after its attempt is over concerns nobody.
                    control.discard();
                }
                Ok(())
            }
        }
    }

    fn now(&self) -> Moment {
        self.parts.token.clock().now()
    }

    fn take_commits(&mut self) -> Result<()> {
        let commits = std::mem::take(
            &mut *self
                .parts
                .commits
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if let Some(counts) = commits.counts {
            self.parts.counts = counts;
        }
        if !commits.changes.is_empty() {
            self.parts.ledger.committed(&commits.changes);
            for change in &commits.changes {
                if let Change::Total(total) = change {
                    self.parts
                        .handle
                        .gauge()
                        .total
                        .store(*total, Ordering::Relaxed);
                }
            }
            self.parts.intake.committed(&commits.changes);
            self.parts.sink.tell(commits.changes);
        }
        let total = self
            .parts
            .total
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(total) = total {
            self.parts.ledger.note(Change::Total(total));
        }
        commits.failure.map_or(Ok(()), Err)
    }

    /// Turns limits that are reached into stop requests.
    fn look_at_limits(&mut self) {
        let options = self.parts.options;
        if let Some(limit) = options.time_limit
            && !self.time_limit_reached
            && self.now().since(self.started) >= limit
        {
            self.time_limit_reached = true;
            self.parts.token.request(StopRequest::graceful(
                Source::Timeout,
                format!("time limit of {}", seconds(limit)),
            ));
        }
        if self.parts.sink.is_closed() && !self.parts.token.is_stopping() {
            self.parts.token.request(StopRequest::graceful(
                Source::Programmatic,
                "nobody reads the results any more",
            ));
        }
        if self.parts.polls_control
            && self.now().since(self.looked_at_control) >= Duration::from_secs(1)
        {
            self.look_at_control();
        }
        if let Some(max) = options.max_failures
            && !self.tally.gave_up
        {
            let settled = self.tally.done + self.tally.died;
            #[expect(
                clippy::cast_precision_loss,
                reason = "a share of a count needs no more than 52 bits"
            )]
            let reached = match max {
                MaxFailures::Count(count) => self.tally.died >= count.max(1),
                MaxFailures::Percent(percent) => {
                    settled >= 10 && self.tally.died as f64 * 100.0 > percent * settled as f64
                }
            };
            if reached && self.tally.died > 0 {
                self.tally.gave_up = true;
                let message = format!("{} items died", self.tally.died);
                self.parts
                    .token
                    .request(StopRequest::graceful(Source::Programmatic, message));
            }
        }
    }

    fn look_at_control(&mut self) {
        self.looked_at_control = self.now();
        if let Some(request) = self.parts.control.take() {
            self.parts.token.request(request);
        }
    }

    /// Carries out what the phase asks for.
    fn look_at_stop(&mut self) -> Result<()> {
        let token = self.parts.token.clone();
        if !token.is_stopping() {
            return Ok(());
        }
        let remaining = token.enforce_deadline().unwrap_or_default();
        let requests = token.requests();
        let in_progress = self.in_progress_count();
        for recorded in requests.iter().skip(self.announced_requests) {
            self.parts.events.interrupt_initiated(&recorded.request)?;
            self.parts.observer.notice(Notice::Stopping {
                request: recorded.request.clone(),
                in_progress,
                remaining,
            });
        }
        self.announced_requests = requests.len();
        if self.is_delayed(&requests) {
            // A help for the next run; the stop does not depend on it.
            let _ = self.parts.in_progress.mark_stopping();
            return Ok(());
        }
        let phase = token.phase();
        if phase > self.announced {
            self.announced = phase;
            // A help for the next run; the stop does not depend on it.
            let _ = self.parts.in_progress.mark_stopping();
            self.close_idle_workers();
        }
        if phase >= Phase::Terminating && !self.terminating {
            self.terminating = true;
            if in_progress > 0 {
                self.parts
                    .observer
                    .notice(Notice::Terminating { in_progress });
            }
            let kill_at = self.now() + self.parts.options.kill_after;
            for slot in &mut self.slots {
                match slot {
                    Slot::Idle => {}
                    Slot::Command(attempt) => attempt.ask_to_end(command::Ending::Stop, kill_at),
                    Slot::Worker(worker) => worker.ask_to_end(worker::Ending::Stop, kill_at),
                }
            }
        }
        Ok(())
    }

    /// Whether the stop is not to begin yet, so that others notice first that this program is not ready any more. What the run itself decided,
    /// a second request and the end of the time for draining begin it at once.
    fn is_delayed(&mut self, requests: &[Recorded]) -> bool {
        let delay = self.parts.options.ready_delay;
        if delay.is_zero() {
            return false;
        }
        let now = self.now();
        let until = *self.ready_until.get_or_insert(now + delay);
        let is_lone = matches!(requests, [only] if only.request.source != Source::Programmatic);
        let is_delayed = is_lone && now < until && self.parts.token.phase() < Phase::Terminating;
        if !is_delayed {
            self.ready_until = Some(now);
        }
        is_delayed
    }

    /// Whether a stop was asked for, and has begun.
    fn is_stopping(&self) -> bool {
        self.parts.token.is_stopping()
            && (self.parts.options.ready_delay.is_zero()
                || self.ready_until.is_some_and(|until| self.now() >= until))
    }

    /// Does what the handle was asked for.
    fn look_at_requests(&mut self) -> Result<()> {
        if self.parts.handle.take_describe() {
            let mut list = Vec::new();
            let now = self.now();
            for slot in &self.slots {
                match slot {
                    Slot::Idle => {}
                    Slot::Command(attempt) => list.push(attempt.describe(now)),
                    Slot::Worker(worker) => list.extend(worker.describe(now)),
                }
            }
            list.sort_by_key(|item: &InProgress| std::cmp::Reverse(item.age));
            self.parts.observer.notice(Notice::InProgress(list));
        }
        if self.parts.handle.take_suspend() {
            self.suspend()?;
        }
        Ok(())
    }

    fn suspend(&mut self) -> Result<()> {
        self.parts.events.write("suspended", json!({}))?;
        self.parts.observer.notice(Notice::Suspending);
        let clock = self.parts.token.clock().clone();
        clock.pause();
        for pid in self.groups() {
            signal_group(pid, Signal::STOP);
        }
        stop_self();
        for pid in self.groups() {
            signal_group(pid, Signal::CONT);
        }
        let stood = clock.resume();
        self.parts.events.write(
            "continued",
            json!({"suspended_seconds": stood.as_secs_f64()}),
        )?;
        self.parts.observer.notice(Notice::Continued);
        Ok(())
    }

    fn groups(&self) -> Vec<Pid> {
        let group = |slot: &Slot| match slot {
            Slot::Idle => None,
            Slot::Command(attempt) => Some(attempt.pid()),
            Slot::Worker(worker) => Some(worker.pid()),
        };
        self.slots.iter().filter_map(group).collect()
    }

    /// Decides about attempts that a signal ended, once the time in which a stop could have arrived is over.
    fn settle_held(&mut self) {
        let now = self.now();
        let stopping = self.parts.token.is_stopping();
        let (ripe, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| stopping || now >= held.until);
        self.held = held;
        for held in ripe {
            if stopping {
                self.give_up(held.ended.work);
            } else {
                self.fail_command(held.ended);
            }
        }
    }

    fn enforce_time_limits(&mut self) {
        let now = self.now();
        let kill_after = self.parts.options.kill_after;
        let timeout = self.parts.options.timeout;
        for slot in &mut self.slots {
            match slot {
                Slot::Idle => {}
                Slot::Command(attempt) => attempt.enforce(now, timeout, kill_after),
                Slot::Worker(worker) => worker.enforce(now, timeout, kill_after),
            }
        }
        self.lingering
            .retain(|group| !wait_for_group(*group, Duration::ZERO));
        if self.parts.options.owns_process && now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.forgotten.look(&self.groups());
        }
    }

    fn may_begin(&mut self) -> bool {
        if let Some(until) = self.paused_until {
            if self.now() < until {
                return false;
            }
            self.paused_until = None;
            self.parts
                .handle
                .gauge()
                .is_paused
                .store(false, Ordering::Relaxed);
            self.parts.ownership.set_status("running");
            // The events only tell; that one could not be written is told by the next write that matters.
            let _ = self.parts.events.write("resumed", json!({}));
        }
        !self.is_stopping()
    }

    /// Begins as much as there is room for, one item for each slot at a time, so that a short input is spread over all slots.
    fn fill(&mut self) -> Result<()> {
        let depth = if self.parts.launch.is_worker {
            self.parts.options.pipeline
        } else {
            1
        };
        for round in 0..depth {
            let mut begun = false;
            for slot in 0..self.slots.len() {
                if !self.has_room(slot, round) {
                    continue;
                }
                if !self.parts.ledger.has_room()
                    || self.parts.sink.backlog() > MAX_BACKLOG
                    || self.limit_reached()
                {
                    return Ok(());
                }
                let parts = &mut self.parts;
                let Some(work) =
                    parts
                        .intake
                        .next(&mut parts.ledger, &parts.store, parts.observer)?
                else {
                    return Ok(());
                };
                self.count_begun(work.index);
                begun = true;
                if self.parts.launch.is_worker {
                    self.begin_in_worker(slot, work)?;
                } else {
                    self.begin_command(slot, work)?;
                }
                if self.paused_until.is_some() {
                    return Ok(());
                }
            }
            if !begun {
                break;
            }
        }
        self.help_straggler();
        Ok(())
    }

    /// Whether the run has begun as many items as it may.
    fn limit_reached(&self) -> bool {
        self.parts
            .options
            .limit
            .is_some_and(|limit| self.begun >= limit)
    }

    fn count_begun(&mut self, index: u64) {
        if self.parts.options.limit.is_some() && !self.begun_before.remove(&index) {
            self.begun += 1;
        }
    }

    /// An item that was begun goes back uncounted: when it is begun again, that is the first time.
    fn uncount_begun(&mut self) {
        self.begun = self.begun.saturating_sub(1);
    }

    /// Asks for a stop once all items that may be begun were, none is in progress any more, and there is more to do. Until then no
    /// grace period runs: what was begun may take its time.
    fn look_at_item_limit(&mut self) -> Result<()> {
        let Some(limit) = self.parts.options.limit.filter(|_| self.limit_reached()) else {
            return Ok(());
        };
        if self.in_progress_count() > 0
            || !self.held.is_empty()
            || self.parts.token.is_stopping()
            || !self.parts.ledger.is_settled()
        {
            return Ok(());
        }
        let parts = &mut self.parts;
        if parts.intake.has_more(&mut parts.ledger, &parts.store)? {
            parts.token.request(StopRequest::graceful(
                Source::Programmatic,
                format!("limit of {limit} items"),
            ));
            parts.handle.wake.call();
        }
        Ok(())
    }

    fn has_room(&self, slot: usize, round: usize) -> bool {
        match &self.slots[slot] {
            Slot::Idle => true,
            Slot::Command(_) => false,
            Slot::Worker(worker) => worker.has_room(round + 1),
        }
    }

    /// Gives a row to the item that holds the frontier back most.
    fn help_straggler(&mut self) {
        let Some(index) = self.parts.ledger.straggler(STRAGGLER) else {
            return;
        };
        let found = self.slots.iter_mut().find_map(|slot| match slot {
            Slot::Idle => None,
            Slot::Command(attempt) => Some(attempt.work_mut()).filter(|work| work.index == index),
            Slot::Worker(worker) => worker.works_mut().find(|work| work.index == index),
        });
        if let Some(work) = found
            && work.from.is_none()
        {
            let copy = Work {
                key: work.key.clone(),
                content: work.content.clone(),
                alone: false,
                ..*work
            };
            work.from = Some(crate::queue::State::Pending);
            self.parts.ledger.take_row(index);
            self.parts
                .ledger
                .note(intake::settle_unattempted(copy, Verdict::PutAside));
        }
    }

    /// Puts back an item whose attempt was ended by a stop: neither done nor failed.
    fn give_up(&mut self, work: Work) {
        self.tally.given_up += 1;
        self.parts.intake.put_back(work);
    }

    /// Notes that an attempt failed, and when the item is attempted again.
    fn fail(
        &mut self,
        work: Work,
        began: Began,
        error: String,
        exit: Option<Exit>,
        stderr: Vec<u8>,
        again: Again,
    ) {
        let attempt = work.attempt();
        let attempts = work.attempts + 1;
        // The wait counts from the attempts that failed; crashes of the runner are bounded on their own.
        let wait = match again {
            Again::Never => None,
            Again::AsPolicy => self.parts.options.retry.wait_after(attempts, work.index),
            Again::After(least) => self
                .parts
                .options
                .retry
                .wait_after(attempts, work.index)
                .map(|wait| wait.max(least)),
        };
        self.tally.failures += 1;
        if wait.is_none() {
            self.tally.died += 1;
        } else if self.parts.options.limit.is_some() {
            self.begun_before.insert(work.index);
        }
        self.parts.observer.notice(Notice::AttemptFailed {
            key: work.key().into_owned(),
            attempt,
            error: error.clone(),
            again_in: wait,
        });
        let again_at_ms =
            wait.map(|wait| wall_ms() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2));
        let (exit_code, signal) = match exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        let verdict = Verdict::Failed {
            error,
            exit_code,
            signal,
            stderr,
            again_at_ms,
        };
        self.settle(work, began, attempts, verdict);
    }

    fn succeed(
        &mut self,
        work: Work,
        began: Began,
        exit_code: Option<i32>,
        result: Vec<u8>,
        omitted: u64,
    ) {
        self.tally.done += 1;
        self.pause = PAUSE;
        let attempts = work.attempts + 1;
        self.settle(
            work,
            began,
            attempts,
            Verdict::Done {
                exit_code,
                result,
                omitted,
            },
        );
    }

    fn settle(&mut self, work: Work, began: Began, attempts: u32, verdict: Verdict) {
        let duration = self.now().since(began.at);
        self.parts.handle.gauge().durations.add(duration);
        self.parts.ledger.note(Change::Settle(Box::new(Settlement {
            index: work.index,
            key: work.key,
            content: work.content,
            from: work.from,
            attempts,
            crashes: work.crashes,
            started_at_ms: began.wall_ms,
            duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            verdict,
        })));
    }

    /// Begins nothing for a while.
    fn pause_for(&mut self, asked: Option<Duration>) {
        let lasts = asked.unwrap_or(self.pause);
        if asked.is_none() {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        let until = self.now() + lasts;
        if self.paused_until.is_some_and(|earlier| earlier >= until) {
            return;
        }
        self.paused_until = Some(until);
        self.parts
            .handle
            .gauge()
            .is_paused
            .store(true, Ordering::Relaxed);
        self.parts.ownership.set_status("paused_rate_limit");
        let _ = self
            .parts
            .events
            .write("paused_rate_limit", json!({"seconds": lasts.as_secs_f64()}));
        self.parts.observer.notice(Notice::Paused { lasts });
    }

    fn in_progress_count(&self) -> usize {
        let count = |slot: &Slot| match slot {
            Slot::Idle => 0,
            Slot::Command(_) => 1,
            Slot::Worker(worker) => worker.len(),
        };
        self.slots.iter().map(count).sum()
    }

    fn update_gauge(&self) {
        let gauge = self.parts.handle.gauge();
        let counts = self.parts.counts;
        // Relaxed: numbers to look at, each on its own.
        gauge.done.store(counts.done, Ordering::Relaxed);
        gauge.done_now.store(self.tally.done, Ordering::Relaxed);
        gauge.dead.store(counts.dead, Ordering::Relaxed);
        gauge
            .waiting
            .store(counts.waiting + counts.pending, Ordering::Relaxed);
        gauge.duplicate.store(counts.duplicate, Ordering::Relaxed);
        gauge.failures.store(self.tally.failures, Ordering::Relaxed);
        gauge
            .in_progress
            .store(self.in_progress_count() as u64, Ordering::Relaxed);
        let elapsed = self.now().since(self.started).as_micros();
        gauge.elapsed_us.store(
            u64::try_from(elapsed).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    fn is_all_done(&self) -> bool {
        self.parts.intake.is_empty() && self.in_progress_count() == 0 && self.held.is_empty()
    }

    fn is_over(&mut self) -> bool {
        let finished = self.parts.ledger.is_settled()
            && self.in_progress_count() == 0
            && self.held.is_empty()
            && (self.is_stopping() || self.parts.intake.is_empty());
        if !finished {
            return false;
        }
        self.close_idle_workers();
        self.slots.iter().all(|slot| matches!(slot, Slot::Idle))
    }

    /// How long nothing needs to be done unless something happens.
    fn next_timer(&self) -> Option<Duration> {
        let now = self.now();
        let until = |moment: Moment| moment.since(now);
        let mut waits: Vec<Duration> = self.held.iter().map(|held| until(held.until)).collect();
        if !self.lingering.is_empty() {
            waits.push(Duration::from_millis(5));
        }
        if self.parts.options.owns_process && self.in_progress_count() > 0 {
            waits.push(until(self.swept + SWEEP));
        }
        if self.parts.polls_control {
            waits.push(Duration::from_secs(1));
        }
        for slot in &self.slots {
            waits.extend(match slot {
                Slot::Idle => None,
                Slot::Command(attempt) => attempt.next_timer(self.parts.options.timeout).map(until),
                Slot::Worker(worker) => worker
                    .next_timer(self.parts.options.timeout, self.parts.options.kill_after)
                    .map(until),
            });
        }
        if self.parts.token.is_stopping() && !self.terminating {
            waits.extend(self.parts.token.remaining());
            waits.extend(self.ready_until.map(until).filter(|wait| !wait.is_zero()));
        }
        if !self.is_stopping() {
            waits.extend(self.paused_until.map(until));
            if self.paused_until.is_none()
                && let Some(due) = self.parts.intake.due_in_ms()
                && (0..self.slots.len())
                    .any(|slot| self.has_room(slot, self.parts.options.pipeline - 1))
                && self.parts.ledger.has_room()
            {
                // A due item that is still in hand shows itself when its change is durable; looking again in a while is enough.
                waits.push(Duration::from_millis(due.max(1)));
            }
            waits.extend(
                self.parts
                    .options
                    .time_limit
                    .filter(|_| !self.time_limit_reached)
                    .map(|limit| until(self.started + limit)),
            );
        }
        waits.into_iter().min()
    }

    /// Kills all children without waiting for anything to be recorded: the run cannot go on.
    fn end_children_now(&mut self) {
        for pid in self.groups() {
            signal_group(pid, Signal::KILL);
        }
        for slot in &mut self.slots {
            let reaped = |child: &crate::process::Child| {
                for _ in 0..200 {
                    if child.reap().is_some() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            };
            match slot {
                Slot::Idle => {}
                Slot::Command(attempt) => reaped(attempt.child()),
                Slot::Worker(worker) => reaped(worker.child()),
            }
        }
    }

    fn set_group(&self, slot: usize, group: Option<Pid>) {
        self.parts.handle.groups.set(slot, group);
    }

    fn log_stderr(&mut self, slot: usize, tail: &mut Tail, bytes: &[u8]) {
        tail.push(bytes);
        // A log is a help: that it cannot be written must not fail the attempt.
        let _ = self.logs[slot].append(bytes);
    }
}

/// When an attempt began.
#[derive(Debug, Clone, Copy)]
struct Began {
    at: Moment,
    wall_ms: i64,
}

/// Whether a failed item is attempted again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Again {
    /// As the policy says.
    AsPolicy,
    /// As the policy says, but not before this time.
    After(Duration),
    /// No.
    Never,
}

fn token(slot: usize, part: Part) -> EventData {
    EventData::new_u64(slot as u64 * 8 + part as u64)
}

fn watch(
    epoll: &OwnedFd,
    descriptor: impl AsFd,
    slot: usize,
    part: Part,
    flags: EventFlags,
) -> Result<()> {
    epoll::add(epoll, descriptor, token(slot, part), flags).map_err(|error| {
        Error::new(ErrorKind::Io, "cannot watch a child's pipe")
            .with_source(std::io::Error::from(error))
    })
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| {
        Error::new(ErrorKind::Io, "cannot make a pipe")
            .with_source(std::io::Error::from(error))
            .with_hint("the limit of open files may be too low for so many slots: see `ulimit -n`")
    })
}

fn set_nonblocking(descriptor: impl AsFd) -> Result<()> {
    rustix::io::ioctl_fionbio(descriptor, true).map_err(|error| {
        Error::new(ErrorKind::Io, "cannot set up a pipe").with_source(std::io::Error::from(error))
    })
}

/// A duration in seconds as people write it.
fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
