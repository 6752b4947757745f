//! The map shows every room: a directory of the library that ARCHITECTURE.md does not name is one
//! that a newcomer cannot find the reason for.

use std::collections::BTreeSet;

use super::Finding;
use super::layers::LIBRARY;
use super::tree::Tree;

const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(map) = tree.file(MAP) else {
        return vec![Finding::new(
            MAP,
            1,
            "there is no map of the house",
            "write it, with every room of the library",
        )];
    };
    let inside = tree.paths().filter_map(|path| path.strip_prefix(LIBRARY));
    let rooms: BTreeSet<&str> = inside
        .filter_map(|path| path.split_once('/'))
        .map(|(room, _)| room)
        .collect();
    let missing = rooms.into_iter().filter(|room| {
        let written = [format!("`{room}`"), format!("{room}/")];
        !written.iter().any(|name| map.text.contains(name))
    });
    missing
        .map(|room| {
            Finding::new(
                MAP,
                1,
                format!("the room `{room}/` is not named"),
                "say what it owns and what it must not touch",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(map: &str) -> usize {
        check(&Tree::of(&[
            ("ARCHITECTURE.md", map),
            ("crates/safepoint/src/disk/mod.rs", ""),
            ("crates/safepoint/src/clock.rs", ""),
        ]))
        .len()
    }

    #[test]
    fn named_rooms_pass() {
        assert_eq!(found("The room `disk` owns files.\n"), 0);
        assert_eq!(found("    disk/    files\n"), 0);
    }

    #[test]
    fn unnamed_rooms_and_a_missing_map_are_found() {
        assert_eq!(found("The disk.\n"), 1);
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
