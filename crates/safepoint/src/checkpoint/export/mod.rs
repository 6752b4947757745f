//! A generation as text for everybody: gzip with a JSON object in each line. The book's page `formats/export` has every field.
//!
//! The state is read frame by frame, and nothing of it is kept: an export of any size needs some MiB of memory. Only a text in a
//! MessagePack value is held whole.

mod base64;
mod lines;
mod transcode;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use self::lines::Lines;
use self::transcode::Transcode;
use super::folder::check_name;
use super::format::table::{BufferPart, Table, ValuePart};
use super::loaded::Checkpoint;
use super::metadata::{Generation, Metadata};
use super::read::OpenFile;
use super::reader::{self, CheckpointReader};
use super::state::Encoding;
use super::stream::Stream;
use crate::clock::rfc_3339;
use crate::disk::FreshFile;
use crate::error::{Error, ErrorKind, Result};

/// The version of what is written.
const EXPORT_VERSION: u32 = 1;
/// The payload in one line, if it is not JSON: a multiple of 3, so that only the last line of a buffer is padded, and of 8, so that no element
/// is torn.
const CHUNK_BYTES: usize = 768 << 10;
/// How deep a value may be nested that is written as JSON: what readers of JSON commonly bear.
const MAX_DEPTH: usize = 127;
/// How many exports of the same second find a name.
const MAX_NAMES: u32 = 10_000;

impl CheckpointReader {
    /// Writes a generation to a new file in `folder`, for programs without this crate, and returns its path.
    ///
    /// The file is called `checkpoint_YYYYMMDD_HHMMSS.jsonl.gz`, after the second (UTC) in which the generation was saved; where that name is
    /// taken, `_2` or a higher number is put behind the time. Nothing is ever replaced. It is gzip; each line is a JSON object: the metadata, then
    /// the value, then the buffers in base64, at most 768 KiB of them in a line. The book's page `formats/export` has each field.
    ///
    /// # Durability
    ///
    /// The file has its name when all of it is durable. A crash before leaves nothing.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); [`ErrorKind::Io`](crate::ErrorKind::Io) when there is no such folder or it cannot be written to.
    pub fn export(
        &self,
        name: &str,
        generation: Generation,
        folder: impl AsRef<Path>,
    ) -> Result<PathBuf> {
        check_name(name)?;
        let source = Source::open(self, name, generation)?;
        let path = folder.as_ref().join(file_name(source.metadata(), 1));
        let fresh = FreshFile::create(&path)?;
        let mut lines = Lines::new(&fresh, &path);
        write(&source, &mut lines).map_err(|error| match error.kind() {
            ErrorKind::Corrupt => reader::of(error, name, generation),
            // What the disk of the export says is not about the generation.
            _ => error,
        })?;
        lines.finish()?;
        let names = (1..MAX_NAMES).map(|number| file_name(source.metadata(), number));
        fresh.publish_first_free(names)
    }
}

/// Where the payload comes from.
enum Source {
    File(OpenFile, Table),
    /// A record of a journal, which is small.
    Record(Checkpoint),
}

impl Source {
    fn open(reader: &CheckpointReader, name: &str, generation: Generation) -> Result<Self> {
        match reader::open(&reader.folder(name)?, name, generation) {
            Ok(file) => {
                let table = file.table();
                let table = table.map_err(|error| reader::of(error, name, generation))?;
                Ok(Self::File(file, table))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (_, record) = reader.read_record(name, generation)?.ok_or(error)?;
                Ok(Self::Record(record))
            }
            Err(error) => Err(error),
        }
    }

    fn metadata(&self) -> &Metadata {
        match self {
            Self::File(file, _) => &file.metadata,
            Self::Record(record) => record.metadata(),
        }
    }

    fn value(&self) -> Option<ValuePart> {
        match self {
            Self::File(_, table) => table.value,
            Self::Record(record) => record.bytes().map(|bytes| ValuePart {
                encoding: record.metadata().encoding,
                bytes: bytes.len() as u64,
            }),
        }
    }

    fn buffers(&self) -> &[BufferPart] {
        match self {
            Self::File(_, table) => &table.buffers,
            Self::Record(_) => &[],
        }
    }

    /// The payload from its beginning on.
    fn stream(&self) -> Stream<'_> {
        match self {
            Self::File(file, table) => Stream::new(file, table),
            Self::Record(record) => Stream::of_memory(record.bytes().unwrap_or_default().to_vec()),
        }
    }
}

