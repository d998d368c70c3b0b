//! `POST /v1/completions`: OpenAI's text completion, with a suffix that works.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::TextTokenizer;
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, Type};

use super::openai::{self, Completion, Dialect, Echo, Part, Prepared, StreamOptions};
use super::{check_model, lay_out};
use crate::body::{Body, RequestBody, UnknownFields};

use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::lengths::LONGEST;
use crate::logprobs::TextLogprobs;
use crate::observation::Observation;
use crate::request::deadlines::TimeoutHeader;
use crate::request::fields::{alternatives, integer, object};
use crate::request::options::{GivenOptions, Strings};

use crate::prompt::{Layout, Size, check_text, size, unseen_suffix};
use crate::request::policy_options::DiffusionOptions;
use crate::request::ranges::out_of_range;
use crate::request::seed::Seed;
use crate::route_defaults::Route;
use crate::state::AppState;

/// Positions to generate when the request does not say.
const DEFAULT_TOKENS: usize = 64;

/// A text to continue.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"prompt": "def add(a, b):\n", "max_tokens": 16, "seed": 7}))]
pub struct CompletionRequest {
    /// The model to use; absent or empty means the one served.
    model: Option<String>,
    /// The text before the generated one.
    prompt: Prompt,
    /// The text after it.
    suffix: Option<String>,
    /// Positions to generate, an upper bound on the text's tokens. Default, and -1: 64, less when that does not
    /// fit. 0 with `echo` alone. With a `suffix` as many as fit between the texts best, from `min_tokens` to this, and
    /// no more than 64 if `min_tokens` asks for none; `reproduce` generates as many as this says.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = -1)]
    max_tokens: Option<i64>,
    /// The same, by the name that it has in chat; this one counts when both are given.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = -1)]
    max_completion_tokens: Option<i64>,
    /// Leading positions in which no document end is drawn. Default 0.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 0)]
    min_tokens: Option<i64>,
    /// No document end is drawn anywhere. Default false.
    ignore_eos: Option<bool>,
    /// Divides the logits; 0 takes the most probable tokens. Default: the model's.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Nucleus mass. Default: the model's.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Only the k most probable tokens may be drawn; 0 and -1 are off.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    /// Drops tokens below this share of the largest probability. Default 0.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Subtracted from a token's logit per occurrence generated so far. Tokens committed by the same
    /// evaluation do not see each other. Default 0.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Subtracted from the logit of a token that was generated at all. Default 0.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// Divides positive logits of tokens on the canvas, given ones included, and multiplies negative
    /// ones. Default 1.
    #[schema(minimum = 0.1, maximum = 10)]
    repetition_penalty: Option<f64>,
    /// Added to the logits of tokens, by id.
    logit_bias: Option<BTreeMap<String, f64>>,
    /// The answer is a function of the request and this number. Default: random, and returned.
    /// `random_seed` is the same.
    #[serde(alias = "random_seed")]
    seed: Option<Seed>,
    /// Answers per prompt. Default 1.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    n: Option<i64>,
    /// The text ends before the first of these.
    stop: Option<Strings>,
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
    /// Milliseconds from the request's arrival until it is given up, with the text that is settled by then
    /// (`early_exit`: `timeout`) or, without any, 504. At most, and by default, the server's own limit
    /// (`limits.timeout_ms` of /v1/models; null: four times what the request takes alone, at least 120,000).
    /// The header `x-request-timeout-ms` says the same; the earlier one counts.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    timeout_ms: Option<i64>,
    /// Further contents of a stream.
    #[serde(default, deserialize_with = "object")]
    stream_options: Option<StreamOptions>,
    /// Heal a blank or a word that the text before or after the hole cuts: the hole's first token brings the blank,
    /// and a word that the model continues is continued as one. The given text stays as it is. Default true;
    /// `reproduce` turns it off.
    token_healing: Option<bool>,
    /// Settings of the denoising.
    #[serde(default, deserialize_with = "object")]
    diffusion: Option<DiffusionOptions>,
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
    let work = move |abandoned: &Abandoned| prepare(request, timeout, &prepared, abandoned);
    let work = lay_out(&state, &observation, bytes, work).await?;
    openai::respond::<D>(work, stream, &ignored, &state, observation).await
}

