//! The body of `/fill`.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::body::{COMMIT_RULE, RequestBody, UnknownFields};
use crate::renamed::Renamed;
use crate::request::fields::{Biases, biases, integer, object};
use crate::request::options::Strings;
use crate::request::policy_options::DiffusionOptions;
use crate::request::shared_fields::with_shared_fields;

with_shared_fields! {
    [
        temperature top_p top_k min_p frequency_penalty presence_penalty repetition_penalty logit_bias
        seed n stop timeout_ms
    ]
    /// A text with holes in it, in one of three forms: `prefix` and `suffix` around one hole, a list of
    /// `segments`, or a `template` with a marker in it. Fields that are not listed are refused.
    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[schema(example = json!({
        "prefix": "class Stack:\n    def __len__(self):\n        return len(",
        "suffix": "._items)\n",
        "length": 1,
        "seed": 7
    }))]
    pub struct FillRequest {
        /// The model to use; absent or empty means the one served.
        pub(super) model: Option<String>,
        /// The text before the hole.
        #[serde(default)]
        pub(super) prefix: Option<String>,
        /// The text after the hole.
        #[serde(default)]
        pub(super) suffix: Option<String>,
        /// Strings and holes from left to right. Strings side by side are one text.
        #[schema(min_items = 1)]
        pub(super) segments: Option<Vec<Segment>>,
        /// A text with a `marker` wherever there is a hole.
        pub(super) template: Option<String>,
        /// The marker of a hole in `template`, matched literally from left to right. Default `<fill>`.
        #[schema(min_length = 1, max_length = 64)]
        pub(super) marker: Option<String>,
        /// The holes of `template`, one per marker. Default: all as the request says.
        #[schema(max_items = 64)]
        pub(super) holes: Option<Vec<HoleOptions>>,
        /// Positions of every hole that has no `length` of its own: a number, or a range of which the best is
        /// searched. Default from 1 to 32, less when that does not fit.
        pub(super) length: Option<Length>,
        /// Settings of the search over ranges.
        #[serde(default, deserialize_with = "object")]
        pub(super) length_search: Option<LengthSearch>,
        /// For texts that are too long for the model. True, the default, shows the model the tokens that are nearest to the
        /// holes: two thirds of them before a hole, one third after it, and at least an eighth of the model's context in
        /// all. `truncated` in the answer says so; the text in the answer is whole. False refuses such texts.
        pub(super) truncate: Option<bool>,
        /// Heal blanks and words that the text around a hole cuts: a hole's first token brings the blank,
        /// and a word that the model continues is continued as one. The given text stays as it is. Default true;
        /// `reproduce` turns it off.
        #[serde(alias = "heal")]
        pub(super) token_healing: Option<bool>,
        /// Allow holes without any text around them.
        pub(super) allow_empty: Option<bool>,
        /// Send events as the holes fill.
        pub(super) stream: Option<bool>,
        /// The parts of a choice to return: `text`, `holes` or `both`, which is the default.
        #[serde(rename = "include", alias = "return")]
        pub(super) parts: Option<Parts>,
        /// Settings of the denoising. `stream_states` is `delta` here by default, and `none` when lengths are
        /// searched: before the end it is not known which candidate is the answer.
        #[serde(default, deserialize_with = "object")]
        pub(super) diffusion: Option<DiffusionOptions>,
        /// Accepted and forgotten.
        #[expect(dead_code, reason = "known to clients, without effect")]
        pub(super) user: Option<String>,
    }
}

/// Parts of a choice to return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Parts {
    /// The holes alone.
    Holes,
    /// The whole text alone.
    #[serde(alias = "full")]
    Text,
    /// Both.
    #[default]
    Both,
}

impl RequestBody for FillRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refuse;
    const RENAMED: &'static [Renamed] = &[
        COMMIT_RULE,
        Renamed { old: "heal", new: "token_healing" },
        Renamed { old: "return", new: "include" },
    ];
}

/// A string of `segments`, or a hole.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Segment {
    /// Text.
    Text(String),
    /// A hole.
    Hole(HoleOptions),
}

