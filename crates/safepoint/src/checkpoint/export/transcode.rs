//! A value from one encoding to another without a tree of it in memory.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};

/// What a deserializer has, to be written by any serializer, once.
///
/// What JSON cannot say exactly is an error: bytes, extensions, and numbers that are not finite.
pub(super) struct Transcode<D>(Cell<Option<D>>);

impl<D> Transcode<D> {
    pub(super) fn new(from: D) -> Self {
        Self(Cell::new(Some(from)))
    }
}

impl<'de, D: Deserializer<'de>> Serialize for Transcode<D> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let from = self.0.take();
        let from = from.ok_or_else(|| S::Error::custom("a value is written once"))?;
        from.deserialize_any(To(to)).map_err(S::Error::custom)
    }
}

/// Writes what it is shown.
struct To<S>(S);

macro_rules! plain {
    ($($visit:ident($type:ty) => $serialize:ident),*) => {
        $(fn $visit<E: serde::de::Error>(self, value: $type) -> Result<S::Ok, E> {
            self.0.$serialize(value).map_err(E::custom)
        })*
    };
}

impl<'de, S: Serializer> Visitor<'de> for To<S> {
    type Value = S::Ok;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON can say")
    }

    plain!(
        visit_bool(bool) => serialize_bool,
        visit_i64(i64) => serialize_i64,
        visit_u64(u64) => serialize_u64,
        visit_str(&str) => serialize_str
    );

    fn visit_f32<E: serde::de::Error>(self, value: f32) -> Result<S::Ok, E> {
        if value.is_finite() {
            self.0.serialize_f32(value).map_err(E::custom)
        } else {
            Err(E::custom("JSON has finite numbers only"))
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<S::Ok, E> {
        if value.is_finite() {
            self.0.serialize_f64(value).map_err(E::custom)
        } else {
            Err(E::custom("JSON has finite numbers only"))
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<S::Ok, E> {
        self.0.serialize_unit().map_err(E::custom)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<S::Ok, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<S::Ok, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<S::Ok, A::Error> {
        let mut to = self
            .0
            .serialize_seq(from.size_hint())
            .map_err(A::Error::custom)?;
        while from.next_element_seed(Element(&mut to))?.is_some() {}
        to.end().map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<S::Ok, A::Error> {
        let mut to = self
            .0
            .serialize_map(from.size_hint())
            .map_err(A::Error::custom)?;
        while from.next_key_seed(Key(&mut to))?.is_some() {
            from.next_value_seed(Value(&mut to))?;
        }
        to.end().map_err(A::Error::custom)
    }
}

struct Element<'a, S>(&'a mut S);

impl<'de, S: SerializeSeq> DeserializeSeed<'de> for Element<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let element = Transcode::new(from);
        self.0.serialize_element(&element).map_err(D::Error::custom)
    }
}

struct Key<'a, S>(&'a mut S);

impl<'de, S: SerializeMap> DeserializeSeed<'de> for Key<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let key = Transcode::new(from);
        self.0.serialize_key(&key).map_err(D::Error::custom)
    }
}

struct Value<'a, S>(&'a mut S);

impl<'de, S: SerializeMap> DeserializeSeed<'de> for Value<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let value = Transcode::new(from);
        self.0.serialize_value(&value).map_err(D::Error::custom)
    }
}
