//! `POST /v1/completions`: OpenAI's text completion, with a suffix that works.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use unmask_model::predictor::TokenId;
use unmask_scheduler::Timings;
use utoipa::ToSchema;

use super::{annotate, check_model, check_states, lay_out, put_times};
use crate::body::{Body, RequestBody, UnknownFields, integer, object};
use crate::deadlines::TimeoutHeader;
use crate::error::{ApiError, ErrorBody};
use crate::generation::{Running, Step};
use crate::observation::Observation;
use crate::options::{GivenOptions, Settings, StreamStates, Strings};
use crate::policy_options::DiffusionOptions;
use crate::prompt::{Layout, size};
use crate::report::{DiffusionReport, StateEvent, Thinned, Usage, unix_seconds};
use crate::sse::{self, Grammar, KEEP_ALIVE, json_event};
use crate::state::AppState;
use crate::text_view::End;

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
    /// Positions to generate, an upper bound on the text's tokens. Default 64, less when that does not
    /// fit.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    max_tokens: Option<i64>,
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
    #[serde(default, deserialize_with = "integer")]
    seed: Option<i64>,
    /// Answers per prompt. Default 1.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    n: Option<i64>,
    /// The text ends before the first of these.
    stop: Option<Strings>,
    /// Send the text as it settles.
    stream: Option<bool>,
    /// Milliseconds from the request's arrival until it is given up, with the text that is settled by then
    /// (`early_exit`: `timeout`) or, without any, 504. At most, and by default, the server's own limit
    /// (`limits.timeout_ms` of /v1/models; null: four times what the request takes alone, at least 120,000).
    /// The header `x-request-timeout-ms` says the same; the earlier one counts.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    timeout_ms: Option<i64>,
    /// What else a stream carries.
    #[serde(default, deserialize_with = "object")]
    stream_options: Option<StreamOptions>,
    /// How the canvas is denoised.
    #[serde(default, deserialize_with = "object")]
    diffusion: Option<DiffusionOptions>,
}

/// What else a stream carries.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct StreamOptions {
    /// A last chunk with `usage` and no choices.
    include_usage: Option<bool>,
    /// Accepted; no padding is sent.
    include_obfuscation: Option<bool>,
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

impl RequestBody for CompletionRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
}

/// The answer, and every chunk of a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Completion {
    /// `cmpl-` and the request's id.
    id: String,
    /// `text_completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The model.
    model: String,
    /// Names the build, the weights and where they are computed.
    system_fingerprint: String,
    /// The texts: prompt after prompt, each with its `n` answers.
    choices: Vec<Choice>,
    /// Tokens used.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    /// How it was denoised; in a stream, the report in the last chunk of each choice and denoising
    /// states in others.
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion: Option<Diffusion>,
}

/// One text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Choice {
    /// Prompt number × n + sample number.
    index: usize,
    /// The text, or what a chunk adds to it.
    text: String,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    logprobs: (),
    /// `stop`: a document end or a stop string; `length`: the canvas is full.
    finish_reason: Option<&'static str>,
}

/// What a chunk says about denoising.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Diffusion {
    /// At the end.
    Report(DiffusionReport),
    /// On the way.
    State(StateEvent),
}