/// `checkpoint_20261121_114250.jsonl.gz`, or with the number before its ending.
fn file_name(metadata: &Metadata, number: u32) -> String {
    let told = rfc_3339(metadata.saved_at_ms);
    let digits = |part: &str| part.replace(|letter: char| !letter.is_ascii_digit(), "");
    let (date, time) = told.split_once('T').unwrap_or_default();
    // Without the milliseconds.
    let time = time.split('.').next().unwrap_or_default();
    let (date, time) = (digits(date), digits(time));
    match number {
        1 => format!("checkpoint_{date}_{time}.jsonl.gz"),
        _ => format!("checkpoint_{date}_{time}_{number}.jsonl.gz"),
    }
}

fn write(source: &Source, lines: &mut Lines<'_>) -> Result<()> {
    lines.object(&json!({
        "line": "metadata",
        "version": EXPORT_VERSION,
        "metadata": source.metadata(),
    }))?;
    let mut stream = source.stream();
    if let Some(value) = source.value() {
        // Whether JSON can say it is found out before anything of it is written.
        let is_sayable = is_sayable(value, &mut source.stream())?;
        write_value(value, is_sayable, &mut stream, lines)?;
    }
    for buffer in source.buffers() {
        let head = json!({
            "line": "buffer",
            "name": buffer.name,
            "type": buffer.element,
            "shape": buffer.shape,
            "bytes": buffer.bytes,
        });
        write_bytes(&head, buffer.bytes, &mut stream, lines)?;
    }
    Ok(())
}

fn write_value(
    value: ValuePart,
    is_sayable: bool,
    stream: &mut Stream<'_>,
    lines: &mut Lines<'_>,
) -> Result<()> {
    let head = json!({"line": "value", "encoding": value.encoding, "bytes": value.bytes});
    if !is_sayable {
        return write_bytes(&head, value.bytes, stream, lines);
    }
    lines.begin(&head, "json")?;
    if value.encoding == Encoding::Json {
        let mut left = value.bytes;
        while left > 0 {
            let limit = usize::try_from(left).unwrap_or(usize::MAX);
            let some = stream.next(limit)?;
            left -= some.len() as u64;
            lines.json(some)?;
        }
    } else {
        let mut from = message_pack(stream.part(value.bytes));
        let written = serde_json::to_writer(&mut *lines, &Transcode::new(&mut from));
        drop(from);
        if let Err(error) = written {
            let known = stream.failure().or_else(|| lines.failure());
            return Err(known.unwrap_or_else(|| {
                Error::invalid("the value cannot be written as JSON").with_source(error)
            }));
        }
    }
    lines.end("")
}

/// Whether JSON can say the value, all of it and nothing behind it.
///
/// # Errors
///
/// Kinds `Corrupt` and `Io` when it cannot be read.
fn is_sayable(value: ValuePart, stream: &mut Stream<'_>) -> Result<bool> {
    let part = stream.part(value.bytes);
    let said = match value.encoding {
        Encoding::Bytes => return Ok(false),
        Encoding::Json => {
            let mut from = serde_json::Deserializer::from_reader(std::io::BufReader::new(part));
            is_said(&mut from) && from.end().is_ok()
        }
        Encoding::MessagePack => {
            let mut from = message_pack(part);
            is_said(&mut from) && matches!(from.into_inner().read(&mut [0]), Ok(0))
        }
    };
    match stream.failure() {
        Some(error) => Err(error),
        None => Ok(said),
    }
}

fn is_said<'de>(from: impl serde::Deserializer<'de>) -> bool {
    let mut to = serde_json::Serializer::new(std::io::sink());
    Transcode::new(from).serialize(&mut to).is_ok()
}

fn message_pack<R: Read>(from: R) -> rmp_serde::Deserializer<rmp_serde::decode::ReadReader<R>> {
    let mut from = rmp_serde::Deserializer::new(from);
    from.set_max_depth(MAX_DEPTH);
    from
}

/// Writes the next `bytes` bytes in lines of bounded length, each with `head`; at least one.
fn write_bytes(
    head: &serde_json::Value,
    bytes: u64,
    stream: &mut Stream<'_>,
    lines: &mut Lines<'_>,
) -> Result<()> {
    let mut chunk = Vec::new();
    let mut text = Vec::new();
    let mut offset = 0;
    loop {
        let length = (bytes - offset).min(CHUNK_BYTES as u64);
        chunk.resize(usize::try_from(length).unwrap_or(CHUNK_BYTES), 0);
        stream.fill(&mut chunk)?;
        text.clear();
        base64::encode(&chunk, &mut text);
        lines.chunk(head, offset, &text)?;
        offset += length;
        if offset >= bytes {
            return Ok(());
        }
    }
}
