//! Persistent workers: one process per slot, many items through it.
//!
//! A worker that fails with one item in flight fails that item. With several in flight nobody knows which one was at fault, so none is
//! blamed: each runs again *alone*, with nothing else in its worker, and the next fault has one culprit.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};
use rustix::process::{Pid, Signal};

use super::command::is_stop_exit;
use super::{
    Again, Began, Dispatcher, Part, STARTUP_DEATHS, Slot, pipe, set_nonblocking, token, watch,
};
use crate::clock::{Moment, wall_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::job::capture::{Read, Tail, read_available};
use crate::job::in_progress::Entry;
use crate::job::notice::{InProgress, Notice};
use crate::job::protocol::{Answer, MAX_ANSWER, shorten, write_request};
use crate::job::template::Values;
use crate::job::work::Work;
use crate::process::{Child, Exit, SpawnRequest, spawn};

/// Why a worker is being ended by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its oldest item took longer than it may.
    TimedOut,
    /// A stop is under way, or nothing is left to do and it does not go.
    Stop,
    /// It broke the protocol.
    Fault(String),
}

/// An item that a worker has.
struct Lane {
    id: u64,
    work: Work,
    began: Began,
    progress: Option<String>,
}

/// A worker and what it has.
pub(super) struct WorkerSlot {
    child: Child,
    stdin: Option<OwnedFd>,
    out: Vec<u8>,
    written: usize,
    is_waiting_to_write: bool,
    stdout: Option<OwnedFd>,
    line: Vec<u8>,
    stderr: Option<OwnedFd>,
    tail: Tail,
    lanes: VecDeque<Lane>,
    next_id: u64,
    answered: u64,
    warned_of_repeat: bool,
    /// When the oldest item began to be worked on, as far as we can know: at its own start or at the answer before it.
    head_since: Moment,
    lanes_changed: bool,
    ending: Option<(Ending, Option<Moment>)>,
    closed_at: Option<Moment>,
    /// When it closed its input, having read all that was written. It may still answer, but gets nothing more.
    deaf_since: Option<Moment>,
    /// When it closed a pipe although it lives and something was to go through, and which.
    hung_up: Option<(Moment, &'static str)>,
}

impl WorkerSlot {
    pub(super) fn pid(&self) -> Pid {
        self.child.pid()
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn works_mut(&mut self) -> impl Iterator<Item = &mut Work> {
        self.lanes.iter_mut().map(|lane| &mut lane.work)
    }

    /// Whether it may get another item, so that it has at most `depth`.
    pub(super) fn has_room(&self, depth: usize) -> bool {
        self.ending.is_none()
            && self.stdin.is_some()
            && self.stdout.is_some()
            && self.lanes.len() < depth
            && !self.lanes.front().is_some_and(|lane| lane.work.alone)
    }

    pub(super) fn ask_to_end(&mut self, why: Ending, kill_at: Moment) {
        if self.ending.is_none() {
            self.child.signal(Signal::TERM);
            self.child.signal(Signal::CONT);
            self.ending = Some((why, Some(kill_at)));
        }
    }

    pub(super) fn enforce(&mut self, now: Moment, timeout: Option<Duration>, kill_after: Duration) {
        if let Some((why, Some(kill_at))) = &self.ending
            && now >= *kill_at
        {
            self.child.signal(Signal::KILL);
            self.ending = Some((why.clone(), None));
        }
        if self.ending.is_some() {
            return;
        }
        if let Some(timeout) = timeout
            && self
                .head_began()
                .is_some_and(|began| now >= began + timeout)
        {
            self.ask_to_end(Ending::TimedOut, now + kill_after);
        } else if self
            .idle_since()
            .is_some_and(|idle| now >= idle + kill_after)
        {
            self.ask_to_end(Ending::Stop, now + kill_after);
        } else if let Some((closed_at, what)) = self.hung_up
            && now >= closed_at + kill_after
        {
            self.ask_to_end(Ending::Fault(what.to_owned()), now + kill_after);
        }
    }

    /// Since when it has nothing to do, if it was told that nothing more comes, or does not listen.
    fn idle_since(&self) -> Option<Moment> {
        self.closed_at
            .or(self.deaf_since)
            .filter(|_| self.lanes.is_empty())
            .map(|closed_at| closed_at.max(self.head_since))
    }

    /// Notes that it closed one of its pipes. It is probably about to end, and gets a while for that.
    fn hang_up(&mut self, now: Moment, what: &'static str) {
        if self.hung_up.is_none() {
            self.hung_up = Some((now, what));
        }
    }

    fn head_began(&self) -> Option<Moment> {
        self.lanes
            .front()
            .map(|head| head.began.at.max(self.head_since))
    }

    pub(super) fn next_timer(
        &self,
        timeout: Option<Duration>,
        kill_after: Duration,
    ) -> Option<Moment> {
        if let Some((_, kill_at)) = &self.ending {
            return *kill_at;
        }
        let timed_out = timeout.and_then(|timeout| Some(self.head_began()? + timeout));
        let idle = self.idle_since().map(|idle| idle + kill_after);
        let hung_up = self.hung_up.map(|(at, _)| at + kill_after);
        [timed_out, idle, hung_up].into_iter().flatten().min()
    }

    pub(super) fn describe(&self, now: Moment) -> Vec<InProgress> {
        let describe = |lane: &Lane| InProgress {
            key: lane.work.key().into_owned(),
            attempt: lane.work.attempt(),
            pid: self.pid().as_raw_nonzero().get().unsigned_abs(),
            age: now.since(lane.began.at),
            progress: lane.progress.clone(),
        };
        self.lanes.iter().map(describe).collect()
    }

    /// Writes what is waiting to be written, as far as the pipe takes it.
    fn write_out(&mut self, now: Moment) {
        let Some(stdin) = &self.stdin else { return };
        self.is_waiting_to_write = false;
        while self.written < self.out.len() {
            match rustix::io::write(stdin, &self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.is_waiting_to_write = true;
                    return;
                }
                // It is gone or going; its end says what becomes of its items.
                Err(_) => {
                    self.stdin = None;
                    self.hang_up(now, "closed its standard input");
                    break;
                }
            }
        }
        self.out.clear();
        self.written = 0;
    }
}

impl Dispatcher<'_> {
    /// Hands an item to the worker of a slot, starting one if there is none.
    pub(super) fn begin_in_worker(&mut self, slot: usize, work: Work) -> Result<()> {
        if matches!(self.slots[slot], Slot::Idle) {
            let worker = self.start_worker(slot)?;
            self.slots[slot] = Slot::Worker(Box::new(worker));
        }
        let now = self.now();
        let is_json = self.parts.launch.items_are_json;
        let Slot::Worker(worker) = &mut self.slots[slot] else {
            return Ok(());
        };
        if work.alone && !worker.lanes.is_empty() {
            self.parts.intake.put_back(work);
            self.uncount_begun();
            return Ok(());
        }
        // The reader has refused what JSON cannot carry; a retried dead item comes from its row and is looked at here.
        let is_fit = work.from.is_none()
            || if is_json {
                serde_json::from_slice::<serde::de::IgnoredAny>(&work.content).is_ok()
            } else {
                std::str::from_utf8(&work.content).is_ok()
            };
        if !is_fit {
            let began = Began {
                at: now,
                wall_ms: wall_ms(),
            };
            self.fail(
                work,
                began,
                "the item is not valid JSON or UTF-8, which a worker needs".to_owned(),
                None,
                Vec::new(),
                Again::Never,
            );
            return Ok(());
        }
        let id = worker.next_id;
        worker.next_id += 1;
        write_request(
            &mut worker.out,
            id,
            work.index,
            &work.key(),
            work.attempt(),
            &work.content,
            is_json,
        );
        worker.lanes.push_back(Lane {
            id,
            work,
            began: Began {
                at: now,
                wall_ms: wall_ms(),
            },
            progress: None,
        });
        worker.lanes_changed = true;
        Ok(())
    }

