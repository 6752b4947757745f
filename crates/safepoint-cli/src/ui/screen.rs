//! The one thread that draws. Notices reach it through a channel, so that a slow terminal never slows the work.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use safepoint::job::{Gauge, Handle, JobPath, Notice, Observer};
use safepoint::{Error, ErrorKind, Result};

use super::notices::{self, Line};
use crate::args::ProgressKind;
use crate::context::Context;
use crate::time::{show_count, show_duration};

/// How often the bar is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// Notices that may wait to be shown.
const BACKLOG: usize = 1024;
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(30);

enum Message {
    Notice(Notice),
    /// Hide the bar, say so, and show it again after the other side is done.
    Hide(SyncSender<()>, Receiver<()>),
    End,
}

/// The drawing thread.
pub(crate) struct Screen {
    sender: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Screen {
    pub(crate) fn start(
        context: &Context,
        kind: ProgressKind,
        handle: &Handle,
        path: &JobPath,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(BACKLOG);
        let choice = anstream::AutoStream::choice(&std::io::stderr());
        let has_colour = choice != anstream::ColorChoice::Never;
        let bar = (kind == ProgressKind::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(20));
            bar.set_style(style(false, has_colour));
            bar
        });
        let drawing = Drawing {
            handle: handle.clone(),
            verbosity: context.verbosity,
            job: path.name.clone(),
            kind,
            bar,
            rate: Rate::default(),
            has_total: false,
            has_colour,
        };
        let thread = std::thread::Builder::new()
            .name("safepoint-screen".into())
            .spawn(move || drawing.work(&receiver))
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the drawing thread").with_source(error)
            })?;
        Ok(Self {
            sender,
            thread: Some(thread),
        })
    }

    /// What the library tells its notices to.
    pub(crate) fn observer(&self) -> ScreenObserver {
        ScreenObserver {
            sender: self.sender.clone(),
            hidden: None,
            left_out: 0,
        }
    }

    /// What results are written with.
    pub(crate) fn pen(&self) -> Pen {
        Pen(self.sender.clone())
    }

    /// Takes the bar away and ends the thread.
    pub(crate) fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.sender.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end();
    }
}

/// Passes notices on to the drawing thread.
pub(crate) struct ScreenObserver {
    sender: SyncSender<Message>,
    /// While the process is suspended: dropped to show the bar again.
    hidden: Option<SyncSender<()>>,
    left_out: u64,
}

impl Observer for ScreenObserver {
    fn notice(&mut self, notice: Notice) {
        match notice {
            // The bar must be gone before the process stops, and stay away until it goes on.
            Notice::Suspending => self.hidden = Some(Pen(self.sender.clone()).hide()),
            Notice::Continued => self.hidden = None,
            _ => {}
        }
        // A terminal that cannot keep up must slow nothing down: notices are left out, and counted.
        if self.left_out > 0 {
            let said = format!(
                "{} notices were left out; `safepoint show` has the failures",
                self.left_out
            );
            if self
                .sender
                .try_send(Message::Notice(Notice::Warning(said)))
                .is_err()
            {
                self.left_out += 1;
                return;
            }
            self.left_out = 0;
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Notice(notice)) {
            self.left_out += 1;
        }
    }
}

/// Lets others write to the terminal while the bar is out of the way.
#[derive(Clone)]
pub(crate) struct Pen(SyncSender<Message>);

impl Pen {
    pub(crate) fn while_hidden<T>(&self, write: impl FnOnce() -> T) -> T {
        let hidden = self.hide();
        let written = write();
        drop(hidden);
        written
    }

    /// Takes the bar away until what is returned is dropped.
    fn hide(&self) -> SyncSender<()> {
        let (hidden_sender, hidden) = sync_channel(1);
        let (done, done_receiver) = sync_channel(1);
        if self
            .0
            .send(Message::Hide(hidden_sender, done_receiver))
            .is_ok()
        {
            let _ = hidden.recv();
        }
        done
    }
}

struct Drawing {
    handle: Handle,
    verbosity: i8,
    job: String,
    kind: ProgressKind,
    bar: Option<ProgressBar>,
    rate: Rate,
    has_total: bool,
    has_colour: bool,
}

