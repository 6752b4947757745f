//! Steps and effects: what is written of them, and what they are when they are read.

/// What a row of `steps` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepState {
    /// It had begun and did not end: it is in progress now, or a stop or a kill cut it off.
    Running,
    /// Its result is recorded.
    Complete,
    /// It returned an error.
    Failed,
}

impl StepState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Running, Self::Complete, Self::Failed];

    /// The word in the file and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What a row of `effects` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EffectState {
    /// It was about to be brought about; without a live process that does so, it is in doubt.
    Intended,
    /// It was brought about, and its result is recorded.
    Complete,
    /// It is in doubt, and waits for a person.
    Held,
    /// It is known not to have happened, and may be brought about.
    Released,
}

impl EffectState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Intended, Self::Complete, Self::Held, Self::Released];

    /// The word in the file and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Complete => "complete",
            Self::Held => "held",
            Self::Released => "released",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A recorded step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRow {
    /// Its whole name, parts joined by `/`.
    pub name: String,
    /// Its state.
    pub state: StepState,
    /// Whether later runs take what is recorded instead of running it.
    pub memoised: bool,
    /// The run that wrote it.
    pub run: u32,
    /// When it began, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// How long it took, in microseconds.
    pub duration_us: Option<u64>,
    /// What it returned, as JSON.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A recorded effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectRow {
    /// Its whole key, parts joined by `/`.
    pub key: String,
    /// Its state.
    pub state: EffectState,
    /// What the other side can tell repetitions by; the same for the whole life of the effect.
    pub idempotency_key: String,
    /// The run that wrote it.
    pub run: u32,
    /// When it was last begun, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// How long it took, in microseconds.
    pub duration_us: Option<u64>,
    /// What it returned, as JSON.
    pub result: Option<String>,
    /// What is known of why it is in doubt.
    pub error: Option<String>,
}

/// How many rows there are of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepCounts {
    /// Steps with a result.
    pub complete: u64,
    /// Steps in progress, or cut off.
    pub running: u64,
    /// Steps that returned an error.
    pub failed: u64,
    /// Effects, whatever their state.
    pub effects: u64,
    /// Effects that wait for a person.
    pub held: u64,
}

impl StepCounts {
    /// All steps.
    pub fn steps(&self) -> u64 {
        self.complete + self.running + self.failed
    }
}

/// One thing to write about a step or an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepChange {
    /// A step has begun. A help for people only: its completion needs no row before it.
    Begun {
        /// The step.
        name: Box<str>,
        /// In milliseconds since 1970 UTC.
        started_at_ms: i64,
    },
    /// A step returned a result.
    Complete {
        /// The step.
        name: Box<str>,
        /// In milliseconds since 1970 UTC.
        started_at_ms: i64,
        /// In microseconds.
        duration_us: u64,
        /// As JSON.
        result: String,
    },
    /// A step returned an error.
    Failed {
        /// The step.
        name: Box<str>,
        /// In milliseconds since 1970 UTC.
        started_at_ms: i64,
        /// In microseconds.
        duration_us: u64,
        /// Its text.
        error: String,
        /// Whether later runs take the error instead of running the step.
        memoised: bool,
    },
    /// A step is to be as if it had never run.
    Forgotten {
        /// The step.
        name: Box<str>,
    },
    /// An effect is about to be brought about.
    Intended {
        /// The effect.
        key: Box<str>,
        /// For the other side.
        idempotency_key: Box<str>,
        /// In milliseconds since 1970 UTC.
        started_at_ms: i64,
    },
    /// An effect was brought about.
    Completed {
        /// The effect.
        key: Box<str>,
        /// In microseconds; none where somebody else says so.
        duration_us: Option<u64>,
        /// As JSON.
        result: String,
    },
    /// An effect is in doubt, and stays so until a person resolves it.
    Held {
        /// The effect.
        key: Box<str>,
    },
    /// An effect is known not to have happened.
    Released {
        /// The effect.
        key: Box<str>,
        /// What is known of why.
        error: Option<String>,
    },
    /// The body of an effect returned an error that leaves it in doubt.
    Doubted {
        /// The effect.
        key: Box<str>,
        /// Its text.
        error: String,
    },
}
