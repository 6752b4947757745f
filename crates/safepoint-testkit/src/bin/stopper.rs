//! A program that stops in the way its argument names, and says on standard output how far it got. For the tests of real signals.

#![expect(
    unsafe_code,
    reason = "fork(2) and a foreign signal handler are what is tried here"
)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use safepoint::shutdown::{
    Builder, Order as HookOrder, Phase, Rung, Shutdown, ShutdownToken, Source, StopRequest,
};

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(60);

static FOREIGN: AtomicU32 = AtomicU32::new(0);

extern "C" fn foreign(_: i32) {
    FOREIGN.fetch_add(1, Ordering::SeqCst);
}

fn main() -> ExitCode {
    let scenario = std::env::args().nth(1).unwrap_or_default();
    match run(&scenario) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {}", error.chain()));
            ExitCode::FAILURE
        }
    }
}

fn run(scenario: &str) -> safepoint::Result<()> {
    match scenario {
        "loop" => stop_and_report(builder()),
        "hooks" => hooks(),
        "ladder" => phases(builder().ladder(&[Rung::Graceful, Rung::Kill])),
        "extra-signal" => {
            stop_and_report(builder().stop_signal(Signal::SIGUSR2 as i32, Source::Parent))
        }
        "phases" => phases(builder()),
        "last-act" => last_act(),
        "stuck" => stuck(),
        "raises" => raises(),
        "restores" => restores(),
        "replaced" => replaced(),
        "earlier" => earlier(),
        "several" => several(),
        "fork-flag" => forked(true),
        "fork-default" => forked(false),
        "info" => info(),
        "unit" => unit(),
        other => {
            say(&format!("unknown scenario {other}"));
            Ok(())
        }
    }
}

fn builder() -> Builder {
    Shutdown::builder().grace(LONG)
}

/// One line, at once: the test waits for it.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody listens any more: the test has ended.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn stop_and_report(builder: Builder) -> safepoint::Result<()> {
    let shutdown = builder.install()?;
    say("ready");
    shutdown.token().wait();
    say("stopping");
    say(&shutdown.finish().to_string());
    Ok(())
}

fn hooks() -> safepoint::Result<()> {
    let program = builder()
        .hook(HookOrder::Save, "save", |_| say("saved"))
        .hook(HookOrder::Accept, "accept", |share| {
            say(&format!("accept: {}", share.phase().name()));
        });
    stop_and_report(program)
}

/// Says each phase as it is reached, and never ends by itself.
fn phases(builder: Builder) -> safepoint::Result<()> {
    let shutdown = builder.install()?;
    let token = shutdown.token();
    say("ready");
    token.wait();
    say(&told(&token));
    wait_for(&token, Phase::Terminating);
    say(&told(&token));
    loop {
        std::thread::park();
    }
}

fn told(token: &ShutdownToken) -> String {
    let requests = token.requests();
    let last = requests.last().map(|recorded| &recorded.request);
    let last = last.map(|request| format!("{} {}", request.source.name(), request.message));
    format!(
        "{} after {}: {}",
        token.phase().name(),
        requests.len(),
        last.unwrap_or_default()
    )
}

fn wait_for(token: &ShutdownToken, phase: Phase) {
    let (reached, wait) = std::sync::mpsc::channel();
    token.observe(move |now| {
        if now >= phase {
            // The receiver is gone once it has heard of it.
            let _ = reached.send(());
        }
    });
    if token.phase() < phase {
        let _ = wait.recv();
    }
}

fn last_act() -> safepoint::Result<()> {
    let shutdown = builder().last_act(|| say("last act")).install()?;
    let token = shutdown.token();
    token.observe(|phase| say(phase.name()));
    say("ready");
    loop {
        std::thread::park();
    }
}

/// An observer hangs on the keeper thread: the last rung must work all the same.
fn stuck() -> safepoint::Result<()> {
    let shutdown = builder().last_act(|| say("last act")).install()?;
    let token = shutdown.token();
    token.observe(|phase| {
        say(&format!("hanging in {}", phase.name()));
        loop {
            std::thread::park();
        }
    });
    say("ready");
    loop {
        std::thread::park();
    }
}

