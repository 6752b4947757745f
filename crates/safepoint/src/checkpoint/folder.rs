//! The directory of one state: which files are generations, and which number is free.

use std::path::{Path, PathBuf};

use super::metadata::Generation;
use crate::disk::{self, StateDir};
use crate::error::{Error, Result};

/// The longest name of a state, in bytes.
pub const MAX_NAME: usize = 100;

/// Where damaged files are put.
pub(super) const QUARANTINE: &str = "quarantine";
const ENDING: &str = ".ckpt";
const JOURNAL: &str = ".journal";
/// Wide enough that `ls` sorts by generation; larger numbers are wider and still read.
const DIGITS: usize = 10;

/// Checks that `name` is one path component of `[A-Za-z0-9._-]`.
///
/// # Errors
///
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is not.
pub(super) fn check_name(name: &str) -> Result<()> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with(['.', '-']);
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if fits && name.bytes().all(is_name_byte) && name != QUARANTINE {
        return Ok(());
    }
    let message = format!("`{}` cannot name a state", name.escape_debug());
    Err(Error::invalid(message).with_hint(format!(
        "use up to {MAX_NAME} letters, digits, dots, underscores and hyphens, not beginning with a dot or hyphen"
    )))
}

/// The file's name of a generation.
pub(super) fn file_name(generation: Generation) -> String {
    format!("{:0DIGITS$}{ENDING}", generation.0)
}

/// The generation that a file's name says.
pub(super) fn generation_of(name: &str) -> Option<Generation> {
    numbered(name, ENDING)
}

fn numbered(name: &str, ending: &str) -> Option<Generation> {
    let digits = name.strip_suffix(ending)?;
    let all_digits = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits
        .parse()
        .ok()
        .filter(|number| all_digits && *number > 0)?;
    (format!("{number:0DIGITS$}") == digits).then_some(Generation(number))
}

/// The generations in a directory, ascending. Names are the truth: there is no index and no pointer to the latest.
///
/// # Errors
///
/// Kind `Io` when it cannot be read.
pub(super) fn generations(directory: &Path) -> Result<Vec<Generation>> {
    let names = disk::list_files(directory)?;
    let mut generations: Vec<_> = names
        .iter()
        .filter_map(|name| generation_of(name))
        .collect();
    generations.sort_unstable();
    Ok(generations)
}

/// The file's name of the journal whose first record is this generation.
pub(super) fn journal_name(base: Generation) -> String {
    format!("{:0DIGITS$}{JOURNAL}", base.0)
}

/// The first generations of the journals in a directory, ascending.
///
/// # Errors
///
/// Kind `Io` when it cannot be read.
pub(super) fn journals(directory: &Path) -> Result<Vec<Generation>> {
    let names = disk::list_files(directory)?;
    let mut bases: Vec<_> = names
        .iter()
        .filter_map(|name| numbered(name, JOURNAL))
        .collect();
    bases.sort_unstable();
    Ok(bases)
}

/// The highest generation that was ever used in a directory, damaged ones included.
///
/// # Errors
///
/// Kind `Io` when it cannot be read.
pub(super) fn highest(directory: &Path) -> Result<Generation> {
    let here = generations(directory)?;
    let aside = generations(&directory.join(QUARANTINE))?;
    Ok(here.into_iter().chain(aside).max().unwrap_or(Generation(0)))
}

/// Removes what a killed process left unfinished, where the file system needs private names for it.
///
/// # Errors
///
/// Kind `Io` when something cannot be read or removed.
pub(super) fn remove_unfinished(directory: &StateDir) -> Result<()> {
    for name in disk::list_files(directory.path())? {
        if name.starts_with('.') && name.strip_suffix(".new").is_some() {
            directory.remove(&name)?;
        }
    }
    Ok(())
}

/// The path of a generation.
pub(super) fn path_of(directory: &Path, generation: Generation) -> PathBuf {
    directory.join(file_name(generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_generations_belong_together() {
        for number in [1, 17, 9_999_999_999, 10_000_000_000, u64::MAX] {
            let name = file_name(Generation(number));
            assert_eq!(generation_of(&name), Some(Generation(number)), "{name}");
        }
        for name in [
            "17.ckpt",
            "0000000000.ckpt",
            "00000000017.ckpt",
            "+000000017.ckpt",
            "0000000017.ckpt.new",
            ".ckpt",
            "",
        ] {
            assert_eq!(generation_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_is_one_plain_path_component() {
        for name in ["model", "T0-run.2", "a_b"] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            ".hidden",
            "-x",
            "quarantine",
            "a b",
            "ä",
            &"x".repeat(101),
        ] {
            check_name(name).unwrap_err();
        }
    }
}
