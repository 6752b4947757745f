//! The command's arguments with their placeholders. Values become whole bytes of arguments, never text of a shell.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::definition::{Definition, Delivery};
use crate::error::{Error, Result};

/// What an argument is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Item,
    Index,
    Key,
    Field(Vec<String>),
}

/// A command line to be filled in for each item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    program: OsString,
    arguments: Vec<Vec<Piece>>,
    needs_json: bool,
}

/// What a template is filled in with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    /// The index in the input, from 0.
    pub(super) index: u64,
    /// The key.
    pub(super) key: &'a str,
    /// The item.
    pub(super) content: &'a [u8],
}

impl Template {
    /// Reads the command of a definition.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for an empty command, a field of an input without fields, or placeholders where there can be none.
    pub(super) fn new(definition: &Definition) -> Result<Self> {
        let Some((program, words)) = definition.command.split_first() else {
            return Err(Error::invalid("there is no command")
                .with_hint("put it after `--`, for example `-- wc -l {}`"));
        };
        let mut arguments: Vec<Vec<Piece>> = words.iter().map(|word| parse(word)).collect();
        let has_placeholder = |pieces: &Vec<Piece>| {
            pieces
                .iter()
                .any(|piece| !matches!(piece, Piece::Literal(_)))
        };
        if parse(program)
            .iter()
            .any(|piece| !matches!(piece, Piece::Literal(_)))
        {
            return Err(match definition.delivery {
                Delivery::Shell => Error::invalid("a script for the shell cannot have placeholders").with_hint(
                    "use \"$1\" in the script; further arguments may have placeholders and become $1, $2 and so on",
                ),
                _ => Error::invalid("the program itself cannot be a placeholder")
                    .with_hint("name a program; to run items as commands use `--shell -- 'sh -c \"$1\"'`"),
            });
        }
        let any = arguments.iter().any(has_placeholder);
        match definition.delivery {
            Delivery::Worker if any => {
                return Err(Error::invalid("a persistent worker's arguments cannot have placeholders")
                    .with_hint("the worker gets each item on its standard input; leave out `--worker` for one command per item"));
            }
            Delivery::Arguments if !any => arguments.push(vec![Piece::Item]),
            Delivery::Shell if arguments.is_empty() => arguments.push(vec![Piece::Item]),
            _ => {}
        }
        let needs_json = arguments
            .iter()
            .flatten()
            .any(|piece| matches!(piece, Piece::Field(_)));
        if needs_json
            && let Some(plain) = definition
                .inputs
                .iter()
                .find(|input| !definition.format_of(input).is_json())
        {
            return Err(Error::invalid(format!(
                "`{{.field}}` needs items with fields, and `{}` has plain items",
                plain.display()
            ))
            .with_hint("use `{}` for the whole item, or `--format jsonl` or `--format csv`"));
        }
        let program = match definition.delivery {
            Delivery::Shell => {
                let script = [Piece::Literal(program.as_bytes().to_vec())];
                let fixed = [
                    vec![Piece::Literal(b"-c".to_vec())],
                    script.to_vec(),
                    vec![Piece::Literal(b"sh".to_vec())],
                ];
                arguments.splice(0..0, fixed);
                OsString::from("sh")
            }
            _ => program.clone(),
        };
        Ok(Self {
            program,
            arguments,
            needs_json,
        })
    }

    /// The program to be found.
    pub(super) fn program(&self) -> &OsStr {
        &self.program
    }

    /// The whole command line for an item, the program's name first.
    ///
    /// # Errors
    ///
    /// Why the item cannot be put into these arguments, in words.
    pub(super) fn fill(&self, values: Values<'_>) -> std::result::Result<Vec<CString>, String> {
        let fields = if self.needs_json {
            let parsed: serde_json::Value = serde_json::from_slice(values.content)
                .map_err(|error| format!("the item is not valid JSON: {error}"))?;
            Some(parsed)
        } else {
            None
        };
        let mut words = Vec::with_capacity(self.arguments.len() + 1);
        words.push(
            CString::new(self.program.as_bytes())
                .map_err(|_| "the command contains a NUL byte".to_owned())?,
        );
        for pieces in &self.arguments {
            let mut word = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Literal(bytes) => word.extend_from_slice(bytes),
                    Piece::Item => word.extend_from_slice(values.content),
                    Piece::Index => word.extend_from_slice(values.index.to_string().as_bytes()),
                    Piece::Key => word.extend_from_slice(values.key.as_bytes()),
                    Piece::Field(path) => {
                        word.extend_from_slice(field_text(fields.as_ref(), path)?.as_bytes());
                    }
                }
            }
            let word = CString::new(word).map_err(|_| {
                "the item contains a NUL byte, which no argument can have; pass it on standard input with `--stdin`".to_owned()
            })?;
            words.push(word);
        }
        Ok(words)
    }
}

