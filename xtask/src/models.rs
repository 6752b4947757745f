//! The models of the shutdown room: loom tries every interleaving of its threads, with memory as weak as the language allows.
//!
//! They are tests of the library that exist only where it is built with `--cfg safepoint_loom`, in a target directory of their own.
#![expect(
    clippy::disallowed_methods,
    reason = "a developer's tool adds to the flags of the compiler"
)]

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The module of the models; the name of each goes on from here.
pub const MODULE: &str = "shutdown::models::";

/// Where the models stand.
pub const SOURCE: &str = "crates/safepoint/src/shutdown/models.rs";

/// What came of the models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How many were tried.
    pub tried: usize,
    /// All hold, and there was one.
    pub all_hold: bool,
    /// What the tests said.
    pub text: String,
}

/// Tries the models whose names contain `filter`.
///
/// # Errors
///
/// They cannot be built.
pub fn models(root: &Path, filter: &str) -> io::Result<Verdict> {
    let place =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    models_in(root, &place.join("models"), filter)
}

/// Tries the models of the sources in `tree`, built in `place`.
///
/// # Errors
///
/// They cannot be built.
pub fn models_in(tree: &Path, place: &Path, filter: &str) -> io::Result<Verdict> {
    let built = cargo(tree, place, &["--no-run"])?;
    if !built.status.success() {
        let messages = String::from_utf8_lossy(&built.stderr).into_owned();
        return Err(io::Error::other(format!("it does not build:\n{messages}")));
    }
    let filter = format!("{MODULE}{filter}");
    // Not captured: a model that fails while it is cleaned up after aborts the process, and what was captured would be lost.
    let tested = cargo(tree, place, &["--", "--nocapture", &filter])?;
    let said = String::from_utf8_lossy(&tested.stdout);
    let tried = tried(&said);
    let text = format!("{}{said}", String::from_utf8_lossy(&tested.stderr));
    Ok(Verdict {
        tried,
        all_hold: tested.status.success() && tried > 0,
        text,
    })
}

fn cargo(tree: &Path, place: &Path, rest: &[&str]) -> io::Result<Output> {
    let mut flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(OsString::from(" --cfg safepoint_loom"));
    let mut command = Command::new("cargo");
    command
        .args(["test", "--quiet", "--profile", "models"])
        .args(["--package", "safepoint", "--no-default-features", "--lib"])
        .args(rest)
        .current_dir(tree)
        .env("RUSTFLAGS", flags)
        .env("CARGO_TARGET_DIR", place);
    command.output()
}

/// How many tests the harness ran, by its last line.
fn tried(text: &str) -> usize {
    let result = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("test result: "));
    let words: Vec<&str> = result.unwrap_or_default().split_whitespace().collect();
    let count = |what: &str| {
        let pair = words
            .windows(2)
            .find(|pair| pair[1].trim_end_matches(';') == what);
        pair.and_then(|pair| pair[0].parse::<usize>().ok())
            .unwrap_or(0)
    };
    count("passed") + count("failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_says_how_many_ran() {
        let said = "\nrunning 3 tests\n...\ntest result: ok. 3 passed; 1 failed; 0 ignored; 9 filtered out; finished in 0.1s\n";
        assert_eq!(tried(said), 4);
        assert_eq!(tried("error: no such thing"), 0);
    }
}
