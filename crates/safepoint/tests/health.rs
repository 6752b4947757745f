//! Health over HTTP: what is answered, to whom, and that `/health` answers at once whatever clients and the program's own code do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown as Half, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use safepoint::Shutdown;
use safepoint::health::{
    Address, Builder, Exposition, Health, MAX_CONNECTIONS, MAX_STREAMS, Secret, Server, Subject,
};
use safepoint::shutdown::{Mode, Phase, Source};

use super::support::{Lines, is_role, role, say};

/// `/health` answers within this, whatever happens.
const SOON: Duration = Duration::from_millis(100);

/// So long nobody loses a seat: 20 ms by the server's coarse clock, which counts in steps of 4 ms.
const KEPT: Duration = Duration::from_millis(15);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again, for as long as the program keeps what it said before, until it is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// A program with a server.
struct Program {
    shutdown: Shutdown,
    health: Health,
    server: Option<Server>,
    at: SocketAddr,
}

fn program(settings: impl FnOnce(Builder) -> Builder) -> Program {
    let shutdown = Shutdown::builder().build().unwrap();
    let health = settings(Health::builder(&shutdown.token())).build();
    let server = health
        .serve(&Address::parse("127.0.0.1:0").unwrap())
        .unwrap();
    let at = server.address().as_port().unwrap();
    Program {
        shutdown,
        health,
        server: Some(server),
        at,
    }
}

/// An answer as it came.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }
}

/// Reads one answer; none when the connection ends before one is there.
fn receive(stream: &mut impl Read) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            Ok(_) => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut answer = Answer {
        status: head[9..12].parse().unwrap(),
        body: String::new(),
        head,
    };
    let length = answer
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    answer.body = String::from_utf8(body).unwrap();
    Some(answer)
}

impl Program {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes on a connection of their own.
    fn send(&self, request: &str) -> Option<Answer> {
        let mut stream = self.connect();
        // The other end may have heard enough.
        let _ = stream.write_all(request.as_bytes());
        receive(&mut stream)
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        self.try_to_ask(method, path, headers).unwrap()
    }

    fn try_to_ask(&self, method: &str, path: &str, headers: &[&str]) -> Option<Answer> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.at
        );
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        self.send(&(request + "\r\n"))
    }

    fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path, &[]);
        (answer.status, answer.body)
    }

    fn post(&self, headers: &[&str], body: &str) -> Answer {
        let length = format!("content-length: {}", body.len());
        let mut request = format!(
            "POST /shutdown HTTP/1.1\r\nhost: {}\r\n{length}\r\n",
            self.at
        );
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        self.send(&(request + "\r\n" + body)).unwrap()
    }

    /// Asks `/health` with nobody in the way but who is there already; see [`lives_beside`](Self::lives_beside).
    fn lives(&self, what: &str) {
        self.lives_beside(what, || ());
    }

    /// Asks `/health` some times on connections of their own, each of which must be answered soon. A machine that is busy with other work may hold up
    /// any process for so long, and who is held up before it has asked may lose its seat to others, so there are a few tries, each with others of its
    /// own to be in the way: those of an earlier one may have been sent away meanwhile.
    fn lives_beside<T>(&self, what: &str, others: impl Fn() -> T) {
        let is_soon = || {
            let begun = Instant::now();
            let answer = self.try_to_ask("GET", "/health", &[]);
            let took = begun.elapsed();
            assert!(answer.is_some() || took >= KEPT, "{what}: {took:?}");
            answer.is_some_and(|answer| {
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (200, ALIVE),
                    "{what}"
                );
                took < SOON
            })
        };
        let lives = (0..5).any(|_| {
            let _others = others();
            (0..20).all(|_| is_soon())
        });
        assert!(lives, "{what}: not once 20 answers in a row that came soon");
    }
}

const ALIVE: &str = r#"{"status":"alive"}"#;
const READY: &str = r#"{"status":"ready","accepting_traffic":true}"#;
const NOT_READY: &str = r#"{"status":"not_ready"}"#;
const SHUTTING_DOWN: &str = r#"{"status":"shutting_down","accepting_traffic":false}"#;
const INITIATED: &str = r#"{"status":"shutdown_initiated"}"#;