/// A callback that sends the process a signal itself.
fn raises() -> safepoint::Result<()> {
    let program = builder().on_signal(Signal::SIGUSR1 as i32, |_| {
        raise(Signal::SIGTERM).expect("raised");
        say("raised");
    });
    stop_and_report(program)
}

fn restores() -> safepoint::Result<()> {
    let shutdown = builder().install()?;
    say("ready");
    shutdown.token().wait();
    say(&format!("{:?}", shutdown.finish().handlers));
    loop {
        std::thread::park();
    }
}

fn install_foreign() {
    let action = SigAction::new(
        SigHandler::Handler(foreign),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only adds to an atomic.
    unsafe { sigaction(Signal::SIGTERM, &action) }.expect("installed");
}

fn replaced() -> safepoint::Result<()> {
    let shutdown = builder().install()?;
    install_foreign();
    shutdown
        .token()
        .request(StopRequest::graceful(Source::Programmatic, "enough"));
    say(&format!("{:?}", shutdown.finish().handlers));
    // The other library's handler is still there, and another shutdown gets along with it.
    raise(Signal::SIGTERM).expect("raised");
    say(&format!("foreign: {}", FOREIGN.load(Ordering::SeqCst)));
    let second = builder().install()?;
    raise(Signal::SIGTERM).expect("raised");
    second.token().wait();
    say(&format!("{:?}", second.finish().handlers));
    raise(Signal::SIGTERM).expect("raised");
    say(&format!("foreign: {}", FOREIGN.load(Ordering::SeqCst)));
    Ok(())
}

fn earlier() -> safepoint::Result<()> {
    install_foreign();
    let shutdown = builder().install()?;
    raise(Signal::SIGTERM).expect("raised");
    say(&format!("stopping: {}", shutdown.token().is_stopping()));
    say(&format!("foreign: {}", FOREIGN.load(Ordering::SeqCst)));
    say(&format!("{:?}", shutdown.finish().handlers));
    raise(Signal::SIGTERM).expect("raised");
    say(&format!("foreign: {}", FOREIGN.load(Ordering::SeqCst)));
    Ok(())
}

fn several() -> safepoint::Result<()> {
    let (one, other) = (builder().install()?, builder().install()?);
    let third = Shutdown::builder().build()?;
    drop(one);
    let one = builder().install()?;
    raise(Signal::SIGTERM).expect("raised");
    let stopping = [&one, &other, &third].map(|shutdown| shutdown.token().is_stopping());
    say(&format!("{stopping:?}"));
    say(&format!(
        "{:?} {:?}",
        one.finish().handlers,
        other.finish().handlers
    ));
    say("ready");
    loop {
        std::thread::park();
    }
}

/// A fork without exec: it has the flag, and no keeper thread.
fn forked(checks: bool) -> safepoint::Result<()> {
    let shutdown = builder().install()?;
    let token = shutdown.token();
    // SAFETY: the child calls async-signal-safe functions, and prints: no other thread of this program holds the lock of standard output.
    match unsafe { fork() }.expect("forked") {
        ForkResult::Child => {
            say(&format!("ready {}", Pid::this()));
            while !(checks && token.is_stopping()) {
                std::hint::spin_loop();
            }
            say("the fork saw the flag");
            std::mem::forget(shutdown);
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).expect("waited");
            say(&format!("{ended:?}").replace(&child.to_string(), "N"));
            say(&format!("parent stopping: {}", token.is_stopping()));
        }
    }
    Ok(())
}

fn info() -> safepoint::Result<()> {
    let shutdown = builder()
        .info_signal(Signal::SIGUSR1 as i32, |status| say(&status.to_string()))
        .install()?;
    let token = shutdown.token();
    let unit = token.unit("record 17\u{1b}[2J").expect("running");
    say("ready");
    token.wait();
    unit.commit();
    say(&shutdown.finish().to_string());
    Ok(())
}

/// A unit that outlives the grace period.
fn unit() -> safepoint::Result<()> {
    let shutdown = Shutdown::builder()
        .grace(Duration::from_millis(300))
        .install()?;
    let token = shutdown.token();
    let _unit = token.owned_unit("endless").expect("running");
    say("ready");
    token.wait();
    say(&shutdown.finish().to_string());
    Ok(())
}
