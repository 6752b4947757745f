//! What the thing is called, and what a platform allows as a name.

use std::path::Path;

use safepoint::{Error, Result};

use crate::render::safe;

/// Kubernetes allows so many characters in a label, and a pod's name becomes one.
const MAX_LABEL: usize = 63;

/// Programs that run a script: the script's name says more.
const INTERPRETERS: &[&str] = &[
    "Rscript", "bash", "bun", "deno", "julia", "node", "perl", "python", "python3", "ruby", "sh",
    "uv",
];

/// A name from a command: that of its script or program, in the letters that every platform allows.
pub(super) fn of_command(words: &[String]) -> String {
    let stem = |word: &String| {
        Path::new(word)
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let program = words.first().map(stem).unwrap_or_default();
    let script = words
        .get(1)
        .filter(|word| INTERPRETERS.contains(&program.as_str()) && !word.starts_with('-'));
    let name: String = script
        .map_or(program, stem)
        .to_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(MAX_LABEL)
        .collect();
    match name.trim_matches('-') {
        "" => "work".to_owned(),
        name => name.to_owned(),
    }
}

/// Refuses what is no label of Kubernetes (RFC 1123): lower-case letters, digits and `-`.
pub(super) fn check_label(name: &str) -> Result<()> {
    let is_inner = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let fits = (1..=MAX_LABEL).contains(&name.len())
        && name.starts_with(is_inner)
        && name.ends_with(is_inner)
        && name.chars().all(|letter| is_inner(letter) || letter == '-');
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`{}` cannot be a name in Kubernetes",
        safe(name, false)
    ))
    .with_hint(format!(
        "up to {MAX_LABEL} lower-case letters, digits and `-` in between"
    )))
}

/// Refuses what is no reference to an image: `registry/path/name:tag@digest`.
pub(super) fn check_image(image: &str) -> Result<()> {
    let fits = image.starts_with(|first: char| first.is_ascii_alphanumeric())
        && image
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "._-/:@".contains(letter));
    if fits {
        return Ok(());
    }
    Err(
        Error::invalid(format!("`{}` is no name of an image", safe(image, false)))
            .with_hint("write it as `docker pull` takes it, for example registry.example/work:1"),
    )
}

/// Refuses what is no user of a Unix system.
pub(super) fn check_user(user: &str) -> Result<()> {
    let fits = user.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && user.chars().all(|letter| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-".contains(letter)
        });
    if fits {
        return Ok(());
    }
    Err(
        Error::invalid(format!("`{}` is no name of a user", safe(user, false)))
            .with_hint("lower-case letters, digits, `_` and `-`"),
    )
}

/// Refuses a path that a line of a unit file cannot hold as it is.
pub(super) fn check_path(what: &str, path: &str) -> Result<()> {
    let fits = path.starts_with('/')
        && !path.contains(char::is_control)
        && !path.ends_with(|last: char| last == '\\' || last.is_whitespace());
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what} `{}` cannot stand in a unit file",
        safe(path, false)
    ))
    .with_hint(
        "an absolute path without control characters, which does not end in a space or a backslash",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_the_script() {
        for (words, name) in [
            (&["./Train_Big.sh"][..], "train-big"),
            (&["python3", "/srv/train.py", "--fast"], "train"),
            (&["python3", "-m", "train"], "python3"),
            (&["/opt/tool-1.2/run"], "run"),
            (&["???"], "work"),
            (&[], "work"),
        ] {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(of_command(&words), name, "{words:?}");
            check_label(name).expect("a label");
        }
    }

    #[test]
    fn names_that_a_platform_does_not_allow_are_refused() {
        for name in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "ä",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(check_label(name).is_err(), "{name:?}");
        }
        for image in ["", "-x", "a b", "a\nRUN x", "$(x)", "a#b"] {
            assert!(check_image(image).is_err(), "{image:?}");
        }
        check_image("localhost:5000/a/b_c:1.2@sha256:00ff").expect("an image");
        for user in ["", "0", "a b", "%i", "a\n"] {
            assert!(check_user(user).is_err(), "{user:?}");
        }
        for path in ["", "a", "/a\n", "/a\\", "/a "] {
            assert!(check_path("the directory", path).is_err(), "{path:?}");
        }
    }
}
