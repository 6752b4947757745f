//! A file or a command as a notice.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

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

/// The message of a command that succeeds. One that takes too long is ended, and counts as one that fails.
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
    // Read beside, so that neither a full pipe nor a silent command holds us up.
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.by_ref().take(4096).read_to_end(&mut text);
        let _ = std::io::copy(&mut output, &mut std::io::sink());
        String::from_utf8_lossy(&text).into_owned()
    });
    let looks = LIMIT.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                let text = if reading.is_finished() || status.success() {
                    reading.join().unwrap_or_default()
                } else {
                    String::new()
                };
                return status
                    .success()
                    .then(|| first_line(&text, format!("`{script}` succeeded")));
            }
            Err(_) => return None,
        }
        if token.wait_timeout(LOOK) {
            break;
        }
    }
    if let Some(group) = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        // Unreaped, so the number is its own.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
    None
}
