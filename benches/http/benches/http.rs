//! `GET /health` a second on one processor, beside a bare hyper and axum in the same run; and what a flood of it costs a running job.
//!
//! Each server is a process of its own on the first processor, asked by `wrk` on the second. The tools take turns in each round, and the median of
//! the rounds is told: a shared machine drifts. What others took of the processor does not count in a second of its own time. A job has the first processor to itself, while its server's thread and `wrk` share the second; its time is
//! compared with that of the same job whose server nobody asks; its processor time is that of its children and of all its threads but the one that answers.
//!
//! `cargo bench -p safepoint-benches-http`; `-- --short` only sees that it works.

#![expect(
    clippy::exit,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use safepoint::Shutdown;
use safepoint::health::{Address, Health};
use safepoint::job::{
    Definition, Delivery, Handle, JobPath, Live, Options, Run, Unobserved, Untold, run,
};
use safepoint::shutdown::ShutdownToken;

const TOOLS: [&str; 3] = ["safepoint", "hyper", "axum"];
const TARGET: f64 = 40_000.0;
const MOST_SLOWED: f64 = 1.05;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(&arguments[1]),
        Some("job") => job(arguments[1].parse().expect("a number of items")),
        _ => measure(arguments.iter().any(|argument| argument == "--short")),
    }
}

