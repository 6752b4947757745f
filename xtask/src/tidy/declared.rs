//! No forgotten file, and one integration binary per package.
//!
//! A Rust file that no `mod` declares is never compiled. In `src` that is dead code; in `tests` it
//! is a test that never runs while everybody believes it does. One binary per package, because each
//! is linked with everything it tests, and a file beside it only needs a `mod` line.

use std::collections::BTreeSet;

use super::Finding;
use super::source::is_word;
use super::tree::{File, Tree, join, split};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let packages: Vec<&str> = tree
        .paths()
        .filter(|path| split(path).1 == "Cargo.toml")
        .map(|path| split(path).0)
        .collect();
    for package in &packages {
        let inside = |path: &str| {
            packages
                .iter()
                .filter(|other| is_below(path, other))
                .max_by_key(|other| other.len())
                == Some(package)
        };
        let files: Vec<&File> = tree
            .rust()
            .map(|(file, _)| file)
            .filter(|file| inside(&file.path))
            .collect();
        let manifest = tree
            .file(&join(package, "Cargo.toml"))
            .map_or("", |file| file.text.as_str());
        let roots: Vec<&File> = files
            .iter()
            .filter(|file| is_root(package, manifest, &file.path))
            .copied()
            .collect();
        findings.extend(extra_binaries(package, &roots, &files));
        findings.extend(undeclared(tree, &roots, &files));
    }
    findings
}

fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn below<'a>(path: &'a str, directory: &str) -> &'a str {
    path.strip_prefix(directory)
        .unwrap_or(path)
        .trim_start_matches('/')
}

/// Whether cargo compiles the file as a crate of its own.
fn is_root(package: &str, manifest: &str, path: &str) -> bool {
    let inside = below(path, package);
    let parts: Vec<&str> = inside.split('/').collect();
    match parts.as_slice() {
        ["build.rs"]
        | ["src", "lib.rs" | "main.rs"]
        | ["src", "bin", _]
        | ["src", "bin", _, "main.rs"]
        | ["tests", "main.rs"]
        | ["examples" | "benches", _]
        | ["tests" | "examples" | "benches", _, "main.rs"] => true,
        ["tests", _] if !says(manifest, "autotests=false") => true,
        _ => says(manifest, &format!("path=\"{inside}\"")),
    }
}

/// Whether a line of the manifest is `setting`, however it is spaced.
fn says(manifest: &str, setting: &str) -> bool {
    manifest
        .lines()
        .any(|line| line.replace(' ', "") == setting)
}

fn extra_binaries(package: &str, roots: &[&File], files: &[&File]) -> Vec<Finding> {
    let tests = join(package, "tests");
    let Some(any) = files.iter().find(|file| is_below(&file.path, &tests)) else {
        return Vec::new();
    };
    let mut binaries: Vec<&str> = roots
        .iter()
        .map(|file| file.path.as_str())
        .filter(|path| is_below(path, &tests))
        .collect();
    // The one to keep: `main.rs` before others.
    binaries.sort_by_key(|path| (split(path).1 != "main.rs", *path));
    let Some((kept, extra)) = binaries.split_first() else {
        return vec![Finding::new(
            &any.path,
            1,
            "no integration binary runs this file",
            format!("add {tests}/<name>/main.rs and declare it there"),
        )];
    };
    let instead = format!(
        "move it beside {kept} and declare it there (directly in tests/, cargo needs `autotests = false` for that)"
    );
    extra
        .iter()
        .map(|path| {
            Finding::new(
                path,
                1,
                "a second integration binary in one package",
                &instead,
            )
        })
        .collect()
}

fn undeclared(tree: &Tree, roots: &[&File], files: &[&File]) -> Vec<Finding> {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<(&File, bool)> = roots.iter().map(|file| (*file, true)).collect();
    while let Some((file, is_root)) = open.pop() {
        if reached.insert(file.path.clone()) {
            let modules = candidates(file, is_root);
            open.extend(
                modules
                    .iter()
                    .filter_map(|path| tree.file(path))
                    .map(|file| (file, false)),
            );
        }
    }
    let forgotten = files.iter().filter(|file| !reached.contains(&file.path));
    forgotten
        .map(|file| {
            Finding::new(
                &file.path,
                1,
                "no `mod` declares this file, so it is never compiled",
                "declare it, or remove it",
            )
        })
        .collect()
}

