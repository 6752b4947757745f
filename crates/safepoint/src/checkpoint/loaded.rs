//! A generation in memory.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;

use super::element::{Element, ElementType};
use super::format::table::{BufferPart, Table};
use super::metadata::{Generation, Metadata};
use super::notice::Skipped;
use super::read::{OpenFile, zeroed};
use super::state::{Buffer, Bytes, Encoding, State};
use super::stream::Stream;
use crate::error::{Error, ErrorKind, Result};

/// Memory of the caller that a named buffer is read into, without a copy on the way.
#[derive(Debug)]
pub struct Target<'a> {
    name: Cow<'a, str>,
    element: Element,
    bytes: &'a mut [u8],
}

impl<'a> Target<'a> {
    /// An array of numbers, as long as the one that was saved.
    pub fn array<T: ElementType>(name: impl Into<Cow<'a, str>>, elements: &'a mut [T]) -> Self {
        Self::buffer(name, T::ELEMENT, bytemuck::cast_slice_mut(elements))
    }

    /// The bytes of a buffer of this type.
    pub fn buffer(name: impl Into<Cow<'a, str>>, element: Element, bytes: &'a mut [u8]) -> Self {
        Self {
            name: name.into(),
            element,
            bytes,
        }
    }
}

/// Where the buffers of a generation are read to.
pub(super) enum Places<'p, 't> {
    /// Memory that was known before.
    Given(&'p mut [Target<'t>]),
    /// Memory that is chosen when the value and the buffers' types and shapes are known; once for each generation that is attempted.
    Chosen(&'p mut Choose<'p, 't>),
}

/// Chooses memory for buffers of a checkpoint, none of whose buffers has been read.
pub(super) type Choose<'p, 't> = dyn FnMut(&Checkpoint) -> Result<Vec<Target<'t>>> + 'p;

/// A named buffer of a [`Checkpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferInfo {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Its sides in elements, the outermost first.
    pub shape: Vec<u64>,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A generation that was loaded and found whole: every byte passed its checksum.
#[derive(Debug)]
pub struct Checkpoint {
    metadata: Metadata,
    value: Option<(Encoding, Vec<u8>)>,
    buffers: Vec<(BufferInfo, Option<Vec<u8>>)>,
    skipped: Vec<Skipped>,
}

impl Checkpoint {
    /// Reads all of a file; buffers that have a place go there.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt` when it is damaged; `Incompatible` when a target does not fit, in which case no target was touched; those of who chooses.
    pub(super) fn read(
        file: &OpenFile,
        places: &mut Places<'_, '_>,
        workers: usize,
    ) -> Result<Self> {
        let table = file.table()?;
        let choose = match places {
            Places::Given(targets) => return Self::read_into(file, &table, targets, workers),
            Places::Chosen(choose) => choose,
        };
        let checkpoint = Self::without_buffers(file, &table)?;
        if table.buffers.is_empty() {
            return Ok(checkpoint);
        }
        let mut targets = choose(&checkpoint)?;
        // The value is a small part of what follows, and is checked again with it.
        drop(checkpoint);
        Self::read_into(file, &table, &mut targets, workers)
    }

    /// Reads the value alone, which comes first in a file.
    fn without_buffers(file: &OpenFile, table: &Table) -> Result<Self> {
        let mut value = match table.value {
            Some(part) => Some((part.encoding, zeroed(part.bytes)?)),
            None => None,
        };
        if let Some((_, bytes)) = &mut value {
            Stream::new(file, table).fill(bytes)?;
        }
        let buffers = table.buffers.iter().map(|part| (part.info(), None));
        Ok(Self {
            metadata: file.metadata.clone(),
            value,
            buffers: buffers.collect(),
            skipped: Vec::new(),
        })
    }

    fn read_into(
        file: &OpenFile,
        table: &Table,
        targets: &mut [Target<'_>],
        workers: usize,
    ) -> Result<Self> {
        check_targets(table, targets)?;
        let mut places: HashMap<&str, &mut [u8]> = targets
            .iter_mut()
            .map(|target| (target.name.as_ref(), &mut *target.bytes))
            .collect();
        let mut value = match table.value {
            Some(part) => Some((part.encoding, zeroed(part.bytes)?)),
            None => None,
        };
        let mut buffers = Vec::with_capacity(table.buffers.len());
        for part in &table.buffers {
            let given = places.contains_key(part.name.as_str());
            let memory = if given {
                None
            } else {
                Some(zeroed(part.bytes)?)
            };
            buffers.push((part.info(), memory));
        }
        let mut parts: Vec<&mut [u8]> = Vec::with_capacity(buffers.len() + 1);
        parts.extend(value.iter_mut().map(|(_, bytes)| bytes.as_mut_slice()));
        for (info, memory) in &mut buffers {
            match memory {
                Some(memory) => parts.push(memory),
                None => parts.extend(places.remove(info.name.as_str())),
            }
        }
        file.read_payload(table, parts.into_iter(), workers)?;
        Ok(Self {
            metadata: file.metadata.clone(),
            value,
            buffers,
            skipped: Vec::new(),
        })
    }

    /// What was loaded, to be saved again.
    pub(super) fn as_state(&self) -> State<'_> {
        let value = self.value.as_ref();
        State {
            value: value.map(|(encoding, bytes)| (*encoding, Bytes::Lent(bytes))),
            buffers: self
                .buffers
                .iter()
                .filter_map(|(info, bytes)| {
                    Some(Buffer {
                        name: Cow::Borrowed(&info.name),
                        element: info.element,
                        shape: info.shape.clone(),
                        bytes: Bytes::Lent(bytes.as_deref()?),
                    })
                })
                .collect(),
        }
    }

