//! One-shot commands: one process per attempt.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use super::{
    Again, Began, Dispatcher, HOLD, Held, NOT_NOW, Part, Slot, pipe, set_nonblocking, watch,
};
use crate::clock::{Moment, wall_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::job::capture::{Head, MAX_STDERR_TAIL, Read, Tail, read_available};
use crate::job::in_progress::Entry;
use crate::job::notice::{InProgress, Notice};
use crate::job::protocol::Answer;
use crate::job::template::Values;
use crate::job::work::Work;
use crate::process::{Child, Exit, SpawnRequest, spawn};
use crate::queue::Change;

/// The longest single argument, in bytes. Source: `MAX_ARG_STRLEN` in the kernel's include/uapi/linux/binfmts.h.
const MAX_ARGUMENT: usize = 128 * 1024 - 1;

/// The pipe behind `SAFEPOINT_CONTROL_FD`; a new one for each attempt.
pub(super) struct ControlPipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl ControlPipe {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok(Self { reader, writer })
    }

    pub(super) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    pub(super) fn discard(&self) {
        let mut buffer = [0; 4096];
        while matches!(rustix::io::read(&self.reader, &mut buffer), Ok(count) if count > 0) {}
    }
}

/// Why an attempt is being ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It took longer than it may.
    TimedOut,
    /// A stop is under way.
    Stop,
}

/// An attempt in progress.
pub(super) struct CommandAttempt {
    work: Work,
    child: Child,
    began: Began,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    head: Head,
    tail: Tail,
    control: Vec<u8>,
    ending: Option<(Ending, Option<Moment>)>,
}

/// An attempt that has ended, with all that it said.
pub(super) struct Ended {
    pub(super) work: Work,
    began: Began,
    exit: Exit,
    tail: Tail,
}

impl CommandAttempt {
    pub(super) fn pid(&self) -> Pid {
        self.child.pid()
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    pub(super) fn work_mut(&mut self) -> &mut Work {
        &mut self.work
    }

    /// Sends SIGTERM now, and SIGKILL at `kill_at`. A stop takes over from an expired time.
    pub(super) fn ask_to_end(&mut self, why: Ending, kill_at: Moment) {
        if self.ending.is_none() {
            self.child.signal(Signal::TERM);
            // A suspended child would see the signal only when it is continued.
            self.child.signal(Signal::CONT);
            self.ending = Some((why, Some(kill_at)));
        }
    }

    pub(super) fn enforce(&mut self, now: Moment, timeout: Option<Duration>, kill_after: Duration) {
        if let Some((why, Some(kill_at))) = self.ending
            && now >= kill_at
        {
            self.child.signal(Signal::KILL);
            self.ending = Some((why, None));
        }
        if let Some(timeout) = timeout
            && self.ending.is_none()
            && now >= self.began.at + timeout
        {
            self.ask_to_end(Ending::TimedOut, now + kill_after);
        }
    }

    pub(super) fn next_timer(&self, timeout: Option<Duration>) -> Option<Moment> {
        match self.ending {
            Some((_, kill_at)) => kill_at,
            None => timeout.map(|timeout| self.began.at + timeout),
        }
    }

    pub(super) fn describe(&self, now: Moment) -> InProgress {
        let progress = lines(&self.control).filter_map(|line| {
            Answer::parse(line)
                .ok()?
                .progress
                .map(|value| value.get().to_owned())
        });
        InProgress {
            key: self.work.key().into_owned(),
            attempt: self.work.attempt(),
            pid: self.pid().as_raw_nonzero().get().unsigned_abs(),
            age: now.since(self.began.at),
            progress: progress.last(),
        }
    }
}

impl Dispatcher<'_> {
    /// Starts an attempt in a free slot. An item that no command line can carry is dead.
    pub(super) fn begin_command(&mut self, slot: usize, work: Work) -> Result<()> {
        let began = Began {
            at: self.now(),
            wall_ms: wall_ms(),
        };
        let key = work.key().into_owned();
        let filled = self.parts.launch.template.fill(Values {
            index: work.index,
            key: &key,
            content: &work.content,
        });
        let filled = filled.and_then(|words| match words.iter().find(|word| word.as_bytes().len() > MAX_ARGUMENT) {
            Some(word) => Err(format!(
                "an argument of {} bytes is longer than the 128 KiB that the system allows; pass the item on standard input with `--stdin`",
                word.as_bytes().len()
            )),
            None => Ok(words),
        });
        let words = match filled {
            Ok(words) => words,
            Err(error) => {
                self.fail(work, began, error, None, Vec::new(), Again::Never);
                return Ok(());
            }
        };
        // Noted before the child can do anything, so that an item that kills its runner at once is known by the next run.
        let mut entry = Entry {
            index: work.index,
            attempt: work.attempt(),
            pid: 0,
            started_at_ms: began.wall_ms,
            ticks: (0, 0),
        };
        self.parts
            .in_progress
            .write(slot, 1, std::iter::once(entry))?;
        self.stale_lanes[slot] = false;
        match self.start(slot, &work, &key, &words) {
            Ok((child, stdout, stderr)) => {
                entry.pid = child.pid().as_raw_nonzero().get().unsigned_abs();
                entry.ticks = child.started_ticks;
                self.set_group(slot, Some(child.pid()));
                let attempt = CommandAttempt {
                    work,
                    child,
                    began,
                    stdout: Some(stdout),
                    stderr: Some(stderr),
                    head: Head::default(),
                    tail: Tail::default(),
                    control: Vec::new(),
                    ending: None,
                };
                watch(
                    &self.epoll,
                    attempt.child.pidfd(),
                    slot,
                    Part::End,
                    EventFlags::IN,
                )?;
                self.slots[slot] = Slot::Command(Box::new(attempt));
                self.parts
                    .in_progress
                    .write(slot, 1, std::iter::once(entry))
            }
            Err(error) => {
                self.stale_lanes[slot] = true;
                self.could_not_start(work, began, error)
            }
        }
    }

