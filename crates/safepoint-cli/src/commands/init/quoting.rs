//! Words of a command as each platform's file wants them, so that what it starts gets exactly those words.
//!
//! Whoever reads the file undoes the quoting, and some expand variables first: that is undone here too. Letters and digits of any
//! script stay as they are; what cannot be seen is escaped.

use std::fmt::Write;

/// A JSON string, for the exec form of a Dockerfile. Docker expands no variables there.
pub(super) fn json(word: &str) -> String {
    quoted(word, |out, character| {
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// A double-quoted scalar of YAML 1.1 and 1.2.
pub(super) fn yaml(word: &str) -> String {
    quoted(word, |out, character| {
        let code = u32::from(character);
        let _ = if code <= 0xffff {
            write!(out, "\\u{code:04x}")
        } else {
            write!(out, "\\U{code:08x}")
        };
    })
}

/// A word of `command` or `args` in Kubernetes, which replaces `$(NAME)` and reads `$$` as one dollar sign.
pub(super) fn kubernetes(word: &str) -> String {
    yaml(&word.replace('$', "$$"))
}

/// A word of `ExecStart=` in systemd: C escapes within quotes, `%` and `$` doubled.
///
/// # Sources
///
/// systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers".
pub(super) fn systemd(word: &str) -> String {
    let word = word.replace('%', "%%").replace('$', "$$");
    if is_plain(&word, "%$=") {
        return word;
    }
    quoted(&word, |out, character| {
        let code = u32::from(character);
        let _ = if code <= 0xffff {
            write!(out, "\\u{code:04x}")
        } else {
            write!(out, "\\U{code:08x}")
        };
    })
}

/// A word of a POSIX shell: nothing is special within single quotes, not even a line's end.
pub(super) fn shell(word: &str) -> String {
    if is_plain(word, "=") {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Whether nobody reads anything into this word, so that it needs no quotes.
fn is_plain(word: &str, also: &str) -> bool {
    !word.is_empty()
        // A word such as `A=b` in front of a command is an assignment.
        && !word.starts_with('=')
        && word
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || "-_./:,+@".contains(character) || also.contains(character))
}

/// `word` in double quotes. `escape` writes what has no short form and cannot be seen, or is a space of another kind.
fn quoted(word: &str, escape: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(word.len() + 2);
    out.push('"');
    for character in word.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            ' '..='~' => out.push(character),
            _ if character.is_alphanumeric() => out.push(character),
            _ => escape(&mut out, character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_its_own_quotes() {
        let word = "it's $HOME at 100%, \"\u{1f600}\"\n";
        assert_eq!(json(word), r#""it's $HOME at 100%, \"\ud83d\ude00\"\n""#);
        assert_eq!(
            kubernetes(word),
            r#""it's $$HOME at 100%, \"\U0001f600\"\n""#
        );
        assert_eq!(systemd(word), r#""it's $$HOME at 100%%, \"\U0001f600\"\n""#);
        assert_eq!(shell(word), "'it'\\''s $HOME at 100%, \"\u{1f600}\"\n'");
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        for word in ["--lr=0.1", "./train.py", "a@b:c", "=x", ""] {
            let quotes = word.is_empty() || word.starts_with('=');
            assert_eq!(shell(word) == word, !quotes, "{word}");
            assert_eq!(systemd(word) == word, !quotes, "{word}");
        }
    }
}
