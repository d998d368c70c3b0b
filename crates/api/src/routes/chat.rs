//! `POST /v1/chat/completions`: OpenAI's chat, through the model's chat template.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unmask_model::tokenizer::TextTokenizer;
use utoipa::ToSchema;

use super::openai::{self, Completion, Dialect, Part, Prepared, StreamOptions};
use super::{check_model, lay_out};
use crate::body::{Body, RequestBody, UnknownFields};
use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::logprobs::ChatLogprobs;
use crate::messages::{GivenMessages, Message, tokens, unread_variables};
use crate::observation::Observation;
use crate::prompt::{Layout, check_text, size};
use crate::request::deadlines::TimeoutHeader;
use crate::request::fields::{integer, object};
use crate::request::options::{GivenOptions, StreamStates};
use crate::request::shared_fields::with_shared_fields;
use crate::route_defaults::Route;
use crate::state::AppState;

/// Positions to generate when the request does not say.
const DEFAULT_TOKENS: usize = 256;

with_shared_fields! {
    [
        temperature top_p top_k min_p frequency_penalty presence_penalty repetition_penalty logit_bias
        min_tokens ignore_eos seed n stop timeout_ms diffusion
    ]
    /// Messages to answer.
    #[derive(Debug, Deserialize, ToSchema)]
    #[schema(example = json!({"messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 16, "seed": 7}))]
    pub struct ChatRequest {
        /// The model to use; absent or empty means the one served.
        model: Option<String>,
        /// The conversation so far, 1 to 256 messages.
        #[schema(min_items = 1, max_items = 256)]
        messages: Vec<Message>,
        /// Positions to generate, an upper bound on the answer's tokens. Default, and -1: 256, less when that does
        /// not fit.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = -1)]
        max_completion_tokens: Option<i64>,
        /// The same; `max_completion_tokens` counts when both are given.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = -1)]
        max_tokens: Option<i64>,
        /// True if the prompt ends with the beginning of the answer. Default true, unless the last message is
        /// continued.
        add_generation_prompt: Option<bool>,
        /// Continue the last message, which is the assistant's, instead of answering. Default false.
        continue_final_message: Option<bool>,
        /// Variables of the chat template, at most 16: strings, numbers or booleans that it reads.
        chat_template_kwargs: Option<BTreeMap<String, Value>>,
        /// Report the log-probability of every token. Default false.
        logprobs: Option<bool>,
        /// Most probable tokens to report at each place; needs `logprobs`. Default 0.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = 0, maximum = 20)]
        top_logprobs: Option<i64>,
        /// Send the answer as it settles.
        stream: Option<bool>,
        /// Stream drafts as Mercury does: every chunk holds the whole text as it is, ▒ at open positions, and
        /// replaces the one before; `diffusion_meta` tells how far it is. The last draft is the answer, and a chunk
        /// without a text closes the stream. Implies `stream`; not with `n` above 1. Default false.
        diffusing: Option<bool>,
        /// Further contents of a stream.
        #[serde(default, deserialize_with = "object")]
        stream_options: Option<StreamOptions>,
    }
}

impl RequestBody for ChatRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
}

/// One answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Number of the sample.
    index: usize,
    /// The answer; not in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<AssistantMessage>,
    /// A chunk's addition to the answer; in a stream only.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta>,
    /// The tokens' log-probabilities, if asked for; in a stream, of the tokens that the chunk completes.
    logprobs: Option<ChatLogprobs>,
    /// `stop`: a document end or a stop string; `length`: the canvas is full.
    finish_reason: Option<&'static str>,
}

/// The model's message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AssistantMessage {
    /// `assistant`.
    role: &'static str,
    /// Its text.
    content: String,
}

/// A part of the model's message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Delta {
    /// `assistant`, in the first chunk of a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// The addition to the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

impl AssistantMessage {
    pub(super) fn new(content: String) -> Self {
        Self { role: "assistant", content }
    }
}

impl Delta {
    pub(super) fn new(first: bool, content: Option<String>) -> Self {
        Self { role: first.then_some("assistant"), content }
    }
}

/// Chat's way to write a text.
struct Chat;

impl Dialect for Chat {
    type Choice = ChatChoice;
    const PREFIX: &'static str = "chatcmpl-";
    const WHOLE: &'static str = "chat.completion";
    const CHUNK: &'static str = "chat.completion.chunk";

