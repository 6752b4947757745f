//! Reading checkpoints, without owning them.

use std::path::{Path, PathBuf};

use super::folder::{self, QUARANTINE, check_name, path_of};
use super::format::damaged;
use super::journal::{self, Journals, Record};
use super::loaded::{Checkpoint, Places, Target};
use super::metadata::{Generation, Metadata};
use super::notice::Skipped;
use super::read::OpenFile;
use crate::disk::{self, StateDir};
use crate::error::{Error, ErrorKind, Result};

/// One line of a list: what is known of a generation without reading its payload.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listed {
    /// Its number.
    pub generation: Generation,
    /// The length of its file in bytes.
    pub file_bytes: u64,
    /// Whether it is a record of a journal rather than a file; of a journal only the newest record is listed.
    pub in_journal: bool,
    /// Its metadata, or why they cannot be read.
    pub metadata: Result<Metadata>,
}

/// What a whole reading of a generation found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Validated {
    /// What the state is called.
    pub name: String,
    /// Its number.
    pub generation: Generation,
    /// Where its file is.
    pub path: PathBuf,
    /// The bytes of its payload, every one of which passed a checksum, or what is wrong.
    pub outcome: Result<u64>,
}

/// Reads the checkpoints in a directory while their owner, if there is one, goes on writing. It changes nothing.
#[derive(Debug, Clone)]
pub struct CheckpointReader {
    dir: StateDir,
    workers: usize,
}

