//! Text to tokens and back, in the shapes of vLLM and llama.cpp at once; `template`: messages to text.

pub mod template;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unmask_model::predictor::TokenId;
use utoipa::ToSchema;

use super::{annotate, check_model, estimated_tokens, lay_out};
use crate::body::{Body, RequestBody, UnknownFields};
use crate::error::ApiError;
use crate::messages::{GivenMessages, Message, tokens, unread_variables};
use crate::observation::Observation;
use crate::request::ranges::out_of_range;
use crate::state::{AppState, ServedModel};

/// A text or messages to tokenize: exactly one of `prompt`, `content` and `messages`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"prompt": "def add(a, b):\n", "add_special_tokens": false}))]
pub struct TokenizeRequest {
    /// The model to use; absent or empty means the one served.
    model: Option<String>,
    /// A text, as of vLLM. Special tokens in it are ordinary text, as in prompts.
    prompt: Option<String>,
    /// A text, as of llama.cpp.
    content: Option<String>,
    /// Messages, which the chat template makes a prompt of.
    #[schema(min_items = 1, max_items = 256)]
    messages: Option<Vec<Message>>,
    /// Put the document start in front, as every canvas has it. Default true of `prompt` and `messages`.
    add_special_tokens: Option<bool>,
    /// The same for `content`. Default false.
    add_special: Option<bool>,
    /// True recognises special tokens in `content` or `prompt`, false takes all of it for ordinary text. By default only a text
    /// that is nothing but a special token is that token.
    parse_special: Option<bool>,
    /// Give `token_strs`, the tokens as the vocabulary writes them.
    return_token_strs: Option<bool>,
    /// Give the tokens as objects with `id` and `piece`.
    with_pieces: Option<bool>,
    /// The same as in /v1/chat/completions.
    add_generation_prompt: Option<bool>,
    /// The same as in /v1/chat/completions.
    continue_final_message: Option<bool>,
    /// The same as in /v1/chat/completions.
    chat_template_kwargs: Option<BTreeMap<String, Value>>,
}

impl RequestBody for TokenizeRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
}

/// Bytes of a text to tokenize, if the context does not hold more. Each takes about 150 bytes of memory.
const LONGEST_TEXT: usize = 128 * 1024;

/// Tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tokenized {
    /// Ids, or ids with pieces.
    tokens: Vec<TokenEntry>,
    /// Number of tokens, as `usage` counts them: without the document start that the server puts in front.
    count: usize,
    /// Longest canvas, in positions: one of them is the document start's.
    max_model_len: usize,
    /// The tokens as the vocabulary writes them, with `return_token_strs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_strs: Option<Vec<String>>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TokenEntry {
    /// Its id.
    Id(TokenId),
    /// With what it spells.
    WithPiece {
        /// Its id.
        id: TokenId,
        /// The spelling.
        piece: TokenPiece,
    },
}

/// The spelling of a token: a text, or bytes that are none by themselves.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TokenPiece {
    /// A text; of a special token, its name.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The tokens of a text or of messages.
#[utoipa::path(post, path = "/tokenize", tag = "text", request_body = TokenizeRequest, responses(
    (status = 200, description = "The tokens", body = Tokenized),
))]
pub async fn tokenize(
    State(state): State<AppState>,
    observation: Observation,
    Body { request, mut ignored, bytes }: Body<TokenizeRequest>,
) -> Result<Response, ApiError> {
    check_model(request.model.as_deref(), &state.model)?;
    ignored.extend(unread_variables(request.chat_template_kwargs.as_ref(), &state)?);
    let bytes_given = request.text_bytes();
    check_size(request.text_field(), bytes_given, &state.model)?;
    observation.charge(estimated_tokens(bytes_given))?;
    let work = state.clone();
    let tokenized = lay_out(&state, &observation, bytes, move |_| request.tokens(&work)).await?;
    Ok(respond(tokenized, &state, &ignored))
}

/// An answer, and on it the fields that had no effect.
fn respond(answer: impl Serialize, state: &AppState, ignored: &[String]) -> Response {
    let mut response = Json(answer).into_response();
    annotate(&mut response, state, ignored, &[]);
    response
}

/// The tokens of a text. A text that is a special token and nothing else is that token: clients ask in this way for
/// the id of what /tokenizer_info names. Anywhere else it would be text.
fn encode(text: &str, parse_special: Option<bool>, model: &ServedModel) -> Result<Vec<TokenId>, ApiError> {
    if parse_special == Some(true) {
        return Ok(model.tokenizer.encode_template(text, false)?);
    }
    let special = model.tokenizer.special_texts().iter().any(|special| special == text);
    match model.tokenizer.token_id(text).filter(|_| special && parse_special.is_none()) {
        Some(token) => Ok(vec![token]),
        None => Ok(model.tokenizer.encode(text)?),
    }
}

/// Refuses a text that would take too much memory to tokenize.
fn check_size(param: &str, bytes: usize, model: &ServedModel) -> Result<(), ApiError> {
    let most = LONGEST_TEXT.max(model.longest_text());
    if bytes <= most {
        return Ok(());
    }
    let allowed = format!("a text of at most {most} bytes; tokenize a longer one in parts");
    Err(out_of_range(param, format!("a text of {bytes} bytes"), allowed))
}