fn measure(is_short: bool) {
    let (rounds, seconds, items) = if is_short { (1, 1, 50) } else { (7, 3, 4000) };
    let mut rates = [const { Vec::new() }; TOOLS.len()];
    let mut own_rates = [const { Vec::new() }; TOOLS.len()];
    for _ in 0..rounds {
        for (place, tool) in TOOLS.iter().enumerate() {
            let mut server = Role::start(&["serve", tool]);
            let address = server.line();
            let before = server.processor_time();
            let begun = Instant::now();
            let rate = wrk(&address, seconds).expect("it asks");
            let answers = rate * begun.elapsed().as_secs_f64();
            rates[place].push(rate);
            own_rates[place].push(answers / (server.processor_time() - before));
        }
    }
    let (medians, own_medians) = (rates.map(median), own_rates.map(median));
    println!(
        "| `GET /health` on one processor | a second | a second of its own processor time | of bare hyper | target | reached |"
    );
    println!("|---|---|---|---|---|---|");
    for (place, tool) in TOOLS.iter().enumerate() {
        let own = own_medians[place];
        let verdict = match *tool {
            "safepoint" if own >= TARGET => "40,000/s | yes",
            "safepoint" => "40,000/s | **no**",
            _ => "| ",
        };
        let (rate, of_hyper) = (medians[place], own / own_medians[1]);
        println!("| {tool} | {rate:.0} | {own:.0} | {of_hyper:.2} | {verdict} |");
    }
    let (mut alone, mut beside, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(job_times(items, false).0);
        let (times, rate) = job_times(items, true);
        beside.push(times);
        asked.push(rate);
    }
    let asked = median(asked);
    let column =
        |times: &[[f64; 2]], place: usize| median(times.iter().map(|times| times[place]).collect());
    println!(
        "\n| a job of {items} items of `true` | nobody asks | {asked:.0} questions a second | ratio | target | reached |"
    );
    println!("|---|---|---|---|---|---|");
    for (place, what) in ["time", "its processor time"].into_iter().enumerate() {
        let (alone, beside) = (column(&alone, place), column(&beside, place));
        let slowed = beside / alone;
        let verdict = if slowed <= MOST_SLOWED {
            "yes"
        } else {
            "**no**"
        };
        println!(
            "| {what} | {alone:.2} s | {beside:.2} s | {slowed:.3} | {MOST_SLOWED} | {verdict} |"
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// This program again, in a role, on the first processor.
struct Role {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Role {
    fn start(arguments: &[&str]) -> Self {
        let this = std::env::current_exe().expect("a program");
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(this)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset is there: install util-linux");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, out }
    }

    /// The processor time that it has used, in seconds: what others took from it does not count.
    fn processor_time(&self) -> f64 {
        ticks(&format!("/proc/{}/stat", self.child.id()), 2)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("text");
        line.trim().to_owned()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Its end of input is the sign to leave.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The processor time in this file of `/proc`, in seconds: of user and system, and with 4 also of children that have ended.
#[expect(clippy::cast_precision_loss, reason = "ticks are few")]
fn ticks(path: &str, fields: usize) -> f64 {
    let stat = std::fs::read_to_string(path).expect("it lives");
    let (_, after_name) = stat.rsplit_once(") ").expect("a name");
    // From field 14 on, the first two of which are gone.
    let ticks = after_name.split(' ').skip(11).take(fields);
    let ticks: u64 = ticks
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Asks for so many seconds from the second processor: answers a second; none if it was cut short.
fn wrk(address: &str, seconds: u64) -> Option<f64> {
    let asking = start_wrk(address, seconds);
    rate_of(asking)
}

fn start_wrk(address: &str, seconds: u64) -> Child {
    Command::new("taskset")
        .args(["-c", "1", "wrk", "-t1", "-c32", &format!("-d{seconds}s")])
        .arg(format!("{address}health"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk is there: `scripts/setup --bench` installs it")
}

fn rate_of(asking: Child) -> Option<f64> {
    let output = asking.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("Non-2xx"), "{text}");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    line.and_then(|rate| rate.trim().parse().ok())
}

/// How long a job takes, in seconds, and how much processor time; and how often its server was asked meanwhile, a second.
fn job_times(items: u64, is_asked: bool) -> ([f64; 2], f64) {
    let mut role = Role::start(&["job", &items.to_string()]);
    let address = role.line();
    let pid = role.line().parse().expect("a process");
    move_server(pid);
    let asking = is_asked.then(|| start_wrk(&address, 1));
    // The end of its input begins the job, so that the server is being asked already.
    drop(role.child.stdin.take());
    let mut rates = Vec::new();
    if let Some(asking) = asking {
        rates.extend(rate_of(asking));
        while role.child.try_wait().expect("ours").is_none() {
            rates.extend(rate_of(start_wrk(&address, 1)).filter(|rate| *rate > 0.0));
        }
    }
    let mut rest = String::new();
    role.out.read_to_string(&mut rest).expect("text");
    let mut seconds = rest
        .split_whitespace()
        .map(|seconds| seconds.parse().expect("seconds"));
    let times = std::array::from_fn(|_| seconds.next().expect("two times"));
    (times, if rates.is_empty() { 0.0 } else { median(rates) })
}

/// Moves the thread that answers to the second processor.
fn move_server(pid: u32) {
    let mut second = CpuSet::new();
    second.set(1);
    let path = server_thread(pid).expect("a thread that answers");
    let number = path.rsplit('/').next().and_then(|name| name.parse().ok());
    sched_setaffinity(number.and_then(Pid::from_raw), &second).expect("two processors");
}

/// Where `/proc` has the thread that answers.
fn server_thread(pid: u32) -> Option<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads.flatten().find_map(|entry| {
        let path = entry.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        (name.trim() == "safepoint-http").then(|| path.display().to_string())
    })
}

fn loopback() -> Address {
    Address::parse("127.0.0.1:0").expect("an address")
}

/// Answers until its input ends.
fn serve(tool: &str) {
    match tool {
        "safepoint" => {
            let shutdown = Shutdown::builder().build().expect("a shutdown");
            let health = Health::builder(&shutdown.token()).build();
            let server = health.serve(&loopback()).expect("a server");
            println!("{}", server.address());
            wait_for_end();
        }
        tool => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let tool = tool.to_owned();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
                let listener = listener.expect("a port");
                println!("http://{}/", listener.local_addr().expect("an address"));
                std::thread::spawn(|| {
                    wait_for_end();
                    std::process::exit(0);
                });
                match tool.as_str() {
                    "hyper" => bare_hyper(listener).await,
                    _ => bare_axum(listener).await,
                }
            });
        }
    }
}

fn wait_for_end() {
    let _ = std::io::stdin().read(&mut [0]);
}

const ALIVE: &str = r#"{"status":"alive"}"#;

async fn bare_hyper(listener: tokio::net::TcpListener) {
    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper::header::{CONTENT_TYPE, HeaderValue};
    use hyper::{Request, Response};
    loop {
        let (stream, _): (_, SocketAddr) = listener.accept().await.expect("a connection");
        let _ = stream.set_nodelay(true);
        let service = hyper::service::service_fn(|_: Request<Incoming>| async {
            let mut answer = Response::new(Full::new(Bytes::from_static(ALIVE.as_bytes())));
            let json = HeaderValue::from_static("application/json");
            answer.headers_mut().insert(CONTENT_TYPE, json);
            Ok::<_, Infallible>(answer)
        });
        let stream = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
    }
}

async fn bare_axum(listener: tokio::net::TcpListener) {
    use axum::http::header::CONTENT_TYPE;
    let alive = || async { ([(CONTENT_TYPE, "application/json")], ALIVE) };
    let app = axum::Router::new().route("/health", axum::routing::get(alive));
    axum::serve(listener, app).await.expect("it serves");
}

/// A job with a server: prints its address and its process, waits for the end of input, and prints how long the job took.
fn job(items: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let input = directory.path().join("in.txt");
    let lines: String = (0..items).map(|item| format!("{item}\n")).collect();
    std::fs::write(&input, lines).expect("written");
    let definition = Definition {
        inputs: vec![input],
        format: None,
        key_field: None,
        command: vec!["true".into(), "{}".into()],
        delivery: Delivery::Arguments,
    };
    let path = JobPath::new(&directory.path().join("state"), "bench").expect("a name");
    let token = ShutdownToken::detached(safepoint::clock::Clock::start(), Duration::ZERO);
    let handle = Handle::new(1).expect("a handle");
    let live = Live::new(&path, &token, Some(&handle)).expect("a thread");
    let health = Health::builder(&token)
        .subject(std::sync::Arc::new(live))
        .build();
    let server = health.serve(&loopback()).expect("a server");
    println!("{}\n{}", server.address(), std::process::id());
    wait_for_end();
    let options = Options {
        environment: std::env::vars_os().collect(),
        ..Options::default()
    };
    let begun = Instant::now();
    let report = run(Run {
        path: &path,
        definition: &definition,
        options: &options,
        handle,
        token,
        observer: &mut Unobserved,
        results: Box::new(Untold),
    });
    assert_eq!(report.expect("it runs").counts.done, items);
    let time = begun.elapsed().as_secs_f64();
    let all = ticks("/proc/self/stat", 4);
    let answering = server_thread(std::process::id()).expect("a thread that answers");
    println!("{time} {}", all - ticks(&format!("{answering}/stat"), 2));
}
