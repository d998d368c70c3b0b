//! Random seeds, which SDKs send signed or unsigned.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// 64 bits, and whether they were given as a negative number, so that an answer names the seed as the request did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    /// The number from which all random numbers follow.
    pub bits: u64,
    negative: bool,
}

impl Seed {
    /// From its bits.
    #[must_use]
    pub fn new(bits: u64) -> Self {
        Self { bits, negative: false }
    }

    /// Returns true if it was given as this number.
    #[must_use]
    pub fn is(self, number: i64) -> bool {
        self == Self::from(number)
    }
}

impl From<i64> for Seed {
    fn from(number: i64) -> Self {
        Self { bits: number.cast_unsigned(), negative: number < 0 }
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let signed = || text.parse::<i64>().ok().map(Self::from);
        let seed = text.parse().ok().map(Self::new).or_else(signed);
        seed.ok_or_else(|| format!("it must be {}", range()))
    }
}

/// The numbers that are seeds.
fn range() -> String {
    format!("an integer from {} to {}", i64::MIN, u64::MAX)
}

impl<'de> Deserialize<'de> for Seed {
    /// Also of a whole number that is written with a fraction, as `5.0`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        let whole = |value: &f64| value.fract() == 0.0 && value.abs() < 9e15;
        let signed = || number.as_i64().or_else(|| number.as_f64().filter(whole).map(|value| value as i64));
        match (number.as_u64(), signed()) {
            (Some(bits), _) => Ok(Self::new(bits)),
            (None, Some(number)) => Ok(Self::from(number)),
            (None, None) => Err(serde::de::Error::custom(format!("expected {}", range()))),
        }
    }
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.negative {
            serializer.serialize_i64(self.bits.cast_signed())
        } else {
            serializer.serialize_u64(self.bits)
        }
    }
}

impl PartialSchema for Seed {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Integer).into()
    }
}

impl ToSchema for Seed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_named_as_it_was_given() {
        for text in ["0", "-1", "9223372036854775808", "18446744073709551615", "-9223372036854775808"] {
            let seed: Seed = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&seed).unwrap(), text);
        }
        let seed = |text: &str| serde_json::from_str::<Seed>(text);
        assert_eq!(seed("5.0").unwrap(), Seed::new(5));
        assert_eq!(seed("-1").unwrap().bits, seed("18446744073709551615").unwrap().bits);
        for wrong in ["18446744073709551616", "-9223372036854775809", "1.5", "\"5\"", "true"] {
            assert!(seed(wrong).is_err(), "{wrong}");
        }
    }
}
