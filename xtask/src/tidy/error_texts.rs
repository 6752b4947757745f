//! The texts of `thiserror`: lower-case fragments that do not repeat their source.
//!
//! A printer walks the chain of sources, so a text with its source in it says the same thing twice.

use super::Finding;
use super::source::{closing, is_word};
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        for (at, _) in source.code.match_indices("#[error(") {
            let end = closing(&source.code, at + 1);
            let attribute = &source.with_strings[at..end];
            let line = file.line_of(at);
            if let Some(field) = source_field(&source.code[end..])
                && names(attribute, &field)
            {
                let what = format!("the error's text repeats its source `{field}`");
                findings.push(Finding::new(
                    &file.path,
                    line,
                    what,
                    "what failed here; the chain of sources says why",
                ));
            }
            if let Some(word) = capital(attribute) {
                let what = format!("the error's text begins with `{word}`");
                findings.push(Finding::new(
                    &file.path,
                    line,
                    what,
                    "a lower-case fragment that fits behind a colon",
                ));
            }
        }
    }
    findings
}

/// The name or position of the source among the fields of the variant or struct that begins the
/// code.
fn source_field(code: &str) -> Option<String> {
    let code = item(code);
    let open = code.find(['{', '(', ',', ';', '}'])?;
    if !matches!(code.as_bytes()[open], b'{' | b'(') {
        return None;
    }
    let end = closing(code, open);
    let fields = split(&code[open + 1..end.saturating_sub(1).max(open + 1)]);
    fields.into_iter().enumerate().find_map(|(index, field)| {
        let is_marked = field.contains("#[source]") || field.contains("#[from]");
        let name = name(field);
        // A field with the name `source` is one without being marked.
        (is_marked || name == Some("source")).then(|| name.map_or(index.to_string(), str::to_owned))
    })
}

/// Skips the attributes before a variant, a struct or a field.
fn item(mut code: &str) -> &str {
    loop {
        code = code.trim_start();
        if !code.starts_with("#[") {
            return code;
        }
        code = &code[closing(code, 1)..];
    }
}

/// Splits at the commas that stand in no bracket, angle brackets included.
fn split(fields: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0_usize, 0);
    for (at, byte) in fields.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' | b']' | b'}' | b'>' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&fields[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&fields[from..]);
    parts
}

/// The name of a field; a field of a tuple has none.
fn name(field: &str) -> Option<&str> {
    let (before, after) = item(field).split_once(':')?;
    if after.starts_with(':') {
        return None;
    }
    before.split_whitespace().last()
}

/// Whether the attribute prints the field: in the text (`{source}`, `{0:?}`) or as an argument
/// (`.0`, `source`).
fn names(attribute: &str, field: &str) -> bool {
    let in_text = attribute.match_indices('{').any(|(at, _)| {
        let rest = attribute[at + 1..].strip_prefix(field);
        rest.is_some_and(|rest| rest.starts_with(['}', ':']))
    });
    let arguments = attribute
        .rsplit_once('"')
        .map_or("", |(_, arguments)| arguments);
    let in_arguments = arguments.match_indices(field).any(|(at, _)| {
        let before = arguments[..at].bytes().last();
        let after = arguments[at + field.len()..].bytes().next();
        let is_whole = !after.is_some_and(is_word) && !before.is_some_and(is_word);
        // A position is a field only behind a dot: `.0`.
        is_whole
            && (before == Some(b'.') || !field.starts_with(|digit: char| digit.is_ascii_digit()))
    });
    in_text || in_arguments
}

/// The first word of the text, when it is capitalised. `SQLite` and `UTF-8` are names and stay.
fn capital(attribute: &str) -> Option<&str> {
    let text = attribute.split_once('"')?.1;
    let word = text.split([' ', '"', '{']).next()?;
    let capitals = word
        .chars()
        .filter(|character| character.is_uppercase())
        .count();
    (capitals == 1 && word.starts_with(char::is_uppercase)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        check(&Tree::of(&[("a.rs", text)]))
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn fragments_pass() {
        assert_eq!(
            found(
                "enum E { #[error(\"cannot read `{path}`\")] Read { path: P, #[source] error: Io }, }"
            ),
            [""; 0]
        );
        assert_eq!(
            found(
                "enum E { #[error(\"damaged: {0}\")] A(String), #[error(transparent)] B(#[from] Io) }"
            ),
            [""; 0]
        );
        assert_eq!(
            found("#[error(\"cannot sync {}\", .1.display())] struct E(#[source] Io, PathBuf);"),
            [""; 0]
        );
        assert_eq!(
            found(
                "enum E { #[error(\"SQLite refused\")] A, #[error(\"{0} {source_name}\")] B(u8) }"
            ),
            [""; 0]
        );
    }

    #[test]
    fn repeated_sources_are_found() {
        let repeats = |field: &str| vec![format!("the error's text repeats its source `{field}`")];
        assert_eq!(
            found("enum E { #[error(\"read: {source}\")] A { source: Io } }"),
            repeats("source")
        );
        assert_eq!(
            found("enum E { #[error(\"read: {cause:?}\")] A { p: P<A, B>, #[source] cause: Io } }"),
            repeats("cause")
        );
        assert_eq!(
            found("enum E { #[error(\"read: {0}\")] #[other] A(#[from] std::io::Error) }"),
            repeats("0")
        );
        assert_eq!(
            found("enum E { #[error(\"read {0}: {1}\")] A(P, #[source] Io) }"),
            repeats("1")
        );
        assert_eq!(
            found("#[error(\"read: {}\", source)] pub struct E { source: Io }"),
            repeats("source")
        );
        assert_eq!(
            found("#[error(\"read: {}\", .0)] struct E(#[source] Io);"),
            repeats("0")
        );
    }

    #[test]
    fn the_fields_of_the_next_variant_do_not_count() {
        assert_eq!(
            found("enum E { #[error(\"a {0}\")] A, B(#[from] Io) }"),
            [""; 0]
        );
    }

    #[test]
    fn capitals_are_found() {
        assert_eq!(
            found("enum E { #[error(\"Cannot read\")] A }"),
            ["the error's text begins with `Cannot`"]
        );
    }
}