/// A hole and what holds for it alone.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"hole": "name", "length": 3}))]
pub(super) struct HoleOptions {
    /// Its name in the answer, unique: letters, digits, `_` and `-`. Default: its number, from 0.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub(super) hole: Option<String>,
    /// The same as `hole`.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub(super) id: Option<String>,
    /// Its positions: a number, or a range of which the best is searched. Default: the request's.
    pub(super) length: Option<Length>,
    /// Its text ends before the first of these. Default: the request's.
    pub(super) stop: Option<Strings>,
    /// This hole's own `token_healing`. Default: the request's.
    pub(super) token_healing: Option<bool>,
    /// Divides its logits. Default: the request's.
    #[schema(minimum = 0, maximum = 2)]
    pub(super) temperature: Option<f64>,
    /// Added to its logits, by token id. Default: the request's.
    #[serde(default, deserialize_with = "biases")]
    #[schema(value_type = Option<std::collections::HashMap<String, f64>>)]
    pub(super) logit_bias: Option<Biases>,
    /// Take the most probable of these instead of generating: 1 to 64 different strings of 1 to 1024 bytes. Every hole with
    /// choices is decided by itself, while all others are masked (those that are generated at the middle of
    /// their range, others as long as their longest choice); the rest is generated with what was decided in
    /// place. Nothing of this is left to chance, and the settings above have no place beside it.
    #[schema(min_items = 1, max_items = 64)]
    pub(super) choices: Option<Vec<String>>,
}

/// Positions of a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Length {
    /// A number, from 1.
    Exactly(i64),
    /// The best number in a range.
    Between(LengthRange),
}

/// A range of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LengthRange {
    /// The shortest. Default 1.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub(super) min: Option<i64>,
    /// The longest. Default 32.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub(super) max: Option<i64>,
}

/// The search for the best lengths in a range: one evaluation measures the fit of up to 24 lengths, the best
/// of them are denoised side by side, and the best score wins. Of several answers (`n`), each has a length of
/// its own, best first. With several ranges, all holes move through theirs together.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LengthSearch {
    /// The number of lengths that are denoised: those that fit best. Default 8.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1, maximum = 8)]
    pub(super) candidates: Option<i64>,
    /// The score that is compared and reported.
    pub(super) score: Option<ScoreName>,
}

/// The score of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScoreName {
    /// The sum of the log-probabilities (nats) of a hole's tokens over the square root of their number, and half the
    /// log-probability of the first token after the hole at this distance; of several holes the sum. The default
    /// where lengths are searched.
    Fit,
    /// The mean log-probability (nats) of the tokens in the holes. The default where they are given.
    #[default]
    MeanLogprob,
    /// The sum of their log-probabilities, which favours short texts.
    SumLogprob,
}

impl<'de> Deserialize<'de> for Segment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Segment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a hole such as {\"hole\": \"name\", \"length\": 3}")
            }

            fn visit_str<E>(self, text: &str) -> Result<Segment, E> {
                Ok(Segment::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Segment, A::Error> {
                HoleOptions::deserialize(MapAccessDeserializer::new(fields)).map(Segment::Hole)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a range such as {\"min\": 2, \"max\": 24}")
            }

            fn visit_i64<E>(self, length: i64) -> Result<Length, E> {
                Ok(Length::Exactly(length))
            }

            fn visit_u64<E: Error>(self, length: u64) -> Result<Length, E> {
                let whole = i64::try_from(length).map(Length::Exactly);
                whole.map_err(|_| E::custom(format!("{length} is not an integer in range")))
            }

            fn visit_f64<E: Error>(self, length: f64) -> Result<Length, E> {
                if length.fract() == 0.0 && length.abs() < 9e15 {
                    return Ok(Length::Exactly(length as i64));
                }
                Err(E::custom(format!("{length:?} is not an integer in range")))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Length, A::Error> {
                let range = LengthRange::deserialize(MapAccessDeserializer::new(fields))?;
                if range.min.is_none() && range.max.is_none() {
                    return Err(A::Error::custom("a range needs `min`, `max` or both"));
                }
                Ok(Length::Between(range))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
