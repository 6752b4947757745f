//! Prints the table of `docs/src/benchmarks.md` about stopping.
//!
//! `cargo bench -p safepoint-benches --bench stopping`, with `-- --short` to see in seconds that it works.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its table, and how far it has come"
)]

use std::cell::Cell;
use std::error::Error;
use std::future::pending;
use std::process::Command;
use std::thread;

use safepoint_benches::rates::{self, Rate};
use safepoint_benches::signals::{self, Handled, Observer};
use safepoint_benches::table::{Contender, Row, Table, Taken, in_turns, median};
use safepoint_benches::tools::{
    AsyncShutdown, Check, Children, RelaxedLoad, Safepoint, SafepointOwned, Swansong,
    SwansongReporting, TokioGraceful, TokioUtil, Tool, Units, Waits,
};
use safepoint_benches::wakes::{Woken, woken};
use tokio::runtime::Handle;

/// How much of everything.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    sample_ns: u64,
    waiting: usize,
}

const FULL: Size = Size {
    rounds: 41,
    sample_ns: 1_000_000,
    waiting: 10_000,
};

const SHORT: Size = Size {
    rounds: 2,
    sample_ns: 100_000,
    waiting: 100,
};

/// Makes the program send itself signals and print after how long each was seen: the tool and the observer follow.
const SEND_SIGNALS: &str = "--send-signals";

/// How many.
const SIGNALS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [SEND_SIGNALS, tool, observer] = arguments.as_slice() {
        return send_signals(tool, observer);
    }
    // Cargo says `--bench` to every benchmark.
    let size = match arguments.as_slice() {
        [] | ["--bench"] => FULL,
        ["--short"] | ["--short", "--bench"] => SHORT,
        unknown => return Err(format!("not understood: {}", unknown.join(" ")).into()),
    };
    // One thread: with one more than there are processors, the scheduler would decide who is first.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(pending::<()>()));
    // tokio-graceful starts a task when it is made.
    let _entered = handle.enter();
    let (mut wall, mut processor) = (Vec::new(), Vec::new());
    for operation in [checks, units, lent_units, owned_units, children] {
        for threads in [1, 2] {
            let [by_wall, by_processor] = operation(size, threads);
            wall.push(by_wall);
            processor.push(by_processor);
        }
    }
    for waiting in [waits, waits_of_children] {
        let [first, last, by_processor] = waiting(size, &handle);
        wall.extend([first, last]);
        processor.push(by_processor);
    }
    let tools = |rows| Table {
        ours: Safepoint::NAME,
        peers: vec![
            TokioUtil::NAME,
            Swansong::NAME,
            SwansongReporting::NAME,
            AsyncShutdown::NAME,
            TokioGraceful::NAME,
        ],
        floor: RelaxedLoad::NAME,
        rows,
    };
    let handlers = Table {
        ours: signals::Safepoint::NAME,
        peers: vec![signals::TokioSignal::NAME],
        floor: signals::SignalHookFlag::NAME,
        rows: arrivals(size)?,
    };
    println!(
        "Wall time, median (least) of {} rounds:\n\n{}",
        size.rounds,
        tools(wall)
    );
    println!(
        "Processor time, median (least) of the same rounds:\n\n{}",
        tools(processor)
    );
    println!("Signals:\n\n{handlers}");
    Ok(())
}

/// A contender for operations too short for a clock.
fn rate<T: Tool>(size: Size, threads: u32, run: fn(&T, u64)) -> Contender<'static, Rate> {
    let times = rates::calibrate(threads, size.sample_ns, run);
    Contender::new(T::NAME, move || {
        rates::measure_undisturbed(threads, times, run)
    })
}

/// Says how many figures count although they were disturbed; they make those of two threads look as if nothing was shared.
fn say_disturbed<R>(what: &str, taken: &[Taken<R>], is_undisturbed: impl Fn(&R) -> bool) {
    let all: Vec<_> = taken.iter().flat_map(|taken| &taken.figures).collect();
    let disturbed = all.iter().filter(|figure| !is_undisturbed(figure)).count();
    eprintln!(
        "{what}: {disturbed} of {} figures were disturbed",
        all.len()
    );
}

