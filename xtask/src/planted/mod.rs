//! Planted bugs: each is a small patch that makes the program break a promise, with the check that must notice.
//!
//! A patch begins with lines of text: what the bug is, and `Check:` with the name of a test. `storms::...` is of the command's one test
//! binary, `safepoint::...` of that of the library, `shutdown::models::...` is a model, and any other `shutdown::...` or `checkpoint::...` stands in the
//! library itself; `test_...` is of the Python package, as `scripts/python-build` left it in `.venv`. The patch is applied to a copy of the sources below
//! `target/planted`, which is built and tested there. A check that passes in spite of its bug is worth nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "a developer's tool copies sources"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::models;

mod package;

/// A bug that can be planted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bug {
    /// The patch.
    pub patch: PathBuf,
    /// What it makes wrong.
    pub what: String,
    /// The test that must fail, by its path in its test binary.
    pub check: String,
}

/// What the checks of [`Suite::Program`] begin with.
const PROGRAM: &str = "safepoint::";

/// Where a check is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suite {
    /// The command's one test binary.
    Command,
    /// The library's test binary: real processes, and nothing but what it exports.
    Program,
    /// The library's own tests; the shutdown room needs no feature.
    Library,
    /// The library's own tests of its checkpoints.
    Checkpoints,
    /// The models of the shutdown room.
    Models,
    /// The tests of the Python package; what is planted there is in its Python half.
    Package,
}

impl Suite {
    fn of(check: &str) -> Self {
        if check.starts_with(models::MODULE) {
            Self::Models
        } else if check.starts_with("test_") {
            Self::Package
        } else if check.starts_with(PROGRAM) {
            Self::Program
        } else if check.starts_with("shutdown::") {
            Self::Library
        } else if check.starts_with("checkpoint::") {
            Self::Checkpoints
        } else {
            Self::Command
        }
    }
}

impl Bug {
    fn parse(patch: PathBuf, text: &str) -> io::Result<Self> {
        let head = text.split("\ndiff ").next().unwrap_or_default();
        let check = head.lines().find_map(|line| line.strip_prefix("Check: "));
        let what = head.lines().next().unwrap_or_default().to_owned();
        match check {
            Some(check) if !what.is_empty() => Ok(Self {
                patch,
                what,
                check: check.to_owned(),
            }),
            _ => Err(io::Error::other(format!(
                "{} says not what it is, or has no `Check:`",
                patch.display()
            ))),
        }
    }
}

/// All bugs of `xtask/planted`, in the order of their names.
///
/// # Errors
///
/// One cannot be read or has no check.
pub fn bugs(root: &Path) -> io::Result<Vec<Bug>> {
    let mut bugs = Vec::new();
    for entry in fs::read_dir(root.join("xtask/planted"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            let text = fs::read_to_string(&path)?;
            bugs.push(Bug::parse(path, &text)?);
        }
    }
    bugs.sort_by(|one, other| one.patch.cmp(&other.patch));
    Ok(bugs)
}

/// The table, and whether every bug was caught.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// In Markdown.
    pub table: String,
    /// No check passed in spite of its bug.
    pub all_caught: bool,
}

/// Plants each bug whose file name or check contains `filter`. `say` is told how far it has come.
///
/// # Errors
///
/// A copy cannot be made, a patch does not apply or does not build, or a check fails where nothing is planted.
pub fn planted(root: &Path, filter: &str, say: &mut dyn FnMut(&str)) -> io::Result<Verdict> {
    let place = root.join("target/planted");
    let tree = place.join("tree");
    let mut bugs = bugs(root)?;
    bugs.retain(|bug| {
        let name = bug.patch.file_stem().unwrap_or_default();
        name.to_string_lossy().contains(filter) || bug.check.contains(filter)
    });
    let sources = Sources::read(root)?;
    sources.write_to(&tree)?;
    for check in bugs.iter().map(|bug| &bug.check).collect::<BTreeSet<_>>() {
        say(&format!("nothing planted: {check}"));
        if !passes(root, &place, &tree, check)? {
            let problem = format!("{check} fails where nothing is planted");
            return Err(io::Error::other(problem));
        }
    }
    let mut verdict = Verdict {
        table: String::from("| planted bug | check | |\n|---|---|---|\n"),
        all_caught: true,
    };
    for bug in &bugs {
        say(&format!("{}: {}", bug.what, bug.check));
        sources.write_to(&tree)?;
        apply(&tree, &place, &bug.patch)?;
        let caught = !passes(root, &place, &tree, &bug.check)?;
        verdict.all_caught &= caught;
        let word = if caught { "caught" } else { "**NOT CAUGHT**" };
        // Writing to a string cannot fail.
        let _ = writeln!(verdict.table, "| {} | `{}` | {word} |", bug.what, bug.check);
    }
    sources.write_to(&tree)?;
    Ok(verdict)
}

