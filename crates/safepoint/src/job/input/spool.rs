//! Standard input, kept in the job so that the job can resume; and the one way in which readers get bytes.
//!
//! A thread copies standard input to the spool; the reader follows it. When a job resumes, what comes in must repeat what was
//! spooled, byte for byte, before anything is added. Nothing on standard input (a terminal, `/dev/null`) means "use the spool".
//!
//! Lock order: `Progress` is the only lock.

use std::io::{IsTerminal, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::InputFile;
use crate::error::{Error, ErrorKind, Result};

/// Where a reader gets its bytes from.
pub(super) enum Bytes {
    /// A file.
    File(InputFile),
    /// The spool, which may still grow.
    Spool(SpoolReader),
}

impl Bytes {
    /// Reads some bytes; 0 means the end. On a spool that still grows, waits for more.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Spool(spool) => spool.read(buffer),
        }
    }
}

#[derive(Default)]
struct Progress {
    /// Bytes that may be read.
    available: u64,
    /// Standard input has ended.
    ended: bool,
    /// What was spooled before was repeated, or need not be.
    verified: bool,
    /// Nobody wants more.
    closed: bool,
    failure: Option<Error>,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The spool of a job that reads standard input.
pub(in crate::job) struct Spool {
    shared: Arc<Shared>,
    file: InputFile,
}

impl Spool {
    /// Begins to copy standard input to `file`. `complete`: an earlier run spooled it to its end.
    ///
    /// `read`: so many bytes, at least, were read from it before.
    pub(in crate::job) fn start(file: InputFile, complete: bool, read: u64) -> Result<Self> {
        let spooled = file.identity()?.size;
        let shared = Arc::new(Shared::default());
        let copier = Copier {
            shared: Arc::clone(&shared),
            spooled,
            complete,
            read,
        };
        let target = InputFile::spool(file.path())?;
        let earlier = file.reopen()?;
        std::thread::Builder::new()
            .name("safepoint-spool".into())
            .spawn(move || copier.work(earlier, target))
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the spool thread").with_source(error)
            })?;
        Ok(Self { shared, file })
    }

    /// Waits until what was spooled before was repeated; `give_up` is asked from time to time. False if it said yes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] when standard input is not what was spooled.
    pub(in crate::job) fn wait_verified(&self, give_up: impl Fn() -> bool) -> Result<bool> {
        let mut progress = self.shared.lock();
        loop {
            if let Some(failure) = progress.failure.take() {
                return Err(failure);
            }
            if progress.verified {
                return Ok(true);
            }
            if give_up() {
                return Ok(false);
            }
            progress = self
                .shared
                .changed
                .wait_timeout(progress, Duration::from_millis(20))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// A reader of the spool, from `offset` on.
    pub(super) fn reader(&self, offset: u64) -> Result<SpoolReader> {
        let mut file = self.file.reopen()?;
        file.seek(offset)?;
        Ok(SpoolReader {
            shared: Arc::clone(&self.shared),
            file,
            position: offset,
        })
    }

    /// Whether all of standard input is in the spool, durably.
    pub(in crate::job) fn is_complete(&self) -> bool {
        self.shared.lock().ended
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.update(|progress| progress.closed = true);
    }
}

/// Follows the spool while it grows.
pub(super) struct SpoolReader {
    shared: Arc<Shared>,
    file: InputFile,
    position: u64,
}

impl SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut progress = self.shared.lock();
        while progress.available <= self.position && !progress.ended && !progress.closed {
            if let Some(failure) = progress.failure.take() {
                return Err(failure);
            }
            progress = self
                .shared
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let room = usize::try_from(progress.available - self.position.min(progress.available))
            .unwrap_or(usize::MAX);
        drop(progress);
        let wanted = buffer.len().min(room);
        let count = self.file.read(&mut buffer[..wanted])?;
        self.position += count as u64;
        Ok(count)
    }
}

struct Copier {
    shared: Arc<Shared>,
    spooled: u64,
    complete: bool,
    read: u64,
}

impl Copier {
    fn work(self, earlier: InputFile, target: InputFile) {
        if let Err(failure) = self.copy(earlier, target) {
            self.shared
                .update(|progress| progress.failure = Some(failure));
        }
    }

    fn copy(&self, mut earlier: InputFile, mut target: InputFile) -> Result<()> {
        let mut stdin = std::io::stdin();
        let from_terminal = stdin.is_terminal();
        if self.spooled > 0 && from_terminal {
            return self.use_spool();
        }
        let mut buffer = vec![0; 64 * 1024];
        let mut before = vec![0; buffer.len()];
        let mut position = 0;
        loop {
            let count = match stdin.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(
                        Error::new(ErrorKind::Io, "cannot read standard input").with_source(error)
                    );
                }
            };
            if count == 0 {
                break;
            }
            let mut fresh = &buffer[..count];
            if position < self.spooled {
                let repeated =
                    count.min(usize::try_from(self.spooled - position).unwrap_or(usize::MAX));
                let mut compared = 0;
                while compared < repeated {
                    let got = earlier.read(&mut before[compared..repeated])?;
                    let (was, is) = (&before[compared..compared + got], &buffer[compared..]);
                    let same = was.iter().zip(is).take_while(|(was, is)| was == is).count();
                    compared += same;
                    if got == 0 || same < got {
                        return Err(differs(position + compared as u64));
                    }
                }
                fresh = &buffer[repeated..count];
            }
            position += count as u64;
            if !fresh.is_empty() {
                target.append(fresh)?;
                self.shared.update(|progress| {
                    progress.available = position;
                    progress.verified = true;
                });
            } else if position >= self.spooled {
                self.shared.update(|progress| {
                    progress.available = position;
                    progress.verified = true;
                });
            }
            if self.shared.lock().closed {
                return Ok(());
            }
        }
        if position == 0 && self.spooled > 0 {
            return self.use_spool();
        }
        if position < self.spooled {
            return Err(Error::new(
                ErrorKind::Incompatible,
                format!(
                    "standard input ended after {position} bytes, and {} were spooled before",
                    self.spooled
                ),
            )
            .with_hint(
                "give the same input again, or none (`< /dev/null`) to go on with what was spooled",
            ));
        }
        self.check_length(position)?;
        target.sync()?;
        self.shared.update(|progress| {
            progress.available = position;
            progress.verified = true;
            progress.ended = true;
        });
        Ok(())
    }

    /// Refuses a spool that has lost what was read from it.
    fn check_length(&self, length: u64) -> Result<()> {
        if length >= self.read {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "the spool of standard input has {length} bytes, and {} were read from it before",
                self.read
            ),
        )
        .with_hint("give the same standard input again, or put `spool` back from a backup"))
    }

    /// Nothing came in: what was spooled before is the input.
    fn use_spool(&self) -> Result<()> {
        if !self.complete {
            return Err(Error::new(ErrorKind::Incompatible, format!("only the first {} bytes of standard input were spooled before the job was ended", self.spooled))
                .with_hint("give the same standard input again: what is done will not be done again"));
        }
        self.check_length(self.spooled)?;
        self.shared.update(|progress| {
            progress.available = self.spooled;
            progress.verified = true;
            progress.ended = true;
        });
        Ok(())
    }
}

fn differs(position: u64) -> Error {
    Error::new(ErrorKind::Incompatible, format!("standard input differs at byte {position} from what was spooled before"))
        .with_hint("give the same input again, or none (`< /dev/null`) to go on with what was spooled; begin anew: `--fresh`; keep both: another `--name`")
}
