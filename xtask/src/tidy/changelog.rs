//! The changelog has a place for what is being changed: a section `Unreleased`, or one of the
//! current version.

use super::Finding;
use super::tree::Tree;

const CHANGELOG: &str = "CHANGELOG.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let instead = "a section `## Unreleased`, or `## <the version in Cargo.toml>`";
    let Some(changelog) = tree.file(CHANGELOG) else {
        return vec![Finding::new(
            CHANGELOG,
            1,
            "there is no changelog",
            format!("write it, with {instead}"),
        )];
    };
    let version = tree
        .file("Cargo.toml")
        .and_then(|manifest| version(&manifest.text));
    let has_section = changelog
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .any(|title| {
            let title = title
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .trim_matches(['[', ']']);
            title == "Unreleased" || Some(title) == version
        });
    if has_section {
        return Vec::new();
    }
    vec![Finding::new(
        CHANGELOG,
        1,
        "no section for the current version",
        instead,
    )]
}

fn version(manifest: &str) -> Option<&str> {
    let value = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = "))?;
    Some(value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(changelog: &str) -> usize {
        let manifest = "[workspace.package]\nversion = \"0.1.0\"\n";
        check(&Tree::of(&[
            ("Cargo.toml", manifest),
            ("CHANGELOG.md", changelog),
        ]))
        .len()
    }

    #[test]
    fn the_current_version_or_unreleased_pass() {
        assert_eq!(found("# Changes\n\n## [0.1.0] (2026-01-01)\n"), 0);
        assert_eq!(found("## 0.1.0\n"), 0);
        assert_eq!(found("## [Unreleased]\n\n## 0.0.9\n"), 0);
    }

    #[test]
    fn an_old_or_missing_changelog_is_found() {
        assert_eq!(found("## 0.0.9\n"), 1);
        assert_eq!(found("## 0.1.01\n"), 1);
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
