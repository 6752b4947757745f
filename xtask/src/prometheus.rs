//! A real Prometheus scrapes a real job: what it stored is asked for again.
//!
//! Not one of the tests, which read the metrics by Python's client of it: the program is large, and only a release needs to know.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long until it has scraped something.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for, and the value that it must have.
const QUERIES: [(&str, &str); 5] = [
    ("up", "1"),
    ("safepoint_items_expected", "2"),
    ("safepoint_items_in_progress", "1"),
    ("safepoint_items_total{status=\"done\"}", "1"),
    ("safepoint_item_duration_seconds_bucket{le=\"+Inf\"}", "1"),
];

/// Runs a job with `safepoint` and has Prometheus scrape it; returns what it said of each query.
///
/// # Errors
///
/// Something cannot be started, or a value is not as it must be in time.
pub fn scrape(safepoint: &Path) -> io::Result<Vec<String>> {
    let scratch = Scratch::new()?;
    scratch.write("in.txt", "quick\nslow\n")?;
    let log = std::fs::File::create(scratch.0.join("job.log"))?;
    let mut job = Command::new(safepoint);
    job.args([
        "run",
        "-j1",
        "--http",
        "127.0.0.1:0",
        "in.txt",
        "--shell",
        "--",
    ])
    .arg("case $1 in slow) sleep 600;; esac")
    .current_dir(&scratch.0)
    .stdin(Stdio::null())
    .stdout(Stdio::null())
    .stderr(log);
    let job = Running(job.spawn()?);
    let address = wait(|| {
        let said = std::fs::read_to_string(scratch.0.join("job.log")).ok()?;
        let (_, address) = said.split_once("http://")?;
        Some(address.split_once('/')?.0.to_owned())
    })?;
    scratch.write(
        "prometheus.yml",
        &format!("scrape_configs:\n  - job_name: safepoint\n    scrape_interval: 1s\n    static_configs:\n      - targets: [\"{address}\"]\n"),
    )?;
    // Taken for a moment only, so that Prometheus can have it.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let own = format!("127.0.0.1:{port}");
    let mut prometheus = Command::new("prometheus");
    prometheus
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"])
        .arg(format!("--web.listen-address={own}"))
        .current_dir(&scratch.0)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(scratch.0.join("prometheus.log"))?);
    let prometheus = prometheus.spawn().map_err(|error| {
        io::Error::other(format!(
            "cannot start `prometheus` ({error}): install the package of that name"
        ))
    })?;
    let prometheus = Running(prometheus);
    let mut answers = Vec::new();
    for (query, value) in QUERIES {
        let wanted = format!("\"{value}\"]");
        let answer = wait(|| {
            get(&own, query)
                .ok()
                .filter(|answer| answer.contains(&wanted))
        });
        let last = get(&own, query).unwrap_or_default();
        answer.map_err(|_| io::Error::other(format!("`{query}` is not {value}: {last}")))?;
        answers.push(format!("{query} = {value}"));
    }
    drop((prometheus, job));
    Ok(answers)
}

fn get(address: &str, query: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    write!(
        stream,
        "GET /api/v1/query?query={query} HTTP/1.0\r\nHost: {address}\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn wait<T>(mut look: impl FnMut() -> Option<T>) -> io::Result<T> {
    let begun = now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begun.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a developer's tool has no clock of its own"
)]
fn now() -> Instant {
    Instant::now()
}

/// A directory that goes at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("safepoint-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    #[expect(clippy::disallowed_methods, reason = "what is lost here is made again")]
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        std::fs::write(self.0.join(name), text)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that goes at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // Politely, three times: a job then ends its commands, too.
        for _ in 0..3 {
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            std::thread::sleep(Duration::from_millis(200));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