#[test]
fn liveness_readiness_and_the_stop_have_exactly_these_bodies() {
    let program = program(|builder| builder);
    assert_eq!(program.get("/health"), (200, ALIVE.into()));
    assert_eq!(program.get("/ready"), (503, NOT_READY.into()));
    program.health.set_ready(true);
    assert_eq!(program.get("/ready"), (200, READY.into()));
    program.health.set_ready(false);
    assert_eq!(program.get("/ready"), (503, NOT_READY.into()));
    program.health.set_ready(true);
    let stopped = program.post(&[], "");
    assert_eq!((stopped.status, stopped.body.as_str()), (200, INITIATED));
    assert_eq!(program.get("/ready"), (503, SHUTTING_DOWN.into()));
    assert_eq!(
        program.get("/health"),
        (200, ALIVE.into()),
        "it lives until its end"
    );
    let reason = program.shutdown.token().reason().unwrap();
    assert_eq!(
        (reason.source, reason.mode, reason.message.as_str()),
        (Source::System, Mode::Graceful, "POST /shutdown")
    );
}

#[test]
fn a_stop_may_say_how_and_why() {
    let program = program(|builder| builder);
    for refused in ["{", "[]", r#"{"mode":"now"}"#, r#"{"why":"x"}"#, "\0"] {
        let answer = program.post(&[], refused);
        assert_eq!(answer.status, 400, "{refused}");
        assert!(
            answer.body.starts_with(r#"{"error":"the body has to be"#),
            "{}",
            answer.body
        );
    }
    assert!(!program.shutdown.token().is_stopping());
    assert_eq!(program.post(&[], r#"{"message":"an update"}"#).status, 200);
    let origin = format!("origin: http://{}", program.at);
    assert_eq!(
        program.post(&[&origin], r#"{"mode":"immediate"}"#).status,
        200
    );
    let requests = program.shutdown.token().requests();
    let said: Vec<_> = requests
        .iter()
        .map(|recorded| {
            (
                recorded.request.source,
                recorded.request.mode,
                recorded.request.message.as_str(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            (Source::System, Mode::Graceful, "an update"),
            (Source::User, Mode::Immediate, "POST /shutdown")
        ]
    );
    assert_eq!(program.shutdown.token().phase(), Phase::Terminating);
}

#[test]
fn every_answer_says_what_it_is_and_is_kept_by_nobody() {
    let program = program(|builder| builder);
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/health?x=1", 200),
        ("GET", "/status", 200),
        ("GET", "/metrics", 200),
        ("GET", "/shutdown", 405),
        ("POST", "/health", 405),
        ("DELETE", "/status", 405),
        ("OPTIONS", "/shutdown", 405),
        ("GET", "/nothing", 404),
        ("GET", "/../etc/passwd", 404),
    ] {
        let answer = program.ask(method, path, &[]);
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(answer.header("allow").is_some(), status == 405, "{path}");
        if status >= 400 {
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert!(answer.body.starts_with(r#"{"error":""#), "{}", answer.body);
        }
    }
    let page = program.ask("GET", "/", &[]);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && policy.contains("connect-src 'self'"),
        "{policy}"
    );

    for path in ["/", "/health", "/ready", "/status", "/metrics", "/events"] {
        let mut stream = program.connect();
        write!(
            stream,
            "HEAD {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("\r\n\r\n"), "{path}: {text}");
        assert!(
            path == "/events" || text.contains("content-length: "),
            "{path}: {text}"
        );
    }
}

#[test]
fn what_is_too_long_is_refused_in_words() {
    let program = program(|builder| builder);
    let many = vec!["x: y"; 33];
    let answer = program.ask("GET", "/health", &many);
    assert_eq!(answer.status, 431, "{}", answer.body);
    let long = format!("x: {}", "y".repeat(17 * 1024));
    assert_eq!(program.ask("GET", "/health", &[&long]).status, 431);
    let path = format!("/{}", "y".repeat(17 * 1024));
    assert_eq!(program.ask("GET", &path, &[]).status, 431);
    for length in [16 * 1024 + 1, 10_000_000] {
        let answer = program.post(&[], &" ".repeat(length));
        assert_eq!(
            (answer.status, answer.header("connection")),
            (413, Some("close"))
        );
    }
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    let head = "POST /shutdown HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(
        program
            .send(&format!("{head}{chunk}{chunk}0\r\n\r\n"))
            .unwrap()
            .status,
        413
    );
    assert_eq!(program.post(&[], &" ".repeat(16 * 1024)).status, 200);
    program.lives("after what was too long");
}

#[test]
fn a_stop_from_elsewhere_needs_the_token_and_pages_of_others_are_refused() {
    let open = program(|builder| builder.host("job.example"));
    for (host, status) in [
        ("evil.example", 421),
        ("job.example", 403),
        ("localhost", 200),
    ] {
        let request =
            format!("POST /shutdown HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(open.send(&request).unwrap().status, status, "{host}");
    }
    for path in ["/status", "/", "/metrics", "/events", "/nothing"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\n\r\n");
        assert_eq!(open.send(&request).unwrap().status, 421, "{path}");
    }
    let request = "GET /health HTTP/1.1\r\nhost: evil.example\r\n\r\n";
    assert_eq!(
        open.send(request).unwrap().status,
        200,
        "load balancers ask under any name"
    );
    assert_eq!(open.post(&["origin: http://evil.example"], "").status, 403);
    assert_eq!(open.post(&["x-forwarded-for: 10.0.0.1"], "").status, 403);

    let guarded = program(|builder| builder.secret(Secret::new("0123456789abcdef0123").unwrap()));
    let refused = guarded.post(&[], "");
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Bearer"))
    );
    assert_eq!(
        guarded
            .post(&["authorization: Bearer 0123456789abcdef0124"], "")
            .status,
        401
    );
    assert!(!guarded.shutdown.token().is_stopping());
    assert_eq!(
        guarded
            .post(&["authorization: Bearer 0123456789abcdef0123"], "")
            .status,
        200
    );
    assert!(guarded.shutdown.token().is_stopping());
}

/// A gate that the program's code waits at.
#[derive(Debug, Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn wait(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

/// Opens the gate at the end, whatever the end is.
struct Opened(Arc<Gate>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[test]
fn a_check_that_fails_panics_or_hangs_is_not_ready_and_delays_nobody() {
    let gate = Arc::new(Gate::default());
    let (waiting, begun) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&begun);
    let hung = program(|builder| {
        builder.check("hangs", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            waiting.wait();
        })
    });
    let _opened = Opened(Arc::clone(&gate));
    hung.health.set_ready(true);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| hung.get("/ready")))
            .collect();
        hung.lives("while a check hangs");
        for asked in asking {
            assert_eq!(asked.join().unwrap(), (503, NOT_READY.into()));
        }
    });
    assert_eq!(
        begun.load(Ordering::Relaxed),
        1,
        "it is not started again while it hangs"
    );
    gate.open();
    wait_until("the check to hold", || {
        hung.get("/ready") == (200, READY.into())
    });

    let fails = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&fails);
    let failing = program(|builder| {
        builder.check("disk", move || {
            if asked.load(Ordering::Relaxed) {
                Err("full")
            } else {
                Ok(())
            }
        })
    });
    failing.health.set_ready(true);
    assert_eq!(failing.get("/ready"), (503, NOT_READY.into()));
    assert!(
        failing
            .get("/metrics")
            .1
            .contains("safepoint_check{check=\"disk\"} 0\n")
    );
    fails.store(false, Ordering::Relaxed);
    wait_until("the check to hold", || {
        failing.get("/ready") == (200, READY.into())
    });

    let panicking =
        program(|builder| builder.check("panics", || -> () { panic!("a check panics") }));
    panicking.health.set_ready(true);
    assert_eq!(panicking.get("/ready"), (503, NOT_READY.into()));
    panicking.lives("after a panic");
}

