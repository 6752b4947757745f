//! The page a user of the library opens first has the same headings in the same order: what it
//! promises and, just as visible, what it does not.

use super::Finding;
use super::tree::Tree;

const FRONT_DOOR: &str = "crates/safepoint/src/lib.rs";

const HEADINGS: &[&str] = &[
    "# Example",
    "# Map",
    "# Guarantees",
    "# Not guaranteed",
    "# Limits",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(file) = tree.file(FRONT_DOOR) else {
        return vec![Finding::new(
            FRONT_DOOR,
            1,
            "the library has no front door",
            "write it, with its promise and headings",
        )];
    };
    let mut findings = Vec::new();
    let docs: Vec<(usize, &str)> = file
        .lines()
        .filter_map(|(number, line)| Some((number, line.strip_prefix("//!")?.trim())))
        .collect();
    let promise = docs.first().map_or("", |(_, line)| *line);
    if promise.split_whitespace().count() < 4 || promise.starts_with('#') {
        let instead = "the promise in one sentence on the first line, for people who have never heard of the project";
        findings.push(Finding::new(
            FRONT_DOOR,
            1,
            "the front door does not begin with a promise",
            instead,
        ));
    }
    let mut after = 0;
    for heading in HEADINGS {
        match docs.iter().find(|(_, line)| line == heading) {
            Some((line, _)) if *line < after => {
                findings.push(Finding::new(
                    FRONT_DOOR,
                    *line,
                    format!("`{heading}` is out of order"),
                    HEADINGS.join(", "),
                ));
            }
            Some((line, _)) => after = *line,
            None => {
                let what = format!("the front door has no section `{heading}`");
                findings.push(Finding::new(
                    FRONT_DOOR,
                    1,
                    what,
                    format!("the sections {}", HEADINGS.join(", ")),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        check(&Tree::of(&[(FRONT_DOOR, text)]))
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn a_complete_front_door_passes() {
        let text = "//! Stop work at any moment.\n//! # Example\n//! # Map\n//! # Guarantees\n//! # Not guaranteed\n//! # Limits\n";
        assert_eq!(found(text), [""; 0]);
    }

    #[test]
    fn what_is_missing_is_found() {
        let text = "//! x\n//! # Example\n//! # Map\n//! # Limits\n";
        let expected = [
            "the front door does not begin with a promise",
            "the front door has no section `# Guarantees`",
            "the front door has no section `# Not guaranteed`",
        ];
        assert_eq!(found(text), expected);
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn the_order_is_held() {
        let text = "//! Stop work at any moment.\n//! # Map\n//! # Example\n//! # Guarantees\n//! # Not guaranteed\n//! # Limits\n";
        assert_eq!(found(text), ["`# Map` is out of order"]);
    }
}
