//! What a compiler cannot hold: layers, the glossary, file names, links and the shape of texts.
//!
//! Each file below owns one rule and shows in its tests what the rule catches and what it lets
//! pass. A rule reads text, not syntax trees: a parser would cost more build time than all rules
//! together, and where a rule has to understand Rust, `source::Source` has already blanked out
//! what is not code.
//!
//! A rule never fails because a file is missing; where a file must exist, its absence is a finding.

mod changelog;
mod declared;
mod error_texts;
mod files;
mod front_door;
mod layers;
mod links;
mod names;
mod paths;
mod promises;
mod rooms;
mod source;
mod spelling;
mod text;
mod tree;
mod walls;
mod words;

use std::fmt;
use std::io;
use std::path::Path;

use tree::Tree;

/// One place that breaks a rule, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the repository.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to write or do instead.
    pub instead: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
            instead: instead.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}; instead: {}",
            self.path, self.line, self.what, self.instead
        )
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    changelog::check,
    declared::check,
    error_texts::check,
    files::check,
    front_door::check,
    layers::check,
    links::check,
    promises::check,
    rooms::check,
    spelling::check,
    text::check,
    walls::check,
    words::check,
];

/// Checks every file that git tracks, or would add, below `root`.
///
/// The findings come in the order of the files.
///
/// # Errors
///
/// When git does not list the files or one of them cannot be read.
pub fn findings(root: &Path) -> io::Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    findings.sort();
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_what_and_what_instead() {
        let finding = Finding::new("src/lib.rs", 7, "a tab", "spaces");
        assert_eq!(finding.to_string(), "src/lib.rs:7: a tab; instead: spaces");
    }

    #[test]
    fn the_repository_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let findings = findings(&root).expect("git lists the files of the repository");
        let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "\n{}", list.join("\n"));
    }
}