impl CheckpointReader {
    /// Opens a directory of checkpoints.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none; [`ErrorKind::Invalid`] when it is a link, or another user's.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::of(StateDir::open(path.as_ref())?, 2))
    }

    pub(super) fn of(dir: StateDir, workers: usize) -> Self {
        Self { dir, workers }
    }

    /// Where the checkpoints are.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where a state is, whether or not there is one.
    ///
    /// # Errors
    ///
    /// Kind `Invalid` when `name` cannot be a name, or is that of a link.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        let folder = self.dir.path().join(name);
        if disk::is_link(&folder) {
            return Err(Error::invalid(format!(
                "`{}` is a link, and links are not followed",
                folder.display()
            )));
        }
        Ok(folder)
    }

    /// The names of the states there are, sorted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = disk::list_dirs(self.dir.path())?;
        names.retain(|name| check_name(name).is_ok());
        Ok(names)
    }

    /// All generations of a state, oldest first; their payload is not touched. None when there is no such state.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when `name` cannot be a name; [`ErrorKind::Io`] when the directory cannot be read.
    pub fn list(&self, name: &str) -> Result<Vec<Listed>> {
        let folder = self.folder(name)?;
        // Journals first: what is folded meanwhile is found as a file.
        let records = journal::find(&folder)?.records;
        let generations = folder::generations(&folder)?;
        let part = generations.len().div_ceil(self.workers.max(1)).max(1);
        let mut listed = if generations.len() < PARALLEL_LIST {
            list_some(&folder, name, &generations)
        } else {
            std::thread::scope(|scope| {
                let parts: Vec<_> = generations
                    .chunks(part)
                    .map(|part| scope.spawn(|| list_some(&folder, name, part)))
                    .collect();
                let join = |part: std::thread::ScopedJoinHandle<'_, _>| {
                    part.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                parts.into_iter().flat_map(join).collect()
            })
        };
        listed.extend(records.last().and_then(|record| {
            let metadata = journal::metadata(record);
            (!is_gone(&metadata)).then(|| Listed {
                generation: record.generation,
                file_bytes: record.bytes(),
                in_journal: true,
                metadata,
            })
        }));
        listed.sort_by_key(|listed| listed.generation);
        Ok(listed)
    }

    /// The newest generation that is whole; `None` when there is none at all. Damaged ones are passed over and told
    /// ([`Checkpoint::skipped`]).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] when there are generations and none is whole; [`ErrorKind::Incompatible`] when the newest was written
    /// by a newer program.
    pub fn latest(&self, name: &str) -> Result<Option<Checkpoint>> {
        self.latest_into(name, &mut [])
    }

    /// As [`latest`](Self::latest), with the buffers that `targets` name read straight into the caller's memory. Where a newer
    /// generation turns out to be damaged, the targets may have been filled in part before the older one overwrites them; after an
    /// error of kind [`ErrorKind::Corrupt`] they hold anything.
    ///
    /// # Errors
    ///
    /// As [`latest`](Self::latest), and [`ErrorKind::Incompatible`] when a target does not fit.
    pub fn latest_into(
        &self,
        name: &str,
        targets: &mut [Target<'_>],
    ) -> Result<Option<Checkpoint>> {
        self.newest_good(name, &mut Places::Given(targets), |_| Ok(()))
    }

    /// As [`latest`](Self::latest), with memory for the buffers that `choose` picks when it is known what they are. It is given the
    /// checkpoint with its value and without its buffers, and not called where there are none. Where a generation turns out to be
    /// damaged, it is called again for the one before.
    ///
    /// # Errors
    ///
    /// As [`latest_into`](Self::latest_into), and those of `choose`; one of kind [`ErrorKind::Corrupt`] is taken for damage of the generation.
    pub fn latest_with<'t>(
        &self,
        name: &str,
        mut choose: impl FnMut(&Checkpoint) -> Result<Vec<Target<'t>>>,
    ) -> Result<Option<Checkpoint>> {
        self.newest_good(name, &mut Places::Chosen(&mut choose), |_| Ok(()))
    }

    /// `accept` decides by the metadata whether a generation may be taken.
    pub(super) fn newest_good(
        &self,
        name: &str,
        places: &mut Places<'_, '_>,
        accept: impl Fn(&Metadata) -> Result<()>,
    ) -> Result<Option<Checkpoint>> {
        let mut looks_left = LOOKS;
        loop {
            match self.newest_now(name, places, &accept) {
                // Its owner pruned or folded it since we looked; then there are newer ones.
                Err(error) if error.kind() == ErrorKind::NotFound && looks_left > 0 => {
                    looks_left -= 1;
                }
                found => return found,
            }
        }
    }

    fn newest_now(
        &self,
        name: &str,
        places: &mut Places<'_, '_>,
        accept: &impl Fn(&Metadata) -> Result<()>,
    ) -> Result<Option<Checkpoint>> {
        let folder = self.folder(name)?;
        let skip = |generation, why| Skipped {
            name: name.to_owned(),
            generation,
            why,
            quarantined: None,
        };
        let Journals {
            mut records, torn, ..
        } = journal::find(&folder)?;
        let mut files = folder::generations(&folder)?;
        let mut skipped: Vec<Skipped> = torn
            .into_iter()
            .map(|torn| skip(torn.expected, torn.why))
            .collect();
        let found = loop {
            let newer = records.pop_if(|record| files.last() < Some(&record.generation));
            let (generation, read) = if let Some(record) = newer {
                let fits =
                    |checkpoint: Checkpoint| accept(checkpoint.metadata()).map(|()| checkpoint);
                (record.generation, journal::load(&record).and_then(fits))
            } else if let Some(generation) = files.pop() {
                (generation, self.read_file(name, generation, places, accept))
            } else {
                break None;
            };
            match read {
                Ok(checkpoint) => break Some(checkpoint),
                Err(error) if is_damage(&error) => skipped.push(skip(generation, error.chain())),
                Err(error) => return Err(error),
            }
        };
        skipped.sort_by_key(|skipped| std::cmp::Reverse(skipped.generation));
        if let Some(checkpoint) = found {
            return Ok(Some(checkpoint.with_skipped(skipped)));
        }
        match skipped.as_slice() {
            [] if folder::generations(&folder.join(QUARANTINE))?.is_empty() => Ok(None),
            [] => Err(nothing_whole(
                name,
                "all generations were put aside as damaged",
            )),
            [newest, ..] => Err(nothing_whole(
                name,
                &format!(
                    "{} of {} are damaged; {}",
                    skipped.len(),
                    skipped.len(),
                    newest.why
                ),
            )),
        }
    }

    /// The metadata of the newest generation whose metadata can be read.
    pub(super) fn newest_metadata(&self, name: &str) -> Result<Option<Metadata>> {
        let folder = self.folder(name)?;
        let records = journal::find(&folder)?.records;
        let newest_first = folder::generations(&folder)?.into_iter().rev();
        let mut files = newest_first.filter_map(|generation| open(&folder, name, generation).ok());
        let in_file = files.next().map(|file| file.metadata);
        let in_journal = records
            .last()
            .and_then(|record| journal::metadata(record).ok());
        Ok(in_file
            .into_iter()
            .chain(in_journal)
            .max_by_key(|metadata| metadata.generation))
    }

    /// Loads one generation.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none of this number; [`ErrorKind::Corrupt`] when it is damaged;
    /// [`ErrorKind::Incompatible`] when a newer program wrote it.
    pub fn load(&self, name: &str, generation: Generation) -> Result<Checkpoint> {
        self.load_into(name, generation, &mut [])
    }

    /// As [`load`](Self::load), with the buffers that `targets` name read straight into the caller's memory.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and [`ErrorKind::Incompatible`] when a target does not fit.
    pub fn load_into(
        &self,
        name: &str,
        generation: Generation,
        targets: &mut [Target<'_>],
    ) -> Result<Checkpoint> {
        self.read(name, generation, &mut Places::Given(targets), &|_| Ok(()))
    }

    /// As [`load`](Self::load), with memory for the buffers that `choose` picks, as in [`latest_with`](Self::latest_with).
    ///
    /// # Errors
    ///
    /// As [`load_into`](Self::load_into), and those of `choose`.
    pub fn load_with<'t>(
        &self,
        name: &str,
        generation: Generation,
        mut choose: impl FnMut(&Checkpoint) -> Result<Vec<Target<'t>>>,
    ) -> Result<Checkpoint> {
        let places = &mut Places::Chosen(&mut choose);
        self.read(name, generation, places, &|_| Ok(()))
    }

    pub(super) fn read(
        &self,
        name: &str,
        generation: Generation,
        places: &mut Places<'_, '_>,
        accept: &impl Fn(&Metadata) -> Result<()>,
    ) -> Result<Checkpoint> {
        let read = self.read_file(name, generation, places, accept);
        let Err(error) = &read else { return read };
        if error.kind() != ErrorKind::NotFound {
            return read;
        }
        let Some((_, checkpoint)) = self.read_record(name, generation)? else {
            return read;
        };
        accept(checkpoint.metadata())?;
        Ok(checkpoint)
    }

    /// A generation that is a record of a journal, and where it is.
    pub(super) fn read_record(
        &self,
        name: &str,
        generation: Generation,
    ) -> Result<Option<(Record, Checkpoint)>> {
        let mut records = journal::find(&self.folder(name)?)?.records;
        records.retain(|record| record.generation == generation);
        let Some(record) = records.pop() else {
            return Ok(None);
        };
        let checkpoint = journal::load(&record).map_err(|error| of(error, name, generation))?;
        Ok(Some((record, checkpoint)))
    }

    fn read_file(
        &self,
        name: &str,
        generation: Generation,
        places: &mut Places<'_, '_>,
        accept: &impl Fn(&Metadata) -> Result<()>,
    ) -> Result<Checkpoint> {
        let file = open(&self.folder(name)?, name, generation)?;
        accept(&file.metadata)?;
        Checkpoint::read(&file, places, self.workers).map_err(|error| of(error, name, generation))
    }

    /// Reads all of every generation of a state, oldest first, and says of each whether it is whole. Memory is that of the largest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when `name` cannot be a name; [`ErrorKind::Io`] when the directory cannot be read. What is wrong with a
    /// generation is in the list.
    pub fn validate(&self, name: &str) -> Result<Vec<Validated>> {
        let folder = self.folder(name)?;
        let Journals { records, torn, .. } = journal::find(&folder)?;
        let generations = folder::generations(&folder)?;
        let validate = |generation| Validated {
            name: name.to_owned(),
            generation,
            path: path_of(&folder, generation),
            outcome: self
                .read(name, generation, &mut Places::Given(&mut []), &|_| Ok(()))
                .map(|whole| whole.metadata().payload_bytes),
        };
        let mut validated: Vec<_> = generations.into_iter().map(validate).collect();
        validated.extend(records.last().map(|record| Validated {
            name: name.to_owned(),
            generation: record.generation,
            path: record.journal.clone(),
            outcome: journal::metadata(record).map(|metadata| metadata.payload_bytes),
        }));
        validated.extend(torn.into_iter().map(|torn| Validated {
            name: name.to_owned(),
            generation: torn.expected,
            path: torn.journal,
            outcome: Err(Error::new(ErrorKind::Corrupt, torn.why)),
        }));
        // The owner may have pruned or folded some since they were listed.
        validated.retain(|validated| !is_gone(&validated.outcome));
        validated.sort_by_key(|validated| validated.generation);
        Ok(validated)
    }
}

