//! The types of a buffer's elements.

use serde::{Deserialize, Serialize};

/// The type of one element of a buffer, little-endian in the file as on every machine this crate runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Element {
    /// IEEE 754 double precision.
    F64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 64 bits.
    U64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 8 bits; also what has no type.
    U8,
    /// A byte that is 0 or 1.
    Bool,
}

impl Element {
    /// Its size in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Its name in the file and in JSON, such as `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// The bytes of an array of this shape; `None` where that is more than 64 bits can say.
    pub(super) fn bytes_of(self, shape: &[u64]) -> Option<u64> {
        shape
            .iter()
            .try_fold(self.size() as u64, |bytes, side| bytes.checked_mul(*side))
    }
}

/// A Rust type that is an [`Element`].
pub trait ElementType: bytemuck::Pod {
    /// Which one.
    const ELEMENT: Element;
}

macro_rules! element_types {
    ($($name:ty => $element:ident),*) => {
        $(impl ElementType for $name {
            const ELEMENT: Element = Element::$element;
        })*
    };
}

element_types!(f64 => F64, f32 => F32, i64 => I64, i32 => I32, i16 => I16, i8 => I8, u64 => U64, u32 => U32, u16 => U16, u8 => U8);
