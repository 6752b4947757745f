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
    }
}
