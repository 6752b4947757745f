//! The SLURM job that this runs in: when it ends, and how it is run again.

use std::process::{Command, Stdio};
use std::time::Duration;

use safepoint::clock::wall_ms;

/// Kept between the end of our grace period and that of the job: SLURM's clock is that of another machine.
const MARGIN: Duration = Duration::from_secs(10);

/// How long from now until a stop must begin, and the message for it; nothing outside of a job or in one without an end.
pub(super) fn when_to_stop(grace: Duration) -> Option<(Duration, String)> {
    let job = variable("SLURM_JOB_ID")?;
    let left = time_left(&job)?;
    let wait = left.saturating_sub(grace + MARGIN);
    let message = format!(
        "the time of SLURM job {job} ends in {} s",
        left.saturating_sub(wait).as_secs()
    );
    Some((wait, message))
}

fn time_left(job: &str) -> Option<Duration> {
    if let Some(end) = variable("SLURM_JOB_END_TIME").and_then(|text| text.parse::<i64>().ok()) {
        let left = end.checked_mul(1000)?.saturating_sub(wall_ms());
        return Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)));
    }
    let output = Command::new("squeue")
        .args(["--noheader", "--jobs", job, "--format", "%L"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    parse_left(String::from_utf8_lossy(&output.stdout).trim())
}

/// Reads `MM:SS`, `HH:MM:SS` or `D-HH:MM:SS`; nothing for a job without an end. Source: squeue(1), `%L`.
fn parse_left(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text),
    };
    let mut seconds = 0;
    for part in clock.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    Some(Duration::from_secs(days.checked_mul(86_400)? + seconds))
}

/// Has SLURM run the job again, and says what came of it.
pub(in crate::supervise) fn requeue() -> String {
    let Some(job) = variable("SLURM_JOB_ID") else {
        return "warning: `--requeue`: this is no SLURM job (SLURM_JOB_ID is not set)".into();
    };
    let asked = Command::new("scontrol")
        .args(["requeue", &job])
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(output) if output.status.success() => format!("SLURM job {job} will run again"),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            let why = crate::render::shorten(why.trim(), 300);
            format!("warning: SLURM does not requeue job {job}: {why}")
        }
        Err(error) => format!("warning: cannot call `scontrol requeue {job}`: {error}"),
    }
}

fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command is what reads the environment"
    )]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_read_as_squeue_writes_it() {
        for (text, seconds) in [
            ("05:30", 330),
            ("1:00:00", 3600),
            ("2-00:00:01", 172_801),
            ("0:07", 7),
        ] {
            assert_eq!(
                parse_left(text),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for none in ["UNLIMITED", "INVALID", "NOT_SET", ""] {
            assert_eq!(parse_left(none), None, "{none}");
        }
    }
}
