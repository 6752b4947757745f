//! Comparing the input as it is with what the job knows of it, before anything is changed.

use super::items::Position;
use super::reader::Feed;
use crate::disk::FileIdentity;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Chunk, Database, Renewed, SourceRow, State};

/// What became of the comparison.
#[derive(Debug, Default)]
pub(in crate::job) struct Reconciled {
    /// Items whose content is new: to be made pending, or dead where the new content is refused.
    pub(in crate::job) renewed: Vec<Renewed>,
    /// Rows from this index on have no item any more.
    pub(in crate::job) removed_from: Option<u64>,
    /// The sources and chunks, if the input was read anew.
    pub(in crate::job) reread: Option<(Vec<SourceRow>, Vec<Chunk>)>,
}

/// Compares the input with the rows. An input whose files are unchanged by size, times and inode is not read, unless `reread`
/// says that it is cut in another way now.
///
/// # Errors
///
/// [`ErrorKind::Incompatible`] when the line of a done item changed and `accept` is false: it names the first one.
pub(in crate::job) fn reconcile(
    database: &Database,
    feed: &Feed,
    accept: bool,
    reread: bool,
) -> Result<Reconciled> {
    let stored = database.sources()?;
    let mut now = feed.rows()?;
    for row in now.iter_mut().filter(|row| row.path == "-") {
        // Whether the spool is whole does not change with the other inputs.
        row.complete = stored
            .iter()
            .any(|before| before.path == "-" && before.complete);
    }
    if database.progress()?.counts.touched() == 0 {
        return Ok(Reconciled {
            reread: Some((now, Vec::new())),
            ..Reconciled::default()
        });
    }
    let is_same = |(before, now): (&SourceRow, &SourceRow)| {
        before.identity == now.identity
            && (before.identity != FileIdentity::default() || now.path == "-")
    };
    if !reread && stored.len() == now.len() && stored.iter().zip(&now).all(is_same) {
        return Ok(Reconciled::default());
    }
    let mut comparison = Comparison::new(feed)?;
    let mut outcome = Reconciled::default();
    let mut refusal = None;
    let mut all_done_gone = true;
    database.for_each_content(|index, state, content| {
        let Some(item) = comparison.advance_to(index)? else {
            outcome.removed_from.get_or_insert(index);
            all_done_gone &= state != State::Done;
            return Ok(true);
        };
        if *item.content != *content {
            if state == State::Done && !accept {
                refusal = Some(changed(feed, &item, content));
                return Ok(false);
            }
            outcome.renewed.push(Renewed {
                index,
                key: item.key,
                content: item.content,
                refusal: item.refusal,
            });
        }
        Ok(true)
    })?;
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    if let Some(first) = outcome.removed_from
        && !all_done_gone
        && !accept
    {
        return Err(Error::new(ErrorKind::Incompatible, format!("the input has only {first} items now, and later ones are done"))
            .with_hint("put the missing lines back; or forget their results with `--accept-changes`; or begin anew with `--fresh`"));
    }
    comparison.finish()?;
    outcome.reread = Some((now, comparison.chunks));
    Ok(outcome)
}

fn changed(feed: &Feed, item: &super::InputItem, before: &[u8]) -> Error {
    let path = feed.path(item.source);
    Error::new(
        ErrorKind::Incompatible,
        format!(
            "line {} of `{path}` changed after it was done\n  it was `{}`\n  it is  `{}`",
            item.line,
            shorten(before),
            shorten(&item.content)
        ),
    )
    .with_hint("put the line back; or run what changed again with `--accept-changes`; or begin anew with `--fresh`; or keep both with another `--name`")
}

/// The beginning of an item, for an error.
fn shorten(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

/// Walks through all sources, item by item.
struct Comparison<'a> {
    feed: &'a Feed,
    source: usize,
    reader: Option<super::ItemReader>,
    chunks: Vec<Chunk>,
    next_index: u64,
}

impl<'a> Comparison<'a> {
    fn new(feed: &'a Feed) -> Result<Self> {
        let mut comparison = Self {
            feed,
            source: 0,
            reader: None,
            chunks: Vec::new(),
            next_index: 0,
        };
        comparison.open_source()?;
        Ok(comparison)
    }

    fn open_source(&mut self) -> Result<()> {
        self.reader = None;
        if self.source < self.feed.len() {
            let position = Position {
                index: self.next_index,
                line: 1,
                offset: 0,
            };
            self.reader = Some(self.feed.open(self.source, position)?);
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<super::InputItem>> {
        while let Some(reader) = &mut self.reader {
            let item = reader.next()?;
            self.chunks.append(&mut reader.take_chunks());
            if item.is_some() {
                return Ok(item);
            }
            self.next_index = reader.index();
            self.source += 1;
            self.open_source()?;
        }
        Ok(None)
    }

    /// The item with this index, passing over those before it; `None` when the input ends earlier.
    fn advance_to(&mut self, index: u64) -> Result<Option<super::InputItem>> {
        while let Some(item) = self.next()? {
            if item.index >= index {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// Reads to the end, so that all chunks are known.
    fn finish(&mut self) -> Result<()> {
        while self.next()?.is_some() {}
        Ok(())
    }
}
