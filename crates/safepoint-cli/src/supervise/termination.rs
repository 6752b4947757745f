//! Why it ended, for Kubernetes: a file that the kubelet reads when the container is gone.

use std::io::Write;
use std::path::Path;

use safepoint::supervise::{Report, Verdict};

use super::{SuperviseArgs, TERMINATION_LOG, is_there};

/// The longest message that Kubernetes keeps, in bytes.
const LONGEST: usize = 4096;

/// Writes how the run ended, if it was not a plain success.
pub(super) fn tell(args: &SuperviseArgs, report: &Report) {
    if report.verdict == Verdict::Code(0) && !report.is_interrupted {
        return;
    }
    let mut text = match report.requests.first() {
        Some(first) if report.is_interrupted => format!("stopped: {}", first.request),
        _ => "ended".to_owned(),
    };
    if let Some(exit) = report.exit {
        text.push_str(&format!("; {}", exit.describe()));
    }
    if report.restarts > 0 {
        text.push_str(&format!(" after {} restarts", report.restarts));
    }
    if let Some(checkpoint) = &report.checkpoint {
        text.push_str(&format!("; last checkpoint {checkpoint}"));
    }
    write(args, &text);
}

/// Writes a message where it is read, if there is such a place. It is a help: trouble with it is nobody's.
pub(super) fn write(args: &SuperviseArgs, text: &str) {
    let path = match &args.termination_log {
        Some(path) => path.as_path(),
        None if is_there(Path::new(TERMINATION_LOG)) => Path::new(TERMINATION_LOG),
        None => return,
    };
    let mut end = text.len().min(LONGEST - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // In place, for it is a mount of its own, and the last message is the one that counts.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path);
    if let Ok(mut file) = file {
        let _ = writeln!(file, "{}", &text[..end]);
    }
}
