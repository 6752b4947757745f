//! `safepoint run`: options from the command line, one library call, and what a person is told.

mod dry;
mod options;
mod results;
mod summary;

use std::path::Path;
use std::sync::Arc;

use safepoint::Result;
use safepoint::clock::Clock;
use safepoint::job::{
    self, Handle, JobPath, Live, Notice, Observer, Order, Outcome, Report, ResultSink, Run, Untold,
};
use safepoint::shutdown::{Phase, Shutdown};

use crate::args::{ProgressKind, RunArgs};
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::http::{self, Answering};
use crate::settings;
use crate::ui::Screen;

/// Runs `safepoint run`.
pub(crate) fn command(context: &Context, mut args: RunArgs) -> Result<Exit> {
    settings::apply(Path::new("."), &mut args)?;
    let definition = options::definition(&args)?;
    let options = options::options(&args)?;
    if args.dry_run {
        return dry::command(&definition, &options);
    }
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| JobPath::name_from_input(&args.inputs[0]));
    let path = JobPath::new(&context.state_dir, &name)?;
    let handle = Handle::new(options.slots)?;
    let (describing, suspending, killing) = (handle.clone(), handle.clone(), handle.clone());
    let kind = progress_kind(context, &args);
    let has_bar = kind == ProgressKind::Bar && context.draws;
    let clock = Clock::start();
    let shutdown = Shutdown::builder()
        .grace(settings::grace(args.grace)?.time)
        .clock(clock)
        .on_signal(signal_hook::consts::SIGUSR1, move |_| describing.describe())
        .on_signal(signal_hook::consts::SIGTSTP, move |_| suspending.suspend())
        .last_act(move || {
            killing.kill_all();
            if has_bar {
                crate::ui::wipe_line();
            }
        })
        .install()?;

    let order = options.order;
    let screen = Screen::start(context, kind, &handle, &path)?;
    let results: Box<dyn ResultSink> = match order {
        Order::Silent => Box::new(Untold),
        _ => Box::new(results::StdoutSink::new(context.is_json, screen.pen())),
    };
    let token = shutdown.token();
    let answering = http::start(&args.http, context, &token, || {
        Ok(Arc::new(Live::new(&path, &token, Some(&handle))?))
    })?;
    let mut observer = Telling {
        inner: screen.observer(),
        answering: answering.as_ref(),
    };
    let ran = job::run(Run {
        path: &path,
        definition: &definition,
        options: &options,
        handle,
        token: token.clone(),
        observer: &mut observer,
        results,
    });
    let forced = forced_by(&token);
    token.stopped();
    screen.finish();
    drop((answering, shutdown));
    let report = ran?;
    summary::say(context, &report);
    Ok(exit_of(&report, forced, args.stop_exit_code))
}

/// Passes notices on, and says that the run has started up.
struct Telling<'a, O> {
    inner: O,
    answering: Option<&'a Answering>,
}

impl<O: Observer> Observer for Telling<'_, O> {
    fn notice(&mut self, notice: Notice) {
        if let (Some(answering), Notice::Started { .. }) = (self.answering, &notice) {
            answering.set_ready(true);
        }
        self.inner.notice(notice);
    }
}

/// The signal that forced the stop: the second or a later one.
fn forced_by(token: &safepoint::shutdown::ShutdownToken) -> Option<i32> {
    if token.phase() < Phase::Terminating {
        return None;
    }
    let requests = token.requests();
    let immediate = requests
        .iter()
        .find(|recorded| recorded.request.mode == safepoint::shutdown::Mode::Immediate);
    immediate.and_then(|recorded| recorded.request.signal)
}

fn exit_of(report: &Report, forced: Option<i32>, stop_exit_code: Option<u8>) -> Exit {
    let Some(reason) = report.requests.first().map(|recorded| &recorded.request) else {
        return Exit::Code(if report.counts.dead > 0 {
            exit::DEAD_ITEMS
        } else {
            exit::DONE
        });
    };
    match report.outcome {
        // The stop came when all was done already.
        Outcome::Completed => Exit::Code(if report.counts.dead > 0 {
            exit::DEAD_ITEMS
        } else {
            exit::DONE
        }),
        Outcome::GaveUp => Exit::Code(exit::DEAD_ITEMS),
        Outcome::Interrupted => match (forced, reason.signal) {
            (Some(signal), _) => Exit::Signal(signal),
            (None, Some(signal)) => Exit::Code(
                stop_exit_code
                    .unwrap_or_else(|| u8::try_from(128 + signal).unwrap_or(exit::STOPPED)),
            ),
            (None, None) => Exit::Code(stop_exit_code.unwrap_or(exit::STOPPED)),
        },
    }
}

fn progress_kind(context: &Context, args: &RunArgs) -> ProgressKind {
    match args.progress.unwrap_or(ProgressKind::Auto) {
        _ if context.verbosity <= -2 => ProgressKind::None,
        ProgressKind::Auto if context.draws => ProgressKind::Bar,
        ProgressKind::Auto => ProgressKind::Counter,
        chosen => chosen,
    }
}
