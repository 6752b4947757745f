//! Notices from outside that the time is over: each becomes a stop request with its message.

mod cloud;
mod http;
mod shell;
mod slurm;

use std::time::Duration;

use safepoint::shutdown::{ShutdownToken, Source, StopRequest};
use safepoint::{Error, ErrorKind, Result};

use super::{INTERVAL, SuperviseArgs};
pub(super) use slurm::requeue;

/// The threads that ask; each ends with the stop.
#[derive(Debug)]
pub(super) struct Sources(Vec<std::thread::JoinHandle<()>>);

/// How long the threads have to end what they started.
const LAST: Duration = Duration::from_millis(500);

impl Drop for Sources {
    /// Waits until the commands of theirs are gone; the stop was told them before. One that waits for a slow answer is left to the end of the process.
    fn drop(&mut self) {
        let looks = LAST.as_millis() / 10;
        for _ in 0..looks {
            if self.0.iter().all(std::thread::JoinHandle::is_finished) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Starts to ask all that was named.
pub(super) fn start(args: &SuperviseArgs, token: &ShutdownToken) -> Result<Sources> {
    let interval = args
        .notice_interval
        .unwrap_or(INTERVAL)
        .max(Duration::from_millis(10));
    let mut threads = Vec::new();
    for path in args.notice_file.clone() {
        let look = move || shell::file(&path);
        threads.push(ask_again_and_again(token, interval, look)?);
    }
    for command in args.notice_command.clone() {
        let asking = token.clone();
        let look = move || shell::command(&command, &asking);
        threads.push(ask_again_and_again(token, interval, look)?);
    }
    if let Some(cloud) = args.spot {
        let mut watch = cloud::Watch::new(cloud, args.spot_endpoint.clone());
        threads.push(ask_again_and_again(token, interval, move || watch.look())?);
    }
    if args.slurm || args.requeue {
        let grace = crate::settings::grace(args.grace)?.time;
        let asking = token.clone();
        if let Some((wait, message)) = slurm::when_to_stop(grace) {
            threads.push(thread(move || {
                if !asking.wait_timeout(wait) {
                    asking.request(StopRequest::graceful(Source::System, message));
                }
            })?);
        }
    }
    Ok(Sources(threads))
}

/// Calls `look` until it gives a message, or the stop has begun.
fn ask_again_and_again(
    token: &ShutdownToken,
    interval: Duration,
    mut look: impl FnMut() -> Option<String> + Send + 'static,
) -> Result<std::thread::JoinHandle<()>> {
    let token = token.clone();
    thread(move || {
        loop {
            if let Some(message) = look() {
                token.request(StopRequest::graceful(Source::System, message));
                return;
            }
            if token.wait_timeout(interval) {
                return;
            }
        }
    })
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("safepoint-notices".into())
        .spawn(work)
        .map_err(|error| {
            Error::new(
                ErrorKind::Io,
                "cannot start a thread that waits for notices",
            )
            .with_source(error)
        })
}

/// The first line of a message from elsewhere, short enough for a log.
fn first_line(text: &str, otherwise: String) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return otherwise;
    }
    line.chars()
        .filter(|letter| !letter.is_control())
        .take(300)
        .collect()
}