    /// One whose value is its whole payload, as a journal keeps it.
    pub(super) fn of_value(metadata: Metadata, value: Vec<u8>) -> Self {
        Self {
            value: Some((metadata.encoding, value)),
            metadata,
            buffers: Vec::new(),
            skipped: Vec::new(),
        }
    }

    pub(super) fn into_metadata(self) -> Metadata {
        self.metadata
    }

    pub(super) fn with_skipped(mut self, skipped: Vec<Skipped>) -> Self {
        self.skipped = skipped;
        self
    }

    /// Its number.
    pub fn generation(&self) -> Generation {
        self.metadata.generation
    }

    /// What was told of it when it was saved.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What could not be loaded and may be newer, the newest first: damaged generations, and journals that are not whole.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The value's bytes as they were stored; `None` if only buffers were saved.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.value.as_ref().map(|(_, bytes)| bytes.as_slice())
    }

    /// The value, from the encoding that it was saved in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] when it has another shape, or was saved as bytes; [`ErrorKind::NotFound`] when only buffers
    /// were saved.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        let what = format!(
            "generation {} of `{}`",
            self.metadata.generation, self.metadata.name
        );
        let other = |source: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(
                ErrorKind::Incompatible,
                format!("the value of {what} is not what this program expects"),
            )
            .with_hint("it was saved by a version of the program with another type; load it with that type and convert it")
            .with_source(source)
        };
        match &self.value {
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!("{what} has no value, only buffers"),
            )),
            Some((Encoding::Json, bytes)) => {
                serde_json::from_slice(bytes).map_err(|error| other(error.into()))
            }
            Some((Encoding::MessagePack, bytes)) => {
                rmp_serde::from_slice(bytes).map_err(|error| other(error.into()))
            }
            Some((Encoding::Bytes, _)) => Err(Error::new(
                ErrorKind::Incompatible,
                format!("the value of {what} was saved as bytes"),
            )
            .with_hint("take it with `bytes()`")),
        }
    }

    /// The named buffers, in the order in which they were added.
    pub fn buffers(&self) -> impl Iterator<Item = &BufferInfo> {
        self.buffers.iter().map(|(info, _)| info)
    }

    /// A named buffer's bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none of this name, or when it was read into a [`Target`].
    pub fn buffer(&self, name: &str) -> Result<&[u8]> {
        self.find(name).map(|(_, bytes)| bytes)
    }

    /// A named array; copied only where its memory is not aligned for the type.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] when its elements are of another type; [`ErrorKind::NotFound`] as [`buffer`](Self::buffer).
    pub fn array<T: ElementType>(&self, name: &str) -> Result<Cow<'_, [T]>> {
        let (info, bytes) = self.find(name)?;
        if info.element != T::ELEMENT {
            return Err(Error::new(
                ErrorKind::Incompatible,
                format!(
                    "buffer `{}` holds {}, not {}",
                    name.escape_debug(),
                    info.element.name(),
                    T::ELEMENT.name()
                ),
            ));
        }
        Ok(match bytemuck::try_cast_slice(bytes) {
            Ok(elements) => Cow::Borrowed(elements),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
        })
    }

    fn find(&self, name: &str) -> Result<(&BufferInfo, &[u8])> {
        let missing = |what: &str| {
            let message = format!(
                "{what} `{}` in generation {} of `{}`",
                name.escape_debug(),
                self.metadata.generation,
                self.metadata.name
            );
            Error::new(ErrorKind::NotFound, message)
        };
        match self.buffers.iter().find(|(info, _)| info.name == name) {
            Some((info, Some(bytes))) => Ok((info, bytes)),
            Some((_, None)) => Err(missing("a target took the buffer")),
            None => Err(missing("there is no buffer")),
        }
    }
}

impl BufferPart {
    fn info(&self) -> BufferInfo {
        BufferInfo {
            name: self.name.clone(),
            element: self.element,
            shape: self.shape.clone(),
            bytes: self.bytes,
        }
    }
}

/// # Errors
///
/// [`ErrorKind::Incompatible`] when a target has no buffer, another type or another length; `Invalid` when two have one name.
fn check_targets(table: &Table, targets: &[Target<'_>]) -> Result<()> {
    let buffers: HashMap<&str, &BufferPart> = table
        .buffers
        .iter()
        .map(|part| (part.name.as_str(), part))
        .collect();
    let mut names = HashSet::new();
    for target in targets {
        let name = target.name.escape_debug();
        if !names.insert(target.name.as_ref()) {
            return Err(Error::invalid(format!("two targets are called `{name}`")));
        }
        let why = match buffers.get(target.name.as_ref()) {
            None => "there is no such buffer".to_owned(),
            Some(part) if part.element != target.element => {
                format!("it was saved as {}", part.element.name())
            }
            Some(part) if part.bytes != target.bytes.len() as u64 => {
                format!(
                    "it was saved with {} bytes, shape {:?}",
                    part.bytes, part.shape
                )
            }
            Some(_) => continue,
        };
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!(
                "target `{name}` ({} bytes of {}) cannot be filled: {why}",
                target.bytes.len(),
                target.element.name()
            ),
        )
        .with_hint("make the target as the state was when it was saved, or load without targets"));
    }
    Ok(())
}