/// Counts how often it is asked, and may hang.
struct Counting {
    asked: AtomicUsize,
    gate: Option<Arc<Gate>>,
}

impl Subject for Counting {
    fn status(&self) -> String {
        if let Some(gate) = &self.gate {
            gate.wait();
        }
        format!(
            r#"{{"asked":{}}}"#,
            self.asked.fetch_add(1, Ordering::Relaxed) + 1
        )
    }

    fn metrics(&self, exposition: &mut Exposition) {
        if let Some(gate) = &self.gate {
            gate.wait();
        }
        exposition.gauge("asked", "How often.").value(&[], 1.0);
    }
}

#[test]
fn a_subject_that_hangs_delays_nobody_else() {
    let gate = Arc::new(Gate::default());
    let subject = Counting {
        asked: AtomicUsize::new(0),
        gate: Some(Arc::clone(&gate)),
    };
    let program = program(|builder| builder.subject(Arc::new(subject)));
    let _opened = Opened(Arc::clone(&gate));
    std::thread::scope(|scope| {
        let asking: Vec<_> = ["/status", "/metrics"]
            .map(|path| scope.spawn(|| program.ask("GET", path, &[])))
            .into();
        program.lives("while the subject hangs");
        for asked in asking {
            let answer = asked.join().unwrap();
            assert_eq!(
                (answer.status, answer.header("retry-after")),
                (503, Some("1")),
                "{}",
                answer.body
            );
        }
    });
    assert_eq!(program.get("/ready"), (503, NOT_READY.into()));
    gate.open();
    wait_until("the status", || program.get("/status").0 == 200);
    wait_until("the metrics", || program.get("/metrics").0 == 200);
}