    fn start(
        &mut self,
        slot: usize,
        work: &Work,
        key: &str,
        words: &[CString],
    ) -> Result<(Child, OwnedFd, OwnedFd)> {
        let control = ControlPipe::new().map_err(|error| {
            Error::new(ErrorKind::Io, "cannot make a pipe").with_source(std::io::Error::from(error))
        })?;
        watch(
            &self.epoll,
            control.reader(),
            slot,
            Part::Control,
            EventFlags::IN,
        )?;
        self.controls[slot] = control;
        let (stdout, stdout_writer) = pipe()?;
        let (stderr, stderr_writer) = pipe()?;
        set_nonblocking(&stdout)?;
        set_nonblocking(&stderr)?;
        watch(&self.epoll, &stdout, slot, Part::Stdout, EventFlags::IN)?;
        watch(&self.epoll, &stderr, slot, Part::Stderr, EventFlags::IN)?;
        let stdin = if self.parts.launch.item_on_stdin {
            Some(item_file(&work.content)?)
        } else {
            None
        };
        let uuid = &self.parts.launch.uuid;
        let content = xxhash_rust::xxh3::xxh3_64(&work.content);
        let folder = self.parts.publisher.folder(slot);
        let own = [
            variable("SAFEPOINT_KEY", key.as_bytes()),
            variable("SAFEPOINT_INDEX", work.index.to_string().as_bytes()),
            variable("SAFEPOINT_ATTEMPT", work.attempt().to_string().as_bytes()),
            variable(
                "SAFEPOINT_IDEMPOTENCY_KEY",
                format!("{uuid}-{}-{content:016x}", work.index).as_bytes(),
            ),
            variable("SAFEPOINT_OUT", folder.as_os_str().as_bytes()),
        ];
        let launch = &mut self.parts.launch;
        let shared = launch.environment.len();
        launch.environment.extend(own);
        // A pipe of its own, so that what a stray of an earlier attempt writes is not taken for this one's word.
        let control = &self.controls[slot];
        let child = spawn(&SpawnRequest {
            program: &launch.program,
            arguments: words,
            environment: &launch.environment,
            stdin: stdin.as_ref().map_or(launch.null.as_fd(), AsFd::as_fd),
            stdout: stdout_writer.as_fd(),
            stderr: stderr_writer.as_fd(),
            control: Some(control.writer.as_fd()),
        });
        launch.environment.truncate(shared);
        child.map(|child| (child, stdout, stderr))
    }

