//! Fields that a route does not have: what is kept of them is bounded, however many there are.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_ignored::Path;
use serde_json::{Map, Value};

use super::offered::{HARMLESS, judge, neutral_values};
use super::refused;
use crate::error::ApiError;

/// Levels of lists and objects in a body; the parser has the same limit for values that are wanted.
pub(super) const DEEPEST: usize = 128;

/// Depth of lists and objects in JSON.
pub(super) fn depth(json: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut deepest = 0;
    let mut string = false;
    let mut escaped = false;
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            b'[' | b'{' if !string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Names that are kept of fields without effect: as many as the header shows.
pub(super) const SHOWN: usize = 20;

/// Fields of a body that its type does not have. It keeps a bounded number of names, however many there are.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    pub(super) first: Option<String>,
    /// Fields that are not offered; their values decide.
    judged: BTreeSet<String>,
    ignored: Vec<String>,
}

impl Unknown {
    pub(super) fn note(&mut self, field: String) {
        if self.first.is_none() {
            self.first = Some(field.clone());
        }
        if neutral_values(&field).is_some() {
            self.judged.insert(field);
        } else if self.ignored.len() < SHOWN
            && !HARMLESS.contains(&field.as_str())
            && !self.ignored.contains(&field)
        {
            self.ignored.push(field);
        }
    }

    /// The fields without effect, unless one that is not offered asks for something. Null means absent: SDKs send back the
    /// messages that they got.
    pub(super) fn ignored(mut self, bytes: &[u8]) -> Result<Vec<String>, ApiError> {
        if !self.ignored.is_empty() {
            let mut nulls = BTreeSet::new();
            let seed = Nulls { names: &self.ignored, path: String::new(), found: &mut nulls };
            // What is passed over may be what this cannot read, such as 1e999: those fields count.
            let _ = seed.deserialize(&mut serde_json::Deserializer::from_slice(bytes));
            self.ignored.retain(|name| !nulls.contains(name));
        }
        if self.judged.is_empty() {
            return Ok(self.ignored);
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let values = json.deserialize_map(Values(&self.judged)).map_err(|error| refused(".", error))?;
        self.judged.iter().try_for_each(|field| judge(field, &values))?;
        Ok(self.ignored)
    }
}

/// A field's path as the errors write it, such as `messages[0].name`.
pub(super) fn written(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => item(&written(parent), *index),
        Path::Map { parent, key } => field(&written(parent), key),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            written(parent)
        }
    }
}

fn item(list: &str, index: usize) -> String {
    format!("{list}[{index}]")
}

fn field(object: &str, key: &str) -> String {
    if object.is_empty() { key.to_owned() } else { format!("{object}.{key}") }
}

/// Finds those of some fields that are null, by their paths.
struct Nulls<'a> {
    names: &'a [String],
    path: String,
    found: &'a mut BTreeSet<String>,
}

impl Nulls<'_> {
    fn at(&mut self, path: String) -> Nulls<'_> {
        Nulls { names: self.names, path, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for Nulls<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nulls<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        if self.names.contains(&self.path) {
            self.found.insert(self.path);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let path = field(&self.path, &key);
            map.next_value_seed(self.at(path))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for place in 0_usize.. {
            let path = item(&self.path, place);
            if list.next_element_seed(self.at(path))?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// Reads the values of some fields and passes over all others.
struct Values<'a>(&'a BTreeSet<String>);

impl<'de> Visitor<'de> for Values<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Map::new();
        while let Some(field) = map.next_key::<String>()? {
            if self.0.contains(&field) {
                values.insert(field, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_are_no_levels() {
        assert_eq!(depth(br#"{"a":[{},"[[\"[["],"b":[[1]]}"#), 3);
        assert_eq!(depth(b"]]1"), 0);
    }
}
