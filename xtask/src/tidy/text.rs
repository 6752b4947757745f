//! What is on a line: no tabs and trailing spaces in Rust, a newline at the end, and no path of
//! somebody's machine.

use super::Finding;
use super::tree::{File, Tree};

/// Where this project's machines keep their checkouts. In two pieces, for this file is checked too.
const PRIVATE: &str = concat!("/wo", "rk/");

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (number, line) in file.lines() {
            let mut report =
                |what, instead| findings.push(Finding::new(&file.path, number, what, instead));
            if file.rust.is_some() && line.contains('\t') {
                report("a tab", "spaces; in a string `\\t`");
            }
            if file.rust.is_some() && line.ends_with([' ', '\t', '\r']) {
                report(
                    "white space at the end of a line",
                    "nothing; `cargo fmt` removes it",
                );
            }
            if names_private_path(line) {
                report(
                    "an absolute path of one machine",
                    "a path relative to the repository, or one every reader has",
                );
            }
        }
        if !ends_well(file) {
            let last = file.lines().count().max(1);
            findings.push(Finding::new(
                &file.path,
                last,
                "no newline at the end",
                "end the last line",
            ));
        }
    }
    findings
}

/// Behind another part of a path the same letters are a folder of somebody else.
fn names_private_path(line: &str) -> bool {
    line.match_indices(PRIVATE).any(|(at, _)| {
        let before = line[..at].chars().last();
        before.is_none_or(|before| !before.is_alphanumeric() && !".-_~*<>{}/)]".contains(before))
    })
}

/// A fixture is what a test needs it to be.
fn ends_well(file: &File) -> bool {
    file.text.is_empty() || file.text.ends_with('\n') || file.path.contains("/fixtures/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.what))
            .collect()
    }

    #[test]
    fn clean_text_passes() {
        assert_eq!(found("a.rs", "a\n\nb\n"), [""; 0]);
        assert_eq!(found("Makefile", "a:\n\tb \n"), [""; 0]);
        assert_eq!(found("a/fixtures/cut.txt", "last"), [""; 0]);
        assert_eq!(found("empty", ""), [""; 0]);
    }

    #[test]
    fn white_space_is_found() {
        assert_eq!(
            found("a.rs", "a\n\tb\nc \n"),
            ["2: a tab", "3: white space at the end of a line"]
        );
        assert_eq!(
            found("a.rs", "a\r\n"),
            ["1: white space at the end of a line"]
        );
        assert_eq!(found("a.txt", "a\nb"), ["2: no newline at the end"]);
    }

    #[test]
    fn private_paths_are_found() {
        for text in [
            format!("see {PRIVATE}main\n"),
            format!("{PRIVATE}a\n"),
            format!("\"{PRIVATE}\"\n"),
        ] {
            assert_eq!(found("a.md", &text), ["1: an absolute path of one machine"]);
        }
        for text in [
            format!("jobs{PRIVATE}3\n"),
            format!("{{}}{PRIVATE}3\n"),
            format!("<job>{PRIVATE}3\n"),
        ] {
            assert_eq!(found("a.md", &text), [""; 0]);
        }
    }
}
