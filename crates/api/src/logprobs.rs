//! Tokens with their log-probabilities, in OpenAI's two layouts.

use std::collections::BTreeMap;

use serde::Serialize;
use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::TextTokenizer;
use utoipa::ToSchema;

use crate::text_view::complete_characters;

/// What stands for −∞, which JSON does not have.
const LEAST: f64 = -9999.0;

/// A token of a text and what the model thought of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    token: TokenId,
    /// Characters of the text before it.
    offset: usize,
    /// In nats, before temperature and filters; `None` where nothing predicted it.
    logprob: Option<f64>,
    /// The most probable tokens at its place, best first.
    alternatives: Vec<(TokenId, f32)>,
}

/// A token before its place in the text is known: its id, its log-probability, the alternatives.
pub type Judged = (TokenId, Option<f64>, Vec<(TokenId, f32)>);

/// Gives every token its place in the text, which has `offset` characters before the first one; `at_start` as
/// of [`TextTokenizer::bytes`]. A token that begins within a character counts as behind it.
pub fn placed(
    judged: impl IntoIterator<Item = Judged>,
    mut offset: usize,
    at_start: bool,
    tokenizer: &TextTokenizer,
) -> Vec<TokenLogprob> {
    let mut begun: Vec<u8> = Vec::new();
    let mut tokens = Vec::new();
    for (token, logprob, alternatives) in judged {
        let place = offset + usize::from(!begun.is_empty());
        begun.extend(tokenizer.bytes(&[token], at_start && tokens.is_empty()));
        let complete = complete_characters(&begun);
        offset += String::from_utf8_lossy(&begun[..complete]).chars().count();
        begun.drain(..complete);
        tokens.push(TokenLogprob { token, offset: place, logprob, alternatives });
    }
    tokens
}

/// Text completion's layout.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TextLogprobs {
    /// The tokens' texts; of a part of a character, its bytes: `bytes:\xe6`. Of tokens that look the same,
    /// one is named by its text, and the others as `token_id:N`.
    tokens: Vec<String>,
    /// Log-probability (nats) of each under the model, before temperature and filters, at the evaluation that
    /// committed it; of an echoed prompt as `diffusion.score` says. Null where nothing predicted the token.
    /// The sum over generated tokens is no log-probability of the text: their order was not one of the
    /// text's.
    token_logprobs: Vec<Option<f64>>,
    /// The most probable tokens at each place, and the one that stands there.
    top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
    /// Characters before each token.
    text_offset: Vec<usize>,
}

impl TextLogprobs {
    /// From the tokens of a text.
    #[must_use]
    pub fn new(tokens: &[TokenLogprob], tokenizer: &TextTokenizer) -> Self {
        let top = |token: &TokenLogprob| {
            let own = token.logprob.map(|logprob| (token.token, finite(logprob)))?;
            let others = token.alternatives.iter().map(|(id, logprob)| (*id, finite(f64::from(*logprob))));
            let mut top = BTreeMap::from([(tokenizer.label(own.0), own.1)]);
            for (id, logprob) in others.filter(|(id, _)| *id != own.0) {
                // Tokens that look the same would share a key.
                let mut label = tokenizer.label(id);
                if top.contains_key(&label) {
                    label = format!("token_id:{id}");
                }
                top.insert(label, logprob);
            }
            Some(top)
        };
        Self {
            tokens: tokens.iter().map(|token| tokenizer.label(token.token)).collect(),
            token_logprobs: tokens.iter().map(|token| token.logprob.map(finite)).collect(),
            top_logprobs: tokens.iter().map(top).collect(),
            text_offset: tokens.iter().map(|token| token.offset).collect(),
        }
    }
}

/// Chat's layout.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// The answer's tokens.
    content: Vec<ChatToken>,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChatToken {
    /// Its text; of a part of a character, its bytes: `bytes:\xe6`.
    token: String,
    /// Its log-probability (nats) under the model, before temperature and filters, at the evaluation that
    /// committed it.
    logprob: f64,
    /// Its text in UTF-8, also where it is only a part of a character.
    bytes: Vec<u8>,
    /// The most probable tokens at its place, best first.
    top_logprobs: Vec<TopToken>,
}

/// A token that could have stood somewhere.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TopToken {
    /// Its text.
    token: String,
    /// Its log-probability (nats).
    logprob: f64,
    /// Its text in UTF-8.
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    /// From the tokens of an answer.
    #[must_use]
    pub fn new(tokens: &[TokenLogprob], tokenizer: &TextTokenizer) -> Self {
        let bytes = |id: TokenId| tokenizer.bytes(&[id], false);
        let top = |(id, logprob): &(TokenId, f32)| TopToken {
            token: tokenizer.label(*id),
            logprob: finite(f64::from(*logprob)),
            bytes: bytes(*id),
        };
        let token = |token: &TokenLogprob| ChatToken {
            token: tokenizer.label(token.token),
            logprob: finite(token.logprob.unwrap_or(LEAST)),
            bytes: bytes(token.token),
            top_logprobs: token.alternatives.iter().map(top).collect(),
        };
        Self { content: tokens.iter().map(token).collect() }
    }
}

fn finite(logprob: f64) -> f64 {
    logprob.max(LEAST)
}
