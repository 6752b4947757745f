//! What is saved: a value, named buffers, or both.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::element::{Element, ElementType};
use super::staging::Staging;
use crate::error::{Error, Result};

/// The longest name of a buffer, in bytes.
pub const MAX_BUFFER_NAME: usize = 1000;

/// How a value was turned into bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Encoding {
    /// As the caller gave it.
    Bytes,
    /// JSON (RFC 8259).
    Json,
    /// MessagePack, structs as maps with their fields' names, so that fields may be added later.
    MessagePack,
}

impl Encoding {
    /// Its name in the file and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Json => "json",
            Self::MessagePack => "message_pack",
        }
    }
}

/// Memory that may be written to a file while others read it, such as an `Arc<Vec<u8>>`'s. It is asked for on the thread that saves, and must
/// not call the store there.
pub trait SharedBytes: Send + Sync {
    /// The bytes, which must not change as long as the value lives.
    fn bytes(&self) -> &[u8];
}

impl<T: AsRef<[u8]> + Send + Sync + ?Sized> SharedBytes for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

/// Bytes that were lent, given or shared.
#[derive(Clone)]
pub(super) enum Bytes<'a> {
    Lent(&'a [u8]),
    Given(Arc<Vec<u8>>),
    /// A range of the copy that was made of what was lent.
    Kept(Arc<Staging>, Range<usize>),
    Shared(Arc<dyn SharedBytes>),
}

impl Bytes<'_> {
    pub(super) fn get(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
            Self::Kept(memory, range) => &memory.bytes()[range.clone()],
            Self::Shared(bytes) => bytes.bytes(),
        }
    }
}

impl fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self {
            Self::Lent(_) => "lent",
            Self::Given(_) => "given",
            Self::Kept(..) => "kept",
            Self::Shared(_) => "shared",
        };
        write!(f, "{} bytes, {how}", self.get().len())
    }
}

/// A named array in a [`State`].
#[derive(Debug, Clone)]
pub(super) struct Buffer<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) element: Element,
    pub(super) shape: Vec<u64>,
    pub(super) bytes: Bytes<'a>,
}

/// What is to be saved: at most one value, and any number of named buffers, which are not copied together.
///
/// ```
/// use safepoint::checkpoint::State;
/// # fn main() -> safepoint::Result<()> {
/// #[derive(serde::Serialize)]
/// struct Progress { epoch: u32, losses: Vec<f64> }
/// let (progress, weights) = (Progress { epoch: 3, losses: vec![0.5] }, vec![0.25_f32; 6]);
/// let state = State::json(&progress)?.with_array("weights", &[2, 3], &weights);
/// assert_eq!(state.payload_bytes(), 26 + 24); // `{"epoch":3,"losses":[0.5]}` and six numbers of four bytes
/// # Ok(())
/// # }
/// ```
///
/// A mistake in what is added (a name twice, a shape that does not fit its bytes) is told by the save, before anything is written.
#[derive(Debug, Clone, Default)]
pub struct State<'a> {
    pub(super) value: Option<(Encoding, Bytes<'a>)>,
    pub(super) buffers: Vec<Buffer<'a>>,
}