    fn could_not_start(&mut self, work: Work, began: Began, error: Error) -> Result<()> {
        if error.os_code() == Some(libc::E2BIG) {
            let error = format!(
                "{}; pass the item on standard input with `--stdin`",
                error.chain()
            );
            self.fail(work, began, error, None, Vec::new(), Again::Never);
            return Ok(());
        }
        if error.kind() == ErrorKind::Io && self.in_progress_count() > 0 {
            // The machine is out of processes or descriptors for now: those in progress will give some back.
            self.parts.observer.notice(Notice::Warning(error.chain()));
            self.parts.intake.put_back(work);
            self.uncount_begun();
            self.paused_until = Some(self.now() + Duration::from_millis(200));
            return Ok(());
        }
        self.parts.intake.put_back(work);
        Err(error)
    }

    /// Takes items that have ended out of the notes, where no new one has taken their place.
    pub(super) fn clear_stale_lanes(&mut self) -> Result<()> {
        for slot in 0..self.stale_lanes.len() {
            if std::mem::take(&mut self.stale_lanes[slot]) {
                self.parts.in_progress.write(slot, 1, std::iter::empty())?;
            }
        }
        Ok(())
    }

    pub(super) fn handle_command(&mut self, slot: usize, part: u64) -> Result<()> {
        let Slot::Command(mut attempt) = std::mem::replace(&mut self.slots[slot], Slot::Idle)
        else {
            return Ok(());
        };
        if part == Part::End as u64 {
            if let Some((exit, lingers)) = attempt.child.reap() {
                return self.end_command(slot, *attempt, exit, lingers);
            }
        } else {
            self.read_command(slot, &mut attempt, part, 4);
        }
        self.slots[slot] = Slot::Command(attempt);
        Ok(())
    }

    fn read_command(
        &mut self,
        slot: usize,
        attempt: &mut CommandAttempt,
        part: u64,
        rounds: usize,
    ) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if part == Part::Stdout as u64 {
            if let Some(stdout) = &attempt.stdout
                && read_available(stdout, &mut buffer, rounds, |bytes| {
                    attempt.head.push(bytes);
                }) == Read::Ended
            {
                attempt.stdout = None;
            }
        } else if part == Part::Stderr as u64 {
            let mut read = Vec::new();
            if let Some(stderr) = &attempt.stderr
                && read_available(stderr, &mut buffer, rounds, |bytes| {
                    read.extend_from_slice(bytes);
                }) == Read::Ended
            {
                attempt.stderr = None;
            }
            if !read.is_empty() {
                if attempt.tail.bytes().is_empty() {
                    let heading = heading(&attempt.work);
                    let _ = self.logs[slot].append(heading.as_bytes());
                }
                self.log_stderr(slot, &mut attempt.tail, &read);
            }
        } else if part == Part::Control as u64 {
            let room = crate::job::protocol::MAX_ANSWER.saturating_sub(attempt.control.len());
            read_available(self.controls[slot].reader(), &mut buffer, rounds, |bytes| {
                attempt
                    .control
                    .extend_from_slice(&bytes[..bytes.len().min(room)]);
            });
        }
        self.buffer = buffer;
    }

    /// Decides what becomes of an attempt whose command has ended.
    fn end_command(
        &mut self,
        slot: usize,
        mut attempt: CommandAttempt,
        exit: Exit,
        lingers: bool,
    ) -> Result<()> {
        self.set_group(slot, None);
        if lingers {
            self.lingering.push(attempt.child.pid());
        }
        // The pipes hold at most what fits into them: everything that the command itself wrote is read, however much that was.
        for part in [Part::Stdout, Part::Stderr, Part::Control] {
            self.read_command(slot, &mut attempt, part as u64, 1024);
        }
        self.stale_lanes[slot] = true;
        let CommandAttempt {
            work,
            began,
            head,
            tail,
            control,
            ending,
            ..
        } = attempt;
        let ended = Ended {
            work,
            began,
            exit,
            tail,
        };
        let said = Said::read(&control);
        self.parts.ledger_cost(said.cost_micros);
        let stopping = self.parts.token.is_stopping();
        let fate = fate(ending.map(|(why, _)| why), exit, stopping, &said);
        if fate == Fate::Done {
            return self.finish_command(slot, ended, head, said);
        }
        self.parts.publisher.discard(slot)?;
        let stderr = ended.tail.bytes().to_vec();
        match fate {
            Fate::GivenUp => self.give_up(ended.work),
            Fate::TimedOut => {
                let limit = self.parts.options.timeout.unwrap_or_default();
                let error = format!("timed out after {}", super::seconds(limit));
                self.fail(
                    ended.work,
                    began,
                    error,
                    Some(exit),
                    stderr,
                    Again::AsPolicy,
                );
            }
            Fate::NotNow => {
                self.parts.intake.put_back(ended.work);
                self.uncount_begun();
                self.pause_for(said.retry_after);
            }
            Fate::SaidError => {
                let again = match (said.retry, said.retry_after) {
                    (false, _) => Again::Never,
                    (true, after) => after.map_or(Again::AsPolicy, Again::After),
                };
                let error = said.error.unwrap_or_default();
                self.fail(ended.work, began, error, Some(exit), stderr, again);
            }
            Fate::Doubtful => {
                let until = self.now() + HOLD;
                self.held.push(Held { until, ended });
            }
            Fate::Failed | Fate::Done => self.fail_command(ended),
        }
        Ok(())
    }

    /// Publishes the files of an attempt that succeeded, and settles it.
    fn finish_command(&mut self, slot: usize, ended: Ended, head: Head, said: Said) -> Result<()> {
        let Ended {
            work, began, exit, ..
        } = ended;
        if let Err(error) = self.parts.publisher.publish(slot, &work.key()) {
            if is_of_the_disk(&error) {
                // No item is to blame, so none may die of it: the run cannot go on.
                self.parts.intake.put_back(work);
                return Err(error);
            }
            self.parts.publisher.discard(slot)?;
            self.fail(
                work,
                began,
                error.chain(),
                Some(exit),
                Vec::new(),
                Again::AsPolicy,
            );
            return Ok(());
        }
        let (result, omitted) = said
            .result
            .map_or((head.bytes, head.omitted), |result| (result, 0));
        self.succeed(work, began, Some(0), result, omitted);
        Ok(())
    }

    pub(super) fn fail_command(&mut self, ended: Ended) {
        let mut error = ended.exit.describe();
        if let Some(line) = ended.tail.last_line() {
            error = format!("{error}: {line}");
        }
        let stderr = ended.tail.bytes()[..ended.tail.bytes().len().min(MAX_STDERR_TAIL)].to_vec();
        self.fail(
            ended.work,
            ended.began,
            error,
            Some(ended.exit),
            stderr,
            Again::AsPolicy,
        );
    }
}