    fn start_worker(&mut self, slot: usize) -> Result<WorkerSlot> {
        let words = self.parts.launch.template.fill(Values {
            index: 0,
            key: "",
            content: b"",
        });
        let words = words.map_err(Error::invalid)?;
        let (stdin_reader, stdin) = pipe()?;
        let (stdout, stdout_writer) = pipe()?;
        let (stderr, stderr_writer) = pipe()?;
        for descriptor in [&stdin, &stdout, &stderr] {
            set_nonblocking(descriptor)?;
        }
        let launch = &self.parts.launch;
        let child = spawn(&SpawnRequest {
            program: &launch.program,
            arguments: &words,
            environment: &launch.environment,
            stdin: stdin_reader.as_fd(),
            stdout: stdout_writer.as_fd(),
            stderr: stderr_writer.as_fd(),
            control: None,
        })?;
        watch(&self.epoll, child.pidfd(), slot, Part::End, EventFlags::IN)?;
        watch(&self.epoll, &stdout, slot, Part::Stdout, EventFlags::IN)?;
        watch(&self.epoll, &stderr, slot, Part::Stderr, EventFlags::IN)?;
        watch(&self.epoll, &stdin, slot, Part::Stdin, EventFlags::empty())?;
        self.set_group(slot, Some(child.pid()));
        let _ = self.logs[slot].append(
            format!("== worker {slot} pid {} ==\n", child.pid().as_raw_nonzero()).as_bytes(),
        );
        Ok(WorkerSlot {
            child,
            stdin: Some(stdin),
            out: Vec::new(),
            written: 0,
            is_waiting_to_write: false,
            stdout: Some(stdout),
            line: Vec::new(),
            stderr: Some(stderr),
            tail: Tail::default(),
            lanes: VecDeque::new(),
            next_id: 0,
            answered: 0,
            warned_of_repeat: false,
            head_since: Moment::default(),
            lanes_changed: false,
            ending: None,
            closed_at: None,
            deaf_since: None,
            hung_up: None,
        })
    }

