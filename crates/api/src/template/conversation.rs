//! Messages, and the prompt that a template makes of them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::{TextTokenizer, TokenizeError};

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// Its text.
    pub content: String,
    /// Other fields that a template may read: calls of tools and their results.
    #[serde(flatten)]
    pub more: BTreeMap<&'static str, Value>,
}

impl Turn {
    /// Every text in it.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.content.as_str()];
        self.more.values().for_each(|value| texts_of(value, &mut texts));
        texts
    }
}

pub(super) fn texts_of<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter().for_each(|value| texts_of(value, texts)),
        Value::Object(fields) => {
            texts.extend(fields.keys().map(String::as_str));
            fields.values().for_each(|value| texts_of(value, texts));
        }
        _ => {}
    }
}

/// A value in which every text is another one.
pub(super) fn with_texts(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => change(text).into(),
        Value::Array(list) => list.iter().map(|value| with_texts(value, change)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (change(name), with_texts(value, change))).collect()
        }
        other => other.clone(),
    }
}

/// The parts of a prompt.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// The messages, the oldest first.
    pub turns: Vec<Turn>,
    /// True if the prompt ends with the beginning of the assistant's answer.
    pub add_generation_prompt: bool,
    /// True if the last message is to be continued: the prompt ends where its text does.
    pub continue_final: bool,
    /// More variables for the template.
    pub variables: BTreeMap<String, Value>,
}

/// A stretch of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Written by the template: special tokens in it are special.
    Template(String),
    /// Written by a user: text and nothing else.
    Text(String),
    /// A token.
    Token(TokenId, String),
}

/// A conversation as the model is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt(pub(super) Vec<Piece>);

impl Prompt {
    /// The prompt as text.
    #[must_use]
    pub fn text(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Template(text) | Piece::Text(text) | Piece::Token(_, text) => text.clone(),
        };
        self.0.iter().map(text).collect()
    }

    /// The prompt as tokens.
    ///
    /// # Errors
    /// The tokenizer refused a text.
    pub fn tokens(&self, tokenizer: &TextTokenizer) -> Result<Vec<TokenId>, TokenizeError> {
        let mut tokens = Vec::new();
        for piece in &self.0 {
            let starts = tokens.is_empty();
            tokens.extend(match piece {
                Piece::Template(text) if starts => tokenizer.encode_template(text, false)?,
                Piece::Template(text) => tokenizer.encode_template_piece(text)?,
                Piece::Text(text) if starts => tokenizer.encode(text)?,
                Piece::Text(text) => tokenizer.encode_piece(text)?,
                Piece::Token(id, _) => vec![*id],
            });
        }
        Ok(tokens)
    }
}
