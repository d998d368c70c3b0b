//! Types of fields that JSON writes in several ways.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
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

/// Additions to logits by the numbers of tokens: an object, or llama.cpp's list of pairs. For
/// `#[serde(deserialize_with)]` on optional fields, where null counts as absent.
pub fn biases<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Biases>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Biases;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or a list of pairs")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Biases, A::Error> {
            let mut biases = Biases::new();
            while let Some((token, bias)) = fields.next_entry::<String, f64>()? {
                add(&mut biases, token, bias)?;
            }
            Ok(biases)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Biases, A::Error> {
            let mut biases = Biases::new();
            while let Some((token, bias)) = pairs.next_element::<(u32, f64)>()? {
                add(&mut biases, token.to_string(), bias)?;
            }
            Ok(biases)
        }
    }

    fn add<E: serde::de::Error>(biases: &mut Biases, token: String, bias: f64) -> Result<(), E> {
        let twice = || E::custom(format!("token {token} is given twice"));
        let twice = biases.contains_key(&token).then(twice);
        biases.insert(token, bias);
        twice.map_or(Ok(()), Err)
    }

    struct Given(Biases);

    impl<'de> Deserialize<'de> for Given {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Pairs).map(Self)
        }
    }

    Ok(Option::<Given>::deserialize(deserializer)?.map(|Given(biases)| biases))
}

/// Additions to the logits of tokens, by their numbers as they were written.
pub type Biases = BTreeMap<String, f64>;

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