/// From this many files on a list is made by several threads.
const PARALLEL_LIST: usize = 256;
/// How often files may be pruned under a reader before it gives up.
const LOOKS: u32 = 10;

/// Opens a generation and checks that it is the one its file's name says.
///
/// # Errors
///
/// As [`OpenFile::open`], with the generation named.
pub(super) fn open(folder: &Path, name: &str, generation: Generation) -> Result<OpenFile> {
    let opened = OpenFile::open(&path_of(folder, generation)).and_then(|file| {
        if file.metadata.generation == generation {
            Ok(file)
        } else {
            let message = format!("it says that it is generation {}", file.metadata.generation);
            Err(damaged(message))
        }
    });
    opened.map_err(|error| of(error, name, generation))
}

fn list_some(folder: &Path, name: &str, generations: &[Generation]) -> Vec<Listed> {
    let look = |generation: &Generation| match open(folder, name, *generation) {
        Ok(file) => Some(Listed {
            generation: *generation,
            file_bytes: file.file_bytes(),
            in_journal: false,
            metadata: Ok(file.metadata),
        }),
        // Pruned since the directory was read.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(Listed {
            generation: *generation,
            file_bytes: disk::size(&path_of(folder, *generation)).unwrap_or(0),
            in_journal: false,
            metadata: Err(error),
        }),
    };
    generations.iter().filter_map(look).collect()
}

