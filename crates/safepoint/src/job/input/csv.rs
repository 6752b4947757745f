//! Records of a CSV file (RFC 4180, and what spreadsheets make of it), each as a JSON object of strings.

use csv_core::{ReadRecordResult, Reader};

use super::MAX_ITEM;
use super::spool::Bytes;
use crate::error::{Error, Result};

const BLOCK: usize = 256 * 1024;

/// A reader of records.
pub(super) struct CsvReader {
    bytes: Bytes,
    parser: Reader,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    /// Line ends that were passed over between records, which the parser did not see.
    skipped_lines: u64,
    at_end: bool,
    fields: Vec<u8>,
    ends: Vec<usize>,
}

/// A record: its fields, or that it is too long.
pub(super) enum Record {
    /// The fields.
    Fields(Vec<Vec<u8>>),
    /// More than [`MAX_ITEM`] bytes: how many.
    TooLong(u64),
}

impl CsvReader {
    /// Reads from `bytes`, which is at `offset`.
    pub(super) fn new(bytes: Bytes, offset: u64) -> Self {
        Self {
            bytes,
            parser: Reader::new(),
            buffer: vec![0; BLOCK],
            start: 0,
            end: 0,
            offset,
            skipped_lines: 0,
            at_end: false,
            fields: vec![0; 4096],
            ends: vec![0; 64],
        }
    }

    /// Where the next record begins, in bytes from the start of the source.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many line ends were passed since this reader began.
    pub(super) fn lines_passed(&self) -> u64 {
        self.parser.line() - 1 + self.skipped_lines
    }

    /// Passes over blank lines, and over the rest of a CRLF: the parser ends a record at its first character. Whatever follows is then
    /// at the offset and on the line that are told of it.
    pub(super) fn skip_line_ends(&mut self) -> Result<()> {
        loop {
            if self.start == self.end && !self.at_end {
                self.start = 0;
                self.end = self.bytes.read(&mut self.buffer)?;
                self.at_end = self.end == 0;
            }
            match self.buffer[self.start..self.end].first() {
                Some(b'\n') => self.skipped_lines += 1,
                Some(b'\r') => {}
                _ => return Ok(()),
            }
            self.start += 1;
            self.offset += 1;
        }
    }

    /// The next record; `None` at the end. Blank lines are no records.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        let (mut written, mut ended, mut dropped) = (0, 0, 0u64);
        loop {
            if self.start == self.end && !self.at_end {
                self.start = 0;
                self.end = self.bytes.read(&mut self.buffer)?;
                self.at_end = self.end == 0;
            }
            let (result, read, wrote, ends) = self.parser.read_record(
                &self.buffer[self.start..self.end],
                &mut self.fields[written..],
                &mut self.ends[ended..],
            );
            self.start += read;
            self.offset += read as u64;
            written += wrote;
            ended += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.fields.len() > MAX_ITEM => {
                    dropped += written as u64;
                    written = 0;
                }
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record if dropped > 0 => {
                    self.fields = vec![0; 4096];
                    return Ok(Some(Record::TooLong(dropped + written as u64)));
                }
                ReadRecordResult::Record => {
                    let mut from = 0;
                    let fields = self.ends[..ended]
                        .iter()
                        .map(|end| self.fields[std::mem::replace(&mut from, *end)..*end].to_vec());
                    return Ok(Some(Record::Fields(fields.collect())));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }
}

/// The names in a header.
///
/// # Errors
///
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a name is missing or stands twice.
pub(super) fn header(path: &str, record: Option<Record>) -> Result<Vec<String>> {
    let Some(Record::Fields(fields)) = record else {
        return Ok(Vec::new());
    };
    let mut names: Vec<String> = Vec::with_capacity(fields.len());
    for (number, field) in fields.into_iter().enumerate() {
        let field = field
            .strip_prefix(b"\xEF\xBB\xBF")
            .map_or(field.clone(), <[u8]>::to_vec);
        let name = String::from_utf8_lossy(&field).into_owned();
        if name.is_empty() {
            return Err(Error::invalid(format!(
                "column {} of `{path}` has no name in the header",
                number + 1
            ))
            .with_hint("give every column a name in the first line, or use `--format lines`"));
        }
        if names.contains(&name) {
            return Err(
                Error::invalid(format!("the header of `{path}` names `{name}` twice"))
                    .with_hint("give every column a name of its own"),
            );
        }
        names.push(name);
    }
    Ok(names)
}

/// A record as a JSON object, in the order of the header. `Err` says what is wrong with it.
pub(super) fn to_json(
    names: &[String],
    fields: &[Vec<u8>],
) -> std::result::Result<Box<[u8]>, String> {
    if names.len() != fields.len() {
        return Err(format!(
            "has {} fields, and the header names {}",
            fields.len(),
            names.len()
        ));
    }
    let mut object = serde_json::Map::with_capacity(names.len());
    for (name, field) in names.iter().zip(fields) {
        let text =
            std::str::from_utf8(field).map_err(|_| format!("field `{name}` is not valid UTF-8"))?;
        object.insert(name.clone(), text.into());
    }
    Ok(serde_json::Value::Object(object)
        .to_string()
        .into_bytes()
        .into_boxed_slice())
}
