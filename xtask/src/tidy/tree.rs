//! The files that the rules look at, read once.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::source::Source;

/// A repository's files, by path relative to its root and with `/` between the parts.
pub(super) struct Tree {
    /// All files, also those that are no text: what a link may point to.
    paths: BTreeSet<String>,
    pub(super) files: Vec<File>,
}

/// One text file.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
    /// Set for Rust files only.
    pub(super) rust: Option<Source>,
}

impl Tree {
    /// Reads what git tracks, and what it would add: a file is checked before its first commit, not
    /// after.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let listing = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root)
            .output()?;
        if !listing.status.success() {
            let said = String::from_utf8_lossy(&listing.stderr).trim().to_owned();
            return Err(io::Error::other(format!("git ls-files: {said}")));
        }
        let mut tree = Self {
            paths: BTreeSet::new(),
            files: Vec::new(),
        };
        for path in String::from_utf8_lossy(&listing.stdout).split_terminator('\0') {
            let place = root.join(path);
            match fs::symlink_metadata(&place) {
                Ok(metadata) if metadata.is_file() => tree.add(path, fs::read(&place)?),
                // A symbolic link is a valid target of a link, but its text belongs to another
                // file.
                Ok(_) => drop(tree.paths.insert(path.to_owned())),
                // Removed from the working tree, not yet from the index.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tree)
    }

    /// A tree in memory, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self {
            paths: BTreeSet::new(),
            files: Vec::new(),
        };
        for (path, text) in files {
            tree.add(path, text.as_bytes().to_vec());
        }
        tree
    }

    fn add(&mut self, path: &str, content: Vec<u8>) {
        // `--cached` lists a file with conflicts once per side.
        if !self.paths.insert(path.to_owned()) {
            return;
        }
        if let Ok(text) = String::from_utf8(content) {
            let rust = (extension(path) == "rs").then(|| Source::new(&text));
            self.files.push(File {
                path: path.to_owned(),
                text,
                rust,
            });
        }
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust files, each with its blanked-out views.
    pub(super) fn rust(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files
            .iter()
            .filter_map(|file| Some((file, file.rust.as_ref()?)))
    }

    /// The paths of all files, also those that are no text.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Whether `path` is a file or a directory with files.
    pub(super) fn has(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        self.paths.contains(path)
            || path.is_empty()
            || self
                .paths
                .range(directory.clone()..)
                .next()
                .is_some_and(|next| next.starts_with(&directory))
    }
}

impl File {
    /// The lines, numbered from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .split_terminator('\n')
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// The number of the line that the byte at `offset` stands on.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        before.filter(|byte| **byte == b'\n').count() + 1
    }
}

/// What stands behind the last dot of the file's name.
pub(super) fn extension(path: &str) -> &str {
    split(path)
        .1
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension)
}

/// Splits `a/b/c.rs` into `a/b` and `c.rs`.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Puts `name` into `directory`; a root is the empty string.
pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_exist_by_their_files() {
        let tree = Tree::of(&[("docs/a.md", "")]);
        assert!(tree.has("docs") && tree.has("docs/") && tree.has("docs/a.md") && tree.has(""));
        assert!(!tree.has("doc") && !tree.has("docs/a"));
    }

    #[test]
    fn lines_count_from_one() {
        let tree = Tree::of(&[("a.md", "one\ntwo\n")]);
        let file = &tree.files[0];
        assert_eq!(file.lines().collect::<Vec<_>>(), [(1, "one"), (2, "two")]);
        assert_eq!((file.line_of(0), file.line_of(4)), (1, 2));
    }
}