/// Whether there was something when the directory was listed, and no longer is.
fn is_gone<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(error) if error.kind() == ErrorKind::NotFound)
}

/// Whether an older generation may be taken instead: the file is damaged, or the device cannot read it.
fn is_damage(error: &Error) -> bool {
    // A sector, an inode or a checksum of the file system that is bad; a file that became shorter.
    let is_bad = |cause: &std::io::Error| {
        let code = cause.raw_os_error();
        matches!(code, Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG))
            || cause.kind() == std::io::ErrorKind::UnexpectedEof
    };
    error.kind() == ErrorKind::Corrupt || error.io_cause().is_some_and(is_bad)
}

/// Says of which generation an error is.
pub(super) fn of(error: Error, name: &str, generation: Generation) -> Error {
    let what = match error.kind() {
        ErrorKind::Corrupt => "is damaged",
        ErrorKind::NotFound => {
            let message = format!("there is no generation {generation} of `{name}`");
            return Error::new(ErrorKind::NotFound, message)
                .with_hint("`safepoint checkpoint list` shows those there are");
        }
        _ => "cannot be read",
    };
    error.about(format!("generation {generation} of `{name}` {what}"))
}

fn nothing_whole(name: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("no generation of `{name}` can be loaded: {why}"),
    )
    .with_hint("look with `safepoint checkpoint validate`; put a copy back, or move the directory away to begin anew")
}