    fn whole(index: usize, part: Part, tokenizer: &TextTokenizer) -> ChatChoice {
        let Part { text, tokens, finish_reason, .. } = part;
        let logprobs = tokens.map(|tokens| ChatLogprobs::new(&tokens, tokenizer));
        ChatChoice { index, message: Some(AssistantMessage::new(text)), delta: None, logprobs, finish_reason }
    }

    fn chunk(index: usize, part: Part, tokenizer: &TextTokenizer) -> ChatChoice {
        let Part { first, text, replaces, tokens, finish_reason } = part;
        let logprobs = tokens.map(|tokens| ChatLogprobs::new(&tokens, tokenizer));
        // SDKs expect a string in the first delta, also of an empty answer.
        let content = Some(text).filter(|text| first || replaces || !text.is_empty());
        ChatChoice { index, message: None, delta: Some(Delta::new(first, content)), logprobs, finish_reason }
    }
}

/// Answer messages.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "generation",
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answers; with `stream`, `text/event-stream` of chunks, ended by `data: [DONE]`", body = Completion<ChatChoice>),
    )
)]
pub async fn chat(
    State(state): State<AppState>,
    observation: Observation,
    timeout: TimeoutHeader,
    body: Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let Body { mut request, mut ignored, bytes } = body;
    ignored.extend(unread_variables(request.chat_template_kwargs.as_ref(), &state)?);
    check_model(request.model.as_deref(), &state.model)?;
    let streams = match (request.diffusing, request.stream) {
        (Some(true), Some(false)) => {
            let message =
                "`diffusing` shows drafts in a stream; `stream` must be true or left out".to_owned();
            return Err(ApiError::Conflict { param: "stream".to_owned(), message });
        }
        (Some(true), None) => Some(true),
        (_, stream) => stream,
    };
    let stream = openai::stream(streams, request.stream_options.take())?;
    let prepared = state.clone();
    let work = move |_: &Abandoned| prepare(request, timeout, &prepared);
    let work = lay_out(&state, &observation, bytes, work).await?;
    openai::respond::<Chat>(work, stream, &ignored, &state, observation).await
}

/// Renders and tokenizes the messages and checks every setting.
fn prepare(
    mut request: ChatRequest,
    timeout_header: TimeoutHeader,
    state: &AppState,
) -> Result<Prepared, ApiError> {
    let settings = GivenOptions {
        route: Route::Chat,
        logprobs: chat_logprobs(request.logprobs, request.top_logprobs)?,
        timeout_header,
        ..request.given()
    }
    .validate(state)?;
    let diffusing = request.diffusing.unwrap_or(false);
    let (length, asked) = match (request.max_completion_tokens, request.max_tokens) {
        (Some(tokens), _) => ("max_completion_tokens", Some(tokens)),
        (None, tokens) => ("max_tokens", tokens),
    };
    let size = size(length, asked, DEFAULT_TOKENS, state)?;
    size.check_least(settings.min_tokens_asked)?;
    let given = GivenMessages {
        messages: request.messages,
        add_generation_prompt: request.add_generation_prompt,
        continue_final_message: request.continue_final_message,
        variables: request.chat_template_kwargs,
    };
    let prompt = given.prompt(&state.model)?;
    check_text("messages", prompt.text().len(), &state.model)?;
    let before = tokens(&prompt, &state.model)?;
    let layout = Layout::around(before, Vec::new(), false, size, ("messages", length), state)?;
    if diffusing && settings.samples > 1 {
        let message = "`diffusing` shows the drafts of one answer; `n` must be 1".to_owned();
        return Err(ApiError::Conflict { param: "n".to_owned(), message });
    }
    if diffusing && settings.states != StreamStates::None {
        let message =
            "`diffusing` shows drafts in place of `diffusion.stream_states`; ask for one".to_owned();
        return Err(ApiError::Conflict { param: "diffusion.stream_states".to_owned(), message });
    }
    Ok(Prepared {
        layouts: vec![layout],
        settings,
        echoes: Vec::new(),
        texts: Vec::new(),
        diffusing,
        truncated: false,
    })
}

/// The number of alternatives to report; `None` without log-probabilities.
fn chat_logprobs(wanted: Option<bool>, top: Option<i64>) -> Result<Option<(&'static str, i64)>, ApiError> {
    match (wanted.unwrap_or(false), top.unwrap_or(0)) {
        (true, top) => Ok(Some(("top_logprobs", top))),
        (false, 0) => Ok(None),
        (false, _) => {
            let message = "`top_logprobs` needs `logprobs`: true".to_owned();
            Err(ApiError::Conflict { param: "top_logprobs".to_owned(), message })
        }
    }
}
