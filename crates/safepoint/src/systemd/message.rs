//! The lines of `sd_notify(3)`.

use std::time::Duration;

use crate::shutdown::Status;

/// The most bytes of a text: it is shown on one line, and a datagram has room for it.
const LONGEST: usize = 400;

/// How many open things are named.
const NAMED: usize = 3;

pub(super) const READY: &str = "READY=1";
pub(super) const STOPPING: &str = "STOPPING=1";
pub(super) const ALIVE: &str = "WATCHDOG=1";

/// A free text for `systemctl status`, on one line.
pub(super) fn status(text: &str) -> String {
    let mut line = String::from("STATUS=");
    for character in text.chars() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        line.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    line
}

pub(super) fn extend(time: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", time.as_micros())
}

/// How it stands with a stop: the phase, why, and what is waited for. Without times, so that it stays the same as long as nothing happens.
pub(super) fn describe(status: &Status) -> String {
    let mut text = status.phase.name().to_owned();
    if let Some(reason) = &status.reason {
        text.push_str(&format!(" ({})", reason.message));
    }
    for (index, open) in status.open.iter().take(NAMED).enumerate() {
        text.push_str(if index == 0 { ", waiting for " } else { ", " });
        text.push_str(&format!("{} `{}`", open.kind.name(), open.name));
    }
    if status.open.len() > NAMED {
        text.push_str(&format!(" and {} more", status.open.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_of_bounded_length() {
        assert_eq!(status("a\nREADY=1\tb"), "STATUS=a READY=1 b");
        assert!(status(&"ü".repeat(1000)).len() < LONGEST + 8);
        assert_eq!(
            extend(Duration::from_secs(30)),
            "EXTEND_TIMEOUT_USEC=30000000"
        );
    }
}