/// By wall time and by processor time.
fn rate_rows(
    what: &str,
    size: Size,
    threads: u32,
    contenders: Vec<Contender<'_, Rate>>,
) -> [Row; 2] {
    let threads = if threads == 1 {
        "one thread"
    } else {
        "two threads"
    };
    let taken = in_turns(size.rounds, contenders);
    say_disturbed(&format!("{what}, {threads}"), &taken, |rate| {
        rate.is_undisturbed
    });
    [
        Row::new(format!("{what}, {threads}"), &taken, |rate| rate.wall_ns),
        Row::new(format!("{what}, {threads}"), &taken, |rate| rate.cpu_ns),
    ]
}

fn checks(size: Size, threads: u32) -> [Row; 2] {
    fn of<T: Check>(size: Size, threads: u32) -> Contender<'static, Rate> {
        rate::<T>(size, threads, rates::check)
    }
    let contenders = vec![
        of::<Safepoint>(size, threads),
        of::<TokioUtil>(size, threads),
        of::<Swansong>(size, threads),
        of::<AsyncShutdown>(size, threads),
        of::<RelaxedLoad>(size, threads),
    ];
    rate_rows("check", size, threads, contenders)
}

fn units(size: Size, threads: u32) -> [Row; 2] {
    let contenders = units_beside::<Safepoint>(size, threads, Held::Kept);
    rate_rows("unit: enter and leave", size, threads, contenders)
}

fn lent_units(size: Size, threads: u32) -> [Row; 2] {
    let contenders = units_beside::<Safepoint>(size, threads, Held::Lent);
    rate_rows("unit that is lent to a function", size, threads, contenders)
}

fn owned_units(size: Size, threads: u32) -> [Row; 2] {
    let contenders = units_beside::<SafepointOwned>(size, threads, Held::Kept);
    rate_rows("unit that may change its thread", size, threads, contenders)
}

/// What is done with a unit while it is open.
#[derive(Clone, Copy)]
enum Held {
    Kept,
    Lent,
}

/// Ours beside all others, whose guards may change their thread in any case.
fn units_beside<Ours: Units>(
    size: Size,
    threads: u32,
    held: Held,
) -> Vec<Contender<'static, Rate>> {
    fn of<T: Units>(size: Size, threads: u32, held: Held) -> Contender<'static, Rate> {
        match held {
            Held::Kept => rate::<T>(size, threads, rates::unit),
            Held::Lent => rate::<T>(size, threads, rates::lent_unit),
        }
    }
    vec![
        of::<Ours>(size, threads, held),
        of::<TokioUtil>(size, threads, held),
        of::<Swansong>(size, threads, held),
        of::<SwansongReporting>(size, threads, held),
        of::<AsyncShutdown>(size, threads, held),
        of::<TokioGraceful>(size, threads, held),
    ]
}

fn children(size: Size, threads: u32) -> [Row; 2] {
    fn of<T: Children>(size: Size, threads: u32) -> Contender<'static, Rate> {
        rate::<T>(size, threads, rates::child)
    }
    let contenders = vec![
        of::<Safepoint>(size, threads),
        of::<TokioUtil>(size, threads),
        of::<Swansong>(size, threads),
    ];
    rate_rows("child token: make and drop", size, threads, contenders)
}

/// Two by wall time, and one by processor time.
fn wake_rows(what: &str, size: Size, contenders: Vec<Contender<'_, Woken>>) -> [Row; 3] {
    let what = if size.waiting == FULL.waiting {
        format!("10,000 {what}")
    } else {
        format!("{} {what}", size.waiting)
    };
    let taken = in_turns(size.rounds, contenders);
    say_disturbed(&what, &taken, |woken| woken.is_undisturbed);
    #[expect(
        clippy::cast_precision_loss,
        reason = "nanoseconds of a benchmark are far below 2^52"
    )]
    let row =
        |what: String, ns: fn(&Woken) -> u64| Row::new(what, &taken, |woken| ns(woken) as f64);
    [
        row(format!("{what}: first woken"), |woken| woken.first_ns),
        row(format!("{what}: last woken"), |woken| woken.last_ns),
        row(format!("{what}: all woken"), |woken| woken.cpu_ns),
    ]
}

/// Asks for a stop again and again until nothing disturbs it, or patience is over.
fn undisturbed(take: impl Fn() -> Woken) -> Woken {
    const PATIENCE: usize = 20;
    let mut woken = take();
    for _ in 1..PATIENCE {
        if woken.is_undisturbed {
            break;
        }
        woken = take();
    }
    woken
}

