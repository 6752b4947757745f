//! Exit codes: what each says, and how the process leaves.

use safepoint::ErrorKind;

/// Every item is done, also when nothing was left to do.
pub const DONE: u8 = 0;
/// An error of ours; state is intact.
pub const ERROR: u8 = 1;
/// Bad usage, or input refused before anything was changed.
pub const USAGE: u8 = 2;
/// Finished or given up, and some items are dead.
pub const DEAD_ITEMS: u8 = 3;
/// Another live process owns this job.
pub const BUSY: u8 = 4;
/// Stored state refused.
pub const STATE_REFUSED: u8 = 5;
/// Stopped gracefully by a limit, HTTP or `safepoint stop`.
pub const STOPPED: u8 = 75;

/// The exit codes with their meaning and what to do then, for the reference.
pub const TABLE: &[(&str, &str, &str)] = &[
    (
        "0",
        "every item is done (also when nothing was left to do)",
        "",
    ),
    (
        "1",
        "an error of ours (input/output, internal); state is intact",
        "mend, run again",
    ),
    (
        "2",
        "bad usage, or input refused before anything was changed",
        "mend the command",
    ),
    (
        "3",
        "finished or given up (`--max-failures`), and some items are dead",
        "`safepoint show`, `safepoint retry`",
    ),
    (
        "4",
        "another live process owns this job",
        "wait, or `safepoint stop` it",
    ),
    (
        "5",
        "stored state refused: damaged, newer than this program, or of another job",
        "as the hint says",
    ),
    (
        "75",
        "stopped gracefully by a limit or `safepoint stop`; nothing to claim (`queue claim`)",
        "run again",
    ),
    (
        "129, 130, 143",
        "stopped gracefully by SIGHUP, SIGINT, SIGTERM",
        "run again",
    ),
    (
        "killed by the signal",
        "forced stop (second or third signal)",
        "run again",
    ),
];

/// The code for an error of this kind.
pub fn of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid | ErrorKind::NotFound => USAGE,
        ErrorKind::Busy => BUSY,
        ErrorKind::Corrupt | ErrorKind::Incompatible => STATE_REFUSED,
        _ => ERROR,
    }
}

/// How the process leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(u8),
    /// By this signal's default action.
    Signal(i32),
}

impl Exit {
    pub(crate) fn leave(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => {
                // The kernel keeps process 1 of a PID namespace from dying by a signal of its own, and what ends a process otherwise would be a fault.
                if std::process::id() != 1 {
                    // It does not return for a signal that ends a process; if it did, the shell's convention says the same.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                u8::try_from(128 + signal).unwrap_or(ERROR)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_of_the_table() {
        for kind in ErrorKind::ALL {
            let code = of_kind(kind).to_string();
            assert!(
                TABLE
                    .iter()
                    .any(|(codes, _, _)| codes.split(", ").any(|listed| listed == code)),
                "{kind:?}"
            );
        }
    }
}