/// Where the modules that the file declares can stand.
fn candidates(file: &File, is_root: bool) -> Vec<String> {
    let Some(source) = &file.rust else {
        return Vec::new();
    };
    let (directory, name) = split(&file.path);
    let own = if is_root || name == "mod.rs" {
        directory.to_owned()
    } else {
        join(directory, name.trim_end_matches(".rs"))
    };
    let mut candidates = Vec::new();
    for (offset, _) in source.code.match_indices("mod ") {
        let declared = source.code[offset + 4..].trim_start();
        let module: String = declared
            .chars()
            .take_while(|character| character.is_alphanumeric() || *character == '_')
            .collect();
        let is_declaration = declared[module.len()..].trim_start().starts_with(';');
        if !is_declaration || offset > 0 && is_word(source.code.as_bytes()[offset - 1]) {
            continue;
        }
        if let Some(path) = path_attribute(&source.with_strings[..offset]) {
            candidates.push(join(directory, path));
        }
        candidates.push(join(&own, &format!("{module}.rs")));
        candidates.push(join(&own, &format!("{module}/mod.rs")));
    }
    candidates
}

/// The path in a `#[path = "..."]` that belongs to the item right behind `before`.
fn path_attribute(before: &str) -> Option<&str> {
    let item = &before[before.rfind([';', '}']).map_or(0, |end| end + 1)..];
    let value = item.split_once("#[path")?.1;
    value.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut files = files.to_vec();
        files.push(("a/Cargo.toml", "[package]\n"));
        check(&Tree::of(&files))
            .into_iter()
            .map(|finding| format!("{}: {}", finding.path, finding.what))
            .collect()
    }

    const NEVER: &str = "no `mod` declares this file, so it is never compiled";
    const SECOND: &str = "a second integration binary in one package";

    #[test]
    fn declared_files_pass() {
        let files = [
            (
                "a/src/lib.rs",
                "mod b; pub(crate) mod c; #[path = \"x/y.rs\"] mod d;",
            ),
            ("a/src/b.rs", "mod e;"),
            ("a/src/b/e.rs", ""),
            ("a/src/c/mod.rs", "mod f;"),
            ("a/src/c/f.rs", ""),
            ("a/src/x/y.rs", ""),
            ("a/tests/all/main.rs", "mod stop;"),
            ("a/tests/all/stop.rs", ""),
            ("a/examples/e.rs", ""),
            ("elsewhere/script.rs", ""),
        ];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn forgotten_files_are_found() {
        let files = [
            ("a/src/lib.rs", "// mod b;\nmod c {}"),
            ("a/src/b.rs", ""),
            ("a/src/c.rs", ""),
        ];
        assert_eq!(
            found(&files),
            [
                format!("a/src/b.rs: {NEVER}"),
                format!("a/src/c.rs: {NEVER}")
            ]
        );
        let files = [
            ("a/tests/all/main.rs", "mod b;"),
            ("a/tests/all/b.rs", ""),
            ("a/tests/all/c.rs", ""),
        ];
        assert_eq!(found(&files), [format!("a/tests/all/c.rs: {NEVER}")]);
    }

    #[test]
    fn a_second_binary_is_found() {
        let files = [("a/tests/main.rs", ""), ("a/tests/b.rs", "")];
        assert_eq!(found(&files), [format!("a/tests/b.rs: {SECOND}")]);
        let files = [("a/tests/b/main.rs", ""), ("a/tests/c/main.rs", "")];
        assert_eq!(found(&files), [format!("a/tests/c/main.rs: {SECOND}")]);
    }

    #[test]
    fn without_autotests_files_beside_main_are_modules() {
        let manifest =
            "[package]\nautotests = false\n[[test]]\nname = \"all\"\npath = \"tests/main.rs\"\n";
        let tree = [
            ("p/Cargo.toml", manifest),
            ("p/tests/main.rs", "mod b;"),
            ("p/tests/b.rs", ""),
        ];
        assert_eq!(check(&Tree::of(&tree)), []);
        let tree = [
            ("p/Cargo.toml", manifest),
            ("p/tests/main.rs", ""),
            ("p/tests/b.rs", ""),
        ];
        assert_eq!(check(&Tree::of(&tree))[0].what, NEVER);
    }

    #[test]
    fn tests_that_no_binary_runs_are_found() {
        let findings = found(&[("a/tests/all/b.rs", "")]);
        assert_eq!(
            findings,
            [
                "a/tests/all/b.rs: no integration binary runs this file".to_owned(),
                format!("a/tests/all/b.rs: {NEVER}")
            ]
        );
    }
}
