//! The paths that a file names, with the groups of `use` expanded.

use super::source::is_word;

/// `std::{fs::File, io}` gives two mentions under the root `std`: `["fs", "File"]` and `["io"]`.
#[derive(Debug, PartialEq)]
pub(super) struct Mention {
    /// Where the path, or its part in a group, begins.
    pub(super) at: usize,
    /// The names behind the root; a glob is `*`.
    pub(super) names: Vec<String>,
}

impl Mention {
    /// Whether the path is `names`, or leads through it.
    pub(super) fn is_in(&self, names: &[&str]) -> bool {
        self.names.len() >= names.len()
            && self
                .names
                .iter()
                .zip(names)
                .all(|(ours, theirs)| ours == theirs)
    }
}

/// Every path in `code` that begins with `root`.
pub(super) fn below(root: &str, code: &str) -> Vec<Mention> {
    let bytes = code.as_bytes();
    let mut reader = Reader {
        code,
        at: 0,
        mentions: Vec::new(),
    };
    for (offset, _) in code.match_indices(root) {
        let end = offset + root.len();
        let whole = (offset == 0 || !is_word(bytes[offset - 1]))
            && bytes.get(end).is_none_or(|byte| !is_word(*byte));
        // `a::std` is something else, `::std` is not.
        let continues = code[..offset]
            .strip_suffix("::")
            .is_some_and(|before| before.bytes().last().is_some_and(is_word));
        if whole && !continues {
            reader.at = end;
            if reader.takes("::") {
                reader.tree(&[]);
            }
        }
    }
    reader.mentions
}

struct Reader<'a> {
    code: &'a str,
    at: usize,
    mentions: Vec<Mention>,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        let rest = &self.code[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn takes(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.code[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn word(&mut self) -> Option<&'a str> {
        self.takes("r#");
        self.skip_space();
        let rest = &self.code[self.at..];
        let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
        self.at += length;
        (length > 0).then(|| &rest[..length])
    }

    /// Reads one branch of a `use`, or the rest of a path in an expression.
    fn tree(&mut self, prefix: &[String]) {
        self.skip_space();
        let at = self.at;
        let mut names = prefix.to_vec();
        if self.takes("{") {
            while !self.takes("}") {
                let before = self.at;
                self.tree(prefix);
                if self.takes("as ") {
                    self.word();
                }
                self.takes(",");
                if self.at == before {
                    return;
                }
            }
            return;
        }
        if self.takes("*") {
            names.push("*".to_owned());
        } else if let Some(word) = self.word() {
            names.push(word.to_owned());
            if self.takes("::") {
                self.tree(&names);
                return;
            }
        }
        if !names.is_empty() {
            self.mentions.push(Mention { at, names });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(root: &str, code: &str, expected: &[&str]) {
        let found: Vec<String> = below(root, code)
            .into_iter()
            .map(|mention| mention.names.join("::"))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_are_expanded() {
        finds(
            "std",
            "use std::{fs::{self, File as F}, io, time::*};",
            &["fs::self", "fs::File", "io", "time::*"],
        );
        finds("crate", "use crate::disk;", &["disk"]);
    }

    #[test]
    fn expressions_name_paths_too() {
        finds(
            "std",
            "let x = std::fs::read(p)?; ::std::env::var(n)",
            &["fs::read", "env::var"],
        );
        finds("crate", "$crate::clock::now::<T>()", &["clock::now"]);
        finds("super", "super::super::disk::x()", &["super::disk::x"]);
    }

    #[test]
    fn other_roots_are_left_alone() {
        finds("std", "a::std::fs; my_std::fs; std; stdx::fs", &[]);
    }

    #[test]
    fn broken_code_ends_the_reading() {
        finds("std", "use std::{fs, ?", &["fs"]);
    }
}
