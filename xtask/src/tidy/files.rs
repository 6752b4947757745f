//! File names that say nothing: what lands in a `util` has no owner, and everything lands there.

use super::Finding;
use super::tree::{Tree, extension};

const BANNED: &[&str] = &[
    "util", "utils", "helper", "helpers", "common", "manager", "imp", "data", "misc", "prelude",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let rust = tree.paths().filter(|path| extension(path) == "rs");
    let banned = rust.filter_map(|path| {
        let stem = path
            .split('/')
            .map(|part| part.trim_end_matches(".rs"))
            .find(|part| BANNED.contains(part))?;
        let what = format!("a file or folder called `{stem}`");
        Some(Finding::new(
            path,
            1,
            what,
            "a name for the one idea in it, or the file that owns what it holds",
        ))
    });
    banned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_found() {
        let tree = Tree::of(&[
            ("src/util.rs", ""),
            ("src/helpers/mod.rs", ""),
            ("tests/common/mod.rs", ""),
        ]);
        assert_eq!(check(&tree).len(), 3);
    }

    #[test]
    fn telling_names_pass() {
        let tree = Tree::of(&[
            ("src/imports.rs", ""),
            ("src/database.rs", ""),
            ("docs/common.md", ""),
            ("data/a.csv", ""),
        ]);
        assert_eq!(check(&tree), []);
    }
}
