//! One heading for what happens to a wait that is given up, so that a reader can search for it.

use super::Finding;
use super::tree::{Tree, extension};

const HEADING: &str = "# Cancel safety";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let is_markdown = extension(&file.path) == "md";
        if !is_markdown && file.rust.is_none() {
            continue;
        }
        for (number, line) in file.lines() {
            let Some(prose) = (if is_markdown {
                Some(line)
            } else {
                comment(line)
            }) else {
                continue;
            };
            let prose = prose.trim();
            let lower = prose.to_lowercase().replace('-', " ");
            let is_heading = prose.starts_with('#')
                && lower
                    .trim_start_matches('#')
                    .trim_start()
                    .starts_with("cancel");
            let is_right = prose.trim_start_matches('#') == HEADING.trim_start_matches('#');
            if lower.contains("cancellation safety")
                || is_heading && lower.contains("safe") && !is_right
            {
                let what = "another spelling of the section on cancel safety";
                findings.push(Finding::new(
                    &file.path,
                    number,
                    what,
                    format!("`{HEADING}`"),
                ));
            }
        }
    }
    findings
}

/// What a comment says that begins its line.
fn comment(line: &str) -> Option<&str> {
    line.trim_start()
        .strip_prefix("//")
        .map(|rest| rest.trim_start_matches(['/', '!']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn the_one_spelling_passes() {
        assert_eq!(
            found(
                "a.rs",
                "/// # Cancel safety\n///\n/// Cancel safe.\nlet a = \"cancellation safety\";\n"
            ),
            0
        );
        assert_eq!(found("a.md", "## Cancel safety\n"), 0);
    }

    #[test]
    fn other_spellings_are_found() {
        assert_eq!(found("a.rs", "/// # Cancellation safety\n"), 1);
        assert_eq!(found("a.rs", "    //! # Cancel Safety\n"), 1);
        assert_eq!(found("a.rs", "/// # Cancel-safety\n"), 1);
        assert_eq!(found("a.md", "On cancellation safety, see there.\n"), 1);
    }
}
