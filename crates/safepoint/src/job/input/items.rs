//! From bytes of a source to items with their places.

use std::path::{Path, PathBuf};

use super::csv::{self, CsvReader, Record};
use super::split::{Cut, Splitter};
use super::spool::Bytes;
use super::{CHUNK_ITEMS, MAX_ITEM};
use crate::disk::FileIdentity;
use crate::error::Result;
use crate::job::definition::Format;
use crate::job::template::{field_path, field_text};
use crate::queue::Chunk;

/// An item as the input has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::job) struct InputItem {
    /// From 0, over all sources.
    pub(in crate::job) index: u64,
    /// The source it is in.
    pub(in crate::job) source: u32,
    /// The line it begins at, from 1.
    pub(in crate::job) line: u64,
    /// Its key, if that is not the index.
    pub(in crate::job) key: Option<Box<str>>,
    /// What it says.
    pub(in crate::job) content: Box<[u8]>,
    /// Why it cannot be worked on.
    pub(in crate::job) refusal: Option<String>,
}

/// A place in a source from which reading can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::job) struct Position {
    /// The index of the item that begins there.
    pub(in crate::job) index: u64,
    /// Its line, from 1.
    pub(in crate::job) line: u64,
    /// Bytes from the start of the source.
    pub(in crate::job) offset: u64,
}

/// How a source's bytes are cut.
enum Cutter {
    Split(Splitter),
    Csv(Box<CsvReader>, Vec<String>),
}

/// Where in a source its cutter is.
pub(in crate::job) struct Cursor {
    cutter: Cutter,
    format: Format,
    line: u64,
    base_line: u64,
    looks_at_json: bool,
}

/// Reads the items of one source.
pub(in crate::job) struct ItemReader {
    cursor: Cursor,
    path: PathBuf,
    source: u32,
    index: u64,
    key_path: Option<Vec<String>>,
    /// Chunks whose first item was read and whose last was not, with the count so far.
    chunk: Option<Chunk>,
    finished: Vec<Chunk>,
    needs_utf8: bool,
}

/// What is the same for all sources of a job.
#[derive(Debug, Clone, Default)]
pub(in crate::job) struct Reading {
    /// The field that is the key.
    pub(in crate::job) key_field: Option<String>,
    /// Items must be text, because JSON carries them.
    pub(in crate::job) needs_utf8: bool,
}

impl Cursor {
    /// Begins at `position`. A CSV file's header is read from its start by `header_bytes`.
    pub(super) fn new(
        bytes: Bytes,
        header_bytes: Option<Bytes>,
        path: &Path,
        format: Format,
        position: Position,
    ) -> Result<Self> {
        let cutter = match format {
            Format::Lines | Format::Jsonl => {
                Cutter::Split(Splitter::new(bytes, b'\n', position.offset))
            }
            Format::Null => Cutter::Split(Splitter::new(bytes, 0, position.offset)),
            Format::Csv => {
                let shown = path.display().to_string();
                if let Some(from_start) = header_bytes {
                    let names = csv::header(&shown, CsvReader::new(from_start, 0).next()?)?;
                    Cutter::Csv(Box::new(CsvReader::new(bytes, position.offset)), names)
                } else {
                    let mut reader = CsvReader::new(bytes, 0);
                    let names = csv::header(&shown, reader.next()?)?;
                    Cutter::Csv(Box::new(reader), names)
                }
            }
        };
        Ok(Self {
            cutter,
            format,
            line: position.line,
            base_line: position.line,
            looks_at_json: true,
        })
    }

    fn offset(&self) -> u64 {
        match &self.cutter {
            Cutter::Split(splitter) => splitter.offset(),
            Cutter::Csv(reader, _) => reader.offset(),
        }
    }

    /// The names of the fields, as JSON, where there is a header.
    pub(super) fn header(&self) -> Option<String> {
        match &self.cutter {
            Cutter::Split(_) => None,
            Cutter::Csv(_, names) => Some(serde_json::json!(names).to_string()),
        }
    }