#[test]
fn a_flood_of_questions_is_one_look_a_second() {
    let subject = Arc::new(Counting {
        asked: AtomicUsize::new(0),
        gate: None,
    });
    let program = program(|builder| builder.subject(Arc::clone(&subject) as Arc<dyn Subject>));
    let begun = Instant::now();
    let mut stream = program.connect();
    for _ in 0..2000 {
        stream
            .write_all(b"GET /status HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        assert_eq!(receive(&mut stream).unwrap().status, 200);
    }
    let looks = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let asked = subject.asked.load(Ordering::Relaxed);
    assert!(asked <= looks, "{asked} looks in {looks} s");
}

#[test]
fn events_tell_the_status_when_it_changes_and_there_are_so_many_streams() {
    let subject = Arc::new(Counting {
        asked: AtomicUsize::new(0),
        gate: None,
    });
    let program = program(|builder| builder.subject(subject));
    let open = || {
        let mut stream = program.connect();
        stream
            .write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let answer = receive(&mut stream).unwrap();
        (
            answer.status,
            answer.header("content-type").map(str::to_owned),
            stream,
        )
    };
    let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| open()).collect();
    for (status, kind, _) in &streams {
        assert_eq!((*status, kind.as_deref()), (200, Some("text/event-stream")));
    }
    assert_eq!(open().0, 503);
    program.lives("with all streams open");
    let mut seen = String::new();
    let mut buffer = [0; 256];
    let (_, _, stream) = &mut streams[0];
    while seen.matches("data: {\"asked\":").count() < 3 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    streams.pop();
    wait_until("a stream to be free", || open().0 == 200);
}

/// Set when this goes, also by a panic: threads that go on until then are waited for.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn liveness_answers_soon_whatever_clients_do() {
    let program = program(|builder| builder);
    program.lives("when nothing is the matter");

    // More than may be connected, of whom none says anything.
    let silent = || -> Vec<_> { (0..1000).map(|_| program.connect()).collect() };
    program.lives_beside("with 1,000 that say nothing", silent);

    let slow = || -> Vec<_> {
        (0..MAX_CONNECTIONS + 50)
            .map(|_| {
                let mut stream = program.connect();
                // The server may have taken the seat of one that came earlier.
                let _ = stream.write_all(b"GET /health HTTP/1.1\r\nhost: loc");
                stream
            })
            .collect()
    };
    program.lives_beside("with many that ask slowly", slow);

    let bodies = || -> Vec<_> {
        (0..MAX_CONNECTIONS)
            .map(|_| {
                let mut stream = program.connect();
                let _ = stream.write_all(
                    b"POST /shutdown HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
                );
                stream
            })
            .collect()
    };
    program.lives_beside("with many whose bodies do not come", bodies);

    let deaf = || -> Vec<_> {
        (0..50)
            .map(|_| {
                let mut stream = program.connect();
                stream.set_nonblocking(true).unwrap();
                let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
                // Until nothing more is taken.
                while stream.write(&request).is_ok() {}
                stream
            })
            .collect()
    };
    program.lives_beside("with many that do not read", deaf);

    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"POST /shutdown HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /shutdown HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /shutdown HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
    ] {
        let mut stream = program.connect();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Half::Write);
        let mut answer = Vec::new();
        // Refused or reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(garbage));
    }
    program.lives("after garbage");

    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                drop(TcpStream::connect(program.at));
            }
        });
        scope.spawn(|| {
            let mut stream = program.connect();
            let mut reading = stream.try_clone().unwrap();
            let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(50);
            scope.spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while reading.read(&mut buffer).is_ok_and(|count| count > 0) {}
            });
            while !ended.load(Ordering::Relaxed) && stream.write_all(&request).is_ok() {
                std::hint::spin_loop();
            }
            let _ = stream.shutdown(Half::Both);
        });
        program.lives("during a flood of connections and of requests on one connection");
    });
    assert!(!program.shutdown.token().is_stopping());
}

