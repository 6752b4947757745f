//! The job of a round: its input and the script each attempt runs.

use std::fs;
use std::io;
use std::path::Path;

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It succeeds.
    Plain,
    /// Its first attempt fails.
    Retry,
    /// Every attempt fails, so it must die.
    Dead,
    /// It succeeds and leaves a grandchild behind.
    Leaver,
}

/// How many items, and which are special. An `every` of 0 means none.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Lines of input.
    pub items: u64,
    /// Every n-th item always fails.
    pub dead_every: u64,
    /// Every n-th item fails once.
    pub retry_every: u64,
    /// Every n-th item leaves a process behind.
    pub leaver_every: u64,
    /// How long an attempt sleeps, in milliseconds; 0 saves the process that does it.
    pub pause_ms: u64,
    /// Attempts an item gets before it is dead.
    pub attempts: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            items: 60,
            dead_every: 17,
            retry_every: 7,
            leaver_every: 11,
            pause_ms: 5,
            attempts: 3,
        }
    }
}

pub(super) const INPUT: &str = "input.txt";
pub(super) const SCRIPT: &str = "worker.sh";
pub(super) const SIDE: &str = "side.txt";

/// `>>` appends with one write, so that lines of many processes do not mix. Whether an item failed before is
/// remembered by a directory and not by the attempt's number, which is what is being tested.
const TEXT: &str = r#"item=$1
note() { echo "$item $SAFEPOINT_ATTEMPT $$ $STORM_RUN $1" >> "$STORM_DIR/side.txt"; }
note began
end=ok
case $item in
*-dead) end=fail ;;
*-retry) mkdir "$STORM_DIR/failed/$item" 2>/dev/null && end=fail ;;
*-leaver) sleep 1000 & ;;
esac
PAUSE
note $end
test $end = ok || exit 1
echo "$item"
"#;

impl Scenario {
    /// What becomes of the item with this index.
    pub fn kind(&self, index: u64) -> Kind {
        let is = |every| every > 0 && index % every == every - 1;
        match () {
            () if is(self.dead_every) => Kind::Dead,
            () if is(self.retry_every) => Kind::Retry,
            () if is(self.leaver_every) => Kind::Leaver,
            () => Kind::Plain,
        }
    }

    /// The text of the item with this index, which is also its result.
    pub fn item(&self, index: u64) -> String {
        let kind = match self.kind(index) {
            Kind::Plain => "plain",
            Kind::Retry => "retry",
            Kind::Dead => "dead",
            Kind::Leaver => "leaver",
        };
        format!("{index}-{kind}")
    }

    /// Whether any item is to die, so that the command ends with 3 and not with 0.
    pub fn has_dead(&self) -> bool {
        (0..self.items).any(|index| self.kind(index) == Kind::Dead)
    }

    pub(super) fn write_to(&self, directory: &Path) -> io::Result<()> {
        let lines: String = (0..self.items)
            .map(|index| self.item(index) + "\n")
            .collect();
        let pause = match self.pause_ms {
            0 => String::new(),
            ms => format!("sleep {}.{:03}", ms / 1000, ms % 1000),
        };
        fs::create_dir(directory.join("failed"))?;
        fs::write(directory.join(SIDE), "")?;
        fs::write(directory.join(SCRIPT), TEXT.replace("PAUSE", &pause))?;
        fs::write(directory.join(INPUT), lines)
    }
}
