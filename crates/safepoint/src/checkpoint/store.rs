//! The owner of a directory of checkpoints.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::background::{Background, CopyBy, HandedOver, SavedNow};
use super::folder::check_name;
use super::forked::ForkedCopy;
use super::gathered::Gathered;
use super::loaded::{Checkpoint, Places, Target};
use super::metadata::{Details, Generation, Metadata, Parent};
use super::named::{Common, Named, Saved, Throughput, check_details};
use super::notice::Notice;
use super::options::StoreBuilder;
use super::reader::{CheckpointReader, Listed, Validated};
use super::state::State;
use crate::clock::Clock;
use crate::disk::StateDir;
use crate::error::Result;
use crate::owner::{Claim, OWNER_LOCK, Ownership};

/// Generations of states in a directory, which this process alone writes while the value lives.
///
/// A store holds any number of states, each with a name and with generations of its own. It may be shared between threads; saves of one
/// state come one after the other, those of different states do not wait for each other.
#[derive(Debug)]
pub struct CheckpointStore {
    inner: Arc<Inner>,
    pub(super) background: Arc<Background>,
}

/// What the store shares with its thread in the background.
#[derive(Debug)]
pub(super) struct Inner {
    reader: CheckpointReader,
    root: StateDir,
    pub(super) common: Common,
    named: Mutex<HashMap<String, Arc<Mutex<Named>>>>,
    /// Gone in a fork that left it to its parent.
    ownership: Mutex<Option<Ownership>>,
}

impl CheckpointStore {
    /// Opens the store in a directory with the settings that most want; see [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As [`StoreBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Settings for a store in a directory.
    pub fn builder(path: impl AsRef<Path>) -> StoreBuilder {
        StoreBuilder::new(path.as_ref())
    }

    pub(super) fn open_with(settings: StoreBuilder) -> Result<Self> {
        let root = StateDir::create(&settings.path)?;
        let ownership = match Ownership::take(&root.file(OWNER_LOCK))? {
            Claim::Ours(ours) => ours,
            Claim::Theirs(owner) => {
                let what = format!("checkpoint directory `{}`", root.path().display());
                let hint = "wait for it or stop it, or choose another directory; to read only, open a `CheckpointReader`";
                return Err(owner.refusal(&what, hint.to_owned()));
            }
        };
        root.make_private()?;
        let reader = CheckpointReader::of(root.clone(), settings.workers);
        let run = last_run(&reader)?.saturating_add(1);
        Ok(Self {
            inner: Arc::new(Inner {
                reader,
                root,
                common: Common {
                    settings,
                    run,
                    throughput: Throughput::default(),
                },
                named: Mutex::default(),
                ownership: Mutex::new(Some(ownership)),
            }),
            background: Arc::new(Background::new()),
        })
    }

    /// How often the directory was opened and saved to, this time included, from 1.
    pub fn run(&self) -> u32 {
        self.inner.common.run
    }

    /// Reads the same directory; keeps no other process from owning it.
    pub fn reader(&self) -> &CheckpointReader {
        &self.inner.reader
    }

    /// Saves a state as a new generation of `name`, and prunes what the retention does not keep.
    ///
    /// # Durability
    ///
    /// When this returns, the generation survives a kill and a power cut. Until then, the one before is the newest; a crash at any instruction
    /// leaves the old or the new one, never neither.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a name or a shape is wrong: nothing was touched.
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it could not be written, also not at a second go: the generations before are whole, and a
    /// later call may succeed.
    pub fn save(&self, name: &str, state: &State<'_>, details: &Details) -> Result<Saved> {
        check_name(name)?;
        check_details(details)?;
        let since = Clock::start();
        let state = Gathered::of(state)?;
        self.background.in_turn(&self.inner, name, || {
            self.inner.save(name, &state, details, &since)
        })
    }

    /// Saves a small state as a new generation by appending it to a journal, which takes half the time of a file of its own or less.
    /// Small is a value of at most [`MAX_SMALL`](super::MAX_SMALL) bytes without buffers; what is not, and the first generation of a
    /// name, becomes a file as in [`save`](Self::save). So does one after some hundreds, which then takes the journal's place. Retention
    /// rules are about files.
    ///
    /// # Durability
    ///
    /// As [`save`](Self::save).
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    pub fn save_small(&self, name: &str, state: &State<'_>, details: &Details) -> Result<Saved> {
        check_name(name)?;
        check_details(details)?;
        let since = Clock::start();
        let state = Gathered::of(state)?;
        self.background.in_turn(&self.inner, name, || {
            let named = self.inner.named(name)?;
            lock(&named).save_small(&self.inner.common, &state, details, &since)
        })
    }