    /// The next item's offset, line and content, or why it is refused; `None` at the end.
    #[expect(
        clippy::type_complexity,
        reason = "the pair is taken apart by the only caller"
    )]
    fn next(
        &mut self,
    ) -> Result<
        Option<(
            u64,
            u64,
            std::result::Result<Box<[u8]>, (Box<[u8]>, String)>,
        )>,
    > {
        loop {
            if let Cutter::Csv(reader, _) = &mut self.cutter {
                reader.skip_line_ends()?;
            }
            let offset = self.offset();
            match &mut self.cutter {
                Cutter::Split(splitter) => {
                    let Some(cut) = splitter.next()? else {
                        return Ok(None);
                    };
                    let line = self.line;
                    self.line += 1;
                    let content = match cut {
                        Cut::TooLong(bytes) => {
                            return Ok(Some((
                                offset,
                                line,
                                Err((Box::default(), too_long(bytes))),
                            )));
                        }
                        Cut::Whole(content) => content,
                    };
                    let content = if offset == 0 {
                        content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content)
                    } else {
                        content
                    };
                    let content = match self.format {
                        Format::Null => content,
                        _ => content.strip_suffix(b"\r").unwrap_or(content),
                    };
                    let content = if self.format == Format::Jsonl {
                        content.trim_ascii()
                    } else {
                        content
                    };
                    if content.trim_ascii().is_empty()
                        && (self.format != Format::Null || content.is_empty())
                    {
                        continue;
                    }
                    if self.format == Format::Jsonl
                        && self.looks_at_json
                        && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(content)
                    {
                        return Ok(Some((
                            offset,
                            line,
                            Err((
                                content.into(),
                                format!("is not valid JSON: {}", json_fault(&error)),
                            )),
                        )));
                    }
                    return Ok(Some((offset, line, Ok(content.into()))));
                }
                Cutter::Csv(reader, names) => {
                    let line = self.base_line + reader.lines_passed();
                    let Some(record) = reader.next()? else {
                        return Ok(None);
                    };
                    return Ok(Some(match record {
                        Record::TooLong(bytes) => {
                            (offset, line, Err((Box::default(), too_long(bytes))))
                        }
                        Record::Fields(fields) => match csv::to_json(names, &fields) {
                            Ok(content) => (offset, line, Ok(content)),
                            Err(fault) => (
                                offset,
                                line,
                                Err((fields.join(&b","[..]).into_boxed_slice(), fault)),
                            ),
                        },
                    }));
                }
            }
        }
    }
}

impl ItemReader {
    /// Reads the items from where `cursor` is; the first one has `index`.
    pub(super) fn new(
        cursor: Cursor,
        path: &Path,
        source: u32,
        index: u64,
        reading: &Reading,
    ) -> Self {
        Self {
            cursor,
            path: path.to_path_buf(),
            source,
            index,
            key_path: reading
                .key_field
                .as_ref()
                .map(|field| field_path(field.as_bytes()).unwrap_or_else(|| vec![field.clone()])),
            chunk: None,
            finished: Vec::new(),
            needs_utf8: reading.needs_utf8,
        }
    }

    /// Leaves out what only matters for items that are worked on.
    pub(super) fn count_only(&mut self) {
        self.key_path = None;
        self.needs_utf8 = false;
        self.cursor.looks_at_json = false;
    }

    /// The index that the next item will have.
    pub(in crate::job) fn index(&self) -> u64 {
        self.index
    }

    /// The names of the fields, as JSON, where there is a header.
    pub(in crate::job) fn header(&self) -> Option<String> {
        self.cursor.header()
    }

    /// The chunks that were completed since the last call.
    pub(in crate::job) fn take_chunks(&mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.finished)
    }

    /// The next item; `None` at the end, when the last chunk is completed too.
    pub(in crate::job) fn next(&mut self) -> Result<Option<InputItem>> {
        let Some((offset, line, content)) = self.cursor.next()? else {
            self.finished.extend(self.chunk.take());
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        // Chunks begin at multiples of a fixed number of items, so that reading again from anywhere finds the same ones.
        if index.is_multiple_of(CHUNK_ITEMS) {
            self.finished.extend(self.chunk.take());
        }
        let chunk = self.chunk.get_or_insert(Chunk {
            first_index: index,
            source: self.source,
            line,
            offset,
            items: 0,
        });
        chunk.items += 1;
        let (content, fault) = match content {
            Ok(content) => (content, None),
            Err((content, fault)) => (content, Some(fault)),
        };
        let mut item = InputItem {
            index,
            source: self.source,
            line,
            key: None,
            content,
            refusal: None,
        };
        let fault = fault.or_else(|| self.look_closer(&mut item).err());
        item.refusal =
            fault.map(|fault| format!("line {line} of `{}` {fault}", self.path.display()));
        Ok(Some(item))
    }

    /// Finds the key, and what makes an item unfit for this job.
    fn look_closer(&self, item: &mut InputItem) -> std::result::Result<(), String> {
        if self.needs_utf8 && std::str::from_utf8(&item.content).is_err() {
            return Err("is not valid UTF-8, which a worker's JSON needs; leave out `--worker` to pass it as bytes".to_owned());
        }
        let Some(path) = &self.key_path else {
            return Ok(());
        };
        let parsed: Option<serde_json::Value> = serde_json::from_slice(&item.content).ok();
        let key = field_text(parsed.as_ref(), path)
            .map_err(|_| format!("has no field `{}` for its key", path.join(".")))?;
        if key.is_empty() {
            return Err(format!("has an empty key `{}`", path.join(".")));
        }
        item.key = Some(key.into_boxed_str());
        Ok(())
    }
}

/// What is wrong with a JSON text, with the column only: the line is the input's.
fn json_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("{text} at column {}", error.column())
}

fn too_long(bytes: u64) -> String {
    format!(
        "has {bytes} bytes, more than the {} MiB that an item may have",
        MAX_ITEM / 1024 / 1024
    )
}

/// A source whose content cannot be told to be unchanged without reading it.
pub(super) fn unknown_identity() -> FileIdentity {
    FileIdentity::default()
}