impl<'a> State<'a> {
    /// A state without a value, for buffers alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes whose meaning is the caller's.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self::of(Encoding::Bytes, Bytes::Lent(bytes))
    }

    /// Shared bytes; a save in the background writes them without a copy.
    pub fn shared_bytes(bytes: Arc<dyn SharedBytes>) -> Self {
        Self::of(Encoding::Bytes, Bytes::Shared(bytes))
    }

    /// A value as JSON.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it cannot be written so, a map whose keys are not text for instance.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(value).map_err(|error| {
            Error::invalid("the state cannot be written as JSON").with_source(error)
        })?;
        Ok(Self::of(Encoding::Json, Bytes::Given(Arc::new(bytes))))
    }

    /// A value that is JSON already. It is not looked at.
    pub fn json_text(json: &'a [u8]) -> Self {
        Self::of(Encoding::Json, Bytes::Lent(json))
    }

    /// A value as MessagePack: half the size of JSON or less, and exact for every float.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it cannot be written so.
    pub fn message_pack<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let bytes = rmp_serde::to_vec_named(value).map_err(|error| {
            Error::invalid("the state cannot be written as MessagePack").with_source(error)
        })?;
        Ok(Self::of(
            Encoding::MessagePack,
            Bytes::Given(Arc::new(bytes)),
        ))
    }

    fn of(encoding: Encoding, bytes: Bytes<'a>) -> Self {
        Self {
            value: Some((encoding, bytes)),
            buffers: Vec::new(),
        }
    }

    /// Adds a named array of numbers; `shape` in elements, the outermost side first.
    pub fn with_array<T: ElementType>(
        self,
        name: impl Into<Cow<'a, str>>,
        shape: &[usize],
        elements: &'a [T],
    ) -> Self {
        self.with_buffer(name, T::ELEMENT, shape, bytemuck::cast_slice(elements))
    }

    /// Adds a named buffer by its bytes: for types that Rust does not have, and for memory of others.
    pub fn with_buffer(
        self,
        name: impl Into<Cow<'a, str>>,
        element: Element,
        shape: &[usize],
        bytes: &'a [u8],
    ) -> Self {
        self.with(name.into(), element, shape, Bytes::Lent(bytes))
    }

    /// Adds a named buffer that is shared; a save in the background writes it without a copy.
    pub fn with_shared_buffer(
        self,
        name: impl Into<Cow<'a, str>>,
        element: Element,
        shape: &[usize],
        bytes: Arc<dyn SharedBytes>,
    ) -> Self {
        self.with(name.into(), element, shape, Bytes::Shared(bytes))
    }

    fn with(
        mut self,
        name: Cow<'a, str>,
        element: Element,
        shape: &[usize],
        bytes: Bytes<'a>,
    ) -> Self {
        self.buffers.push(Buffer {
            name,
            element,
            shape: shape.iter().map(|side| *side as u64).collect(),
            bytes,
        });
        self
    }

    /// The bytes of the value and of all buffers together.
    pub fn payload_bytes(&self) -> u64 {
        self.parts().map(|part| part.len() as u64).sum()
    }

    /// The value's bytes and each buffer's, in the order in which they are written.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let value = self.value.iter().map(|(_, bytes)| bytes.get());
        value.chain(self.buffers.iter().map(|buffer| buffer.bytes.get()))
    }

    /// The parts that are only lent, in order.
    pub(super) fn lent(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let value = self.value.iter().map(|(_, bytes)| bytes);
        let all = value.chain(self.buffers.iter().map(|buffer| &buffer.bytes));
        all.filter_map(|bytes| match bytes {
            Bytes::Lent(bytes) => Some(*bytes),
            _ => None,
        })
    }

    /// The same state with what was lent taken from `memory`, where the parts of [`lent`](Self::lent) were copied to these `places`.
    pub(super) fn kept_in(
        self,
        memory: &Arc<Staging>,
        places: impl IntoIterator<Item = Range<usize>>,
    ) -> State<'static> {
        let mut places = places.into_iter();
        let mut keep = |bytes: Bytes<'_>| match bytes {
            Bytes::Lent(_) => {
                let place = places.next().expect("a place for each part that is lent");
                Bytes::Kept(Arc::clone(memory), place)
            }
            Bytes::Given(bytes) => Bytes::Given(bytes),
            Bytes::Kept(memory, range) => Bytes::Kept(memory, range),
            Bytes::Shared(bytes) => Bytes::Shared(bytes),
        };
        State {
            value: self.value.map(|(encoding, bytes)| (encoding, keep(bytes))),
            buffers: self
                .buffers
                .into_iter()
                .map(|buffer| Buffer {
                    name: Cow::Owned(buffer.name.into_owned()),
                    element: buffer.element,
                    shape: buffer.shape,
                    bytes: keep(buffer.bytes),
                })
                .collect(),
        }
    }

    /// The memory that parts of it were copied to.
    pub(super) fn staging(&self) -> Option<Arc<Staging>> {
        let value = self.value.iter().map(|(_, bytes)| bytes);
        let mut all = value.chain(self.buffers.iter().map(|buffer| &buffer.bytes));
        all.find_map(|bytes| match bytes {
            Bytes::Kept(memory, _) => Some(Arc::clone(memory)),
            _ => None,
        })
    }
}
