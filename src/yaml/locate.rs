//! Finds the line and column of a value by walking to it and failing there.
//!
//! The YAML parser keeps the positions of its events to itself, but attaches one to every error that
//! a visitor raises. So the walk ends with an error on purpose, and the error's place is the answer.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::Position;
use super::key_path::{KeyPath, Step};

/// Which end of a mapping's entry is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Key,
    Value,
}

/// Where the value at `key` stands in `text`, or else the nearest value around it.
pub(super) fn position(text: &str, key: &KeyPath, place: Place) -> Position {
    walk(serde_yaml::Deserializer::from_str(text), key, place)
}

/// The same in a document that is about to be read.
pub(super) fn walk(document: serde_yaml::Deserializer<'_>, key: &KeyPath, place: Place) -> Position {
    match (Walk { steps: &key.steps, place }).deserialize(document) {
        Ok(()) => Position::START,
        Err(error) => of_error(&error).unwrap_or(Position::START),
    }
}

/// The place that the YAML parser attached to `error`, if it knows one.
pub(super) fn of_error(error: &serde_yaml::Error) -> Option<Position> {
    error.location().map(|location| Position { line: location.line(), column: location.column() })
}

struct Walk<'a> {
    steps: &'a [Step],
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Every kind of value that has no method here makes an error: that of the trait's default.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the end of the way")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.steps.split_first() else { return Err(arrived()) };
        let stop = rest.is_empty() && self.place == Place::Key;
        while let Some(found) = map.next_key_seed(Key { wanted, stop })? {
            if found {
                map.next_value_seed(Walk { steps: rest, place: self.place })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(arrived())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.steps.split_first() else { return Err(arrived()) };
        for _ in 0..*wanted {
            if sequence.next_element::<IgnoredAny>()?.is_none() {
                return Err(arrived());
            }
        }
        sequence.next_element_seed(Walk { steps: rest, place: self.place })?;
        Err(arrived())
    }
}

/// Whether the next key is the wanted one; an error there if that is where the way ends.
struct Key<'a> {
    wanted: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        let found = key == self.wanted;
        if found && self.stop { Err(arrived()) } else { Ok(found) }
    }
}

fn arrived<E: de::Error>() -> E {
    E::custom("here")
}