const FULL: &str = "health::a_program_without_descriptors";

/// In its role: a program that has used up its descriptors, but for those of its server.
#[test]
fn a_program_without_descriptors() {
    if !is_role(FULL) {
        return;
    }
    let program = program(|builder| builder);
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    say(&program.at.to_string());
    // Until the test has asked.
    let _ = std::io::stdin().read(&mut [0]);
    drop(taken);
}

#[test]
fn a_program_that_has_no_descriptor_left_says_that_it_lives() {
    let mut full = role(FULL).stdin(Stdio::piped()).spawn().unwrap();
    let lines = Lines::of(full.stdout.take());
    let at: SocketAddr = std::iter::repeat_with(|| lines.next())
        .find_map(|line| line.parse().ok())
        .unwrap();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        assert_eq!(receive(&mut stream).unwrap().body, ALIVE);
    }
    // One that stays takes the last descriptor; it gives way.
    let mut stays = TcpStream::connect(at).unwrap();
    stays
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    assert_eq!(receive(&mut stays).unwrap().body, ALIVE);
    let mut next = TcpStream::connect(at).unwrap();
    next.set_read_timeout(Some(PATIENCE)).unwrap();
    next.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    assert_eq!(receive(&mut next).unwrap().body, ALIVE);
    drop(full.stdin.take());
    assert!(full.wait().unwrap().success());
}

#[test]
fn who_is_slow_is_told_so_and_who_says_nothing_is_left() {
    let program = program(|builder| builder);
    let begun = Instant::now();
    let mut slow = program.connect();
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: loc")
        .unwrap();
    let mut body = program.connect();
    body.write_all(b"POST /shutdown HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")
        .unwrap();
    let mut silent = program.connect();
    let answer = receive(&mut slow).unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (408, Some("close"))
    );
    assert!(answer.body.contains("within 2 s"), "{}", answer.body);
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(receive(&mut body).unwrap().status, 408);
}

#[test]
fn a_stop_that_ends_the_program_at_once_is_answered_all_the_same() {
    for _ in 0..20 {
        let mut program = program(|builder| builder);
        let server = program.server.take();
        let token = program.shutdown.token();
        let ending = std::thread::spawn(move || {
            token.wait();
            drop(server);
        });
        assert_eq!(program.post(&[], "").body, INITIATED);
        ending.join().unwrap();
        assert!(
            TcpStream::connect(program.at).is_err(),
            "nobody listens any more"
        );
    }
}

#[test]
fn a_socket_in_a_directory_answers_and_goes_with_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job.sock");
    let shutdown = Shutdown::builder().build().unwrap();
    let health = Health::builder(&shutdown.token()).build();
    let address = Address::socket(&path);
    let server = health.serve(&address).unwrap();
    assert!(
        health
            .serve(&address)
            .is_err_and(|error| error.kind() == safepoint::ErrorKind::Busy)
    );
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"POST /shutdown HTTP/1.1\r\nhost: anything\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    assert_eq!(receive(&mut stream).unwrap().body, INITIATED);
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let program = program(|builder| builder);
    let error = program
        .health
        .serve(&Address::port(program.at))
        .unwrap_err();
    assert_eq!(error.kind(), safepoint::ErrorKind::Io);
    assert!(
        error.to_string().contains(&program.at.to_string()),
        "{error}"
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("another port"))
    );
}