/// The text of a field: a string as it is, nothing for null, everything else as JSON.
pub(super) fn field_text(
    item: Option<&serde_json::Value>,
    path: &[String],
) -> std::result::Result<String, String> {
    let mut value = item;
    for name in path {
        value = value.and_then(|value| value.get(name));
    }
    match value {
        None => Err(format!("the item has no field `{}`", path.join("."))),
        Some(serde_json::Value::Null) => Ok(String::new()),
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(other) => Ok(other.to_string()),
    }
}

/// Cuts a word at its placeholders. Braces around anything else stay as they are, so that `awk '{print $1}'` works.
fn parse(word: &OsStr) -> Vec<Piece> {
    let bytes = word.as_bytes();
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let placeholder = (bytes[at] == b'{')
            .then(|| memchr::memchr(b'}', &bytes[at..]))
            .flatten()
            .and_then(|end| {
                let piece = match &bytes[at + 1..at + end] {
                    b"" => Some(Piece::Item),
                    b"index" => Some(Piece::Index),
                    b"key" => Some(Piece::Key),
                    [b'.', path @ ..] => field_path(path).map(Piece::Field),
                    _ => None,
                };
                piece.map(|piece| (piece, end + 1))
            });
        if let Some((piece, length)) = placeholder {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
            at += length;
        } else {
            literal.push(bytes[at]);
            at += 1;
        }
    }
    if !literal.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    pieces
}

/// `a.b` as names; none of them may be empty or have other signs than letters, digits, `_` and `-`.
pub(super) fn field_path(path: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(path).ok()?;
    let names: Vec<String> = text.split('.').map(str::to_owned).collect();
    let fits = |name: &String| {
        !name.is_empty()
            && name
                .chars()
                .all(|sign| sign.is_alphanumeric() || sign == '_' || sign == '-')
    };
    names.iter().all(fits).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(command: &[&str], delivery: Delivery, input: &str) -> Result<Template> {
        Template::new(&Definition {
            inputs: vec![input.into()],
            format: None,
            key_field: None,
            command: command.iter().map(Into::into).collect(),
            delivery,
        })
    }

    fn filled(command: &[&str], delivery: Delivery, input: &str, content: &str) -> Vec<String> {
        let values = Values {
            index: 7,
            key: "k",
            content: content.as_bytes(),
        };
        let words = template(command, delivery, input)
            .expect("valid")
            .fill(values)
            .expect("fits");
        words
            .into_iter()
            .map(|word| word.into_string().expect("utf-8"))
            .collect()
    }

    #[test]
    fn placeholders_are_whole_or_part_of_one_argument() {
        assert_eq!(
            filled(
                &["echo", "a{}b", "{index}", "{key}.out"],
                Delivery::Arguments,
                "x",
                "i t"
            ),
            ["echo", "ai tb", "7", "k.out"]
        );
    }

    #[test]
    fn without_a_placeholder_the_item_is_appended_and_other_braces_stay() {
        assert_eq!(
            filled(&["awk", "{print $1}"], Delivery::Arguments, "x", "f"),
            ["awk", "{print $1}", "f"]
        );
        assert_eq!(filled(&["cat"], Delivery::Stdin, "x", "f"), ["cat"]);
    }

    #[test]
    fn fields_come_from_json() {
        let content = r#"{"a":{"b":"two words"},"n":3,"z":null}"#;
        assert_eq!(
            filled(
                &["echo", "{.a.b}", "{.n}{.z}"],
                Delivery::Arguments,
                "x.jsonl",
                content
            ),
            ["echo", "two words", "3"]
        );
        let missing = template(&["echo", "{.q}"], Delivery::Arguments, "x.jsonl").expect("valid");
        let error = missing.fill(Values {
            index: 0,
            key: "0",
            content: content.as_bytes(),
        });
        assert_eq!(error, Err("the item has no field `q`".to_owned()));
        assert!(template(&["echo", "{.q}"], Delivery::Arguments, "x.txt").is_err());
    }

    #[test]
    fn a_shell_gets_values_as_parameters_only() {
        assert_eq!(
            filled(&["echo $1"], Delivery::Shell, "x", "$(id)"),
            ["sh", "-c", "echo $1", "sh", "$(id)"]
        );
        assert!(template(&["echo {}"], Delivery::Shell, "x").is_err());
        assert!(template(&["{}"], Delivery::Arguments, "x").is_err());
        assert!(template(&["work", "{}"], Delivery::Worker, "x").is_err());
    }
}
