//! Durations as people write and read them.

use std::time::Duration;

/// Reads `90`, `90s`, `10m`, `1.5h`, `2d`, and what jiff's friendly format allows (`1h30m`, `2 days`).
///
/// # Errors
///
/// Why the text is no duration.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let refuse =
        || format!("`{text}` is not a duration; write for example 90, 90s, 10m, 1.5h or 2d");
    let (number, unit) = text.split_at(
        text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(text.len()),
    );
    let seconds = match unit.trim() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => {
            let span: jiff::SignedDuration = text.parse().map_err(|_| refuse())?;
            return Duration::try_from(span).map_err(|_| refuse());
        }
    };
    let number: f64 = number.parse().map_err(|_| refuse())?;
    let total = number * seconds;
    // A century is beyond any limit a person means, and within what clocks can add.
    if !(0.0..=3.2e9).contains(&total) {
        return Err(format!(
            "`{text}` is too long; the longest duration is 100 years"
        ));
    }
    Ok(Duration::from_secs_f64(total))
}

/// A duration in at most two units: `40ms`, `0.4s`, `12s`, `3m 05s`, `2h 10m`, `4d 3h`.
pub(crate) fn show_duration(duration: Duration) -> String {
    // To the nearest second: a grace period of which a moment is gone is still shown as it was asked for.
    let seconds =
        (duration + Duration::from_millis(if duration.as_secs() < 10 { 0 } else { 500 })).as_secs();
    match seconds {
        0 if duration < Duration::from_millis(100) => format!("{}ms", duration.as_millis()),
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How long ago a time in milliseconds since 1970 was: `just now`, `3m 05s ago`.
pub(crate) fn show_ago(then_ms: i64) -> String {
    let passed = since(then_ms);
    if passed < Duration::from_secs(1) {
        "just now".to_owned()
    } else {
        format!(
            "{} ago",
            show_duration(Duration::from_secs(passed.as_secs()))
        )
    }
}

/// The time since a time in milliseconds since 1970, zero if that is to come.
pub(crate) fn since(then_ms: i64) -> Duration {
    let passed = safepoint::clock::wall_ms().saturating_sub(then_ms);
    Duration::from_millis(u64::try_from(passed).unwrap_or(0))
}

/// A count of things: `1 item`, `12,345 items`.
pub(crate) fn show_number_of(count: u64, thing: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {thing}{ending}", show_count(count))
}

/// A count with thousands apart: `12,345`.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90", 90.0),
            ("90s", 90.0),
            ("10m", 600.0),
            ("1.5h", 5400.0),
            ("2d", 172_800.0),
            ("250ms", 0.25),
            ("1h30m", 5400.0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs_f64(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "x",
            "-1",
            "1.2.3",
            "5 parsecs",
            "NaN",
            "1e99",
            "99999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!(show_duration(Duration::from_millis(43)), "43ms");
        assert_eq!(show_duration(Duration::from_millis(430)), "0.4s");
        assert_eq!(show_duration(Duration::from_secs(185)), "3m 05s");
        assert_eq!(show_duration(Duration::from_secs(90_000)), "1d 1h");
        assert_eq!(
            (show_count(999), show_count(1_234_567)),
            ("999".into(), "1,234,567".into())
        );
    }
}
