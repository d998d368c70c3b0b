//! The content of a message: a text, or a list of text parts.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::LONGEST_MESSAGE;
use crate::error::ApiError;
use crate::request::ranges::out_of_range;

/// A text, or parts of a text, which are joined.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Content {
    /// A text.
    Text(String),
    /// Parts.
    Parts(Vec<ContentPart>),
}

/// By the JSON type: serde's own untagged enums keep a copy of the value, and lose the names of unknown fields in it.
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of text parts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Content, A::Error> {
        Deserialize::deserialize(SeqAccessDeserializer::new(parts)).map(Content::Parts)
    }
}

/// A part of a message.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ContentPart {
    /// `text`; other parts are refused, and nothing that they name is fetched.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The text.
    pub(super) text: Option<String>,
}

impl Content {
    /// The text of message `index`.
    pub(super) fn text(self, index: usize) -> Result<String, ApiError> {
        let text = match self {
            Self::Text(text) => text,
            Self::Parts(parts) => {
                let mut text = String::new();
                for (number, part) in parts.into_iter().enumerate() {
                    let param = format!("messages[{index}].content[{number}]");
                    text += &part.text(param)?;
                }
                text
            }
        };
        let length = text.chars().count();
        if length > LONGEST_MESSAGE {
            return Err(out_of_range(
                &format!("messages[{index}].content"),
                format!("a text of {length} characters"),
                format!("a text of at most {LONGEST_MESSAGE}"),
            ));
        }
        Ok(text)
    }
}

impl ContentPart {
    pub(super) fn text(self, param: String) -> Result<String, ApiError> {
        match (self.kind.as_str(), self.text) {
            ("text", Some(text)) => Ok(text),
            ("text", None) => {
                let message = format!("`{param}` is a text part without `text`");
                Err(ApiError::Body { code: "missing_field", param: Some(param), message })
            }
            _ => {
                let message =
                    format!("`{param}` is not a part of type `text`, the only one that is supported");
                Err(ApiError::Body { code: "unsupported_content_type", param: Some(param), message })
            }
        }
    }
}