    /// Writes the requests that were made since the last call, and notes who has what.
    pub(super) fn flush_workers(&mut self) {
        if !self.parts.launch.is_worker {
            return;
        }
        let per_slot = self.parts.options.pipeline;
        let now = self.now();
        for slot in 0..self.slots.len() {
            let Slot::Worker(worker) = &mut self.slots[slot] else {
                continue;
            };
            if std::mem::take(&mut worker.lanes_changed) {
                let pid = worker.pid().as_raw_nonzero().get().unsigned_abs();
                let ticks = worker.child.started_ticks;
                let entry = |lane: &Lane| Entry {
                    index: lane.work.index,
                    attempt: lane.work.attempt(),
                    pid,
                    started_at_ms: lane.began.wall_ms,
                    ticks,
                };
                // The file serves `status` and the next run after a kill; the work itself does not depend on it.
                let _ = self.parts.in_progress.write(
                    slot * per_slot,
                    per_slot,
                    worker.lanes.iter().map(entry),
                );
            }
            let was_waiting = worker.is_waiting_to_write;
            if !worker.out.is_empty() && !was_waiting {
                worker.write_out(now);
            }
            self.set_write_interest(slot, was_waiting);
        }
    }

    /// Brings epoll's interest in a worker's input in line with whether something waits to be written.
    fn set_write_interest(&mut self, slot: usize, was_waiting: bool) {
        let Slot::Worker(worker) = &self.slots[slot] else {
            return;
        };
        if worker.is_waiting_to_write != was_waiting
            && let Some(stdin) = &worker.stdin
        {
            let flags = if worker.is_waiting_to_write {
                EventFlags::OUT
            } else {
                EventFlags::empty()
            };
            let _ = epoll::modify(&self.epoll, stdin, token(slot, Part::Stdin), flags);
        }
    }

    pub(super) fn handle_worker(&mut self, slot: usize, part: u64) -> Result<()> {
        let Slot::Worker(mut worker) = std::mem::replace(&mut self.slots[slot], Slot::Idle) else {
            return Ok(());
        };
        if part == Part::End as u64 {
            // Answers that it wrote before it ended count.
            self.read_answers(slot, &mut worker, 1024);
            self.read_worker_stderr(slot, &mut worker, 1024);
            if let Some((exit, lingers)) = worker.child.reap() {
                return self.end_worker(slot, *worker, exit, lingers);
            }
        } else if part == Part::Stdout as u64 {
            self.read_answers(slot, &mut worker, 4);
        } else if part == Part::Stderr as u64 {
            self.read_worker_stderr(slot, &mut worker, 4);
        } else if part == Part::Stdin as u64 {
            let was_waiting = worker.is_waiting_to_write;
            if worker.out.is_empty() {
                // Nothing was to be written, so this can only say that nobody reads any more; it would be said again and again.
                worker.stdin = None;
                worker.deaf_since = Some(self.now());
            }
            worker.write_out(self.now());
            if worker.closed_at.is_some() && worker.out.is_empty() {
                worker.stdin = None;
            }
            self.slots[slot] = Slot::Worker(worker);
            self.set_write_interest(slot, was_waiting);
            return Ok(());
        }
        self.slots[slot] = Slot::Worker(worker);
        Ok(())
    }

