//! What decides the results of a job, and how it is told apart from another job's.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

/// How an input is cut into items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One item a line.
    Lines,
    /// One JSON value a line.
    Jsonl,
    /// Records below a header; an item is a JSON object of strings.
    Csv,
    /// Items that end with a NUL byte.
    Null,
}

impl Format {
    /// The word on the command line and in the fingerprint.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Null => "null",
        }
    }

    /// The format that a file's ending tells.
    pub fn of_path(path: &std::path::Path) -> Self {
        match path
            .extension()
            .and_then(|ending| ending.to_str())
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("csv") => Self::Csv,
            _ => Self::Lines,
        }
    }

    /// Whether an item is a JSON value, so that `{.field}` means something.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Jsonl | Self::Csv)
    }
}

/// How an item reaches the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// In its arguments, where the placeholders are.
    Arguments,
    /// On its standard input; placeholders may be used too.
    Stdin,
    /// The command is a script for `sh -c`; values are its positional parameters.
    Shell,
    /// The command is a persistent worker that speaks JSON Lines.
    Worker,
}

impl Delivery {
    fn name(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Stdin => "stdin",
            Self::Shell => "shell",
            Self::Worker => "worker",
        }
    }
}

/// What decides the results of a job. A change of it is noticed and refused; what decides speed only is in [`super::Options`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The inputs in order; `-` is standard input, at most once.
    pub inputs: Vec<PathBuf>,
    /// How all inputs are cut, or by each file's ending.
    pub format: Option<Format>,
    /// The field of an item that is its key; the index otherwise.
    pub key_field: Option<String>,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// How an item reaches it.
    pub delivery: Delivery,
}

impl Definition {
    /// The format of one of the inputs.
    pub fn format_of(&self, input: &std::path::Path) -> Format {
        self.format.unwrap_or_else(|| Format::of_path(input))
    }

    /// The fingerprint: names and values, sorted by name.
    pub fn fingerprint(&self) -> Vec<(String, String)> {
        let command: Vec<String> = self
            .command
            .iter()
            .map(|word| quote(word.as_bytes()))
            .collect();
        let mut formats: Vec<&str> = self
            .inputs
            .iter()
            .map(|input| self.format_of(input).name())
            .collect();
        formats.dedup();
        vec![
            ("command".into(), command.join(" ")),
            ("delivery".into(), self.delivery.name().into()),
            ("format".into(), formats.join(" ")),
            (
                "key".into(),
                self.key_field.clone().unwrap_or_else(|| "index".into()),
            ),
        ]
    }

    /// Refuses the directory of a job that no command was given for, whatever changes are accepted.
    pub(super) fn check_kind(job: &str, stored: &[(String, String)]) -> Result<()> {
        let Some((_, kind)) = stored.iter().find(|(name, _)| name == "kind") else {
            return Ok(());
        };
        let what = match kind.as_str() {
            "items" => "the items that a program gives",
            "steps" => "the steps of a program",
            "supervise" => "a supervised command",
            _ => "something else",
        };
        Err(Error::new(
            ErrorKind::Incompatible,
            format!("job `{job}` holds {what}, not the items of `safepoint run`"),
        )
        .with_hint("run that program again to go on, or take another `--name`; `--fresh` begins anew and keeps the old state beside"))
    }

    /// Refuses another `--key` even where changes are accepted: the keys of what is done could not be told any more.
    pub(super) fn check_key_against(&self, job: &str, stored: &[(String, String)]) -> Result<()> {
        let ours = self.key_field.as_deref().unwrap_or("index");
        let same = |(name, value): &(String, String)| name != "key" || value == ours;
        if stored.iter().all(same) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Incompatible,
            format!("the key of job `{job}` was chosen when it was made, and `{ours}` is another"),
        )
        .with_hint("begin anew with `--fresh`, or keep both with another `--name`"))
    }

    /// Refuses a stored fingerprint that is not this definition's, naming each difference.
    pub(super) fn check_against(&self, job: &str, stored: &[(String, String)]) -> Result<()> {
        let ours = self.fingerprint();
        let mut differences = Vec::new();
        for (name, value) in &ours {
            match stored.iter().find(|(stored_name, _)| stored_name == name) {
                Some((_, before)) if before == value => {}
                Some((_, before)) => {
                    differences.push(format!("  {name} was `{before}`\n  {name} is  `{value}`"));
                }
                None => {
                    differences.push(format!("  {name} was not recorded\n  {name} is `{value}`"));
                }
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Incompatible, format!("job `{job}` was made by another command\n{}", differences.join("\n"))).with_hint(
            "keep what is done and go on with the new command: `--accept-changes`; begin anew: `--fresh`; keep both: another `--name`",
        ))
    }
}

/// A word as a shell would take it, for people to read and copy.
pub fn quote(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,{}".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    let mut quoted = String::from("'");
    for letter in text.chars() {
        match letter {
            '\'' => quoted.push_str("'\\''"),
            _ if letter.is_control() && letter != '\n' && letter != '\t' => {
                quoted.extend(letter.escape_default());
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(command: &[&str]) -> Definition {
        Definition {
            inputs: vec!["words.txt".into()],
            format: None,
            key_field: None,
            command: command.iter().map(Into::into).collect(),
            delivery: Delivery::Arguments,
        }
    }

    #[test]
    fn a_changed_command_is_refused_and_both_are_named() {
        let stored = definition(&["wc", "-l"]).fingerprint();
        assert!(
            definition(&["wc", "-l"])
                .check_against("words", &stored)
                .is_ok()
        );
        let error = definition(&["wc", "-c"])
            .check_against("words", &stored)
            .map_err(|error| (error.kind(), error.to_string()));
        assert_eq!(
            error,
            Err((
                ErrorKind::Incompatible,
                "job `words` was made by another command\n  command was `wc -l`\n  command is  `wc -c`".into()
            ))
        );
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quote(b"plain-1.txt"), "plain-1.txt");
        assert_eq!(quote(b"it's $x"), "'it'\\''s $x'");
        assert_eq!(quote(b""), "''");
        assert_eq!(quote(b"\x1b[2J"), "'\\u{1b}[2J'");
    }
}