impl super::Parts<'_> {
    pub(super) fn ledger_cost(&mut self, micros: u64) {
        if micros > 0 {
            self.ledger.note(Change::Cost(micros));
        }
    }
}

/// Whether the disk is full, read-only or broken.
fn is_of_the_disk(error: &Error) -> bool {
    matches!(
        error.os_code(),
        Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS | libc::EIO)
    )
}

/// What becomes of an attempt whose command has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Neither done nor failed: a stop ended it.
    GivenUp,
    /// It took too long.
    TimedOut,
    /// It said "not now".
    NotNow,
    /// It said on its control descriptor that it failed.
    SaidError,
    /// It succeeded.
    Done,
    /// A stop signal ended it, and no stop was asked for yet: one may be about to arrive.
    Doubtful,
    /// It failed.
    Failed,
}

/// Decides, from how it ended and what it said; the first that holds counts.
fn fate(ending: Option<Ending>, exit: Exit, stopping: bool, said: &Said) -> Fate {
    match (ending, exit) {
        (Some(Ending::Stop), _) => Fate::GivenUp,
        (_, exit) if stopping && is_stop_exit(exit) => Fate::GivenUp,
        (Some(Ending::TimedOut), _) => Fate::TimedOut,
        (None, Exit::Code(NOT_NOW)) => Fate::NotNow,
        (None, _) if said.error.is_some() => Fate::SaidError,
        (None, Exit::Code(0)) => Fate::Done,
        (None, Exit::Signal(_)) if is_stop_exit(exit) => Fate::Doubtful,
        (None, _) => Fate::Failed,
    }
}

/// Whether a command ended as one does that was told to stop.
pub(super) fn is_stop_exit(exit: Exit) -> bool {
    match exit {
        Exit::Signal(signal) => matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP),
        Exit::Code(code) => matches!(code, 129 | 130 | 143),
    }
}

/// What a command wrote to its control descriptor.
struct Said {
    result: Option<Vec<u8>>,
    error: Option<String>,
    retry: bool,
    retry_after: Option<Duration>,
    cost_micros: u64,
}

