//! The reader thread: items in batches, a few ahead of the dispatcher.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::items::{Cursor, InputItem, ItemReader, Position, Reading, unknown_identity};
use super::spool::{Bytes, Spool};
use crate::disk::{FileIdentity, open_input};
use crate::error::{Error, ErrorKind, Result};
use crate::job::definition::{Definition, Delivery, Format};
use crate::queue::{Chunk, SourceRow};

/// A batch ends after so many items or bytes.
const BATCH_ITEMS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// All sources of a job, ready to be read from any place.
pub(in crate::job) struct Feed {
    sources: Vec<Source>,
    spool: Option<Spool>,
    reading: Reading,
}

struct Source {
    path: PathBuf,
    format: Format,
    is_stdin: bool,
}

impl Feed {
    /// Checks that every input can be read. Standard input comes from `spool`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when one cannot.
    pub(in crate::job) fn new(definition: &Definition, spool: Option<Spool>) -> Result<Self> {
        let mut sources = Vec::new();
        for path in &definition.inputs {
            let is_stdin = path.as_os_str() == "-";
            let format = definition.format_of(path);
            if definition.key_field.is_some() && !format.is_json() {
                return Err(Error::invalid(format!(
                    "`--key` needs items with fields, and `{}` has plain items",
                    path.display()
                ))
                .with_hint("use `--format jsonl` or `--format csv`, or leave out `--key`"));
            }
            if !is_stdin {
                let file = open_input(path)?;
                if !file.is_regular() {
                    return Err(Error::invalid(format!("input `{}` is not a regular file, so it could not be read again", path.display()))
                        .with_hint("pipe it to standard input and give `-` as the input: it is then kept in the job"));
                }
            }
            sources.push(Source {
                path: path.clone(),
                format,
                is_stdin,
            });
        }
        let reading = Reading {
            key_field: definition.key_field.clone(),
            needs_utf8: definition.delivery == Delivery::Worker,
        };
        Ok(Self {
            sources,
            spool,
            reading,
        })
    }

    /// How many sources there are.
    pub(in crate::job) fn len(&self) -> usize {
        self.sources.len()
    }

    /// The path of a source, as it was given.
    pub(in crate::job) fn path(&self, source: u32) -> String {
        self.sources
            .get(source as usize)
            .map_or_else(String::new, |source| source.path.display().to_string())
    }

    /// What identifies each source now. The identity of standard input is never known.
    pub(in crate::job) fn rows(&self) -> Result<Vec<SourceRow>> {
        self.sources
            .iter()
            .enumerate()
            .map(|(number, _)| self.row(number, false))
            .collect()
    }

    fn row(&self, number: usize, complete: bool) -> Result<SourceRow> {
        let source = &self.sources[number];
        let identity = if source.is_stdin {
            unknown_identity()
        } else {
            open_input(&source.path)?.identity()?
        };
        let number = u32::try_from(number).map_err(|_| Error::invalid("too many inputs"))?;
        Ok(SourceRow {
            source: number,
            path: source.path.display().to_string(),
            identity,
            header: None,
            complete,
        })
    }

    /// A reader of one source from `position` on.
    pub(in crate::job) fn open(&self, number: usize, position: Position) -> Result<ItemReader> {
        let source = &self.sources[number];
        let bytes = |offset| -> Result<Bytes> {
            if source.is_stdin {
                let spool = self
                    .spool
                    .as_ref()
                    .ok_or_else(|| Error::new(ErrorKind::Io, "standard input was not spooled"))?;
                return Ok(Bytes::Spool(spool.reader(offset)?));
            }
            let mut file = open_input(&source.path)?;
            file.seek(offset)?;
            Ok(Bytes::File(file))
        };
        let header = if source.format == Format::Csv && position.offset > 0 {
            Some(bytes(0)?)
        } else {
            None
        };
        let cursor = Cursor::new(
            bytes(position.offset)?,
            header,
            &source.path,
            source.format,
            position,
        )?;
        let number = u32::try_from(number).map_err(|_| Error::invalid("too many inputs"))?;
        Ok(ItemReader::new(
            cursor,
            &source.path,
            number,
            position.index,
            &self.reading,
        ))
    }

    /// How many items there are; `None` if `stop` was set before the end.
    pub(in crate::job) fn count(&self, stop: &AtomicBool) -> Result<Option<u64>> {
        let mut position = Position {
            index: 0,
            line: 1,
            offset: 0,
        };
        for number in 0..self.len() {
            let mut reader = self.open(number, position)?;
            // Only the number is wanted: what an item says is not looked at.
            reader.count_only();
            while reader.next()?.is_some() {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
            }
            position.index = reader.index();
        }
        Ok(Some(position.index))
    }

    /// Whether all of standard input is in the spool; true without one.
    pub(in crate::job) fn stdin_is_complete(&self) -> bool {
        self.spool.as_ref().is_none_or(Spool::is_complete)
    }