/// Continue a text.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "generation",
    params(("x-request-timeout-ms" = Option<u64>, Header, description = "The same as `timeout_ms`")),
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The texts; with `stream`, `text/event-stream` of chunks of the same shape, ended by `data: [DONE]`", body = Completion),
        (status = 400, description = "The request is wrong; `param` and `code` say where", body = ErrorBody),
        (status = 503, description = "The queue is full or the server is stopping; see `Retry-After`", body = ErrorBody),
        (status = 504, description = "Its time was over before any text was settled", body = ErrorBody),
    )
)]
pub async fn complete(
    State(state): State<AppState>,
    observation: Observation,
    timeout: TimeoutHeader,
    body: Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let Body { request, ignored } = body;
    check_model(request.model.as_deref(), &state.model)?;
    let stream = request.stream.unwrap_or(false);
    if request.stream_options.is_some() && !stream {
        let message = "`stream_options` needs `stream`: true".to_owned();
        return Err(ApiError::Conflict { param: "stream_options".to_owned(), message });
    }
    let with_usage = request.stream_options.as_ref().and_then(|options| options.include_usage);
    let prepared = state.clone();
    let (layouts, settings) = lay_out(&state, move || prepare(request, timeout, &prepared)).await?;
    check_states(&settings, stream)?;
    let mut running = Running::start(&layouts, &settings, &state, observation.clone())?;
    let prompt_tokens = layouts.iter().map(Layout::prompt_tokens).sum();
    let (id, created) = (format!("cmpl-{}", observation.id()), unix_seconds());
    let answer = Answer { id, created, state: state.clone(), settings, prompt_tokens };
    let mut response = if stream {
        observation.streams();
        let sent = vec![0; running.views.len()];
        let with_usage = with_usage.unwrap_or(false);
        sse::respond(running, Chunks { answer, sent, with_usage, thinned: Thinned::default() }).await?
    } else {
        let timings = running.finish().await?;
        put_times(Json(answer.whole(&running, &timings)).into_response(), &timings)
    };
    annotate(&mut response, &state, &ignored, &layouts);
    Ok(response)
}

/// Tokenizes the prompts and checks every setting.
fn prepare(
    request: CompletionRequest,
    timeout_header: TimeoutHeader,
    state: &AppState,
) -> Result<(Vec<Layout>, Settings), ApiError> {
    let settings = GivenOptions {
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
        diffusion: request.diffusion,
        timeout_header,
        timeout_ms: request.timeout_ms,
    }
    .validate(state)?;
    let (prompt, suffix, max_tokens) = (request.prompt, request.suffix, request.max_tokens);
    let tokenizer = &state.model.tokenizer;
    // Some editors send the document end where there is no suffix.
    let eos = state.model.profile.eos_token.as_deref();
    let after = match suffix.as_deref().filter(|suffix| Some(*suffix) != eos) {
        Some(suffix) => tokenizer.encode_piece(suffix)?,
        None => Vec::new(),
    };
    let size = size("max_tokens", max_tokens, DEFAULT_TOKENS, state)?;
    let prompts: Vec<(Vec<TokenId>, bool)> = match prompt {
        Prompt::Text(text) => vec![(tokenizer.encode(&text)?, false)],
        Prompt::Texts(texts) => {
            texts.iter().map(|text| Ok((tokenizer.encode(text)?, false))).collect::<Result<_, ApiError>>()?
        }
        Prompt::Ids(ids) => vec![(token_ids(&ids, state)?, true)],
        Prompt::IdLists(lists) => {
            lists.iter().map(|ids| Ok((token_ids(ids, state)?, true))).collect::<Result<_, ApiError>>()?
        }
    };
    let most = state.limits.prompts;
    if prompts.is_empty() || prompts.len() > most {
        return Err(crate::options::out_of_range(
            "prompt",
            format!("a list of {}", prompts.len()),
            format!("a list of 1 to {most}"),
        ));
    }
    let mut layouts = Vec::with_capacity(prompts.len());
    for (before, ids_given) in prompts {
        let names = ("prompt", "max_tokens");
        layouts.push(Layout::around(before, after.clone(), ids_given, size, names, state)?);
    }
    Ok((layouts, settings))
}

fn token_ids(ids: &[i64], state: &AppState) -> Result<Vec<TokenId>, ApiError> {
    let rows = state.model.limits.vocabulary;
    let id = |&id: &i64| {
        let valid = TokenId::try_from(id).ok().filter(|id| (*id as usize) < rows);
        valid.ok_or_else(|| ApiError::Body {
            code: "invalid_token",
            param: Some("prompt".to_owned()),
            message: format!("token id {id} is out of range; this model's vocabulary is 0 to {}", rows - 1),
        })
    };
    ids.iter().map(id).collect()
}

/// What all of an answer's parts share.
struct Answer {
    id: String,
    created: u64,
    state: AppState,
    settings: Settings,
    prompt_tokens: usize,
}

