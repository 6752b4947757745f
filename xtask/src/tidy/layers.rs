//! Arrows between the library's rooms point down, and rooms of one floor do not name each other.
//!
//! The compiler lets any module name any other. A room that names its neighbour can no longer be
//! read, tested or switched off alone, and nobody notices the first time.

use super::Finding;
use super::paths;
use super::tree::{File, Tree};

pub(super) const LIBRARY: &str = "crates/safepoint/src/";

/// Each room, and those it may name. A room that is missing here may name nothing and be named by
/// nobody.
const ROOMS: &[(&str, &[&str])] = &[
    // Floor 0.
    ("error", &[]),
    ("clock", &["error"]),
    ("bell", &[]),
    // Floor 1. What is on disk does not depend on the time.
    ("disk", &["error"]),
    // Who has a directory, and since when.
    ("owner", &["error", "clock", "disk"]),
    // Floor 2. Being asked to stop must work when the disk does not.
    ("shutdown", &["error", "clock", "bell"]),
    ("checkpoint", &["error", "clock", "disk", "owner"]),
    ("queue", &["error", "clock", "bell", "disk"]),
    ("process", &["error", "clock"]),
    // Floor 3.
    (
        "children",
        &["error", "clock", "bell", "shutdown", "process"],
    ),
    ("systemd", &["error", "clock", "shutdown"]),
    ("on_tokio", &["error", "clock", "shutdown"]),
    (
        "steps",
        &[
            "error",
            "clock",
            "disk",
            "owner",
            "shutdown",
            "checkpoint",
            "queue",
            "process",
        ],
    ),
    (
        "health",
        &[
            "error",
            "clock",
            "disk",
            "owner",
            "shutdown",
            "checkpoint",
            "queue",
            "process",
        ],
    ),
    // Floor 4.
    (
        "job",
        &[
            "error",
            "clock",
            "bell",
            "disk",
            "owner",
            "shutdown",
            "checkpoint",
            "queue",
            "process",
            "steps",
            "health",
        ],
    ),
    // Floor 5. The items of a program, and a supervised program, are kept where a job is.
    (
        "items",
        &[
            "error", "clock", "bell", "disk", "owner", "shutdown", "queue", "job",
        ],
    ),
    (
        "supervise",
        &[
            "error", "clock", "bell", "disk", "owner", "shutdown", "queue", "process", "health",
            "job",
        ],
    ),
];

/// What every room may name at the root, where the front door exports it.
const ROOT_NAMES: &[&str] = &["Error", "ErrorKind", "Result"];

const MAP: &str = "xtask/src/tidy/layers.rs";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        let Some(room) = room_of(&file.path) else {
            continue;
        };
        let Some(allowed) = allowed(room) else {
            let what = format!("the room `{room}` is not on the map of rooms");
            findings.push(Finding::new(
                &file.path,
                1,
                what,
                format!("give it a floor in {MAP}, or put the file into a room"),
            ));
            continue;
        };
        for (at, name) in arrows(file, &source.shipped) {
            if name == room
                || allowed.contains(&name.as_str())
                || ROOT_NAMES.contains(&name.as_str())
            {
                continue;
            }
            let what = format!("`{room}` names `crate::{name}`");
            let instead = if self::allowed(&name).is_some() {
                format!(
                    "`{room}` may name {}; let `job` bring the two together",
                    list(allowed)
                )
            } else {
                format!("name the room that owns it, or give a new room a floor in {MAP}")
            };
            findings.push(Finding::new(&file.path, file.line_of(at), what, instead));
        }
    }
    findings
}

/// The room that a file of the library belongs to. The front door and the files of tests belong to
/// none.
pub(super) fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix(LIBRARY)?;
    let mut parts = inside.split('/');
    let room = parts.next()?.trim_end_matches(".rs");
    let is_test = inside
        .split('/')
        .any(|part| part == "tests" || part == "tests.rs");
    (room != "lib" && !is_test).then_some(room)
}

fn allowed(room: &str) -> Option<&'static [&'static str]> {
    ROOMS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, allowed)| *allowed)
}