    /// Whether every source can be read through without waiting for somebody.
    pub(in crate::job) fn is_all_here(&self) -> bool {
        self.spool.is_none()
    }
}

/// What the reader thread hands over at a time.
#[derive(Debug, Default)]
pub(in crate::job) struct Batch {
    /// Items, in order.
    pub(in crate::job) items: Vec<InputItem>,
    /// Chunks that were completed.
    pub(in crate::job) chunks: Vec<Chunk>,
    /// Sources that were read to their end.
    pub(in crate::job) sources: Vec<SourceRow>,
    /// The end: how many items there are.
    pub(in crate::job) total: Option<u64>,
    /// Reading failed.
    pub(in crate::job) failure: Option<Error>,
}

/// A running reader thread; dropped, it ends soon.
pub(in crate::job) struct Reader {
    feed: Arc<Feed>,
    receiver: Receiver<Batch>,
    stopped: Arc<AtomicBool>,
}

impl Reader {
    /// The next batch, if one is ready.
    pub(in crate::job) fn take(&self) -> Option<Batch> {
        self.receiver.try_recv().ok()
    }

    /// Whether it may be long until there is more, because standard input has not ended.
    pub(in crate::job) fn waits_for_others(&self) -> bool {
        !self.feed.stdin_is_complete()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Relaxed: a lone flag; the channel's end tells the thread too.
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Starts reading at `start` (a source and a place in it); items in `skip` (sorted) and below `first` are passed over. `wake` is called
/// after each batch.
///
/// # Errors
///
/// [`ErrorKind::Io`] when no thread can be started.
pub(in crate::job) fn start_reader(
    feed: Arc<Feed>,
    start: (usize, Position),
    first: u64,
    skip: Vec<u64>,
    wake: impl Fn() + Send + 'static,
) -> Result<Reader> {
    let (sender, receiver) = sync_channel(4);
    let stopped = Arc::new(AtomicBool::new(false));
    let work = Work {
        feed: Arc::clone(&feed),
        sender,
        stopped: Arc::clone(&stopped),
        wake: Box::new(wake),
        batch: Batch::default(),
        bytes: 0,
    };
    std::thread::Builder::new()
        .name("safepoint-reader".into())
        .spawn(move || work.run(start, first, &skip))
        .map_err(|error| {
            Error::new(ErrorKind::Io, "cannot start the reader thread").with_source(error)
        })?;
    Ok(Reader {
        feed,
        receiver,
        stopped,
    })
}

struct Work {
    feed: Arc<Feed>,
    sender: SyncSender<Batch>,
    stopped: Arc<AtomicBool>,
    wake: Box<dyn Fn() + Send>,
    batch: Batch,
    bytes: usize,
}

impl Work {
    fn run(mut self, start: (usize, Position), first: u64, skip: &[u64]) {
        match self.read(start, first, skip) {
            Ok(total) => self.batch.total = total,
            Err(failure) => self.batch.failure = Some(failure),
        }
        self.send();
    }

    /// Returns the number of items, or nothing if nobody wants more.
    fn read(&mut self, start: (usize, Position), first: u64, skip: &[u64]) -> Result<Option<u64>> {
        let mut skip = skip.iter().copied().peekable();
        let (from, mut position) = start;
        for number in from..self.feed.len() {
            let identity = self.feed.row(number, true)?.identity;
            let feed = Arc::clone(&self.feed);
            let mut reader = feed.open(number, position)?;
            loop {
                let item = reader.next()?;
                self.batch.chunks.append(&mut reader.take_chunks());
                let Some(item) = item else { break };
                while skip.next_if(|skipped| *skipped < item.index).is_some() {}
                if item.index < first || skip.next_if_eq(&item.index).is_some() {
                    continue;
                }
                self.bytes += item.content.len();
                self.batch.items.push(item);
                // The first items go at once, so that work begins at once.
                let small = self.batch.items.len() < BATCH_ITEMS && self.bytes < BATCH_BYTES;
                if (!small || self.must_not_wait()) && !self.send() {
                    return Ok(None);
                }
            }
            let mut row = self.feed.row(number, true)?;
            row.header = reader.header();
            if row.identity != identity {
                // It changed while it was read: the next run has to look at it again.
                row.identity = FileIdentity::default();
            }
            self.batch.sources.push(row);
            position = Position {
                index: reader.index(),
                line: 1,
                offset: 0,
            };
        }
        Ok(Some(position.index))
    }

    /// Items of a spool that is still being written are handed over one by one: more may be long in coming.
    fn must_not_wait(&self) -> bool {
        !self.feed.stdin_is_complete()
    }

    fn send(&mut self) -> bool {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let sent = !self.stopped.load(Ordering::Relaxed) && self.sender.send(batch).is_ok();
        (self.wake)();
        sent
    }
}