    fn read_worker_stderr(&mut self, slot: usize, worker: &mut WorkerSlot, rounds: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut read = Vec::new();
        if let Some(stderr) = &worker.stderr
            && read_available(stderr, &mut buffer, rounds, |bytes| {
                read.extend_from_slice(bytes);
            }) == Read::Ended
        {
            worker.stderr = None;
        }
        self.buffer = buffer;
        if !read.is_empty() {
            self.log_stderr(slot, &mut worker.tail, &read);
        }
    }

    fn read_answers(&mut self, slot: usize, worker: &mut WorkerSlot, rounds: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut held = std::mem::take(&mut worker.line);
        let mut ended = Read::Open;
        if let Some(stdout) = &worker.stdout {
            ended = read_available(stdout, &mut buffer, rounds, |bytes| {
                held.extend_from_slice(bytes);
            });
        }
        self.buffer = buffer;
        let mut from = 0;
        while let Some(end) = memchr::memchr(b'\n', &held[from..]) {
            let line = &held[from..from + end];
            from += end + 1;
            if worker.ending.is_none()
                && let Err(fault) = self.take_answer(slot, worker, line)
            {
                self.parts.observer.notice(Notice::WorkerFault {
                    slot,
                    error: fault.clone(),
                });
                let kill_at = self.now() + self.parts.options.kill_after;
                worker.ask_to_end(Ending::Fault(fault), kill_at);
            }
        }
        held.drain(..from);
        if held.len() > MAX_ANSWER && worker.ending.is_none() {
            let fault = format!("wrote a line of more than {} MiB", MAX_ANSWER / 1024 / 1024);
            self.parts.observer.notice(Notice::WorkerFault {
                slot,
                error: fault.clone(),
            });
            let kill_at = self.now() + self.parts.options.kill_after;
            worker.ask_to_end(Ending::Fault(fault), kill_at);
        }
        if worker.ending.is_some() {
            held.clear();
        }
        worker.line = held;
        if ended == Read::Ended {
            worker.stdout = None;
            worker.hang_up(self.now(), "closed its standard output");
        }
    }

