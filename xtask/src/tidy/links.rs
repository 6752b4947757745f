//! Links between our own documents lead somewhere. Links into the web are not followed: they break
//! on their own time, and a test must not fail for that.

use super::Finding;
use super::tree::{File, Tree, extension, split};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree
        .files
        .iter()
        .filter(|file| extension(&file.path) == "md")
    {
        for (line, target) in links(file) {
            let local = target.split(['#', '?']).next().unwrap_or_default();
            let found = if local.is_empty() {
                true
            } else {
                resolve(&file.path, local).is_some_and(|path| tree.has(&path))
            };
            if !found {
                let what = format!("the link to `{target}` leads to no file");
                findings.push(Finding::new(
                    &file.path,
                    line,
                    what,
                    "a path relative to this file, to a file in the repository",
                ));
            }
        }
    }
    findings
}

/// The targets of links that are neither addresses nor the names of Rust items, each with its line.
fn links(file: &File) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fence: Option<&str> = None;
    for (number, line) in file.lines() {
        let start = line.trim_start();
        let marker = ["```", "~~~"]
            .into_iter()
            .find(|marker| start.starts_with(marker));
        match (fence, marker) {
            (None, Some(_)) => fence = marker,
            (Some(open), Some(end)) if open == end => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                let prose = without_code(line);
                let inline = prose
                    .split("](")
                    .skip(1)
                    .filter_map(|rest| rest.split(')').next());
                let definition = prose
                    .trim_start()
                    .starts_with('[')
                    .then(|| prose.split_once("]: "))
                    .flatten();
                let targets = inline.chain(definition.map(|(_, target)| target));
                let targets = targets.filter_map(|target| target.split_whitespace().next());
                let targets = targets.map(|target| target.trim_matches(['<', '>']));
                links.extend(
                    targets
                        .filter(|target| is_local(target))
                        .map(|target| (number, target.to_owned())),
                );
            }
        }
    }
    links
}

fn is_local(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:") && !target.contains("::")
}

/// Leaves out what stands between backticks; a backtick without its partner is text.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let paired = parts.len() - (parts.len() + 1) % 2;
    let prose = parts
        .iter()
        .enumerate()
        .filter(|(index, _)| index % 2 == 0 || *index >= paired);
    prose.map(|(_, part)| *part).collect()
}

/// The path in the repository; none when it leads out of it.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = split(from)
        .0
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("docs/a.md", text),
            ("docs/img/b.svg", ""),
            ("README.md", ""),
        ]);
        check(&tree)
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.what))
            .collect()
    }

    #[test]
    fn links_to_files_pass() {
        assert_eq!(
            found(
                "[a](../README.md#top) ![b](img/b.svg \"B\") [c](#here) [d](img/) [e](<../README.md>)"
            ),
            [""; 0]
        );
        assert_eq!(
            found("[a](https://x.y/z) [b](mailto:a@b.c) [`J`](safepoint::Job)\n[c]: ../README.md"),
            [""; 0]
        );
    }

    #[test]
    fn code_is_no_link() {
        assert_eq!(
            found("`[a](b)` and\n```\n[a](b)\n~~~\n```\n~~~md\n[a](b)\n~~~"),
            [""; 0]
        );
    }

    #[test]
    fn broken_links_are_found() {
        assert_eq!(
            found("\n[a](b.md)"),
            ["2: the link to `b.md` leads to no file"]
        );
        assert_eq!(
            found("[`a`](b.md#c)"),
            ["1: the link to `b.md#c` leads to no file"]
        );
        assert_eq!(
            found("[a]: b.md"),
            ["1: the link to `b.md` leads to no file"]
        );
        assert_eq!(found("[a](../../out.md)").len(), 1);
        assert_eq!(found("[a](/README.md)").len(), 1);
    }
}