/// The rooms and root names that the code names, each with the place.
fn arrows(file: &File, code: &str) -> Vec<(usize, String)> {
    let mut arrows = Vec::new();
    for mention in paths::below("crate", code) {
        arrows.push((mention.at, mention.names[0].clone()));
    }
    // `super::` leads out of the room as well, from a file at the right depth.
    for mention in paths::below("super", code) {
        let more = mention
            .names
            .iter()
            .take_while(|name| *name == "super")
            .count();
        if let Some(name) = mention.names.get(more)
            && more + 1 == depth(&file.path)
            && allowed(name).is_some()
        {
            arrows.push((mention.at, name.clone()));
        }
    }
    arrows
}

/// How many `super::` lead from the file's module to the root of the crate.
fn depth(path: &str) -> usize {
    let module = path.trim_start_matches(LIBRARY);
    module.trim_end_matches("/mod.rs").split('/').count()
}

fn list(rooms: &[&str]) -> String {
    if rooms.is_empty() {
        "no other room".to_owned()
    } else {
        rooms.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let path = format!("{LIBRARY}{path}");
        check(&Tree::of(&[(&path, text)]))
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.what))
            .collect()
    }

    #[test]
    fn arrows_down_pass() {
        assert_eq!(
            found(
                "disk/file.rs",
                "use crate::error::Error;\nuse crate::Result;\nuse crate::disk::Lock;"
            ),
            [""; 0]
        );
        assert_eq!(
            found(
                "queue/mod.rs",
                "use crate::{clock::Clock, disk::{self, File}, Error};"
            ),
            [""; 0]
        );
        assert_eq!(
            found(
                "job/mod.rs",
                "use crate::{health, shutdown::Shutdown}; use super::steps;"
            ),
            [""; 0]
        );
        assert_eq!(
            found("disk/a/b.rs", "use super::super::file; use super::job;"),
            [""; 0]
        );
    }

    #[test]
    fn arrows_up_or_across_are_found() {
        assert_eq!(
            found("disk/mod.rs", "\nuse crate::clock;"),
            ["2: `disk` names `crate::clock`"]
        );
        assert_eq!(
            found("shutdown/a.rs", "use crate::{clock, disk::{self}};"),
            ["1: `shutdown` names `crate::disk`"]
        );
        assert_eq!(
            found("process/mod.rs", "fn f() { crate::queue::f() }"),
            ["1: `process` names `crate::queue`"]
        );
        assert_eq!(
            found("error.rs", "use crate::job::X;"),
            ["1: `error` names `crate::job`"]
        );
    }

    #[test]
    fn super_does_not_hide_an_arrow() {
        assert_eq!(
            found("shutdown/mod.rs", "use super::disk;"),
            ["1: `shutdown` names `crate::disk`"]
        );
        assert_eq!(
            found("shutdown/a.rs", "use super::super::{queue::X};"),
            ["1: `shutdown` names `crate::queue`"]
        );
        assert_eq!(
            found("clock.rs", "use super::job;"),
            ["1: `clock` names `crate::job`"]
        );
    }

    #[test]
    fn the_front_door_does_not_hide_an_arrow() {
        assert_eq!(
            found("disk/mod.rs", "use crate::Shutdown;"),
            ["1: `disk` names `crate::Shutdown`"]
        );
    }

    #[test]
    fn an_unknown_room_is_found() {
        assert_eq!(
            found("cellar/mod.rs", ""),
            ["1: the room `cellar` is not on the map of rooms"]
        );
    }

    #[test]
    fn comments_tests_and_the_front_door_are_free() {
        assert_eq!(
            found(
                "disk/mod.rs",
                "/// See [`crate::job`].\n#[cfg(test)] mod tests { use crate::job; }"
            ),
            [""; 0]
        );
        assert_eq!(found("disk/tests.rs", "use crate::job;"), [""; 0]);
        assert_eq!(found("lib.rs", "pub use crate::job::Job;"), [""; 0]);
    }

    #[test]
    fn a_room_names_lower_floors_only() {
        // The table is in the order of the floors; an arrow within it points to an earlier line.
        for (index, (room, allowed)) in ROOMS.iter().enumerate() {
            for name in *allowed {
                assert!(
                    ROOMS[..index].iter().any(|(lower, _)| lower == name),
                    "`{room}` names `{name}`"
                );
            }
        }
    }
}
