//! What a saver says, one line each, the moment it is true.

use std::fmt;

/// A line of the program `saver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It found this as the newest when it began, and every byte was right.
    Found {
        /// The state.
        name: String,
        /// Its number.
        generation: u64,
        /// The step whose payload it holds.
        step: u64,
    },
    /// Nothing was ever saved under this name.
    Nothing {
        /// The state.
        name: String,
    },
    /// `save` returned: this is acknowledged.
    Saved {
        /// The state.
        name: String,
        /// The number it got.
        generation: u64,
        /// The step whose payload it holds.
        step: u64,
    },
    /// `save` returned an error, in one line with its hint.
    Failed {
        /// The state.
        name: String,
        /// The step that was to be saved.
        step: u64,
        /// Kind, chain and hint.
        why: String,
    },
    /// What the store told beside.
    Notice(String),
    /// It cannot go on.
    Error(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found {
                name,
                generation,
                step,
            } => write!(f, "found {name} {generation} {step}"),
            Self::Nothing { name } => write!(f, "nothing {name}"),
            Self::Saved {
                name,
                generation,
                step,
            } => write!(f, "saved {name} {generation} {step}"),
            Self::Failed { name, step, why } => write!(f, "failed {name} {step} {why}"),
            Self::Notice(text) => write!(f, "notice {text}"),
            Self::Error(text) => write!(f, "error {text}"),
        }
    }
}

impl Said {
    /// Reads a line; none that this program says if it is not one.
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        let mut words = rest.splitn(3, ' ');
        let mut next = || words.next();
        Some(match word {
            "found" => Self::Found {
                name: next()?.to_owned(),
                generation: next()?.parse().ok()?,
                step: next()?.parse().ok()?,
            },
            "nothing" => Self::Nothing {
                name: rest.to_owned(),
            },
            "saved" => Self::Saved {
                name: next()?.to_owned(),
                generation: next()?.parse().ok()?,
                step: next()?.parse().ok()?,
            },
            "failed" => Self::Failed {
                name: next()?.to_owned(),
                step: next()?.parse().ok()?,
                why: next()?.to_owned(),
            },
            "notice" => Self::Notice(rest.to_owned()),
            "error" => Self::Error(rest.to_owned()),
            _ => return None,
        })
    }

    /// All lines that were said to their end.
    pub fn all(output: &[u8]) -> Vec<Self> {
        crate::trace::complete_lines(output)
            .iter()
            .filter_map(|line| Self::parse(line))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_there_and_back() {
        let name = || "model".to_owned();
        let lines = [
            Said::Found {
                name: name(),
                generation: 2,
                step: 3,
            },
            Said::Nothing { name: name() },
            Said::Saved {
                name: name(),
                generation: 3,
                step: 4,
            },
            Said::Failed {
                name: name(),
                step: 5,
                why: "Io: no room (hint)".to_owned(),
            },
            Said::Notice("a b".to_owned()),
            Said::Error("c d".to_owned()),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(Said::all(text.as_bytes()), lines);
        assert_eq!(Said::all(b"saved model 3 4").len(), 0, "not yet said");
    }
}
