//! Tokens with their log-probabilities, in OpenAI's two layouts.

use std::collections::BTreeMap;

use serde::Serialize;
use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::{TextTokenizer, bytes_label};
use utoipa::ToSchema;

use crate::utf8::complete_characters;

/// The value that is written for −∞, which JSON does not have.
const LEAST: f64 = -9999.0;

/// A token and how probable it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The token.
    pub token: TokenId,
    /// In nats, before temperature and filters; `None` where nothing predicted it.
    pub logprob: Option<f64>,
    /// The most probable tokens at its place, best first.
    pub alternatives: Vec<(TokenId, f32)>,
    /// Bytes that it begins and ends with and that are not part of the text.
    pub shared: (Vec<u8>, Vec<u8>),
}

impl Judged {
    /// The bytes that a token at this place adds to the text.
    fn bytes(&self, token: TokenId, at_start: bool, tokenizer: &TextTokenizer) -> Vec<u8> {
        let spelled = tokenizer.bytes(&[token], at_start);
        let own = spelled.strip_prefix(&self.shared.0[..]).unwrap_or(&spelled);
        own.strip_suffix(&self.shared.1[..]).unwrap_or(own).to_vec()
    }

    /// The name of a token at this place, as of [`TextTokenizer::label`].
    fn label(&self, token: TokenId, tokenizer: &TextTokenizer) -> String {
        let own = self.bytes(token, false, tokenizer);
        if own == tokenizer.bytes(&[token], false) { tokenizer.label(token) } else { bytes_label(&own) }
    }
}

/// A token at its place in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    judged: Judged,
    /// Characters of the text before it.
    offset: usize,
}

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
    for judged in judged {
        let place = offset + usize::from(!begun.is_empty());
        begun.extend(judged.bytes(judged.token, at_start && tokens.is_empty(), tokenizer));
        let complete = complete_characters(&begun);
        offset += String::from_utf8_lossy(&begun[..complete]).chars().count();
        begun.drain(..complete);
        tokens.push(TokenLogprob { judged, offset: place });
    }
    tokens
}

/// Text completion's layout.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TextLogprobs {
    /// The tokens' texts; of a part of a character, its bytes: `bytes:\xe6`. Of tokens that look the same,
    /// one is named by its text, and the others as `token_id:N`. The first and the last token of a text are named
    /// without what they spell of the text around it (`token_healing`).
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
        let top = |TokenLogprob { judged, .. }: &TokenLogprob| {
            let own = judged.logprob.map(|logprob| (judged.token, finite(logprob)))?;
            let others = judged.alternatives.iter().map(|(id, logprob)| (*id, finite(f64::from(*logprob))));
            let mut top = BTreeMap::from([(judged.label(own.0, tokenizer), own.1)]);
            for (id, logprob) in others.filter(|(id, _)| *id != own.0) {
                // Tokens that look the same would share a key.
                let mut label = judged.label(id, tokenizer);
                if top.contains_key(&label) {
                    label = format!("token_id:{id}");
                }
                top.insert(label, logprob);
            }
            Some(top)
        };
        let judged = || tokens.iter().map(|token| &token.judged);
        Self {
            tokens: judged().map(|judged| judged.label(judged.token, tokenizer)).collect(),
            token_logprobs: judged().map(|judged| judged.logprob.map(finite)).collect(),
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
        let token = |TokenLogprob { judged, .. }: &TokenLogprob| {
            let top = |(id, logprob): &(TokenId, f32)| TopToken {
                token: judged.label(*id, tokenizer),
                logprob: finite(f64::from(*logprob)),
                bytes: judged.bytes(*id, false, tokenizer),
            };
            ChatToken {
                token: judged.label(judged.token, tokenizer),
                logprob: finite(judged.logprob.unwrap_or(LEAST)),
                bytes: judged.bytes(judged.token, false, tokenizer),
                top_logprobs: judged.alternatives.iter().map(top).collect(),
            }
        };
        Self { content: tokens.iter().map(token).collect() }
    }
}

fn finite(logprob: f64) -> f64 {
    logprob.max(LEAST)
}
