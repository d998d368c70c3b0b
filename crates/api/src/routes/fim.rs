//! `POST /v1/fim/completions`: completion between a prompt and a suffix, in the words of two services at
//! once: Mistral's `message` and Inception's `text`.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use unmask_model::tokenizer::TextTokenizer;
use utoipa::ToSchema;

use super::chat::{AssistantMessage, Delta};
use super::completions::{CompletionRequest, answer};
use super::openai::{Completion, Dialect, Part};
use crate::body::{Body, RequestBody, UnknownFields};
use crate::error::ApiError;
use crate::logprobs::TextLogprobs;
use crate::observation::Observation;
use crate::request::deadlines::TimeoutHeader;
use crate::state::AppState;

/// One text, twice.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FimChoice {
    /// Prompt number × n + sample number.
    index: usize,
    /// The text, or what a chunk adds to it.
    text: String,
    /// The same as a message; not in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<AssistantMessage>,
    /// The same as a part of a message; in a stream only.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta>,
    /// The tokens' log-probabilities, if asked for.
    logprobs: Option<TextLogprobs>,
    /// `stop`: a document end or a stop string; `length`: the canvas is full.
    finish_reason: Option<&'static str>,
}

/// The body of /v1/completions, from editors.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct FimRequest(CompletionRequest);

impl RequestBody for FimRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
    const REPAIRS_SURROGATES: bool = true;
}

/// Both services' way to write a text.
struct Fim;

impl Dialect for Fim {
    type Choice = FimChoice;
    const PREFIX: &'static str = "fim-";
    const WHOLE: &'static str = "chat.completion";
    const CHUNK: &'static str = "chat.completion.chunk";
    const EDITOR: bool = true;

    fn whole(index: usize, part: Part, tokenizer: &TextTokenizer) -> FimChoice {
        let Part { text, tokens, finish_reason, .. } = part;
        let message = Some(AssistantMessage::new(text.clone()));
        let logprobs = tokens.map(|tokens| TextLogprobs::new(&tokens, tokenizer));
        FimChoice { index, text, message, delta: None, logprobs, finish_reason }
    }

    fn chunk(index: usize, part: Part, tokenizer: &TextTokenizer) -> FimChoice {
        let Part { first, text, tokens, finish_reason, .. } = part;
        let delta = Some(Delta::new(first, Some(text.clone()).filter(|text| first || !text.is_empty())));
        let logprobs = tokens.map(|tokens| TextLogprobs::new(&tokens, tokenizer));
        FimChoice { index, text, message: None, delta, logprobs, finish_reason }
    }
}

/// Complete the text between `prompt` and `suffix`.
#[utoipa::path(
    post,
    path = "/v1/fim/completions",
    tag = "generation",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The texts; with `stream`, `text/event-stream` of chunks of the same shape, ended by `data: [DONE]`", body = Completion<FimChoice>),
    )
)]
pub async fn fim(
    State(state): State<AppState>,
    observation: Observation,
    timeout: TimeoutHeader,
    Body { request: FimRequest(request), ignored, bytes }: Body<FimRequest>,
) -> Result<Response, ApiError> {
    answer::<Fim>(state, observation, timeout, Body { request, ignored, bytes }).await
}