impl Answer {
    fn chunk(&self, choices: Vec<Choice>, usage: Option<Usage>, diffusion: Option<Diffusion>) -> Completion {
        let model = &self.state.model;
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: model.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
            choices,
            usage,
            diffusion,
        }
    }

    fn kept(&self, running: &Running) -> usize {
        (0..running.views.len()).map(|index| running.text(index).tokens).sum()
    }

    fn whole(&self, running: &Running, timings: &Timings) -> Completion {
        let choice = |index| {
            let text = running.text(index);
            Choice { index, logprobs: (), finish_reason: Some(reason(text.end)), text: text.text }
        };
        let kept = self.kept(running);
        let report = DiffusionReport::new(&self.settings, timings, &running.views, kept);
        self.chunk(
            (0..running.views.len()).map(choice).collect(),
            Some(Usage::new(self.prompt_tokens, kept)),
            Some(Diffusion::Report(report)),
        )
    }
}

fn reason(end: End) -> &'static str {
    match end {
        End::Full => "length",
        End::Eos | End::Stop => "stop",
    }
}

/// OpenAI's stream: chunks with exactly one choice, text that only ever grows, one final chunk per
/// choice, `[DONE]`.
struct Chunks {
    answer: Answer,
    /// Bytes of each choice's text that were sent.
    sent: Vec<usize>,
    with_usage: bool,
    thinned: Thinned,
}

impl Chunks {
    fn event(
        &self,
        index: usize,
        text: String,
        finish_reason: Option<&'static str>,
        diffusion: Option<Diffusion>,
    ) -> Event {
        let choice = Choice { index, text, logprobs: (), finish_reason };
        json_event(&self.answer.chunk(vec![choice], None, diffusion))
    }

    fn state_event(&self, state: StateEvent, index: usize) -> Event {
        self.event(index, String::new(), None, Some(Diffusion::State(state)))
    }

    /// What the text of a choice has gained since it was last sent.
    fn gained(&mut self, running: &Running, index: usize) -> Option<String> {
        let text = running.text(index).text;
        let gained = text.get(self.sent[index]..).filter(|gained| !gained.is_empty())?.to_owned();
        self.sent[index] = text.len();
        Some(gained)
    }
}

impl Grammar for Chunks {
    fn start(&mut self, running: &Running) -> Vec<Event> {
        if self.answer.settings.states == StreamStates::None {
            return Vec::new();
        }
        let start =
            |(c, progress)| self.state_event(StateEvent::start(c, progress, &self.answer.settings), c);
        running.views.iter().enumerate().map(start).collect()
    }

    fn step(&mut self, running: &Running, step: Step) -> Vec<Event> {
        let Step { sample: c, edits, .. } = step;
        let mut events = Vec::new();
        let settings = &self.answer.settings;
        if settings.states == StreamStates::Delta
            && let Some(edits) = self.thinned.due(c, edits, &running.views[c], settings.state_every)
        {
            let state = StateEvent::step(c, &running.views[c], &edits, &self.answer.state.model);
            events.push(self.state_event(state, c));
        }
        if let Some(text) = self.gained(running, c) {
            events.push(self.event(c, text, None, None));
        }
        events
    }

    fn finish(&mut self, running: &Running, timings: &Timings) -> Vec<Event> {
        let mut events = Vec::new();
        let kept = self.answer.kept(running);
        let report = DiffusionReport::new(&self.answer.settings, timings, &running.views, kept);
        for (c, progress) in running.views.iter().enumerate() {
            if let Some(text) = self.gained(running, c) {
                events.push(self.event(c, text, None, None));
            }
            let text = running.text(c);
            if self.answer.settings.states == StreamStates::Delta {
                events.push(self.state_event(StateEvent::end(c, progress, &text), c));
            }
            let report = Diffusion::Report(report.clone());
            events.push(self.event(c, String::new(), Some(reason(text.end)), Some(report)));
        }
        if self.with_usage {
            let usage = Usage::new(self.answer.prompt_tokens, kept);
            events.push(json_event(&self.answer.chunk(Vec::new(), Some(usage), None)));
        }
        events.push(Event::default().data("[DONE]"));
        events
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Event> {
        vec![json_event(&ErrorBody { error: error.object() }), Event::default().data("[DONE]")]
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive::new().interval(KEEP_ALIVE)
    }
}
