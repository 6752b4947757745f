//! One word for one thing: the glossary's synonyms do not appear in public names.
//!
//! Names are split at `_` and at capitals, so that `last_task` and `TaskList` are found and
//! `multitasking` is not. Words that mean something else too often (`message`, `lock`, `timeout`,
//! the `try_` of Rust) are left to the reader.

use super::Finding;
use super::names::{self, Reach};
use super::tree::Tree;

struct Word {
    /// The word in its forms; `critical_section` is two parts in a row.
    forms: &'static [&'static str],
    instead: &'static str,
    /// Banned in types and variants only: as a verb it means something else.
    only_types: bool,
}

const fn word(forms: &'static [&'static str], instead: &'static str) -> Word {
    Word {
        forms,
        instead,
        only_types: false,
    }
}

const fn noun(forms: &'static [&'static str], instead: &'static str) -> Word {
    Word {
        forms,
        instead,
        only_types: true,
    }
}

const WORDS: &[Word] = &[
    word(&["batch", "batches"], "job"),
    word(&["task", "tasks"], "item (a unit of a job's input) or job"),
    word(
        &["launch", "launches", "launched"],
        "run (a process's stint on a job), or start for a child",
    ),
    word(&["tries"], "attempts"),
    word(&["tier", "tiers"], "stage"),
    word(&["activity", "activities"], "step"),
    word(&["critical_section", "critical_sections"], "unit"),
    word(&["snapshot", "snapshots"], "checkpoint"),
    word(&["savepoint", "savepoints"], "checkpoint"),
    word(
        &["saved_state"],
        "safepoint (the place) or checkpoint (the state)",
    ),
    word(&["reservation", "reservations"], "lease"),
    word(
        &["failed_item", "failed_items"],
        "dead: an attempt fails, an item dies",
    ),
    word(&["abort", "aborts", "aborted"], "stop"),
    word(
        &["cancel", "cancels", "cancelled", "canceled", "cancellation"],
        "stop",
    ),
    word(&["callback", "callbacks"], "hook"),
    noun(&["record", "records"], "item"),
];

/// Names that may keep the word, because another document gave it to them.
const EXCEPTIONS: &[&str] = &[
    // RFC 4180 calls a row of a CSV file a record, and the item is made from it.
    "CsvRecord",
    // tokio-util's type is called CancellationToken, and whoever looks for the way to one looks for that.
    "cancellation_token",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        if !file.path.starts_with("crates/") {
            continue;
        }
        // In the command, the fields of its own types become flags and keys of JSON.
        let reach = if file.path.starts_with("crates/safepoint-cli/") {
            Reach::Visible
        } else {
            Reach::Public
        };
        for name in names::public(&source.shipped, reach) {
            if EXCEPTIONS.contains(&name.text) {
                continue;
            }
            let parts = parts(name.text);
            let banned = WORDS.iter().filter(|word| name.is_type || !word.only_types);
            for (form, word) in
                banned.flat_map(|word| word.forms.iter().map(move |form| (form, word)))
            {
                if contains(&parts, form) {
                    let what = format!("the name `{}` says `{form}`", name.text);
                    findings.push(Finding::new(
                        &file.path,
                        file.line_of(name.at),
                        what,
                        word.instead,
                    ));
                }
            }
        }
    }
    findings
}

/// `HTTPTaskList2` and `http_task_list2` are both `http`, `task`, `list2`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let characters: Vec<char> = name.chars().collect();
    for (index, character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(index + 1);
        let begins = character.is_uppercase()
            && before.is_some_and(|before| {
                !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase())
            });
        if begins || *character == '_' {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut()
            && *character != '_'
        {
            part.extend(character.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn contains(parts: &[String], form: &str) -> bool {
    let form: Vec<&str> = form.split('_').collect();
    parts.windows(form.len()).any(|window| window == form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .into_iter()
            .map(|finding| format!("{}; {}", finding.what, finding.instead))
            .collect()
    }

    fn in_library(text: &str) -> Vec<String> {
        found("crates/safepoint/src/lib.rs", text)
    }

    #[test]
    fn banned_words_are_found_in_any_spelling() {
        assert_eq!(
            in_library("pub fn cancel() {}"),
            ["the name `cancel` says `cancel`; stop"]
        );
        assert_eq!(
            in_library("pub struct HTTPCallback;"),
            ["the name `HTTPCallback` says `callback`; hook"]
        );
        assert_eq!(
            in_library("pub const CRITICAL_SECTION: u8 = 1;"),
            ["the name `CRITICAL_SECTION` says `critical_section`; unit"]
        );
        assert_eq!(in_library("pub enum Kind { FailedItem }").len(), 1);
        assert_eq!(
            in_library("pub struct S { pub last_snapshot: u8 }").len(),
            1
        );
    }

    #[test]
    fn other_names_pass() {
        assert_eq!(
            in_library(
                "pub fn retry() {} pub fn try_lock() {} pub struct Multitasking; pub fn frontier() {}"
            ),
            [""; 0]
        );
        assert_eq!(
            in_library("fn cancel() {} pub(crate) fn abort() {} // pub fn task()"),
            [""; 0]
        );
        assert_eq!(
            in_library("#[cfg(test)] mod tests { pub fn task() {} }"),
            [""; 0]
        );
    }

    #[test]
    fn a_record_is_no_item_but_one_can_record() {
        assert_eq!(
            in_library("pub fn record() {} pub struct CsvRecord;"),
            [""; 0]
        );
        assert_eq!(in_library("pub struct ItemRecord;").len(), 1);
    }

    #[test]
    fn fields_of_the_command_are_flags() {
        let flag = "pub(crate) struct Args { pub(crate) max_tasks: u8 }";
        assert_eq!(found("crates/safepoint-cli/src/args.rs", flag).len(), 1);
        assert_eq!(in_library(flag), [""; 0]);
        assert_eq!(found("xtask/src/lib.rs", "pub mod task;"), [""; 0]);
    }

    #[test]
    fn names_split_at_underscores_and_capitals() {
        assert_eq!(parts("HTTPTaskList2"), ["http", "task", "list2"]);
        assert_eq!(parts("_http_task__list2"), ["http", "task", "list2"]);
        assert_eq!(parts("MAX_TASKS"), ["max", "tasks"]);
    }
}
