//! What a supervised job is called when nobody says so: after what a person would call the program.

use std::ffi::OsString;
use std::path::Path;

use safepoint::job::JobPath;

/// Programs that run a script: the script is what the job is named after.
const INTERPRETERS: [&str; 14] = [
    "python", "python3", "pypy3", "bash", "sh", "dash", "zsh", "node", "deno", "bun", "ruby",
    "perl", "Rscript", "julia",
];

/// The name for a command.
pub(super) fn of(command: &[OsString]) -> String {
    let program = command.first().map_or(Path::new(""), Path::new);
    let stem = program.file_name().unwrap_or_default().to_string_lossy();
    // `python3.11` is an interpreter as well.
    let plain = stem.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let runs_scripts = INTERPRETERS
        .iter()
        .any(|known| *known == stem || *known == plain);
    let script = runs_scripts.then(|| script(&command[1..])).flatten();
    JobPath::name_from_input(Path::new(&script.unwrap_or_else(|| stem.into_owned())))
}

/// The script among the arguments of an interpreter: the first that is no option, or the module after `-m`.
fn script(arguments: &[OsString]) -> Option<String> {
    let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(argument) = arguments.next() {
        match argument.as_ref() {
            "-m" => return arguments.next().map(std::borrow::Cow::into_owned),
            // A program given as text has no name.
            "-c" | "-e" => return None,
            option if option.starts_with('-') => {}
            script => return Some(script.to_owned()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_what_the_job_is_named_after() {
        for (command, name) in [
            ("python3 train.py --epochs 3", "train"),
            ("/usr/bin/python3.11 -u runs/fine-tune.py", "fine-tune"),
            ("python -m torch.distributed.run x.py", "torch.distributed"),
            ("sh -c exit", "sh"),
            ("./agent --fast", "agent"),
            ("bash", "bash"),
        ] {
            let command: Vec<OsString> = command.split(' ').map(OsString::from).collect();
            assert_eq!(of(&command), name, "{command:?}");
        }
    }
}
