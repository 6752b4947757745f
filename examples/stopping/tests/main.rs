//! The examples as a person runs them: started, stopped by Ctrl-C, and asked what became of their work.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Example {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Example {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, out }
    }

    /// The first line: the program is at work.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("text");
        line
    }

    fn ctrl_c(&self) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("sent");
    }

    fn end(&mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("text");
        (rest, self.child.wait().expect("waited").code())
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Nothing stays behind when a test has failed; otherwise it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_loop_and_the_pool_end_between_two_units() {
    for program in [env!("CARGO_BIN_EXE_bare_loop"), env!("CARGO_BIN_EXE_pool")] {
        let mut example = Example::start(program, &[]);
        assert!(example.line().contains("Ctrl-C stops"));
        example.ctrl_c();
        let (rest, code) = example.end();
        assert!(
            rest.starts_with("stopped in ") && rest.contains("SIGINT (user, graceful)"),
            "{rest}"
        );
        assert!(rest.contains("0 rolled back"), "{rest}");
        assert_eq!(code, Some(130));
    }
}

#[test]
fn the_loop_ends_at_its_time_limit() {
    let program = env!("CARGO_BIN_EXE_bare_loop");
    let output = Command::new(program).arg("1").output().expect("ran");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("the time limit of 1 s was reached (timeout, graceful)"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(75));
}

#[test]
fn the_threads_lose_no_order() {
    let mut example = Example::start(env!("CARGO_BIN_EXE_threads"), &[]);
    assert!(example.line().contains("Ctrl-C stops"));
    example.ctrl_c();
    let (rest, code) = example.end();
    let numbers: Vec<u64> = rest
        .lines()
        .last()
        .map(|line| {
            line.split([' ', ','])
                .filter_map(|word| word.parse().ok())
                .collect()
        })
        .expect("a last line");
    let [accepted, shipped, too_large, left_over] = numbers[..] else {
        panic!("{rest}");
    };
    // Each producer that had begun was handed one order back that was never accepted.
    let handed_back = shipped + too_large + left_over - accepted;
    assert!(handed_back <= 2, "{rest}");
    assert!(
        rest.contains(&format!("{left_over} orders left over, saved")),
        "{rest}"
    );
    assert_eq!(code, Some(130));
}

#[test]
fn the_service_is_stopped_by_a_post() {
    let mut example = Example::start(env!("CARGO_BIN_EXE_service"), &["0"]);
    let line = example.line();
    let address = line
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let mut stream = TcpStream::connect(address.expect("an address")).expect("open");
    let body = r#"{"message":"an update"}"#;
    let length = body.len();
    write!(stream, "POST /shutdown HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.ends_with(r#"{"status":"shutdown_initiated"}"#),
        "{answer}"
    );
    let (rest, code) = example.end();
    assert!(rest.contains("an update (system, graceful)"), "{rest}");
    assert_eq!(code, Some(75));
}

#[test]
fn the_service_is_not_ready_first_and_closes_afterwards() {
    // Long enough for a question after Ctrl-C, also on a machine that is busy.
    let mut example = Example::start(env!("CARGO_BIN_EXE_service"), &["2000"]);
    let line = example.line();
    let address = line
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let address = address.expect("an address").to_owned();
    assert!(get(&address, "/").expect("answered").ends_with("done\n"));
    for (path, end) in [
        ("/health", r#"{"status":"alive"}"#),
        ("/ready", r#"{"status":"ready","accepting_traffic":true}"#),
        ("/metrics", "# EOF\n"),
    ] {
        let answer = get(&address, path).expect("answered");
        assert!(
            answer.contains("200 OK") && answer.ends_with(end),
            "{answer}"
        );
    }
    example.ctrl_c();
    // The listener is open for the delay, so some answer says 503; then it closes.
    let answer = loop {
        match get(&address, "/ready") {
            Ok(answer) if answer.contains("200 OK") => {}
            answer => break answer,
        }
    };
    let answer = answer.expect("open for the delay");
    assert!(answer.contains("503"), "it closed before it was not ready");
    let shutting_down = r#"{"status":"shutting_down","accepting_traffic":false}"#;
    assert!(answer.ends_with(shutting_down), "{answer}");
    let (rest, code) = example.end();
    assert!(get(&address, "/ready").is_err(), "still open");
    assert!(
        rest.contains("hook `close the listener` (accept): done"),
        "{rest}"
    );
    assert!(
        rest.contains("hook `close the database` (close): done"),
        "{rest}"
    );
    assert!(!rest.contains("gave up"), "{rest}");
    assert_eq!(code, Some(130));
}
