//! Text that came from elsewhere, made safe for a terminal.

/// `text` without control characters that could steer a terminal: they are shown escaped. Tabs and newlines stay if `multiline`.
pub(crate) fn safe(text: &str, multiline: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && !(multiline && (letter == '\n' || letter == '\t')) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// `line` of JSON without the control characters that JSON allows and some terminals obey (DEL and C1): they are escaped, so it means
/// the same.
pub(crate) fn safe_json(line: &str) -> std::borrow::Cow<'_, str> {
    if !line
        .chars()
        .any(|letter| letter.is_control() && letter != '\n')
    {
        return line.into();
    }
    let mut shown = String::with_capacity(line.len() + 16);
    for letter in line.chars() {
        if letter.is_control() && letter != '\n' {
            shown.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            shown.push(letter);
        }
    }
    shown.into()
}

/// Bytes in units that people read: `512 B`, `3.4 MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(6);
    let tenths = u128::from(bytes) * 10 / (1_u128 << (10 * power));
    format!(
        "{}.{} {}",
        tenths / 10,
        tenths % 10,
        UNITS[power as usize - 1]
    )
}

/// The beginning of `text`, at most `width` characters, on one line.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let text = safe(text, false);
    if text.chars().count() <= width {
        return text;
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(
            safe("a\x1b[2Jb\rc\x07\u{9b}", false),
            "a\\u{1b}[2Jb\\rc\\u{7}\\u{9b}"
        );
        assert_eq!(safe("a\nb\x1b", true), "a\nb\\u{1b}");
        assert_eq!(shorten("abcdef", 4), "abc…");
        let steering = r#"{"a":"x"}"#.replace('x', "\u{9b}2J\u{7f}");
        assert_eq!(safe_json(&steering), r#"{"a":"\u009b2J\u007f"}"#);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&safe_json(&steering)).ok(),
            serde_json::from_str(&steering).ok()
        );
    }

    #[test]
    fn bytes_are_shown_in_units() {
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1536), "1.5 KiB");
        assert_eq!(show_bytes(3 << 40), "3.0 TiB");
        assert_eq!(show_bytes(u64::MAX), "15.9 EiB");
    }
}
