//! A program that stops in the way its argument names, and says on standard output how far it got. For the tests of real signals.

#![expect(
    unsafe_code,
    reason = "fork(2) and a foreign signal handler are what is tried here"
)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, alarm, fork};
use safepoint::clock::{Clock, Moment};
use safepoint::shutdown::{
    Builder, Order as HookOrder, Phase, REPEAT_WINDOW, Rung, Shutdown, ShutdownToken, Source,
    StopRequest,
};

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(60);

static FOREIGN: AtomicU32 = AtomicU32::new(0);

extern "C" fn foreign(_: i32) {
    FOREIGN.fetch_add(1, Ordering::SeqCst);
}

fn main() -> ExitCode {
    die_when_it_takes_too_long();
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
        "panics" => panics(LONG),
        "panics-briefly" => panics(Duration::from_millis(300)),
        "observer-hangs" => observer_hangs(),
        "burst" => burst(),
        "many" => many(),
        "ten" => ten(),
        "last-rung" => last_rung(),
        "refused" => {
            refused();
            Ok(())
        }
        "raises" => raises(),
        "restores" => restores(),
        "replaced" => replaced(),
        "left-behind" => left_behind(),
        "earlier" => earlier(),
        "interrupting" => interrupting(),
        "several" => several(),
        "fork-flag" => forked(true),
        "fork-default" => forked(false),
        "fork-drop" => fork_ends(|shutdown| {
            drop(shutdown);
            say("dropped");
        }),
        "fork-finish" => fork_ends(|shutdown| {
            say(&format!(
                "finished: {} hooks",
                shutdown.finish().hooks.len()
            ));
        }),
        "fork-own" => fork_installs(),
        "info" => info(),
        "unit" => unit(),
        other => {
            say(&format!("unknown scenario {other}"));
            Ok(())
        }
    }
}

/// A program that hangs ends by SIGALRM, which no test expects.
fn die_when_it_takes_too_long() {
    let seconds = u32::try_from(LONG.as_secs()).unwrap_or(u32::MAX);
    alarm::set(seconds);
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

/// An observer hangs: the last rung must work all the same.
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

/// All that the caller may have called panics, each after a line.
fn panics(grace: Duration) -> safepoint::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let shutdown = Shutdown::builder()
        .grace(grace)
        .on_signal(Signal::SIGUSR1 as i32, |_| trouble("callback"))
        .info_signal(Signal::SIGUSR2 as i32, |_| trouble("info"))
        .last_act(|| trouble("last act"))
        .install()?;
    let token = shutdown.token();
    token.observe(|phase| trouble(phase.name()));
    let _unit = token.owned_unit("endless").expect("running");
    say("ready");
    token.wait();
    if grace == LONG {
        // The signals have the word to the end.
        hang();
    }
    say(&shutdown.finish().to_string());
    Ok(())
}

fn trouble(line: &str) {
    say(line);
    assert!(line.is_empty(), "{line}");
}

/// An observer hangs: a hook that hangs too is left behind in time, and neither way to end waits for it.
fn observer_hangs() -> safepoint::Result<()> {
    let (began, begun) = channel();
    let hanging = move |_: Phase| {
        // The receiver is gone once it has heard of it.
        let _ = began.send(());
        hang();
    };
    let shutdown = Shutdown::builder()
        .grace(Duration::from_secs(1))
        .reserve(Duration::from_millis(500))
        .hook(HookOrder::Drain, "hangs", |_| hang())
        .hook(HookOrder::Save, "save", |_| say("saved"))
        .install()?;
    shutdown.token().observe(hanging.clone());
    say("ready");
    begun.recv().expect("told");
    say(&shutdown.finish().to_string());
    let second = builder().install()?;
    second.token().observe(hanging);
    raise(Signal::SIGTERM).expect("raised");
    begun.recv().expect("told");
    drop(second);
    say("dropped");
    Ok(())
}

fn hang() {
    loop {
        std::thread::park();
    }
}

/// Two stop signals at once, and nobody who finishes.
fn burst() -> safepoint::Result<()> {
    let (tell, told_of) = channel();
    let shutdown = Shutdown::builder()
        .grace(Duration::from_millis(300))
        .ladder(&[Rung::Graceful, Rung::Graceful, Rung::Kill])
        .before_stop(move |_| tell.send(()).expect("heard"))
        .install()?;
    say("ready");
    told_of.recv().expect("told");
    say("told");
    let token = shutdown.token();
    wait_for(&token, Phase::Terminating);
    say(&told(&token));
    Ok(())
}

/// As many shutdowns with handlers as there may be, and one more.
fn many() -> safepoint::Result<()> {
    let mut installed = Vec::new();
    let refused = loop {
        match builder().install() {
            Ok(shutdown) => installed.push(shutdown),
            Err(error) => break error,
        }
    };
    say(&format!("{}: {}", installed.len(), refused.chain()));
    raise(Signal::SIGTERM).expect("raised");
    let stopping = installed.iter().filter(|one| one.token().is_stopping());
    say(&format!("{} are stopping", stopping.count()));
    installed.pop();
    stop_and_report(builder())
}

/// Raises one signal ten times in a row: the kernel merges none of those that a thread sends itself.
fn ten() -> safepoint::Result<()> {
    loop {
        let shutdown = builder().install()?;
        let clock = Clock::start();
        for _ in 0..10 {
            raise(Signal::SIGTERM).expect("raised");
        }
        let took = clock.now().since(Moment::default());
        // Again if the system held the row up, for then it counts more than once by right.
        if took < REPEAT_WINDOW / 2 {
            say(&format!("{} request", shutdown.token().requests().len()));
            return Ok(());
        }
    }
}

