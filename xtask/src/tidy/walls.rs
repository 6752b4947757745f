//! What the library touches of the outside, and in which room: files in `disk`, time in `clock`,
//! and nowhere the environment, the terminal or the end of the process, which belong to the program
//! that calls it.
//!
//! `clippy.toml` forbids some of the same calls; it knows no rooms, and a call can be allowed where
//! it stands. This rule cannot be silenced in a file.

use super::Finding;
use super::layers::room_of;
use super::paths;
use super::tree::Tree;

/// Paths below `std`, the one room that may name them, and what others do.
const WALLS: &[(&[&str], Option<&str>, &str)] = &[
    (&["fs"], Some("disk"), "a function of `crate::disk`"),
    (
        &["time", "Instant"],
        Some("clock"),
        "`crate::clock`, so that tests can set the time",
    ),
    (
        &["time", "SystemTime"],
        Some("clock"),
        "`crate::clock`, so that tests can set the time",
    ),
    (
        &["time", "UNIX_EPOCH"],
        Some("clock"),
        "`crate::clock`, so that tests can set the time",
    ),
    // These bring `Instant` in under a name that this rule does not see.
    (
        &["time", "self"],
        Some("clock"),
        "`use std::time::Duration`",
    ),
    (&["time", "*"], Some("clock"), "`use std::time::Duration`"),
    (&["env"], None, "a setting that the caller passes in"),
    (&["io", "stdout"], None, "a value that the caller prints"),
    (&["io", "stderr"], None, "a value that the caller prints"),
    (
        &["process", "exit"],
        None,
        "an outcome that the caller turns into an exit code",
    ),
    (
        &["process", "abort"],
        None,
        "an outcome that the caller turns into an exit code",
    ),
];

const MACROS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        let Some(room) = room_of(&file.path).or_else(|| front_door(&file.path)) else {
            continue;
        };
        let code = &source.shipped;
        let mut report = |at, what: String, instead: &str| {
            findings.push(Finding::new(&file.path, file.line_of(at), what, instead));
        };
        for mention in paths::below("std", code) {
            let wall = WALLS.iter().find(|(names, _, _)| {
                mention.is_in(names) || mention.names == ["time"] && names == &["time", "self"]
            });
            if let Some((names, owner, instead)) = wall
                && *owner != Some(room)
                // Constants of the compilation target, not the environment.
                && !mention.is_in(&["env", "consts"])
            {
                report(
                    mention.at,
                    format!("`{room}` names `std::{}`", names.join("::")),
                    instead,
                );
            }
        }
        for mention in paths::below("process", code) {
            if mention.is_in(&["exit"]) {
                report(
                    mention.at,
                    format!("`{room}` ends the process"),
                    "an outcome that the caller turns into an exit code",
                );
            }
        }
        for (at, name) in macros(code) {
            report(
                at,
                format!("`{room}` prints with `{name}!`"),
                "a value that the caller prints",
            );
        }
    }
    findings
}

fn front_door(path: &str) -> Option<&'static str> {
    (path == "crates/safepoint/src/lib.rs").then_some("lib.rs")
}

fn macros(code: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for name in MACROS {
        for (at, _) in code.match_indices(&format!("{name}!")) {
            if at == 0 || !super::source::is_word(code.as_bytes()[at - 1]) {
                found.push((at, *name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let path = format!("crates/safepoint/src/{path}");
        check(&Tree::of(&[(&path, text)]))
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn each_room_has_its_own_door() {
        assert_eq!(found("disk/a.rs", "use std::fs::{self, File};"), [""; 0]);
        assert_eq!(
            found(
                "clock.rs",
                "use std::time::{Duration, Instant, SystemTime};"
            ),
            [""; 0]
        );
        assert_eq!(
            found(
                "queue/a.rs",
                "use std::{io::{self, Write}, time::Duration};"
            ),
            [""; 0]
        );
        assert_eq!(
            found(
                "process/a.rs",
                "use std::process::{Command, ExitStatus}; std::env::consts::OS;"
            ),
            [""; 0]
        );
    }

    #[test]
    fn files_and_time_elsewhere_are_found() {
        assert_eq!(
            found("job/a.rs", "use std::{fs::File, io};"),
            ["`job` names `std::fs`"]
        );
        assert_eq!(
            found("disk/a.rs", "std::time::Instant::now();"),
            ["`disk` names `std::time::Instant`"]
        );
        assert_eq!(
            found("job/a.rs", "use std::time::{self, Duration};"),
            ["`job` names `std::time::self`"]
        );
        assert_eq!(
            found("job/a.rs", "use std::time;"),
            ["`job` names `std::time::self`"]
        );
    }

    #[test]
    fn environment_terminal_and_exit_are_found() {
        assert_eq!(
            found("job/a.rs", "std::env::var(x)"),
            ["`job` names `std::env`"]
        );
        assert_eq!(
            found("job/a.rs", "println!(); debug_println!();"),
            ["`job` prints with `println!`"]
        );
        assert_eq!(
            found("job/a.rs", "std::process::exit(1)"),
            ["`job` names `std::process::exit`"]
        );
        assert_eq!(
            found("job/a.rs", "use std::process; fn f() { process::exit(1) }"),
            ["`job` ends the process"]
        );
        assert_eq!(
            found("lib.rs", "std::io::stdout()"),
            ["`lib.rs` names `std::io::stdout`"]
        );
    }

    #[test]
    fn tests_and_other_crates_are_free() {
        assert_eq!(
            found("job/a.rs", "#[cfg(test)] mod tests { use std::fs; }"),
            [""; 0]
        );
        assert_eq!(
            check(&Tree::of(&[(
                "crates/safepoint-cli/src/lib.rs",
                "use std::env;"
            )])),
            []
        );
    }
}
