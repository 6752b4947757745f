//! Rust source with what is not code blanked out.
//!
//! Every view has the bytes of the file at their old places, with spaces for what was removed, so
//! that an offset found in one view means the same in the others and gives the right line. No macro
//! is expanded and no syntax is checked: the compiler has seen the file before a rule matters.

use std::ops::Range;

/// Three views of one file.
pub(super) struct Source {
    /// Without comments and without the contents of strings.
    pub(super) code: String,
    /// As `code`, and without the items under `#[cfg(test)]`: what users run.
    pub(super) shipped: String,
    /// Without comments; strings stay.
    pub(super) with_strings: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Comment,
    Literal,
}

impl Source {
    pub(super) fn new(text: &str) -> Self {
        let regions = regions(text.as_bytes());
        let comments = regions.iter().filter(|(kind, _)| *kind == Kind::Comment);
        let with_strings = blank(text, comments.map(|(_, range)| range.clone()));
        let code = blank(text, regions.iter().map(|(_, range)| range.clone()));
        let shipped = blank(&code, test_items(&code).into_iter());
        Self {
            code,
            shipped,
            with_strings,
        }
    }
}

/// The offset behind the bracket that closes the one at `open`, or the end of the code.
pub(super) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return offset + 1;
        }
    }
    code.len()
}

/// Whether `byte` can be part of an identifier.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Each region begins and ends at an ASCII byte, so blanking it never cuts a character.
fn blank(text: &str, ranges: impl Iterator<Item = Range<usize>>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for range in ranges {
        for byte in &mut bytes[range] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(bytes).expect("whole characters became spaces")
}

fn regions(bytes: &[u8]) -> Vec<(Kind, Range<usize>)> {
    let mut regions = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let begins_word = at == 0 || !is_word(bytes[at - 1]);
        let region = match rest {
            [b'/', b'/', ..] => Some((Kind::Comment, line_comment(rest))),
            [b'/', b'*', ..] => Some((Kind::Comment, block_comment(rest))),
            [b'"', ..] => Some((Kind::Literal, string(rest))),
            [b'\'', ..] => character(rest).map(|length| (Kind::Literal, length)),
            _ if begins_word => raw_string(rest).map(|length| (Kind::Literal, length)),
            _ => None,
        };
        let length = region.map_or(1, |(_, length)| length);
        if let Some((kind, _)) = region {
            regions.push((kind, at..at + length));
        }
        at += length;
    }
    regions
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a character literal; a lifetime is none.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        // The byte after the backslash may itself be a quote.
        return Some(3 + rest.get(3..)?.iter().position(|byte| *byte == b'\'')? + 1);
    }
    let first = std::str::from_utf8(rest.get(1..rest.len().min(5))?);
    let width = match first {
        Ok(text) => text.chars().next()?.len_utf8(),
        Err(error) if error.valid_up_to() > 0 => {
            let valid = std::str::from_utf8(&rest[1..=error.valid_up_to()]).ok()?;
            valid.chars().next()?.len_utf8()
        }
        Err(_) => return None,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = match rest {
        [b'r', ..] => 1,
        [b'b' | b'c', b'r', ..] => 2,
        _ => return None,
    };
    let hashes = rest[prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    let length = body.windows(end.len()).position(|window| window == end);
    Some(length.map_or(rest.len(), |length| open + 1 + length + end.len()))
}

/// The items that are compiled for tests only, each from its attribute to its end.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find("[cfg(") {
        let open = from + found;
        let attribute_end = closing(code, open);
        from = attribute_end;
        let condition: String = code[open..attribute_end].split_whitespace().collect();
        if condition != "[cfg(test)]" && !condition.starts_with("[cfg(all(test,") {
            continue;
        }
        if code[..open].ends_with("#!") {
            items.push(0..code.len());
            return items;
        }
        from = item_end(code, attribute_end);
        items.push(open - 1..from);
    }
    items
}

/// The end of the item that starts at `from`: its `;`, or the end of its body.
fn item_end(code: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(byte) = code.as_bytes().get(at) {
        match byte {
            b';' => return at + 1,
            b'{' => return closing(code, at),
            b'(' | b'[' => at = closing(code, at),
            _ => at += 1,
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn code_of(text: &str, expected: &str) {
        let source = Source::new(text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(
            source.code.split_whitespace().collect::<Vec<_>>().join(" "),
            expected
        );
    }

    #[test]
    fn comments_and_strings_are_blanked() {
        code_of("a // b\nc", "a c");
        code_of("a /* b /* c */ d */ e", "a e");
        code_of(r#"a("b \" c", d)"#, "a( , d)");
        code_of("a(r##\"b \"# c\"##, br\"d\", e)", "a( , , e)");
        code_of("\"// no comment\" a", "a");
        code_of("é /* ü */ a \"ß\"", "é a");
    }

    #[test]
    fn a_lifetime_is_no_character() {
        code_of("fn a<'b>(c: &'b str) { '\"' }", "fn a<'b>(c: &'b str) { }");
        code_of(r"['\'', '\\', '€', 'a'] b", "[ , , , ] b");
        code_of("r#type ra\"x\"", "r#type ra");
    }

    #[test]
    fn strings_stay_in_their_view() {
        assert_eq!(Source::new("a(\"b\") // c").with_strings, "a(\"b\")     ");
    }

    #[test]
    fn test_items_are_not_shipped() {
        let shipped = |text: &str| {
            Source::new(text)
                .shipped
                .split_whitespace()
                .collect::<String>()
        };
        assert_eq!(shipped("a #[cfg(test)] mod t { b { c } } d"), "ad");
        assert_eq!(shipped("a #[cfg(test)] mod t; d"), "ad");
        assert_eq!(
            shipped("a #[cfg(all(test, unix))] fn t(b: [u8; 3]) { c } d"),
            "ad"
        );
        assert_eq!(shipped("#[cfg(not(test))] a"), "#[cfg(not(test))]a");
        assert_eq!(shipped("#![cfg(test)] a"), "");
    }
}