    /// Takes one line from a worker. The error says how it broke the protocol.
    fn take_answer(
        &mut self,
        slot: usize,
        worker: &mut WorkerSlot,
        line: &[u8],
    ) -> std::result::Result<(), String> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let answer = Answer::parse(line)?;
        self.parts.ledger_cost(answer.cost_micros());
        let Some(id) = answer.id else {
            return Err(format!(
                "wrote an answer without an `id`: `{}`",
                shorten(line)
            ));
        };
        let Some(place) = worker.lanes.iter().position(|lane| lane.id == id) else {
            if id >= worker.next_id {
                return Err(format!("answered id {id}, which it was never given"));
            }
            if answer.is_final() && !std::mem::replace(&mut worker.warned_of_repeat, true) {
                let error = format!("answered id {id} twice; the first answer counts");
                self.parts
                    .observer
                    .notice(Notice::WorkerFault { slot, error });
            }
            return Ok(());
        };
        if let Some(progress) = answer.progress {
            worker.lanes[place].progress = Some(progress.get().to_owned());
        }
        if !answer.is_final() {
            return Ok(());
        }
        let Some(lane) = worker.lanes.remove(place) else {
            return Ok(());
        };
        worker.lanes_changed = true;
        worker.answered += 1;
        if place == 0 {
            // The next one is worked on from now; an answer out of turn says nothing of the oldest.
            worker.head_since = self.now();
        }
        self.startup_deaths = 0;
        self.any_answer = true;
        let retry_after = answer.retry_after();
        if let Some(error) = answer.error {
            let again = match (answer.retry, retry_after) {
                (Some(false), _) => Again::Never,
                (_, Some(after)) => Again::After(after),
                _ => Again::AsPolicy,
            };
            self.fail(
                lane.work,
                lane.began,
                error.into_owned(),
                None,
                Vec::new(),
                again,
            );
        } else if let Some(result) = answer.result {
            // Whole, or it would no longer be JSON; its line is bounded.
            let bytes = result.get().as_bytes().to_vec();
            self.succeed(lane.work, lane.began, None, bytes, 0);
        }
        Ok(())
    }

    /// Decides what becomes of the items of a worker that has ended.
    fn end_worker(
        &mut self,
        slot: usize,
        mut worker: WorkerSlot,
        exit: Exit,
        lingers: bool,
    ) -> Result<()> {
        self.set_group(slot, None);
        if lingers {
            self.lingering.push(worker.pid());
        }
        let per_slot = self.parts.options.pipeline;
        let _ = self
            .parts
            .in_progress
            .write(slot * per_slot, per_slot, std::iter::empty());
        let why = worker.ending.take().map(|(why, _)| why);
        let stopping = self.parts.token.is_stopping();
        // A worker that was told that nothing more comes may leave with what it has not begun.
        let by_the_stop = stopping && (worker.closed_at.is_some() || is_stop_exit(exit));
        if why == Some(Ending::Stop) || (why.is_none() && by_the_stop) {
            for lane in worker.lanes {
                self.give_up(lane.work);
            }
            return Ok(());
        }
        if worker.answered == 0
            && worker.closed_at.is_none()
            && !matches!(why, Some(Ending::TimedOut))
        {
            // Where workers do work, one that died of an item that had failed before tells nothing new.
            if !self.any_answer || worker.lanes.iter().all(|lane| lane.work.attempts == 0) {
                self.startup_deaths += 1;
            }
            let how = match &why {
                Some(Ending::Fault(fault)) => fault.clone(),
                _ => format!("ended ({})", exit.describe()),
            };
            if !self.any_answer {
                // No worker has ever worked, so that this one did not says nothing about its items.
                for lane in worker.lanes {
                    self.uncount_begun();
                    self.parts.intake.put_back_last(Work {
                        alone: true,
                        ..lane.work
                    });
                }
                if self.startup_deaths >= STARTUP_DEATHS {
                    return Err(self.no_worker_works(&how, &worker.tail));
                }
                self.parts
                    .observer
                    .notice(Notice::WorkerFault { slot, error: how });
                return Ok(());
            }
            if self.startup_deaths >= STARTUP_DEATHS {
                for lane in worker.lanes {
                    self.parts.intake.put_back(lane.work);
                }
                return Err(self.no_worker_works(&how, &worker.tail));
            }
        }
        let what = match &why {
            Some(Ending::TimedOut) => {
                format!(
                    "timed out after {}",
                    super::seconds(self.parts.options.timeout.unwrap_or_default())
                )
            }
            Some(Ending::Fault(fault)) => format!("worker {slot} {fault}"),
            _ => {
                let line = worker
                    .tail
                    .last_line()
                    .map_or_else(String::new, |line| format!(": {line}"));
                format!(
                    "worker {slot} ended ({}) with this item in progress{line}",
                    exit.describe()
                )
            }
        };
        if why.is_none() && !worker.lanes.is_empty() {
            self.parts.observer.notice(Notice::WorkerFault {
                slot,
                error: format!("ended ({})", exit.describe()),
            });
        }
        let has_culprit = worker.lanes.len() == 1 || why == Some(Ending::TimedOut);
        let stderr = worker.tail.bytes().to_vec();
        for (place, lane) in worker.lanes.into_iter().enumerate() {
            if place == 0 && has_culprit {
                self.fail(
                    lane.work,
                    lane.began,
                    what.clone(),
                    Some(exit),
                    stderr.clone(),
                    Again::AsPolicy,
                );
            } else {
                let alone = lane.work.alone || why != Some(Ending::TimedOut);
                self.uncount_begun();
                self.parts.intake.put_back(Work { alone, ..lane.work });
            }
        }
        Ok(())
    }

    /// The error that ends a run whose workers do not get as far as an answer.
    fn no_worker_works(&self, how: &str, tail: &Tail) -> Error {
        let last = tail
            .last_line()
            .map_or_else(String::new, |line| format!("; it last said: {line}"));
        let message = format!(
            "{STARTUP_DEATHS} workers in a row came to their end before they answered anything; the last one {how}{last}"
        );
        let logs = self.parts.logs.display().to_string();
        Error::new(ErrorKind::Closed, message).with_hint(format!(
            "mend the worker, then run the same command again; what workers wrote is in `{logs}`"
        ))
    }

    /// Tells workers without an item that nothing more comes.
    pub(super) fn close_idle_workers(&mut self) {
        let now = self.now();
        for slot in &mut self.slots {
            if let Slot::Worker(worker) = slot
                && worker.closed_at.is_none()
            {
                worker.closed_at = Some(now);
                worker.write_out(now);
                if worker.out.is_empty() {
                    worker.stdin = None;
                }
            }
        }
    }
}
