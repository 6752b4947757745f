//! A promise names the test that holds it, and that test exists: every `file::test` in a table of the README.

use super::Finding;
use super::tree::Tree;

const README: &str = "README.md";
/// Where the tests are that a promise may name as `file::test`.
const TESTS: &[&str] = &[
    "crates/safepoint-cli/tests",
    "crates/safepoint/tests",
    "crates/safepoint/src/shutdown",
    "crates/safepoint/src/checkpoint/tests",
];

/// And those of the Python package.
const PYTHON_TESTS: &str = "python/tests";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(readme) = tree.file(README) else {
        return vec![Finding::new(README, 1, "there is no README", "write it")];
    };
    let mut findings = Vec::new();
    for (number, line) in readme.lines() {
        if !line.starts_with('|') {
            continue;
        }
        for (file, test) in line.split('`').filter_map(|code| code.split_once("::")) {
            let mut sources = TESTS
                .iter()
                .filter_map(|folder| tree.file(&format!("{folder}/{file}.rs")));
            let exists = sources.any(|source| has_test(&source.text, test))
                || tree
                    .file(&format!("{PYTHON_TESTS}/{file}.py"))
                    .is_some_and(|source| source.text.contains(&format!("\ndef {test}(")));
            if !exists {
                findings.push(Finding::new(
                    README,
                    number,
                    format!("the test `{file}::{test}` does not exist"),
                    format!("the name of a test of `{file}.rs` that holds the promise"),
                ));
            }
        }
    }
    findings
}

/// Whether `source` has the function `test`, marked as a test.
fn has_test(source: &str, test: &str) -> bool {
    let head = format!("fn {test}()");
    let mut parts = source.split(&head);
    let before = parts.next().unwrap_or_default();
    parts.next().is_some() && before.trim_end().ends_with("#[test]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(readme: &str) -> usize {
        let tests = "#[test]\nfn nothing_is_lost() {}\n\nfn a_helper() {}\n";
        check(&Tree::of(&[
            (README, readme),
            ("crates/safepoint-cli/tests/storms.rs", tests),
            (
                "python/tests/test_signals.py",
                "import os\n\n\ndef test_a_signal(start):\n    pass\n",
            ),
            (
                "crates/safepoint/src/shutdown/unit.rs",
                "mod tests {\n    #[test]\n    fn inside_a_module() {}\n}\n",
            ),
        ]))
        .len()
    }

    #[test]
    fn a_promise_without_its_test_is_found() {
        assert_eq!(found("| kept | `storms::nothing_is_lost` |\n"), 0);
        assert_eq!(found("| kept | `storms::nothing_is_found` |\n"), 1);
        assert_eq!(found("| kept | `storms::a_helper`, `floods::x` |\n"), 2);
        assert_eq!(found("| kept | `unit::inside_a_module` |\n"), 0);
        assert_eq!(found("| kept | `test_signals::test_a_signal` |\n"), 0);
        assert_eq!(found("| kept | `test_signals::test_a` |\n"), 1);
        assert_eq!(found("Text about `std::fs` is no promise.\n"), 0);
    }
}
