//! What is open: units and tracked work, as reports and people see them.

use std::fmt;
use std::time::Duration;

/// What kind of open thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenKind {
    /// A [`Unit`](super::Unit) or an [`OwnedUnit`](super::OwnedUnit).
    Unit,
    /// Work of a [`Tracker`](super::Tracker): a thread, a closure, a future.
    Work,
}

impl OpenKind {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Work => "work",
        }
    }
}

/// A unit or a piece of tracked work that is open now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Open {
    /// Its name; that of a borrowed unit is kept up to 40 bytes.
    pub name: String,
    /// What it is.
    pub kind: OpenKind,
    /// How long it has been open, to a quarter of a second.
    pub age: Duration,
    /// The thread that opened it.
    pub thread: String,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} `{}` ({}, open for {:.1} s)",
            self.kind.name(),
            Printable(&self.name),
            Printable(&self.thread),
            self.age.as_secs_f64()
        )
    }
}

/// Something that was open when the stop came, and how long the stop waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldUp {
    /// What it was; its age is the one at its end, or at the moment it was given up.
    pub open: Open,
    /// For how long after the stop request it was still open.
    pub held: Duration,
}

/// A name without the characters that would steer a terminal or break a line.
pub(super) struct Printable<'a>(pub(super) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}