    /// Saves a state as [`save`](Self::save) does, while the caller goes on. Memory that is only lent is copied first, into memory that is
    /// used again from save to save; [given and shared](State::with_shared_buffer) memory is not. Of each name one save is in flight and one
    /// waits at most; [`StoreBuilder::when_busy`] says what becomes of a third.
    ///
    /// # Durability
    ///
    /// None when this returns; [`finish_background`](Self::finish_background) says when it is there.
    ///
    /// # Errors
    ///
    /// That of an earlier save in the background which failed: the state given is then not taken, and may be given again. Otherwise
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) as [`save`](Self::save), and [`ErrorKind::Io`](crate::ErrorKind::Io) when there is no memory for the
    /// copy; an earlier one of this name that still waited is then gone.
    pub fn save_in_background(
        &self,
        name: &str,
        state: State<'_>,
        details: Details,
    ) -> Result<HandedOver> {
        self.background
            .hand_over(&self.inner, name, state, details, CopyBy::Memory)
    }

    /// As [`save_in_background`](Self::save_in_background), but nothing is copied: the process forks, and the child, which has the same memory, writes
    /// it. The caller is held up for as long as the kernel needs to copy its page tables, some 27 ms for each GiB of small pages, and pays a
    /// page fault for each page that it changes while the child lives. Frames are not compressed.
    ///
    /// Where that is safe: in memory that is this process's own. Memory that is shared with another process or a device (`MAP_SHARED`, pinned
    /// buffers of a GPU driver) is not copied by a fork, and what changes there while the child writes is torn. The program may
    /// have threads. It must not be near the limit of its memory: what changes meanwhile exists twice. If the child is killed, the save fails;
    /// there is no second go, as the state has gone on.
    ///
    /// # Durability
    ///
    /// As [`save_in_background`](Self::save_in_background).
    ///
    /// # Errors
    ///
    /// As there, and [`ErrorKind::Io`](crate::ErrorKind::Io) when there can be no further process.
    pub fn save_by_fork(
        &self,
        name: &str,
        state: State<'_>,
        details: Details,
    ) -> Result<HandedOver> {
        self.background
            .hand_over(&self.inner, name, state, details, CopyBy::Fork)
    }

    /// Gets memory ready for two states of this many lent bytes, so that not even the first save in the background pays for fresh pages.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when there is no such memory.
    pub fn prepare_background(&self, bytes: usize) -> Result<()> {
        self.background.prepare(bytes)
    }

    /// Whether a save in the background is in flight or waits.
    pub fn is_saving(&self) -> bool {
        self.background.is_busy()
    }

    /// Waits until no save in the background is in flight or waits, at most for `timeout`. Says whether that is so.
    ///
    /// # Cancel safety
    ///
    /// The saves go on whether or not somebody waits.
    pub fn wait_background(&self, timeout: Duration) -> bool {
        self.background.wait_idle(timeout)
    }

    /// Waits until no save in the background is in flight or waits, and tells of the last one since this was asked before.
    ///
    /// # Durability
    ///
    /// What was handed over before is durable when this returns without an error.
    ///
    /// # Errors
    ///
    /// That of a save in the background which failed.
    pub fn finish_background(&self) -> Result<Option<Saved>> {
        self.background.finish()
    }

    /// Saves a state at a stop, when there is time `within` which it has to be done. If a save of the same name is in flight and, as fast as
    /// saves were so far, there is no time for another one behind it, that one is seen through instead. An earlier state of this name that
    /// only waits is given up.
    ///
    /// # Durability
    ///
    /// What is returned is durable. It may come later than `within`: a save that was begun is never broken off.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    pub fn save_now(
        &self,
        name: &str,
        state: &State<'_>,
        details: &Details,
        within: Duration,
    ) -> Result<SavedNow> {
        self.background
            .save_now(&self.inner, name, state, details, within)
    }

    /// Sees the saves in the background through and gives the directory up. Dropping the store does the same, but tells of no error.
    ///
    /// # Errors
    ///
    /// That of a save in the background which failed.
    pub fn close(self) -> Result<()> {
        self.background.close()
    }

    /// The newest generation of `name` that is whole; `None` when nothing was ever saved. Damaged ones are passed over, moved into the
    /// directory `quarantine`, and told: [`Checkpoint::skipped`] and [`Notice::Skipped`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when there are generations and none is whole: that is never a reason to begin anew
    /// silently, and nothing is moved. [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) when it is of another fingerprint, with what differs, or
    /// of a newer program.
    pub fn latest(&self, name: &str) -> Result<Option<Checkpoint>> {
        self.latest_into(name, &mut [])
    }

    /// As [`latest`](Self::latest), with the buffers that `targets` name read straight into the caller's memory. After an error the
    /// targets hold anything.
    ///
    /// # Errors
    ///
    /// As [`latest`](Self::latest), and [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) when a target does not fit.
    pub fn latest_into(
        &self,
        name: &str,
        targets: &mut [Target<'_>],
    ) -> Result<Option<Checkpoint>> {
        self.newest_good(name, &mut Places::Given(targets))
    }

    /// As [`latest`](Self::latest), with memory for the buffers that `choose` picks when it is known what they are. It is given the
    /// checkpoint with its value and without its buffers, and not called where there are none. Where a generation turns out to be
    /// damaged, it is called again for the one before.
    ///
    /// # Errors
    ///
    /// As [`latest_into`](Self::latest_into), and those of `choose`; one of kind [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) is taken
    /// for damage of the generation.
    pub fn latest_with<'t>(
        &self,
        name: &str,
        mut choose: impl FnMut(&Checkpoint) -> Result<Vec<Target<'t>>>,
    ) -> Result<Option<Checkpoint>> {
        self.newest_good(name, &mut Places::Chosen(&mut choose))
    }

    fn newest_good(&self, name: &str, places: &mut Places<'_, '_>) -> Result<Option<Checkpoint>> {
        check_name(name)?;
        let inner = &self.inner;
        if !inner.root.has(name) {
            return Ok(None);
        }
        let named = inner.named(name)?;
        // Not locked: who chooses memory runs code of the caller. What is pruned meanwhile has newer ones.
        let found = inner
            .reader
            .newest_good(name, places, |metadata| inner.fits(metadata))?;
        Ok(found.map(|checkpoint| {
            let mut skipped = checkpoint.skipped().to_vec();
            if skipped.is_empty() {
                return checkpoint;
            }
            let mut named = lock(&named);
            for skipped in &mut skipped {
                named.put_aside(skipped);
                inner
                    .common
                    .settings
                    .observer
                    .tell(&Notice::Skipped(skipped.clone()));
            }
            checkpoint.with_skipped(skipped)
        }))
    }

    /// Loads one generation of `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is none of this number; [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when it is
    /// damaged; [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) when it is of another fingerprint or of a newer program.
    pub fn load(&self, name: &str, generation: Generation) -> Result<Checkpoint> {
        self.load_into(name, generation, &mut [])
    }

    /// As [`load`](Self::load), with the buffers that `targets` name read straight into the caller's memory. After an error the
    /// targets hold anything.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) when a target does not fit.
    pub fn load_into(
        &self,
        name: &str,
        generation: Generation,
        targets: &mut [Target<'_>],
    ) -> Result<Checkpoint> {
        self.read(name, generation, &mut Places::Given(targets))
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
        self.read(name, generation, &mut Places::Chosen(&mut choose))
    }

    fn read(
        &self,
        name: &str,
        generation: Generation,
        places: &mut Places<'_, '_>,
    ) -> Result<Checkpoint> {
        let fits = |metadata: &Metadata| self.inner.fits(metadata);
        self.inner.reader.read(name, generation, places, &fits)
    }

    /// As [`CheckpointReader::list`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn list(&self, name: &str) -> Result<Vec<Listed>> {
        self.inner.reader.list(name)
    }

    /// As [`CheckpointReader::validate`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn validate(&self, name: &str) -> Result<Vec<Validated>> {
        self.inner.reader.validate(name)
    }

    /// Removes what the retention does not keep, and says what went. Every save does the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when `name` cannot be a name; [`ErrorKind::Io`](crate::ErrorKind::Io) when the directory cannot be read.
    pub fn prune(&self, name: &str) -> Result<Vec<Generation>> {
        check_name(name)?;
        if !self.inner.root.has(name) {
            return Ok(Vec::new());
        }
        let named = self.inner.named(name)?;
        let pruned = lock(&named).prune(&self.inner.common);
        Ok(pruned)
    }

    /// Copies a generation of `name` to a new generation of `to`, which remembers where it comes from. Both go their own ways from there.
    ///
    /// # Durability
    ///
    /// As [`save`](Self::save). The copy is in memory meanwhile.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load) and [`save`](Self::save).
    pub fn fork(&self, name: &str, generation: Generation, to: &str) -> Result<Saved> {
        check_name(to)?;
        let source = self.load(name, generation)?;
        let parent = Parent {
            name: name.to_owned(),
            generation,
        };
        let details = &source.metadata().details;
        let since = Clock::start();
        let state = source.as_state();
        let state = Gathered::of(&state)?;
        self.background.in_turn(&self.inner, to, || {
            let named = self.inner.named(to)?;
            let mut named = lock(&named);
            named.save(&self.inner.common, &state, details, Some(&parent), &since)
        })
    }

    /// As [`CheckpointReader::export`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn export(
        &self,
        name: &str,
        generation: Generation,
        folder: impl AsRef<Path>,
    ) -> Result<PathBuf> {
        self.inner.reader.export(name, generation, folder)
    }

    /// In a fork of this process: gives up what was inherited. The directory and the saves in the background stay the parent's, also when
    /// this process lives on and the parent does not: the next owner is not kept waiting by it. Nothing else may be done with the store here.
    pub fn leave_to_parent(&self) {
        // Nobody else locks this, so nobody can have had it locked at the fork.
        let mut ownership = self
            .inner
            .ownership
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(ownership.take());
    }

    /// Where the files of `name` are, whether or not there are any.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when `name` cannot be a name.
    pub fn path_of(&self, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        Ok(self.inner.root.file(name))
    }
}