impl Said {
    /// Takes the last word on each; a line that is not an answer fails the attempt.
    fn read(control: &[u8]) -> Self {
        let mut said = Self {
            result: None,
            error: None,
            retry: true,
            retry_after: None,
            cost_micros: 0,
        };
        for line in lines(control) {
            match Answer::parse(line) {
                Ok(answer) => {
                    said.cost_micros = said.cost_micros.saturating_add(answer.cost_micros());
                    said.retry = answer.retry.unwrap_or(said.retry);
                    said.retry_after = answer.retry_after().or(said.retry_after);
                    said.result = answer
                        .result
                        .map(|result| result.get().as_bytes().to_vec())
                        .or(said.result);
                    said.error = answer
                        .error
                        .map(std::borrow::Cow::into_owned)
                        .or(said.error);
                }
                Err(fault) => said.error = Some(format!("the command {fault}")),
            }
        }
        said
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
}

/// The line that introduces an attempt in its slot's log.
pub(super) fn heading(work: &Work) -> String {
    format!(
        "== item {} key {} attempt {} ==\n",
        work.index,
        work.key().escape_debug(),
        work.attempt()
    )
}

/// `NAME=value` for an environment. A key with a NUL byte is cut there: no environment can have one.
pub(super) fn variable(name: &str, value: &[u8]) -> CString {
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    CString::new([name.as_bytes(), b"=", value].concat()).unwrap_or_default()
}

/// The item and a newline as a file in memory, to be read as standard input: no thread has to feed a pipe.
fn item_file(content: &[u8]) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
    let make = || -> rustix::io::Result<OwnedFd> {
        let file = memfd_create(c"item", MemfdFlags::CLOEXEC)?;
        for mut bytes in [content, b"\n"] {
            while !bytes.is_empty() {
                let written = rustix::io::write(&file, bytes)?;
                bytes = &bytes[written..];
            }
        }
        seek(&file, SeekFrom::Start(0))?;
        Ok(file)
    };
    make().map_err(|error| {
        Error::new(ErrorKind::Io, "cannot hold an item in memory")
            .with_source(std::io::Error::from(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_the_control_descriptor_counts() {
        let said = Said::read(
            b"{\"progress\":0.5}\n{\"cost\":0.25}\n\n{\"result\":{\"a\":1}}\n{\"cost\":0.25}",
        );
        assert_eq!(said.result.as_deref(), Some(&br#"{"a":1}"#[..]));
        assert_eq!((said.cost_micros, said.error), (500_000, None));
        let said = Said::read(b"{\"error\":\"no\",\"retry\":false}\n");
        assert_eq!((said.error.as_deref(), said.retry), (Some("no"), false));
        assert!(Said::read(b"hello\n").error.is_some());
    }

    #[test]
    fn an_attempt_that_a_stop_ended_is_neither_done_nor_failed() {
        let silent = Said::read(b"");
        for exit in [Exit::Code(0), Exit::Code(1), Exit::Signal(libc::SIGKILL)] {
            assert_eq!(fate(Some(Ending::Stop), exit, true, &silent), Fate::GivenUp);
        }
        assert_eq!(
            fate(None, Exit::Signal(libc::SIGINT), true, &silent),
            Fate::GivenUp
        );
        assert_eq!(
            fate(None, Exit::Signal(libc::SIGINT), false, &silent),
            Fate::Doubtful
        );
        assert_eq!(fate(None, Exit::Code(0), true, &silent), Fate::Done);
        assert_eq!(fate(None, Exit::Code(130), false, &silent), Fate::Failed);
        assert_eq!(
            fate(Some(Ending::TimedOut), Exit::Code(0), false, &silent),
            Fate::TimedOut
        );
        let error = Said::read(b"{\"error\":\"no\"}");
        assert_eq!(fate(None, Exit::Code(0), false, &error), Fate::SaidError);
        assert_eq!(fate(None, Exit::Code(NOT_NOW), false, &error), Fate::NotNow);
    }

    #[test]
    fn only_stop_signals_look_like_a_stop() {
        assert!(is_stop_exit(Exit::Signal(libc::SIGINT)) && is_stop_exit(Exit::Code(143)));
        assert!(!is_stop_exit(Exit::Signal(libc::SIGSEGV)) && !is_stop_exit(Exit::Code(1)));
    }
}
