//! `POST /v1/completions`: OpenAI's text completion, with a suffix that works.

mod prompts;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use unmask_model::tokenizer::TextTokenizer;
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, Type};

pub(super) use self::prompts::token_ids;
use self::prompts::{Given, prompts, tokens_after};
use super::fill::nearest;
use super::openai::{self, Completion, Dialect, Echo, Part, Prepared, StreamOptions};
use super::{check_model, lay_out};
use crate::body::{Body, RequestBody, UnknownFields};
use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::lengths::LONGEST;
use crate::logprobs::TextLogprobs;
use crate::observation::Observation;
use crate::prompt::{Layout, Size, size};
use crate::request::deadlines::TimeoutHeader;
use crate::request::fields::{alternatives, integer, object};
use crate::request::options::GivenOptions;
use crate::request::ranges::out_of_range;
use crate::request::shared_fields::with_shared_fields;
use crate::route_defaults::Route;
use crate::state::AppState;

/// Positions to generate when the request does not say.
const DEFAULT_TOKENS: usize = 64;

with_shared_fields! {
    [
        temperature top_p top_k min_p frequency_penalty presence_penalty repetition_penalty logit_bias
        min_tokens ignore_eos seed n stop timeout_ms token_healing diffusion
    ]
    /// A text to continue.
    #[derive(Debug, Deserialize, ToSchema)]
    #[schema(example = json!({"prompt": "def add(a, b):\n", "max_tokens": 16, "seed": 7}))]
    pub struct CompletionRequest {
        /// The model to use; absent or empty means the one served.
        model: Option<String>,
        /// The text before the generated one. With a `suffix`, and on /v1/fim/completions, the tokens nearest to the hole are
        /// kept of a text that is too long for the model (`diffusion.truncated`), except with `echo` and `reproduce`.
        prompt: Prompt,
        /// The text after it.
        suffix: Option<String>,
        /// Positions to generate, an upper bound on the text's tokens. Default, and -1: 64, less when that does not
        /// fit. 0 with `echo` alone. With a `suffix` as many as fit between the texts best, from `min_tokens` to this, and
        /// no more than 64 if `min_tokens` asks for none; `reproduce` generates as many as this says. Between a
        /// prompt and a `suffix`, and on /v1/fim/completions, it may be more than the model can generate, except with
        /// `reproduce`.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = -1)]
        max_tokens: Option<i64>,
        /// The same, by the name that it has in chat; this one counts when both are given.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = -1)]
        max_completion_tokens: Option<i64>,
        /// Begin the text with the prompt. Default false. With `logprobs`, the prompt's tokens are scored, as
        /// `diffusion.score` says; `max_tokens` may then be 0. Such an answer cannot be a stream.
        echo: Option<bool>,
        /// Report the log-probability of every token, and of as many of the most probable ones at its place.
        #[serde(default, deserialize_with = "alternatives")]
        #[schema(schema_with = alternatives_schema)]
        logprobs: Option<i64>,
        /// Null, 1 or `n`: all answers are returned.
        #[serde(default, deserialize_with = "integer")]
        best_of: Option<i64>,
        /// Send the text as it settles.
        stream: Option<bool>,
        /// Further contents of a stream.
        #[serde(default, deserialize_with = "object")]
        stream_options: Option<StreamOptions>,
    }
}

/// One prompt or several, as text or as token ids. Ids are the canvas from position 0 on; before text
/// stands the model's document start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string, token ids, or a list of either")]
pub enum Prompt {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Token ids.
    Ids(Vec<i64>),
    /// Lists of token ids.
    IdLists(Vec<Vec<i64>>),
}

/// A number, or false, which asks for none.
fn alternatives_schema() -> OneOfBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(20));
    let none = ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([false]));
    let description = "Report the log-probability of every token, and of as many of the most probable ones at its \
                       place. False and null ask for nothing.";
    let null = ObjectBuilder::new().schema_type(Type::Null);
    OneOfBuilder::new().item(number).item(none).item(null).description(Some(description))
}

impl RequestBody for CompletionRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
}

/// One text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Choice {
    /// Prompt number × n + sample number.
    index: usize,
    /// The text, or what a chunk adds to it.
    text: String,
    /// The tokens' log-probabilities, if asked for; in a stream, of the tokens that the chunk completes.
    logprobs: Option<TextLogprobs>,
    /// `stop`: a document end or a stop string; `length`: the canvas is full.
    finish_reason: Option<&'static str>,
}

/// Text completion's way to write a text.
struct Plain;

impl Dialect for Plain {
    type Choice = Choice;
    const PREFIX: &'static str = "cmpl-";
    const WHOLE: &'static str = "text_completion";
    const CHUNK: &'static str = "text_completion";

    fn whole(index: usize, part: Part, tokenizer: &TextTokenizer) -> Choice {
        let Part { text, tokens, finish_reason, .. } = part;
        let logprobs = tokens.map(|tokens| TextLogprobs::new(&tokens, tokenizer));
        Choice { index, text, logprobs, finish_reason }
    }

    fn chunk(index: usize, part: Part, tokenizer: &TextTokenizer) -> Choice {
        Self::whole(index, part, tokenizer)
    }
}