impl TokenizeRequest {
    /// The field that they are in.
    fn text_field(&self) -> &'static str {
        match (&self.prompt, &self.content) {
            (Some(_), _) => "prompt",
            (None, Some(_)) => "content",
            (None, None) => "messages",
        }
    }

    /// Bytes of what is to be tokenized.
    fn text_bytes(&self) -> usize {
        let texts = [&self.prompt, &self.content].into_iter().flatten().map(String::len);
        texts.chain(self.messages.iter().flatten().map(Message::bytes)).sum()
    }

    fn tokens(self, state: &AppState) -> Result<Tokenized, ApiError> {
        let model = &state.model;
        let (ids, start) = match (self.prompt, self.content, self.messages) {
            (Some(text), None, None) => {
                (encode(&text, self.parse_special, model)?, self.add_special_tokens.unwrap_or(true))
            }
            (None, Some(text), None) => {
                (encode(&text, self.parse_special, model)?, self.add_special.unwrap_or(false))
            }
            (None, None, Some(messages)) => {
                let given = GivenMessages {
                    messages,
                    add_generation_prompt: self.add_generation_prompt,
                    continue_final_message: self.continue_final_message,
                    variables: self.chat_template_kwargs,
                };
                let prompt = given.prompt(model)?;
                // A template may repeat what it is given.
                check_size("messages", prompt.text().len(), model)?;
                (tokens(&prompt, model)?, self.add_special_tokens.unwrap_or(true))
            }
            _ => {
                let message = "give exactly one of `prompt`, `content` and `messages`".to_owned();
                return Err(ApiError::Conflict { param: "prompt".to_owned(), message });
            }
        };
        let count = ids.len();
        let ids: Vec<TokenId> =
            model.tokenizer.document_start().filter(|_| start).into_iter().chain(ids).collect();
        let pieces = self.with_pieces.unwrap_or(false);
        let entry = |&id: &TokenId| match (pieces, String::from_utf8(model.tokenizer.bytes(&[id], false))) {
            (false, _) => TokenEntry::Id(id),
            (true, Ok(text)) if text.is_empty() => {
                TokenEntry::WithPiece { id, piece: TokenPiece::Text(model.tokenizer.display(id)) }
            }
            (true, Ok(text)) => TokenEntry::WithPiece { id, piece: TokenPiece::Text(text) },
            (true, Err(error)) => TokenEntry::WithPiece { id, piece: TokenPiece::Bytes(error.into_bytes()) },
        };
        let strings = || ids.iter().map(|id| model.tokenizer.entry(*id)).collect();
        let token_strs = self.return_token_strs.unwrap_or(false).then(strings);
        let tokens = ids.iter().map(entry).collect();
        Ok(Tokenized { tokens, count, max_model_len: model.limits.context, token_strs })
    }
}

/// Tokens to spell.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"tokens": [5, 6, 7]}))]
pub struct DetokenizeRequest {
    /// The model to use; absent or empty means the one served.
    model: Option<String>,
    /// Token ids.
    tokens: Vec<i64>,
}

impl RequestBody for DetokenizeRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
}

/// The text of tokens; special ones have none, and bytes that are no UTF-8 become U+FFFD.
#[derive(Debug, Serialize, ToSchema)]
pub struct Detokenized {
    /// The text, as of vLLM.
    prompt: String,
    /// The same, as of llama.cpp.
    content: String,
}

/// The text of tokens.
#[utoipa::path(post, path = "/detokenize", tag = "text", request_body = DetokenizeRequest, responses(
    (status = 200, description = "The text", body = Detokenized),
))]
pub async fn detokenize(
    State(state): State<AppState>,
    observation: Observation,
    Body { request, ignored, bytes }: Body<DetokenizeRequest>,
) -> Result<Response, ApiError> {
    check_model(request.model.as_deref(), &state.model)?;
    let work = state.clone();
    let text = lay_out(&state, &observation, bytes, move |_| {
        let ids = super::completions::token_ids(&request.tokens, "tokens", &work)?;
        Ok(work.model.tokenizer.decode(&ids, true))
    })
    .await?;
    Ok(respond(Detokenized { prompt: text.clone(), content: text }, &state, &ignored))
}

/// The tokenizer.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenizerInfo {
    /// The name of its kind in the tokenizer's own library.
    tokenizer_class: Option<String>,
    /// Document start.
    bos_token: Option<String>,
    /// Document end.
    eos_token: Option<String>,
    /// Padding; nothing is padded here.
    pad_token: Option<String>,
    /// The token shown at masked positions.
    mask_token: String,
    /// Longest canvas.
    model_max_length: usize,
    /// The chat template, in Jinja.
    chat_template: Option<String>,
}

/// The tokenizer's special tokens and limits.
#[utoipa::path(get, path = "/tokenizer_info", tag = "text", responses(
    (status = 200, description = "The tokenizer", body = TokenizerInfo),
))]
pub async fn info(State(state): State<AppState>) -> Json<TokenizerInfo> {
    let model = &state.model;
    let profile = &model.profile;
    Json(TokenizerInfo {
        tokenizer_class: profile.tokenizer_class.clone(),
        bos_token: profile.bos_token.clone(),
        eos_token: profile.eos_token.clone(),
        pad_token: profile.named_tokens.get("pad_token").cloned(),
        mask_token: profile.mask_token.clone(),
        model_max_length: model.limits.context,
        chat_template: model.chat_template.as_ref().map(|template| template.source().to_owned()),
    })
}
