//! Types of fields that JSON writes in several ways.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

/// An integer, also when it is written as `5.0`; for `#[serde(deserialize_with)]` on optional fields,
/// where null counts as absent.
pub fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = |value: &f64| value.fract() == 0.0 && value.abs() < 9e15;
    let value = number.as_i64().or_else(|| number.as_f64().filter(whole).map(|value| value as i64));
    value.map(Some).ok_or_else(|| {
        let what = if number.as_f64().is_some_and(|value| value.fract() == 0.0) {
            "out of range"
        } else {
            "not an integer"
        };
        serde::de::Error::custom(format!("{number} is {what}"))
    })
}

/// A number of alternatives, where false counts as absent: some clients send what chat takes to every route.
/// For `#[serde(deserialize_with)]` on optional fields.
pub fn alternatives<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(value) => integer(value).map_err(serde::de::Error::custom),
    }
}

/// An object, and not a list of its values; for `#[serde(deserialize_with)]` on optional fields, where
/// null counts as absent.
pub fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Fields<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_map(self)
        }

        fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(fields)).map(Some)
        }
    }

    deserializer.deserialize_option(Fields(PhantomData))
}