/// Continue a text.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "generation",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The texts; with `stream`, `text/event-stream` of chunks of the same shape, ended by `data: [DONE]`", body = Completion<Choice>),
    )
)]
pub async fn complete(
    State(state): State<AppState>,
    observation: Observation,
    timeout: TimeoutHeader,
    body: Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    answer::<Plain>(state, observation, timeout, body).await
}

/// The same in any route's way to write a text.
///
/// # Errors
/// As the routes say.
pub(super) async fn answer<D: Dialect>(
    state: AppState,
    observation: Observation,
    timeout: TimeoutHeader,
    Body { mut request, ignored, bytes }: Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    check_model(request.model.as_deref(), &state.model)?;
    let stream = openai::stream(request.stream, request.stream_options.take())?;
    let prepared = state.clone();
    let work = move |abandoned: &Abandoned| prepare(request, timeout, &prepared, abandoned, D::EDITOR);
    let work = lay_out(&state, &observation, bytes, work).await?;
    openai::respond::<D>(work, stream, &ignored, &state, observation).await
}

/// Tokenizes the prompts and checks every setting.
fn prepare(
    mut request: CompletionRequest,
    timeout_header: TimeoutHeader,
    state: &AppState,
    abandoned: &Abandoned,
    editor: bool,
) -> Result<Prepared, ApiError> {
    let echo = request.echo.unwrap_or(false);
    check_best_of(&request)?;
    let filled = request.suffix.as_deref().is_some_and(|suffix| !suffix.is_empty());
    let settings = GivenOptions {
        route: if filled { Route::Fill } else { Route::Complete },
        logprobs: request.logprobs.map(|alternatives| ("logprobs", alternatives)),
        echo,
        editor: editor || filled,
        timeout_header,
        ..request.given()
    }
    .validate(state)?;
    let editor = editor && !settings.reproduce;
    let (length, max_tokens) = asked_length(&request);
    // Editors send files of any length: what is nearest to the cursor is kept.
    let cuts = (editor || request.suffix.is_some()) && !settings.reproduce && !echo;
    let after = tokens_after(request.suffix.as_deref(), cuts, state)?;
    let between = !after.is_empty() && !settings.reproduce;
    let size = positions((length, max_tokens), echo, between || editor, state)?;
    size.check_least(settings.min_tokens_asked)?;
    // Between two texts, as many as fit there best.
    let found = between && size != Size::Exactly(0);
    let bounded = editor && size != Size::Exactly(0);
    let bound = if found { LONGEST.max(settings.min_tokens) } else { state.limits.canvas };
    let size = if found || bounded { size.at_most(bound) } else { size };
    let mut layouts = Vec::new();
    let mut echoes = Vec::new();
    let mut texts = Vec::new();
    let mut truncated = false;
    for prompt in prompts(request.prompt, cuts, state, abandoned)? {
        let Given { text, tokens, ids_given } = prompt;
        let names = ("prompt", length);
        let mut around = [tokens.clone(), after.clone()];
        if cuts && !ids_given {
            let (Size::Exactly(most) | Size::AtMost(most)) = size;
            truncated |= nearest::make_room(&mut around, most.max(settings.min_tokens), &state.model);
        }
        let [before, after] = around;
        let layout = Layout::around(before, after, ids_given, size, names, state)?.healing(settings.healing);
        let layout = if found { layout.at_least(settings.min_tokens) } else { layout };
        let bos = layout.bos(&state.model);
        if let Some(scoring) = settings.scoring {
            texts.push(scoring.text(bos, &tokens, &settings, &state.model)?);
        }
        if echo {
            let text = text.unwrap_or_else(|| state.model.tokenizer.decode(&tokens, true));
            echoes.push(Echo { text, tokens, first: usize::from(bos.is_some()) });
        }
        layouts.push(layout);
    }
    Ok(Prepared { layouts, settings, echoes, texts, diffusing: false, truncated })
}

/// Refuses to choose among more texts than are shown.
fn check_best_of(request: &CompletionRequest) -> Result<(), ApiError> {
    if request.best_of.is_some_and(|best_of| best_of != 1 && Some(best_of) != request.n) {
        let neutral = "null, 1 or the value of `n`".to_owned();
        return Err(ApiError::Unsupported { param: "best_of".to_owned(), neutral });
    }
    Ok(())
}

/// The field that says how many tokens are wanted, and its value: the newer one where both are given.
fn asked_length(request: &CompletionRequest) -> (&'static str, Option<i64>) {
    match request.max_completion_tokens {
        Some(given) => ("max_completion_tokens", Some(given)),
        None => ("max_tokens", request.max_tokens),
    }
}

/// The positions to generate, by the field that `length` names. What is a `maximum` may be more than there can be.
fn positions(
    (length, given): (&'static str, Option<i64>),
    echo: bool,
    maximum: bool,
    state: &AppState,
) -> Result<Size, ApiError> {
    let most = state.limits.canvas;
    match given {
        // A request that scores a text generates none.
        Some(0) if echo => Ok(Size::Exactly(0)),
        Some(0) => Err(out_of_range(length, 0, format!("from 1 to {most}, or 0 with `echo`"))),
        Some(asked) if maximum && asked > most as i64 => Ok(Size::AtMost(most)),
        Some(asked) if maximum && asked < -1 => {
            Err(out_of_range(length, asked, "at least 1, or -1 for the usual most"))
        }
        given => size(length, given, DEFAULT_TOKENS, state),
    }
}