/// Tokenizes the prompts and checks every setting.
fn prepare(
    request: CompletionRequest,
    timeout_header: TimeoutHeader,
    state: &AppState,
    abandoned: &Abandoned,
) -> Result<Prepared, ApiError> {
    let echo = request.echo.unwrap_or(false);
    if request.best_of.is_some_and(|best_of| best_of != 1 && Some(best_of) != request.n) {
        let neutral = "null, 1 or the value of `n`".to_owned();
        return Err(ApiError::Unsupported { param: "best_of".to_owned(), neutral });
    }
    let filled = request.suffix.as_deref().is_some_and(|suffix| !suffix.is_empty());
    let settings = GivenOptions {
        route: if filled { Route::Fill } else { Route::Complete },
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        repetition_penalty: request.repetition_penalty,
        logit_bias: request.logit_bias,
        min_tokens: request.min_tokens,
        ignore_eos: request.ignore_eos,
        seed: request.seed,
        n: request.n,
        stop: request.stop,
        logprobs: request.logprobs.map(|alternatives| ("logprobs", alternatives)),
        echo,
        token_healing: request.token_healing,
        editor: filled,
        diffusion: request.diffusion,
        timeout_header,
        timeout_ms: request.timeout_ms,
    }
    .validate(state)?;
    let prompt = request.prompt;
    let suffix = request.suffix;
    let (length, max_tokens) = match request.max_completion_tokens {
        Some(given) => ("max_completion_tokens", Some(given)),
        None => ("max_tokens", request.max_tokens),
    };
    let tokenizer = &state.model.tokenizer;
    // Some editors send the document end where there is no suffix.
    let eos = state.model.profile.eos_token.as_deref();
    let after = match suffix.as_deref().filter(|suffix| Some(*suffix) != eos) {
        Some(suffix) => {
            check_text("suffix", suffix.len(), &state.model)?;
            tokenizer.encode_piece(suffix)?
        }
        None => Vec::new(),
    };
    if let (Some(block), false) = (state.model.block(), after.is_empty()) {
        return Err(unseen_suffix("suffix", block));
    }
    let size = match max_tokens {
        // A request that scores a text generates none.
        Some(0) if echo => Size::Exactly(0),
        given => size(length, given, DEFAULT_TOKENS, state)?,
    };
    size.check_least(settings.min_tokens)?;
    // Between two texts, as many as fit there best.
    let found = !after.is_empty() && !settings.reproduce && size != Size::Exactly(0);
    let size = if found { size.at_most(LONGEST.max(settings.min_tokens)) } else { size };
    let mut layouts = Vec::new();
    let mut echoes = Vec::new();
    let mut texts = Vec::new();
    for prompt in prompts(prompt, state, abandoned)? {
        let Given { text, tokens, ids_given } = prompt;
        let names = ("prompt", length);
        let layout = Layout::around(tokens.clone(), after.clone(), ids_given, size, names, state)?
            .healing(settings.healing);
        let layout = if found { layout.at_least(settings.min_tokens) } else { layout };
        let bos = layout.bos(&state.model);
        if let Some(scoring) = settings.scoring {
            texts.push(scoring.text(bos, &tokens, &settings, &state.model)?);
        }
        if echo {
            let text = text.unwrap_or_else(|| tokenizer.decode(&tokens, true));
            echoes.push(Echo { text, tokens, first: usize::from(bos.is_some()) });
        }
        layouts.push(layout);
    }
    Ok(Prepared { layouts, settings, echoes, texts, diffusing: false })
}

/// One prompt.
struct Given {
    /// The prompt as given; `None` if it was given as ids.
    text: Option<String>,
    tokens: Vec<TokenId>,
    ids_given: bool,
}

/// Tokenizes the prompts.
fn prompts(prompt: Prompt, state: &AppState, abandoned: &Abandoned) -> Result<Vec<Given>, ApiError> {
    let (texts, lists) = match prompt {
        Prompt::Text(text) => (vec![text], Vec::new()),
        Prompt::Texts(texts) => (texts, Vec::new()),
        Prompt::Ids(ids) => (Vec::new(), vec![ids]),
        Prompt::IdLists(lists) => (Vec::new(), lists),
    };
    let most = state.limits.prompts;
    let given = texts.len() + lists.len();
    if !(1..=most).contains(&given) {
        return Err(out_of_range("prompt", format!("a list of {given}"), format!("a list of 1 to {most}")));
    }
    // All of them before any is tokenized.
    texts.iter().try_for_each(|text| check_text("prompt", text.len(), &state.model))?;
    let text = |text: String| {
        if abandoned.is_set() {
            return Err(ApiError::Abandoned);
        }
        let tokens = state.model.tokenizer.encode(&text)?;
        Ok(Given { text: Some(text), tokens, ids_given: false })
    };
    let ids =
        |ids: &Vec<i64>| Ok(Given { text: None, tokens: token_ids(ids, "prompt", state)?, ids_given: true });
    texts.into_iter().map(text).chain(lists.iter().map(ids)).collect()
}

/// Ids that the model has; `param` is the field they are given in.
///
/// # Errors
/// One is out of range.
pub(super) fn token_ids(ids: &[i64], param: &str, state: &AppState) -> Result<Vec<TokenId>, ApiError> {
    let rows = state.model.limits.vocabulary;
    let id = |&id: &i64| {
        let valid = TokenId::try_from(id).ok().filter(|id| (*id as usize) < rows);
        valid.ok_or_else(|| ApiError::Body {
            code: "invalid_token",
            param: Some(param.to_owned()),
            message: format!("token id {id} is out of range; this model's vocabulary is 0 to {}", rows - 1),
        })
    };
    ids.iter().map(id).collect()
}
