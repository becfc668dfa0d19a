//! What can be configured, learned from the `Deserialize` of the types themselves, so that no list of keys has to be
//! kept in step with them.
//!
//! A [`Probe`] is a deserializer without data: it answers whatever a type asks for with something harmless and writes
//! down the question. One round visits one variant of every enum; rounds go on until all have been visited.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

/// What a key takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Known keys only.
    Table(Vec<(&'static str, Shape)>),
    /// Any keys, all with values of one shape.
    Map(Box<Shape>),
    List(Box<Shape>),
    Text,
    /// Text that must not be shown.
    Secret,
    Size,
    Time,
    Bool,
    /// A whole number from 0 to this.
    Integer(u64),
    /// One of these words; those marked `true` take a text, as in `{word: text}`.
    Word(Vec<(&'static str, bool)>),
    /// Anything.
    Any,
}

/// The shape of `T`.
pub fn of<T: DeserializeOwned>() -> Shape {
    let with_text = Rc::new(RefCell::new(BTreeSet::new()));
    let mut shape = Shape::Any;
    let mut round = 0;
    let mut rounds = 1;
    while round < rounds {
        let found = RefCell::new(Shape::Any);
        let most_variants = RefCell::new(1);
        let probe = Probe { found: &found, round, most_variants: &most_variants, with_text: &with_text };
        // The value is of no interest, and an error only ends a round early: the test of this module would see it.
        let _ = T::deserialize(probe);
        rounds = most_variants.into_inner();
        shape = found.into_inner();
        round += 1;
    }
    mark_words_with_text(&mut shape, &with_text.borrow());
    shape
}

/// Enums are told apart by their words, which serde gives as one static slice an enum.
type Words = &'static [&'static str];

fn mark_words_with_text(shape: &mut Shape, with_text: &BTreeSet<(Words, &'static str)>) {
    match shape {
        Shape::Table(entries) => entries.iter_mut().for_each(|(_, entry)| mark_words_with_text(entry, with_text)),
        Shape::Map(inner) | Shape::List(inner) => mark_words_with_text(inner, with_text),
        Shape::Word(words) => {
            let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            for (name, marked) in words {
                *marked = with_text.iter().any(|(all, word)| *all == names.as_slice() && word == name);
            }
        }
        Shape::Text | Shape::Secret | Shape::Size | Shape::Time | Shape::Bool | Shape::Integer(_) | Shape::Any => {}
    }
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    /// Where the shape goes.
    found: &'a RefCell<Shape>,
    /// Which variant of every enum is visited.
    round: usize,
    most_variants: &'a RefCell<usize>,
    with_text: &'a RefCell<BTreeSet<(Words, &'static str)>>,
}

impl<'a> Probe<'a> {
    fn into(self, found: &'a RefCell<Shape>) -> Self {
        Self { found, ..self }
    }
}

macro_rules! leaves {
    ($($method:ident, $visit:ident, $value:expr, $shape:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.found.replace($shape);
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    leaves! {
        deserialize_bool, visit_bool, false, Shape::Bool;
        deserialize_u8, visit_u8, 0, Shape::Integer(u8::MAX.into());
        deserialize_u16, visit_u16, 0, Shape::Integer(u16::MAX.into());
        deserialize_u32, visit_u32, 0, Shape::Integer(u32::MAX.into());
        // What is configured is read as a signed number on its way.
        deserialize_u64, visit_u64, 0, Shape::Integer(i64::MAX.unsigned_abs());
        deserialize_str, visit_str, "0", Shape::Text;
        deserialize_string, visit_str, "0", Shape::Text;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.found.replace(Shape::Any);
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        let value = visitor.visit_newtype_struct(self);
        match name {
            "Secret" => drop(self.found.replace(Shape::Secret)),
            "ByteSize" => drop(self.found.replace(Shape::Size)),
            "Span" => drop(self.found.replace(Shape::Time)),
            _ => {}
        }
        value
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let inner = RefCell::new(Shape::Any);
        let value = visitor.visit_seq(Once { probe: Some(self.into(&inner)) });
        self.found.replace(Shape::List(Box::new(inner.into_inner())));
        value
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let inner = RefCell::new(Shape::Any);
        let value = visitor.visit_map(Once { probe: Some(self.into(&inner)) });
        self.found.replace(Shape::Map(Box::new(inner.into_inner())));
        value
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut entries = Vec::new();
        let value = visitor.visit_map(Fields { probe: self, fields: fields.iter(), name: "", entries: &mut entries });
        self.found.replace(Shape::Table(entries));
        value
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        words: Words,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.found.replace(Shape::Word(words.iter().map(|word| (*word, false)).collect()));
        let most = words.len().max(*self.most_variants.borrow());
        self.most_variants.replace(most);
        let word = words[self.round.min(words.len() - 1)];
        visitor.visit_enum(Variant { probe: self, words, word })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// One element, or one entry with the key `0`.
struct Once<'a> {
    probe: Option<Probe<'a>>,
}

impl<'de> SeqAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.probe.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

impl<'de> MapAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.probe.is_some().then(|| seed.deserialize(StrDeserializer::new("0"))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let probe = self.probe.take().ok_or_else(|| serde::de::Error::custom("a value without its key"))?;
        seed.deserialize(probe)
    }
}

/// Every field of a struct, once.
struct Fields<'a, 'b> {
    probe: Probe<'a>,
    fields: std::slice::Iter<'static, &'static str>,
    name: &'static str,
    entries: &'b mut Vec<(&'static str, Shape)>,
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.fields.next() else { return Ok(None) };
        self.name = name;
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let found = RefCell::new(Shape::Any);
        let value = seed.deserialize(self.probe.into(&found));
        self.entries.push((self.name, found.into_inner()));
        value
    }
}

/// One variant of an enum, with text if it asks for any.
struct Variant<'a> {
    probe: Probe<'a>,
    words: Words,
    word: &'static str,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(StrDeserializer::new(self.word))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.probe.with_text.borrow_mut().insert((self.words, self.word));
        seed.deserialize(StrDeserializer::new("0"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("configuration has words and words with a text only"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _fields: Words, _visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("configuration has words and words with a text only"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::config::units::Secret;
    use crate::config::{ByteSize, Config, Format, OnDone, Span};

    #[test]
    fn a_shape_is_learned_from_the_type() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only its shape is of interest")]
        struct All {
            secret: Option<Secret>,
            size: ByteSize,
            times: Vec<Span>,
            map: BTreeMap<String, serde_json::Value>,
            format: Format,
            on_done: OnDone,
            switch: bool,
            number: u32,
            path: std::path::PathBuf,
        }
        let format = ["auto", "common", "combined", "json", "text"].map(|word| (word, false));
        let expected = vec![
            ("secret", Shape::Secret),
            ("size", Shape::Size),
            ("times", Shape::List(Box::new(Shape::Time))),
            ("map", Shape::Map(Box::new(Shape::Any))),
            ("format", Shape::Word([&format[..], &[("apache", true), ("nginx", true)]].concat())),
            ("on_done", Shape::Word(vec![("keep", false), ("delete", false), ("archive", false)])),
            ("switch", Shape::Bool),
            ("number", Shape::Integer(u32::MAX.into())),
            ("path", Shape::Text),
        ];
        assert_eq!(of::<All>(), Shape::Table(expected));
    }

    #[test]
    fn the_configuration_has_a_shape_to_its_last_key() {
        let Shape::Table(sections) = of::<Config>() else { panic!("not a table") };
        assert_eq!(sections.last().map(|(name, _)| *name), Some("shutdown"));
        let Some((_, Shape::List(source))) = sections.iter().find(|(name, _)| *name == "sources") else {
            panic!("no list of sources")
        };
        let Shape::Table(keys) = &**source else { panic!("a source is not a table") };
        assert_eq!(keys.last().map(|(name, _)| *name), Some("pipeline"));
    }
}