/// The sources as they were at the beginning, whatever is done to them meanwhile.
struct Sources(Vec<(String, Vec<u8>)>);

impl Sources {
    /// What git knows, or would add.
    fn read(root: &Path) -> io::Result<Self> {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others"])
            .arg("--exclude-standard")
            .current_dir(root)
            .output()?;
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        // A file that was deleted and is not yet committed is listed as well.
        let read = |name: &str| Some((name.to_owned(), fs::read(root.join(name)).ok()?));
        Ok(Self(
            names.split_terminator('\0').filter_map(read).collect(),
        ))
    }

    /// Files that are the same keep their time, so that they are not built again.
    fn write_to(&self, tree: &Path) -> io::Result<()> {
        for (name, bytes) in &self.0 {
            let to = tree.join(name);
            if fs::read(&to).is_ok_and(|old| old == *bytes) {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&to, bytes)?;
        }
        Ok(())
    }
}

fn apply(tree: &Path, place: &Path, patch: &Path) -> io::Result<()> {
    // Otherwise git takes the copy for a part of the repository around it, and applies nothing.
    let status = Command::new("git")
        .arg("apply")
        .arg(patch)
        .current_dir(tree)
        .env("GIT_CEILING_DIRECTORIES", place)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{} does not apply any more",
            patch.display()
        )))
    }
}

fn passes(root: &Path, place: &Path, tree: &Path, check: &str) -> io::Result<bool> {
    let suite: &[&str] = match Suite::of(check) {
        Suite::Command => &["--package", "safepoint-cli", "--test", "main"],
        Suite::Library => &["--package", "safepoint", "--no-default-features", "--lib"],
        Suite::Checkpoints => &[
            "--package",
            "safepoint",
            "--no-default-features",
            "--features",
            "checkpoint",
            "--lib",
        ],
        // The tests of the second package are there for its programs, which are built with them.
        Suite::Program => &[
            "--package",
            "safepoint",
            "--package",
            "safepoint-testkit",
            "--features",
            "safepoint/health",
            "--test",
            "main",
            "--test",
            "it",
        ],
        Suite::Package => return package::passes(root, tree, check),
        Suite::Models => {
            let name = check.trim_start_matches(models::MODULE);
            let verdict = models::models_in(tree, &place.join("models"), name)?;
            // None when the process was aborted, by a panic during another.
            return match verdict.tried {
                0 | 1 => Ok(verdict.all_hold),
                tried => Err(io::Error::other(format!("{check} is {tried} models"))),
            };
        }
    };
    let cargo = |rest: &[&str]| {
        let mut command = Command::new("cargo");
        command
            .args(["test", "--quiet"])
            .args(suite)
            .args(rest)
            .current_dir(tree)
            .env("CARGO_TARGET_DIR", place)
            .stdout(Stdio::null());
        command
    };
    let built = cargo(&["--no-run"]).output()?;
    if !built.status.success() {
        let messages = String::from_utf8_lossy(&built.stderr).into_owned();
        return Err(io::Error::other(format!("it does not build:\n{messages}")));
    }
    let name = check.strip_prefix(PROGRAM).unwrap_or(check);
    let tested = cargo(&["--", "--exact", name]).output()?;
    Ok(tested.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn every_patch_applies_and_names_a_test_that_there_is() {
        let bugs = bugs(&root()).expect("patches");
        assert!(bugs.len() >= 2);
        for bug in bugs {
            let status = Command::new("git")
                .args(["apply", "--check"])
                .arg(&bug.patch)
                .current_dir(root())
                .status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "{} does not apply any more",
                bug.patch.display()
            );
            let name = bug.check.strip_prefix(PROGRAM).unwrap_or(&bug.check);
            let (module, test) = name.rsplit_once("::").expect("module::test");
            let folder = root().join(match Suite::of(&bug.check) {
                Suite::Package => "python/tests",
                Suite::Command => "crates/safepoint-cli/tests",
                Suite::Program => "crates/safepoint/tests",
                Suite::Library | Suite::Checkpoints | Suite::Models => "crates/safepoint/src",
            });
            // The last parts of a path may be modules within a file.
            let parts: Vec<&str> = module.split("::").collect();
            let files = (1..=parts.len())
                .rev()
                .map(|count| parts[..count].join("/"));
            let (ending, definition) = match Suite::of(&bug.check) {
                Suite::Package => (".py", format!("def {test}(")),
                _ => (".rs", format!("fn {test}()")),
            };
            let mut sources =
                files.filter_map(|file| fs::read_to_string(folder.join(file + ending)).ok());
            let source = sources.next().expect("a module of tests");
            assert!(source.contains(&definition), "{}", bug.check);
        }
    }
}
