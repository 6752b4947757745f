//! The pages of the reference, made from what the program itself uses: the command line's definition, the exit codes, the kinds
//! of errors and the limits. What is written twice comes apart.

use std::fmt::Write;
use std::path::Path;

use safepoint::ErrorKind;
use safepoint_cli::exit;

/// A page of the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its file, relative to the repository.
    pub path: &'static str,
    /// All of its text.
    pub text: String,
}

const NOTICE: &str =
    "<!-- Made by `cargo xtask reference`. Change what it is made from, not this file. -->";

/// Every page that is generated.
pub fn pages() -> Vec<Page> {
    vec![
        Page {
            path: "docs/src/reference/cli.md",
            text: command_line(),
        },
        Page {
            path: "docs/src/reference/exit-codes.md",
            text: exit_codes(),
        },
    ]
}

/// The files below `root` that differ from what is generated, or are missing.
pub fn stale(root: &Path) -> Vec<&'static str> {
    let differs = |page: &Page| {
        std::fs::read_to_string(root.join(page.path)).ok().as_ref() != Some(&page.text)
    };
    pages()
        .iter()
        .filter(|page| differs(page))
        .map(|page| page.path)
        .collect()
}

/// The command's definition, so that its help depends neither on this terminal nor on this environment.
fn definition() -> clap::Command {
    fn still(command: clap::Command) -> clap::Command {
        command
            .term_width(100)
            .mut_args(|argument| argument.hide_env_values(true))
            .mut_subcommands(still)
    }
    let mut definition = still(safepoint_cli::definition());
    definition.build();
    definition
}

fn command_line() -> String {
    let mut page = format!("# The command line\n\n{NOTICE}\n");
    let definition = definition();
    section(&mut page, &definition, "safepoint");
    for command in definition.get_subcommands() {
        section(
            &mut page,
            command,
            &format!("safepoint {}", command.get_name()),
        );
    }
    page
}

fn section(page: &mut String, command: &clap::Command, name: &str) {
    let help = command.clone().render_long_help().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    // Writing to a string does not fail.
    let _ = write!(
        page,
        "\n## `{name}`\n\n```text\n{}\n```\n",
        lines.join("\n")
    );
}

fn exit_codes() -> String {
    let mut page = format!("# Exit codes, errors and limits\n\n{NOTICE}\n");
    page.push_str("\n## Exit codes\n\nExit code 0 is said only when every item is done.\n\n| code | means | and then |\n|---|---|---|\n");
    for (code, means, then) in exit::TABLE {
        let _ = writeln!(page, "| {code} | {means} | {then} |");
    }
    page.push_str("\n`--stop-exit-code N` replaces 75, 129, 130 and 143.\n");
    page.push_str("\n## Kinds of errors\n\n| kind | means | exit code |\n|---|---|---|\n");
    for kind in ErrorKind::ALL {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            kind.name(),
            kind.meaning(),
            exit::of_kind(kind)
        );
    }
    page.push_str("\n## Limits\n\n| what | at most | beyond it |\n|---|---|---|\n");
    for (what, most, beyond) in limits() {
        let _ = writeln!(page, "| {what} | {most} | {beyond} |");
    }
    page.push_str("\n## Variables\n\nA flag wins over its variable, and a variable over `safepoint.toml`.\n\n| variable | flag | of |\n|---|---|---|\n");
    for (variable, flag, command) in variables(&definition()) {
        let _ = writeln!(page, "| `{variable}` | `--{flag}` | {command} |");
    }
    page.push_str("| `SHUTDOWN_TIMEOUT` | `--grace`, if nothing else sets it | `safepoint run` |\n| `NO_COLOR` | `--color never` | every command |\n");
    page
}

fn limits() -> Vec<(&'static str, String, &'static str)> {
    use safepoint::{job, queue};
    vec![
        (
            "an item",
            bytes(job::MAX_ITEM as u64),
            "the item is dead and never loaded",
        ),
        (
            "standard output of an attempt that is kept",
            bytes(job::MAX_OUTPUT as u64),
            "it is left out, counted and marked",
        ),
        (
            "standard error that is kept with a failed attempt",
            bytes(job::MAX_STDERR_TAIL as u64),
            "its end is kept",
        ),
        (
            "an answer of a persistent worker",
            bytes(job::MAX_ANSWER as u64),
            "the worker is ended and started again",
        ),
        (
            "the name of a job",
            format!("{} bytes", job::MAX_NAME),
            "it is refused",
        ),
        (
            "crashes of the runner during an item (`--crash-limit`)",
            queue::MAX_CRASHES.to_string(),
            "the item is dead",
        ),
    ]
}

fn bytes(bytes: u64) -> String {
    match bytes {
        whole if whole % (1 << 20) == 0 => format!("{} MiB", whole >> 20),
        whole if whole % (1 << 10) == 0 => format!("{} KiB", whole >> 10),
        other => format!("{other} bytes"),
    }
}

/// The variables of all flags, each with its flag and its command, sorted.
fn variables(definition: &clap::Command) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut take = |command: &clap::Command, name: &str, are_global: bool| {
        for argument in command
            .get_arguments()
            .filter(|argument| argument.is_global_set() == are_global)
        {
            if let (Some(variable), Some(flag)) = (argument.get_env(), argument.get_long()) {
                found.push((
                    variable.to_string_lossy().into_owned(),
                    flag.to_owned(),
                    name.to_owned(),
                ));
            }
        }
    };
    take(definition, "every command", true);
    for command in definition.get_subcommands() {
        take(
            command,
            &format!("`safepoint {}`", command.get_name()),
            false,
        );
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_as_generated() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let stale = stale(&root);
        assert!(stale.is_empty(), "run `cargo xtask reference`: {stale:?}");
    }

    #[test]
    fn every_command_and_every_variable_is_there() {
        let pages = pages();
        for command in definition().get_subcommands() {
            assert!(
                pages[0]
                    .text
                    .contains(&format!("\n## `safepoint {}`\n", command.get_name()))
            );
        }
        assert!(
            pages[1]
                .text
                .contains("| `SAFEPOINT_SLOTS` | `--slots` | `safepoint run` |")
        );
        assert!(!pages[0].text.contains('\u{1b}'));
    }
}
