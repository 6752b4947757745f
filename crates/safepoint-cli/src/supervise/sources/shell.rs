//! A file or a command as a notice.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use safepoint::shutdown::ShutdownToken;

use super::first_line;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How often a command that runs is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The message of a file that is there.
pub(super) fn file(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    // What is no text is a notice all the same.
    let _ = file.take(4096).read_to_string(&mut text);
    Some(first_line(&text, format!("`{}` is there", path.display())))
}

/// The message of a command that succeeds. One that takes too long counts as one that fails. Nothing that it started in its group lives on.
pub(super) fn command(script: &str, token: &ShutdownToken) -> Option<String> {
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .ok()?;
    let mut output = child.stdout.take()?;
    // Read beside, so that neither a full pipe nor one that somebody holds open keeps us waiting.
    let (told, heard) = channel();
    std::thread::spawn(move || {
        let mut text = [0; 4096];
        let count = output.read(&mut text).unwrap_or(0);
        let _ = told.send(String::from_utf8_lossy(&text[..count]).into_owned());
        let _ = std::io::copy(&mut output, &mut std::io::sink());
    });
    let looks = LIMIT.as_millis() / LOOK.as_millis();
    let mut succeeded = false;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for _ in 0..looks {
        // Looked at without being reaped, so that the number of its group stays its own.
        if group.is_none_or(has_ended) {
            succeeded = true;
            break;
        }
        if token.wait_timeout(LOOK) {
            break;
        }
    }
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let succeeded = child.wait().is_ok_and(|status| status.success()) && succeeded;
    let text = heard.recv_timeout(LOOK).unwrap_or_default();
    succeeded.then(|| first_line(&text, format!("`{script}` succeeded")))
}

fn has_ended(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
}
