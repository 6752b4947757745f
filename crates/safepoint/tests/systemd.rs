//! A service, and the socket on which systemd listens to it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use safepoint::shutdown::Shutdown;
use safepoint::systemd::Systemd;
use safepoint::{ErrorKind, Result};

use crate::support::{PATIENCE, graceful, is_role, patient, role, say};

const SERVICE: &str = "systemd::a_service";

/// In its role: a service that says when it is ready, and whose units come to an end one by one, each with a line on standard input.
#[test]
fn a_service() -> Result<()> {
    if !is_role(SERVICE) {
        return Ok(());
    }
    let shutdown = Shutdown::builder().grace(2 * PATIENCE).install()?;
    let token = shutdown.token();
    let systemd = Systemd::builder(std::env::var_os)?
        .extension(Duration::from_secs(7))
        .attach(&token)?;
    let units = ["first", "second\nREADY=1"].map(|name| token.owned_unit(name).expect("running"));
    systemd.status("loading")?;
    systemd.ready()?;
    let worker = std::thread::spawn(move || {
        for unit in units {
            std::io::stdin()
                .read_line(&mut String::new())
                .expect("a line");
            unit.commit();
        }
    });
    token.wait();
    say("stopping");
    shutdown.finish();
    worker.join().expect("no panic");
    Ok(())
}

/// systemd's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The messages up to one that begins with `wanted`, which is the last of them.
    fn until(&self, wanted: &str) -> Vec<String> {
        let mut seen = vec![self.next()];
        while !seen[seen.len() - 1].starts_with(wanted) {
            seen.push(self.next());
        }
        seen
    }

    /// The next messages but for pings.
    fn but_pings(&self, count: usize) -> Vec<String> {
        let messages = std::iter::repeat_with(|| self.next());
        messages
            .filter(|message| message != "WATCHDOG=1")
            .take(count)
            .collect()
    }
}

fn service(address: &SocketAddr, name: &str) -> (Manager, Child) {
    let socket = UnixDatagram::bind_addr(address).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut command: Command = role(SERVICE);
    command
        .stdin(std::process::Stdio::piped())
        .env("NOTIFY_SOCKET", name)
        .env("WATCHDOG_USEC", "600000")
        .env_remove("WATCHDOG_PID");
    (Manager(socket), command.spawn().expect("this binary"))
}

#[test]
fn systemd_is_told_of_readiness_the_stop_and_its_progress() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let address = SocketAddr::from_pathname(&path).expect("an address");
    let (systemd, mut service) = service(&address, path.to_str().expect("a name"));
    assert_eq!(systemd.but_pings(2), ["STATUS=loading", "READY=1"]);
    systemd.until("WATCHDOG=1");

    kill_process(Pid::from_child(&service), Signal::TERM).expect("it runs");
    let said = systemd.but_pings(3);
    assert_eq!(said[0], "STOPPING=1");
    assert!(said[1].starts_with("STATUS=draining ("), "{said:?}");
    assert!(
        said[1].ends_with(", waiting for unit `first`, unit `second READY=1`"),
        "{said:?}"
    );
    assert_eq!(said[2], "EXTEND_TIMEOUT_USEC=7000000");

    // A unit has ended: there is progress, and more time is asked for, once. Five pings take longer than one look.
    let mut input = service.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, b"\n").expect("written");
    let said = systemd.until("EXTEND_TIMEOUT_USEC=7000000");
    let shown = said.iter().rev().nth(1).expect("a status");
    assert!(
        shown.ends_with(", waiting for unit `second READY=1`"),
        "{said:?}"
    );
    assert_eq!(
        (0..5).map(|_| systemd.next()).collect::<Vec<_>>(),
        ["WATCHDOG=1"; 5]
    );

    std::io::Write::write_all(&mut input, b"\n").expect("written");
    assert!(service.wait().expect("its end").success());
}

#[test]
fn a_name_in_the_abstract_name_space_is_found_too() {
    let name = format!("safepoint-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let (systemd, mut service) = service(&address, &format!("@{name}"));
    systemd.until("READY=1");
    drop(service.stdin.take());
    kill_process(Pid::from_child(&service), Signal::TERM).expect("it runs");
    systemd.until("STOPPING=1");
    assert!(service.wait().expect("its end").success());
}

#[test]
fn the_stop_is_told_before_the_request_returns_and_pings_end_with_health() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let systemd = Manager(socket);
    let shutdown = patient();
    let token = shutdown.token();
    let (checked, checks) = std::sync::mpsc::channel();
    let told = Systemd::builder(|name| match name {
        "NOTIFY_SOCKET" => Some(path.clone().into()),
        "WATCHDOG_USEC" => Some("2000".into()),
        _ => None,
    })?
    .healthy_while(move || checked.send(()).is_err())
    .attach(&token)?;
    assert!(told.is_told());
    for _ in 0..3 {
        checks.recv_timeout(PATIENCE).expect("a check");
    }
    systemd.0.set_nonblocking(true).expect("a flag");
    let nothing = systemd
        .0
        .recv(&mut [0; 8])
        .expect_err("not well, so no ping");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    token.request(graceful());
    assert_eq!(systemd.next(), "STOPPING=1");
    systemd.0.set_nonblocking(false).expect("a flag");
    systemd
        .0
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out");
    assert_eq!(
        systemd.until("EXTEND_TIMEOUT_USEC=").len(),
        2,
        "a status and more time, and no ping"
    );
    drop(checks);
    assert_eq!(systemd.next(), "WATCHDOG=1", "well again");
    shutdown.finish();
    systemd.until("STATUS=stopped");
    drop(told);
    Ok(())
}

#[test]
fn without_systemd_every_call_does_nothing_and_rubbish_is_refused() -> Result<()> {
    let shutdown = patient();
    let nobody = Systemd::builder(|_| None)?.attach(&shutdown.token())?;
    assert!(!nobody.is_told());
    nobody.ready()?;
    nobody.status("nobody hears it")?;
    let error = Systemd::builder(|_| Some("rubbish".into())).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let gone =
        Systemd::builder(|name| (name == "NOTIFY_SOCKET").then(|| "/nowhere/notify".into()))?;
    let gone = gone.attach(&shutdown.token())?;
    assert_eq!(
        gone.ready().map_err(|error| error.kind()),
        Err(ErrorKind::Io)
    );
    Ok(())
}