impl Drop for CheckpointStore {
    fn drop(&mut self) {
        // Whoever wants to know closes.
        let _ = self.background.close();
    }
}

impl Inner {
    /// Saves without regard to what waits in the background. `since`: a clock that was started with the call.
    pub(super) fn save(
        &self,
        name: &str,
        state: &Gathered<'_>,
        details: &Details,
        since: &Clock,
    ) -> Result<Saved> {
        let named = self.named(name)?;
        lock(&named).save(&self.common, state, details, None, since)
    }

    pub(super) fn save_forked(
        &self,
        name: &str,
        copy: ForkedCopy,
        details: &Details,
        since: &Clock,
    ) -> Result<Saved> {
        let named = self.named(name)?;
        lock(&named).save_forked(&self.common, copy, details, since)
    }

    /// The directory of a state that is about to be saved by a fork, made where there was none, with room for it if nobody is saving there now.
    pub(super) fn room_for_fork(&self, name: &str, payload_bytes: u64) -> Result<PathBuf> {
        let named = self.named(name)?;
        // Who saves now has looked for room.
        if let Ok(mut named) = named.try_lock() {
            named.look_for_room(&self.common, payload_bytes);
        }
        Ok(self.root.file(name))
    }

    pub(super) fn named(&self, name: &str) -> Result<Arc<Mutex<Named>>> {
        check_name(name)?;
        let mut all = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = all.get(name) {
            return Ok(Arc::clone(named));
        }
        let named = Arc::new(Mutex::new(Named::open(&self.root, name, &self.common)?));
        all.insert(name.to_owned(), Arc::clone(&named));
        Ok(named)
    }

    /// Whether a state of this fingerprint may be taken.
    fn fits(&self, metadata: &Metadata) -> Result<()> {
        let settings = &self.common.settings;
        let what = format!("generation {} of `{}`", metadata.generation, metadata.name);
        let fits = settings
            .fingerprint
            .check(&metadata.fingerprint, &settings.ignored, &what);
        match fits {
            Err(error) if settings.accept_changes => {
                settings.observer.tell(&Notice::AcceptedChange {
                    what: error.to_string(),
                });
                Ok(())
            }
            fits => fits,
        }
    }
}

/// A panic in a save leaves the numbers as they are: at worst one is not used.
pub(super) fn lock(named: &Mutex<Named>) -> MutexGuard<'_, Named> {
    named.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The highest run that the newest readable generation of any state names.
fn last_run(reader: &CheckpointReader) -> Result<u32> {
    let mut last = 0;
    for name in reader.names()? {
        last = last.max(
            reader
                .newest_metadata(&name)?
                .map_or(0, |metadata| metadata.run),
        );
    }
    Ok(last)
}
