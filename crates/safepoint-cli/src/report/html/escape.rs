//! Text that came from elsewhere, made safe for a page.

/// `text` as the content of an element or the value of an attribute in quotes: nothing in it is markup, and nothing in it steers how what
/// stands around it is read. Control characters and those that turn the direction of writing are shown escaped; colours of a terminal
/// are left out. Newlines and tabs stay.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + text.len() / 8);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = after_colour(rest) {
            rest = after;
            continue;
        }
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(letter),
            letter if letter.is_control() || turns(letter) => safe.extend(letter.escape_unicode()),
            letter => safe.push(letter),
        }
        rest = &rest[letter.len_utf8()..];
    }
    safe
}

/// The beginning of `text`, at most `width` characters, on one line, and safe.
pub(super) fn excerpt(text: &str, width: usize) -> String {
    let mut line = text.trim_end().lines();
    let first = line.next().unwrap_or_default();
    let mut short: String = first.chars().take(width).collect();
    if short.len() < first.len() || line.next().is_some() {
        short.push('…');
    }
    escaped(&short)
}

/// `text` safe and with its lines, at most `length` characters of it.
pub(super) fn beginning(text: &str, length: usize) -> String {
    let mut short: String = text.trim_end().chars().take(length).collect();
    if short.len() < text.trim_end().len() {
        short.push('…');
    }
    escaped(&short)
}

/// Marks of bidirectional text: embeddings, overrides, isolates and the marks for one place. Source: Unicode Standard Annex 9.
fn turns(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What comes behind a sequence that sets a colour or weight (`ESC [ ... m`), if `text` begins with one.
fn after_colour(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("\x1b[")?;
    let end = inside.find(|letter: char| !letter.is_ascii_digit() && letter != ';')?;
    inside[end..].strip_prefix('m')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_markup_and_nothing_turns_the_text_around() {
        assert_eq!(
            escaped("</script><b a='x'>\"&amp;"),
            "&lt;/script&gt;&lt;b a=&#39;x&#39;&gt;&quot;&amp;amp;"
        );
        assert_eq!(
            escaped("a\x1b[1;31mred\x1b[0m\x1b[2J\r\n\tb"),
            "ared\\u{1b}[2J\\u{d}\n\tb"
        );
        assert_eq!(escaped("\x1b["), "\\u{1b}[");
        assert_eq!(
            escaped("a\u{202e}b\u{2066}\u{0}é"),
            "a\\u{202e}b\\u{2066}\\u{0}é"
        );
    }

    #[test]
    fn an_excerpt_is_one_line() {
        assert_eq!(excerpt("one\ntwo", 10), "one…");
        assert_eq!(excerpt("one\n", 10), "one");
        assert_eq!(excerpt("äöü<", 3), "äöü…");
        assert_eq!(excerpt("", 3), "");
        assert_eq!(beginning("a\nb<c\n", 4), "a\nb&lt;…");
        assert_eq!(beginning("a\n", 4), "a");
    }
}