/// The kill rung for the signal whose number is the second argument.
fn last_rung() -> safepoint::Result<()> {
    let number = std::env::args()
        .nth(2)
        .and_then(|number| number.parse().ok());
    let number: i32 = number.expect("a number");
    let _shutdown = builder()
        .stop_signal(number, Source::System)
        .ladder(&[Rung::Kill])
        .last_act(|| say("last act"))
        .install()?;
    // SAFETY: raise(3) takes any number. nix has no name for the realtime signals.
    unsafe { libc::raise(number) };
    hang();
    Ok(())
}

/// Signals that are refused leave all as it was.
fn refused() {
    let before = dispositions();
    for number in [libc::SIGSEGV, libc::SIGSTOP, 0, -1, 99] {
        let refused = builder().stop_signal(number, Source::System).install();
        let error = refused.expect_err("refused");
        say(&format!("{:?}: {error}", error.kind()));
    }
    for refused in [
        builder().on_signal(libc::SIGKILL, |_| {}).install(),
        builder().info_signal(libc::SIGKILL, |_| {}).install(),
    ] {
        let error = refused.expect_err("refused");
        say(&format!("{:?}: {error}", error.kind()));
    }
    say(&format!("changed: {}", dispositions() != before));
}

/// Which signals are handled and which ignored, and how many threads there are.
fn dispositions() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").expect("read");
    let lines = status.lines();
    let wanted = |line: &&str| {
        ["SigCgt", "SigIgn", "Threads"]
            .iter()
            .any(|word| line.starts_with(word))
    };
    lines.filter(wanted).map(str::to_owned).collect()
}

/// A callback that sends the process a signal itself.
fn raises() -> safepoint::Result<()> {
    let program = builder().on_signal(Signal::SIGUSR1 as i32, |_| {
        raise(Signal::SIGTERM).expect("raised");
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

fn install_foreign() -> SigAction {
    let action = SigAction::new(
        SigHandler::Handler(foreign),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only adds to an atomic.
    unsafe { sigaction(Signal::SIGTERM, &action) }.expect("installed")
}

fn replaced() -> safepoint::Result<()> {
    let shutdown = builder().install()?;
    let _ = install_foreign();
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

/// The other library puts back what it found, our handler, when no shutdown is left.
fn left_behind() -> safepoint::Result<()> {
    let shutdown = builder().install()?;
    let found = install_foreign();
    say(&format!("{:?}", shutdown.finish().handlers));
    // SAFETY: the handler is the one that was in force before.
    unsafe { sigaction(Signal::SIGTERM, &found) }.expect("installed");
    say("ready");
    hang();
    Ok(())
}

fn earlier() -> safepoint::Result<()> {
    let _ = install_foreign();
    let shutdown = builder().install()?;
    raise(Signal::SIGTERM).expect("raised");
    say(&format!("stopping: {}", shutdown.token().is_stopping()));
    say(&format!("foreign: {}", FOREIGN.load(Ordering::SeqCst)));
    say(&format!("{:?}", shutdown.finish().handlers));
    raise(Signal::SIGTERM).expect("raised");
    say(&format!("foreign: {}", FOREIGN.load(Ordering::SeqCst)));
    Ok(())
}

/// Whether system calls go on after SIGTERM, with an earlier handler that wants them interrupted, and without one.
fn interrupting() -> safepoint::Result<()> {
    let restarts = || {
        // SAFETY: a null action only asks.
        let asked = unsafe {
            let mut action = std::mem::zeroed::<libc::sigaction>();
            libc::sigaction(libc::SIGTERM, std::ptr::null(), &raw mut action);
            action
        };
        asked.sa_flags & libc::SA_RESTART != 0
    };
    let alone = builder().install()?;
    say(&format!("alone: {}", restarts()));
    drop(alone);
    let _ = install_foreign();
    let _over_the_foreign = builder().install()?;
    say(&format!("with an earlier one: {}", restarts()));
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

/// A fork whose copy of the shutdown comes to its end.
fn fork_ends(end: impl Fn(Shutdown)) -> safepoint::Result<()> {
    let shutdown = builder()
        .hook(HookOrder::Save, "save", |_| say("hook ran"))
        .after_stop(|_| say("observer ran"))
        .install()?;
    let token = shutdown.token();
    // SAFETY: no other thread of this program holds a lock: the keeper sleeps, and nobody else is there.
    match unsafe { fork() }.expect("forked") {
        ForkResult::Child => {
            die_when_it_takes_too_long();
            end(shutdown);
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).expect("waited");
            say(&format!("{ended:?}").replace(&child.to_string(), "N"));
            say(&format!("parent stopping: {}", token.is_stopping()));
            say(&format!("{:?}", shutdown.finish().handlers));
        }
    }
    Ok(())
}

/// A fork that installs a shutdown of its own, with its parent's copy still there.
fn fork_installs() -> safepoint::Result<()> {
    let shutdown = builder().install()?;
    let token = shutdown.token();
    // SAFETY: as above.
    match unsafe { fork() }.expect("forked") {
        ForkResult::Child => {
            die_when_it_takes_too_long();
            say(&format!("fork {}", Pid::this()));
            phases(builder())
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).expect("waited");
            say(&format!("{ended:?}").replace(&child.to_string(), "N"));
            say(&format!("parent stopping: {}", token.is_stopping()));
            raise(Signal::SIGTERM).expect("raised");
            say(&told(&token));
            Ok(())
        }
    }
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