impl Drawing {
    fn work(mut self, receiver: &Receiver<Message>) {
        let period = match self.kind {
            ProgressKind::Bar => FRAME,
            _ => LINE,
        };
        loop {
            match receiver.recv_timeout(period) {
                Ok(Message::Notice(notice)) => self.notice(&notice),
                Ok(Message::Hide(hidden, done)) => {
                    if let Some(bar) = &self.bar {
                        bar.suspend(|| {
                            let _ = hidden.send(());
                            let _ = done.recv();
                        });
                    } else {
                        let _ = hidden.send(());
                        let _ = done.recv();
                    }
                }
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if self.kind == ProgressKind::Counter {
                        self.say(&self.counter());
                    }
                }
            }
            self.draw();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn notice(&mut self, notice: &Notice) {
        if let Some(Line { level, text }) = notices::line(notice, &self.job)
            && self.verbosity >= level
        {
            self.say(&text);
        }
    }

    fn say(&self, text: &str) {
        let write = || {
            let _ = writeln!(anstream::stderr().lock(), "{text}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn draw(&mut self) {
        let Some(bar) = &self.bar else { return };
        let now = Numbers::of(self.handle.gauge());
        self.rate.add(now.elapsed, now.done_now + now.failures);
        if let Some(total) = now.total
            && !std::mem::replace(&mut self.has_total, true)
        {
            bar.set_length(total);
            bar.set_style(style(true, self.has_colour));
        }
        bar.set_position(now.settled);
        bar.set_message(self.message(&now));
        bar.tick();
    }

    fn message(&self, now: &Numbers) -> String {
        let mut parts = Vec::new();
        let rate = self.rate.per_second();
        parts.push(if rate >= 10.0 {
            format!("{rate:.0}/s")
        } else {
            format!("{rate:.1}/s")
        });
        if let Some(left) = now.total.map(|total| total.saturating_sub(now.settled))
            && rate > 0.0
        {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let seconds = left as f64 / rate;
            parts.push(format!(
                "ETA {}",
                show_duration(Duration::from_secs_f64(seconds.min(1e9)))
            ));
        }
        parts.push(format!("{} in progress", now.in_progress));
        if now.waiting > 0 {
            parts.push(format!("{} waiting", show_count(now.waiting)));
        }
        if now.dead > 0 {
            parts.push(format!("{} dead", show_count(now.dead)));
        }
        if now.is_paused {
            parts.push("paused".to_owned());
        }
        parts.join(", ")
    }

    fn counter(&self) -> String {
        let now = Numbers::of(self.handle.gauge());
        let total = now.total.map_or_else(|| "?".to_owned(), show_count);
        let mut rate = Rate::default();
        rate.add(Duration::ZERO, 0);
        rate.add(now.elapsed, now.done_now);
        let shown = Self {
            rate,
            handle: self.handle.clone(),
            verbosity: 0,
            job: String::new(),
            kind: self.kind,
            bar: None,
            has_total: false,
            has_colour: false,
        };
        format!(
            "safepoint: {} of {total} items, {}",
            show_count(now.settled),
            shown.message(&now)
        )
    }
}

/// The gauge at one time.
struct Numbers {
    settled: u64,
    done_now: u64,
    dead: u64,
    waiting: u64,
    failures: u64,
    in_progress: u64,
    total: Option<u64>,
    elapsed: Duration,
    is_paused: bool,
}

impl Numbers {
    fn of(gauge: &Gauge) -> Self {
        // Relaxed: numbers to look at, each on its own.
        let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        Self {
            settled: read(&gauge.done) + read(&gauge.dead) + read(&gauge.duplicate),
            done_now: read(&gauge.done_now),
            dead: read(&gauge.dead),
            waiting: read(&gauge.waiting),
            failures: read(&gauge.failures),
            in_progress: read(&gauge.in_progress),
            total: Some(read(&gauge.total)).filter(|total| *total != u64::MAX),
            elapsed: Duration::from_micros(read(&gauge.elapsed_us)),
            is_paused: gauge.is_paused.load(Ordering::Relaxed),
        }
    }
}

/// Items per second of this run, over about the last half minute.
#[derive(Default)]
struct Rate {
    samples: std::collections::VecDeque<(Duration, u64)>,
}

impl Rate {
    fn add(&mut self, at: Duration, count: u64) {
        if self
            .samples
            .back()
            .is_none_or(|(last, _)| at >= *last + Duration::from_millis(200))
        {
            self.samples.push_back((at, count));
        }
        while self.samples.front().is_some_and(|(first, _)| {
            self.samples.len() > 2 && at >= *first + Duration::from_secs(30)
        }) {
            self.samples.pop_front();
        }
    }

    fn per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let time = last.0.saturating_sub(first.0).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let count = last.1.saturating_sub(first.1) as f64;
        if time > 0.0 { count / time } else { 0.0 }
    }
}

/// Takes away what stands on the terminal's current line, at once and without a lock: the process is about to die.
pub(crate) fn wipe_line() {
    // A terminal that takes nothing any more shows nothing wrong either.
    let _ = rustix::io::write(std::io::stderr(), b"\r\x1b[K");
}

/// The bar's look. Its own library would use colours wherever there is a terminal.
fn style(has_total: bool, has_colour: bool) -> ProgressStyle {
    let template = match (has_total, has_colour) {
        (true, true) => "{bar:30.cyan} {percent:>3}% {human_pos}/{human_len}  {msg}",
        (true, false) => "{bar:30} {percent:>3}% {human_pos}/{human_len}  {msg}",
        (false, true) => "{spinner:.cyan} {human_pos} items  {msg}",
        (false, false) => "{spinner} {human_pos} items  {msg}",
    };
    // The templates are fixed, so this is never the fallback.
    ProgressStyle::with_template(template).map_or_else(
        |_| ProgressStyle::default_bar(),
        |style| style.progress_chars("━╸ "),
    )
}
