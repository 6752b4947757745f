//! One child: its environment, its descriptors, its guard.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

use super::output::{Outputs, Pump};
use super::run::NotStarted;
use super::said::Ear;
use super::state::State;
use super::{Handle, Options};
use crate::clock::{Clock, Moment};
use crate::disk::RotatingLog;
use crate::error::{Error, Result};
use crate::process::{Exit, Guard, GuardedProgram};

/// Names that the child gets from us, so that an outer one's are not passed on.
const OWN_VARIABLES: [&str; 7] = [
    "SAFEPOINT_JOB",
    "SAFEPOINT_RUN",
    "SAFEPOINT_STATE",
    "SAFEPOINT_CONTROL_FD",
    "SAFEPOINT_DONE",
    "SAFEPOINT_RESTART_COUNT",
    "SAFEPOINT_LAST_EXIT",
];

/// The program to supervise, found and checked.
pub(super) struct Program {
    file: CString,
    arguments: Vec<CString>,
}

impl Program {
    pub(super) fn new(file: CString, command: &[OsString]) -> Result<Self> {
        let word = |word: &OsString| {
            CString::new(word.as_bytes()).map_err(|_| {
                Error::invalid(format!(
                    "the argument `{}` contains a NUL byte",
                    word.to_string_lossy()
                ))
            })
        };
        Ok(Self {
            file,
            arguments: command.iter().map(word).collect::<Result<_>>()?,
        })
    }
}

/// A child that was started.
pub(super) struct Child {
    pub(super) guard: Guard,
    pub(super) ear: Ear,
    pub(super) pump: Option<Pump>,
    pub(super) began: Moment,
    /// How it ended, once it has.
    pub(super) exit: Option<Exit>,
    /// A stop was asked for before that.
    pub(super) was_asked: bool,
    /// It said on the control descriptor that all its work is done.
    pub(super) said_done: bool,
}

/// What is the same for every child of a run.
pub(super) struct Nursery<'a> {
    pub(super) program: Program,
    pub(super) options: &'a Options,
    pub(super) handle: Handle,
    pub(super) clock: Clock,
    pub(super) outputs: Option<Outputs>,
    pub(super) log: Option<Arc<Mutex<RotatingLog>>>,
    pub(super) name: String,
}

impl Nursery<'_> {
    /// Starts a child. `last` is how the one before it ended.
    pub(super) fn start(
        &self,
        state: Option<&State>,
        restarts: u32,
        last: Option<Exit>,
        now: Moment,
    ) -> std::result::Result<Child, NotStarted> {
        let mut ear = Ear::new().map_err(NotStarted::ours)?;
        let number = free_number();
        let mut pump = match &self.outputs {
            Some(outputs) => {
                let started = Pump::start(outputs, self.log.as_ref(), &self.handle, &self.clock);
                Some(started.map_err(NotStarted::ours)?)
            }
            None => None,
        };
        let environment = self.environment(state, number, restarts, last);
        self.handle.heard(&self.clock);
        let ends = pump.as_ref().and_then(Pump::ends);
        let guard = Guard::start(&GuardedProgram {
            program: &self.program.file,
            arguments: &self.program.arguments,
            environment: &environment,
            stdout: ends.map(|(stdout, _)| stdout),
            stderr: ends.map(|(_, stderr)| stderr),
            control: ear.mouth().map(|mouth| (mouth, number)),
            own_group: !self.options.shares_group,
            ignored: self.options.ignored,
            blocked: self.options.blocked,
        })
        .map_err(|refused| NotStarted {
            code: match refused.execution {
                None => 125,
                Some(libc::ENOENT) => 127,
                Some(_) => 126,
            },
            error: refused.error,
        })?;
        ear.given();
        if let Some(pump) = &mut pump {
            pump.given();
        }
        Ok(Child {
            guard,
            ear,
            pump,
            began: now,
            exit: None,
            was_asked: false,
            said_done: false,
        })
    }

    fn environment(
        &self,
        state: Option<&State>,
        control: i32,
        restarts: u32,
        last: Option<Exit>,
    ) -> Vec<CString> {
        let pair = |name: &OsStr, value: &OsStr| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        };
        let inherited = self.options.environment.iter();
        let inherited = inherited.filter(|(name, _)| !OWN_VARIABLES.iter().any(|own| name == own));
        let mut environment: Vec<CString> = inherited
            .filter_map(|(name, value)| pair(name, value))
            .collect();
        let mut own = vec![
            ("SAFEPOINT_JOB", OsString::from(&self.name)),
            ("SAFEPOINT_CONTROL_FD", control.to_string().into()),
            ("SAFEPOINT_RESTART_COUNT", restarts.to_string().into()),
        ];
        if let Some(state) = state {
            own.push(("SAFEPOINT_RUN", state.run.to_string().into()));
            own.push(("SAFEPOINT_STATE", state.dir().into()));
            own.push(("SAFEPOINT_DONE", state.done_marker().into()));
        }
        if let Some(last) = last {
            own.push(("SAFEPOINT_LAST_EXIT", last.describe().into()));
        }
        let own = own.into_iter();
        environment.extend(own.filter_map(|(name, value)| pair(OsStr::new(name), &value)));
        environment
    }
}

/// The number of the control descriptor in the child: the first that it does not inherit for another use, from 3 on, for shells can name only those to 9.
fn free_number() -> i32 {
    let is_free = |number: &i32| {
        #[expect(unsafe_code, reason = "a number is asked for that may not be open")]
        // SAFETY: fcntl(2) on a number; what it says is all that is used.
        let flags = unsafe { libc::fcntl(*number, libc::F_GETFD) };
        // What is closed by the execution anyway is not missed.
        flags < 0 || flags & libc::FD_CLOEXEC != 0
    };
    (3..=255).find(is_free).unwrap_or(256)
}
