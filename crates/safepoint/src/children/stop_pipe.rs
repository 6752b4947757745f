//! The stop descriptor as the parent has it: the write end of a pipe, which says by a byte that the child should stop, and by its end that it
//! must.

use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// The environment variable in which a child finds the number of its stop descriptor.
pub const STOP_FD_VARIABLE: &str = "SAFEPOINT_STOP_FD";

/// The lowest number of a stop descriptor: those below are standard input, output and error.
const LOWEST: i32 = 3;

/// Held while a read end may be inherited, so that one child does not get another's.
static INHERITABLE: Mutex<()> = Mutex::new(());

/// The write end. Dropping it is the hang-up.
#[derive(Debug)]
pub(super) struct StopPipe(PipeWriter);

impl StopPipe {
    /// Starts `command` with the read end of a new pipe, as the leader of a process group.
    ///
    /// Between these lines the read end can be inherited, instead of by a `pre_exec`: such a function can never be taken off a command
    /// again, and at the command's second start it would open up whatever has the number of the first start's descriptor by then; it also
    /// forces a fork, where std otherwise uses `posix_spawn(3)`, which costs the same however large this process is. The price is that a process that
    /// somebody else starts in these microseconds gets the read end too. It cannot do anything with it but look.
    pub(super) fn start(command: &mut Command) -> io::Result<(std::process::Child, Self)> {
        let (reader, writer) = io::pipe()?;
        let inherited: OwnedFd = fcntl_dupfd_cloexec(&reader, LOWEST)?;
        drop(reader);
        command
            .process_group(0)
            .env(STOP_FD_VARIABLE, inherited.as_raw_fd().to_string());
        let child = {
            let _alone = INHERITABLE.lock().unwrap_or_else(PoisonError::into_inner);
            fcntl_setfd(&inherited, FdFlags::empty())?;
            let child = command.spawn();
            drop(inherited);
            child
        };
        // The number means nothing to a child that the caller may start with the same command by other means.
        command.env_remove(STOP_FD_VARIABLE);
        Ok((child?, Self(writer)))
    }

    /// Makes the descriptor readable, for good: the byte is there for everybody who looks and takes none away.
    pub(super) fn ask(&mut self) {
        // It fails only when nobody has the other end any more.
        let _ = self.0.write_all(b"\n");
    }
}