fn waits(size: Size, runtime: &Handle) -> [Row; 3] {
    fn of<T: Waits>(size: Size, runtime: &Handle) -> Contender<'_, Woken> {
        let take = move || {
            let tool = T::new();
            woken(runtime, size.waiting, || tool.stopping(), || tool.request())
        };
        Contender::new(T::NAME, move || undisturbed(take))
    }
    let contenders = vec![
        of::<Safepoint>(size, runtime),
        of::<TokioUtil>(size, runtime),
        of::<Swansong>(size, runtime),
        of::<AsyncShutdown>(size, runtime),
        of::<TokioGraceful>(size, runtime),
    ];
    wake_rows("waiting tasks", size, contenders)
}

fn waits_of_children(size: Size, runtime: &Handle) -> [Row; 3] {
    fn of<T: Waits + Children>(size: Size, runtime: &Handle) -> Contender<'_, Woken> {
        let take = move || {
            let tool = T::new();
            woken(
                runtime,
                size.waiting,
                || T::child_stopping(tool.child()),
                || tool.request(),
            )
        };
        Contender::new(T::NAME, move || undisturbed(take))
    }
    let contenders = vec![
        of::<Safepoint>(size, runtime),
        of::<TokioUtil>(size, runtime),
        of::<Swansong>(size, runtime),
    ];
    wake_rows("tasks waiting with a child token each", size, contenders)
}

/// The rows about signals: the first figure of a process, and the median of those that it takes after that.
fn arrivals(size: Size) -> Result<Vec<Row>, Box<dyn Error>> {
    let observers = [
        (Observer::Other, "SIGTERM to another thread's check"),
        (Observer::Same, "SIGTERM to the signalled thread's check"),
    ];
    let mut rows = Vec::new();
    for (observer, what) in observers {
        eprintln!("{what}");
        let failure = Cell::new(None);
        let contender = |tool: &'static str| {
            let failure = &failure;
            Contender::new(tool, move || match ask_process(tool, observer) {
                Ok(figures) => figures,
                Err(error) => {
                    failure.set(Some(error));
                    Vec::new()
                }
            })
        };
        let contenders = vec![
            contender(signals::Safepoint::NAME),
            contender(signals::TokioSignal::NAME),
            contender(signals::SignalHookFlag::NAME),
        ];
        let taken = in_turns(size.rounds, contenders);
        if let Some(error) = failure.take() {
            return Err(error);
        }
        rows.push(Row::new(
            format!("{what}, first of a process"),
            &taken,
            |figures| figures[0],
        ));
        rows.push(Row::new(format!("{what}, after that"), &taken, |figures| {
            median(&figures[1..])
        }));
    }
    Ok(rows)
}

fn ask_process(tool: &str, observer: Observer) -> Result<Vec<f64>, Box<dyn Error>> {
    let observer = match observer {
        Observer::Other => "other",
        Observer::Same => "same",
    };
    let asked = Command::new(std::env::current_exe()?)
        .args([SEND_SIGNALS, tool, observer])
        .output()?;
    let said = String::from_utf8(asked.stdout)?;
    let figures: Vec<f64> = said.lines().map_while(|line| line.parse().ok()).collect();
    if figures.len() == SIGNALS {
        return Ok(figures);
    }
    let complaint = String::from_utf8_lossy(&asked.stderr);
    Err(format!("{tool}: {}: {complaint}", asked.status).into())
}

fn send_signals(tool: &str, observer: &str) -> Result<(), Box<dyn Error>> {
    let observer = match observer {
        "other" => Observer::Other,
        "same" => Observer::Same,
        unknown => return Err(format!("no observer is called {unknown}").into()),
    };
    let seen_after = match tool {
        signals::Safepoint::NAME => signals::seen_after::<signals::Safepoint>,
        signals::TokioSignal::NAME => signals::seen_after::<signals::TokioSignal>,
        signals::SignalHookFlag::NAME => signals::seen_after::<signals::SignalHookFlag>,
        unknown => return Err(format!("nothing that handles signals is called {unknown}").into()),
    };
    for _ in 0..SIGNALS {
        println!("{}", seen_after(observer)?);
    }
    Ok(())
}
