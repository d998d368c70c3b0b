//! `POST /fill`: infilling, the native route.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use unmask_scheduler::Timings;
use utoipa::ToSchema;

use super::{annotate, check_model, check_states, lay_out, put_times};
use crate::body::{Body, RequestBody, UnknownFields, integer, object};
use crate::deadlines::TimeoutHeader;
use crate::error::{ApiError, ErrorBody};
use crate::generation::{Running, Step};
use crate::metrics::labels::Ending;
use crate::observation::Observation;
use crate::options::{GivenOptions, Settings, StreamStates, Strings};
use crate::policy_options::DiffusionOptions;
use crate::prompt::{Layout, Size, keep_nearest, size};
use crate::report::{DiffusionReport, StateEvent, Thinned, Usage, unix_seconds};
use crate::sse::{self, Grammar, KEEP_ALIVE, json_event};
use crate::state::AppState;

/// Positions to generate when the request does not say.
const DEFAULT_LENGTH: usize = 32;

/// A text with a hole in it. Fields that are not listed are refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"prefix": "def add(a, b):\n", "suffix": "\n", "length": 12, "seed": 7}))]
pub struct FillRequest {
    /// The model to use; absent or empty means the one served.
    model: Option<String>,
    /// The text before the hole.
    #[serde(default)]
    prefix: Option<String>,
    /// The text after the hole.
    #[serde(default)]
    suffix: Option<String>,
    /// Positions of the hole. Default 32, less when that does not fit.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    length: Option<i64>,
    /// When the text around the hole does not fit the model: true (the default) keeps what is nearest to
    /// the hole, two thirds of it before, and says so in `truncated`; false refuses.
    truncate: Option<bool>,
    /// Allow an empty prefix together with an empty suffix.
    allow_empty: Option<bool>,
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
    /// Answers. Default 1.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    n: Option<i64>,
    /// The hole's text ends before the first of these.
    stop: Option<Strings>,
    /// Send events as the hole fills.
    stream: Option<bool>,
    /// Milliseconds from the request's arrival until it is given up, with the text that is settled by then
    /// (`early_exit`: `timeout`) or, without any, 504. At most, and by default, the server's own limit
    /// (`limits.timeout_ms` of /v1/models; null: four times what the request takes alone, at least 120,000).
    /// The header `x-request-timeout-ms` says the same; the earlier one counts.
    #[serde(default, deserialize_with = "integer")]
    #[schema(minimum = 1)]
    timeout_ms: Option<i64>,
    /// Which of `text` and `holes` to return. Default both.
    #[serde(rename = "return")]
    parts: Option<Parts>,
    /// How the canvas is denoised. `stream_states` is `delta` here by default.
    #[serde(default, deserialize_with = "object")]
    diffusion: Option<DiffusionOptions>,
    /// Accepted and forgotten.
    #[expect(dead_code, reason = "known to clients, without effect")]
    user: Option<String>,
}

/// Which parts of a choice to return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// The holes alone.
    Holes,
    /// The whole text alone.
    Full,
    /// Both.
    #[default]
    Both,
}

impl RequestBody for FillRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refuse;
}

/// The answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Filled {
    /// `fill-` and the request's id.
    id: String,
    /// `fill`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The model.
    model: String,
    /// Names the build, the weights and where they are computed.
    system_fingerprint: String,
    /// The answers.
    choices: Vec<FilledChoice>,
    /// Whether text around the hole was left out of what the model saw.
    truncated: bool,
    /// Tokens used.
    usage: Usage,
    /// How it was denoised.
    diffusion: DiffusionReport,
}

/// One way to fill the hole.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FilledChoice {
    /// Sample number.
    index: usize,
    /// Prefix, hole and suffix. The caller's own text comes back byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Mean log-probability (nats) of the tokens in the hole; null when it is empty.
    score: Option<f64>,
    /// The holes.
    #[serde(skip_serializing_if = "Option::is_none")]
    holes: Option<Vec<FilledHole>>,
}

/// One hole.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FilledHole {
    /// Its name.
    id: String,
    /// Its text.
    text: String,
    /// Where it starts in the whole text, in Unicode scalar values.
    start: usize,
    /// Where it ends.
    end: usize,
    /// Tokens of its text.
    tokens: usize,
    /// Positions that were generated.
    length: usize,
    /// `filled`; `stop` or `eos`, which cut the text; `time_budget`, when one evaluation committed what was
    /// open; `timeout`, when the text is what was settled at the deadline.
    finish_reason: &'static str,
    /// Mean log-probability (nats) of its tokens; null when it is empty.
    mean_logprob: Option<f64>,
}

const DESCRIPTION: &str = "The filled text; with `stream`, named events: `fill.start`, `fill.state`, `fill.hole`, \
                           `fill.done` (this object) or `error`, and `ping` in times of silence";

/// Fill a hole in a text.
#[utoipa::path(
    post,
    path = "/fill",
    tag = "generation",
    params(("x-request-timeout-ms" = Option<u64>, Header, description = "The same as `timeout_ms`")),
    request_body = FillRequest,
    responses(
        (status = 200, description = DESCRIPTION, body = Filled),
        (status = 400, description = "The request is wrong; `param` and `code` say where", body = ErrorBody),
        (status = 503, description = "The queue is full or the server is stopping; see `Retry-After`", body = ErrorBody),
        (status = 504, description = "Its time was over before any text was settled", body = ErrorBody),
    )
)]
pub async fn fill(
    State(state): State<AppState>,
    observation: Observation,
    timeout: TimeoutHeader,
    body: Body<FillRequest>,
) -> Result<Response, ApiError> {
    let mut request = body.request;
    check_model(request.model.as_deref(), &state.model)?;
    let stream = request.stream.unwrap_or(false);
    if stream {
        request.diffusion.get_or_insert_default().stream_states.get_or_insert(StreamStates::Delta);
    }
    let parts = request.parts.unwrap_or_default();
    let prefix = request.prefix.take().unwrap_or_default();
    let suffix = request.suffix.take().unwrap_or_default();
    let prepared = state.clone();
    let (layout, settings, around) = lay_out(&state, move || {
        let around = Around { prefix, suffix };
        let (layout, truncated, settings) = prepare(request, timeout, &around, &prepared)?;
        Ok((layout, settings, (around, truncated)))
    })
    .await?;
    check_states(&settings, stream)?;
    let layouts = [layout];
    let mut running = Running::start(&layouts, &settings, &state, observation.clone())?;
    let (around, truncated) = around;
    let prompt_tokens = layouts[0].prompt_tokens();
    let answer = Answer {
        id: format!("fill-{}", observation.id()),
        created: unix_seconds(),
        state: state.clone(),
        settings,
        around,
        parts,
        truncated,
        prompt_tokens,
    };
    let mut response = if stream {
        observation.streams();
        sse::respond(running, Events { answer, seq: 0, thinned: Thinned::default() }).await?
    } else {
        let timings = running.finish().await?;
        put_times(Json(answer.whole(&running, &timings)).into_response(), &timings)
    };
    annotate(&mut response, &state, &[], &layouts);
    Ok(response)
}

/// Fill a hole in a text (the same as `/fill`).
#[utoipa::path(
    post,
    path = "/v1/fill",
    tag = "generation",
    params(("x-request-timeout-ms" = Option<u64>, Header, description = "The same as `timeout_ms`")),
    request_body = FillRequest,
    responses(
        (status = 200, description = DESCRIPTION, body = Filled),
        (status = 400, description = "The request is wrong; `param` and `code` say where", body = ErrorBody),
        (status = 503, description = "The queue is full or the server is stopping; see `Retry-After`", body = ErrorBody),
        (status = 504, description = "Its time was over before any text was settled", body = ErrorBody),
    )
)]
pub async fn fill_v1(
    state: State<AppState>,
    observation: Observation,
    timeout: TimeoutHeader,
    body: Body<FillRequest>,
) -> Result<Response, ApiError> {
    fill(state, observation, timeout, body).await
}

/// The caller's own text.
struct Around {
    prefix: String,
    suffix: String,
}

/// Tokenizes the text around the hole and checks every setting.
fn prepare(
    request: FillRequest,
    timeout_header: TimeoutHeader,
    around: &Around,
    state: &AppState,
) -> Result<(Layout, bool, Settings), ApiError> {
    let FillRequest { length, truncate, allow_empty, .. } = request;
    if around.prefix.is_empty() && around.suffix.is_empty() && !allow_empty.unwrap_or(false) {
        let message = "`prefix` and `suffix` are both empty; give one, or set `allow_empty`: true".to_owned();
        return Err(ApiError::Conflict { param: "prefix".to_owned(), message });
    }
    let settings = GivenOptions {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        repetition_penalty: request.repetition_penalty,
        logit_bias: request.logit_bias,
        min_tokens: None,
        ignore_eos: None,
        seed: request.seed,
        n: request.n,
        stop: request.stop,
        diffusion: request.diffusion,
        timeout_header,
        timeout_ms: request.timeout_ms,
    }
    .validate(state)?;
    let tokenizer = &state.model.tokenizer;
    let mut layout = Layout {
        before: tokenizer.encode(&around.prefix)?,
        hole: 0,
        after: tokenizer.encode_piece(&around.suffix)?,
        ids_given: false,
    };
    let size = size("length", length, DEFAULT_LENGTH, state)?;
    let mut truncated = false;
    if truncate.unwrap_or(true) {
        let (Size::Exactly(wanted) | Size::AtMost(wanted)) = size;
        // One position for the document start.
        let room = state.model.limits.context.saturating_sub(wanted + 1);
        truncated = keep_nearest(&mut layout.before, &mut layout.after, room);
    }
    layout.hole = layout.room(size, ("prefix", "length"), state)?;
    Ok((layout, truncated, settings))
}

/// What all of an answer's parts share.
struct Answer {
    id: String,
    state: AppState,
    settings: Settings,
    around: Around,
    created: u64,
    parts: Parts,
    truncated: bool,
    prompt_tokens: usize,
}

impl Answer {
    fn hole(&self, running: &Running, index: usize) -> FilledHole {
        let view = &running.views[index].view;
        let hole = &view.holes()[0];
        let text = running.text(index);
        let start = self.around.prefix.chars().count();
        FilledHole {
            id: hole.id.clone(),
            start,
            end: start + text.text.chars().count(),
            tokens: text.tokens,
            length: hole.range.len(),
            finish_reason: match running.views[index].ending(&text) {
                Ending::Full => "filled",
                ending => ending.name(),
            },
            mean_logprob: view.mean_logprob(hole, text.tokens),
            text: text.text,
        }
    }

    fn whole(&self, running: &Running, timings: &Timings) -> Filled {
        let model = &self.state.model;
        let mut kept = 0;
        let choices = (0..running.views.len()).map(|index| {
            let hole = self.hole(running, index);
            kept += hole.tokens;
            let Around { prefix, suffix } = &self.around;
            FilledChoice {
                index,
                text: (self.parts != Parts::Holes).then(|| format!("{prefix}{}{suffix}", hole.text)),
                score: hole.mean_logprob,
                holes: (self.parts != Parts::Full).then(|| vec![hole]),
            }
        });
        let choices = choices.collect();
        Filled {
            id: self.id.clone(),
            object: "fill",
            created: self.created,
            model: model.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
            choices,
            truncated: self.truncated,
            usage: Usage::new(self.prompt_tokens, kept),
            diffusion: DiffusionReport::new(&self.settings, timings, &running.views, kept),
        }
    }
}

/// The native stream: named events, numbered from 0, ended by `fill.done` or `error`.
struct Events {
    answer: Answer,
    seq: u64,
    thinned: Thinned,
}

impl Events {
    fn event(&mut self, name: &'static str, value: impl Serialize) -> Event {
        let seq = self.seq;
        self.seq += 1;
        json_event(&Named { name, seq, value }).event(name)
    }
}

/// The data of an event.
#[derive(Serialize)]
struct Named<T> {
    #[serde(rename = "type")]
    name: &'static str,
    seq: u64,
    #[serde(flatten)]
    value: T,
}

/// The data of `fill.hole`.
#[derive(Serialize)]
struct HoleOf {
    choice: usize,
    #[serde(flatten)]
    hole: FilledHole,
}

impl Grammar for Events {
    fn start(&mut self, running: &Running) -> Vec<Event> {
        let id = self.answer.id.clone();
        let model = self.answer.state.model.id.clone();
        let mut events = vec![
            self.event("fill.start", json!({ "id": id, "model": model, "choices": running.views.len() })),
        ];
        if self.answer.settings.states == StreamStates::Delta {
            for (c, progress) in running.views.iter().enumerate() {
                let state = StateEvent::start(c, progress, &self.answer.settings);
                events.push(self.event("fill.state", state));
            }
        }
        events
    }

    fn step(&mut self, running: &Running, step: Step) -> Vec<Event> {
        let Step { sample: c, edits } = step;
        let progress = &running.views[c];
        let mut events = Vec::new();
        let (states, every) = (self.answer.settings.states, self.answer.settings.state_every);
        if states == StreamStates::Delta
            && let Some(edits) = self.thinned.due(c, edits, progress, every)
        {
            let state = StateEvent::step(c, progress, &edits, &self.answer.state.model);
            events.push(self.event("fill.state", state));
        }
        if progress.done {
            let hole = self.answer.hole(running, c);
            events.push(self.event("fill.hole", HoleOf { choice: c, hole }));
        }
        events
    }

    fn finish(&mut self, running: &Running, timings: &Timings) -> Vec<Event> {
        let mut events = Vec::new();
        // What the deadline cut short was not announced when it was done.
        for (choice, _) in running.views.iter().enumerate().filter(|(_, progress)| !progress.done) {
            let hole = self.answer.hole(running, choice);
            events.push(self.event("fill.hole", HoleOf { choice, hole }));
        }
        let filled = self.answer.whole(running, timings);
        events.push(self.event("fill.done", filled));
        events
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Event> {
        vec![self.event("error", ErrorBody { error: error.object() })]
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive::new().interval(KEEP_ALIVE).event(Event::default().event("ping").data(r#"{"type":"ping"}"#))
    }
}
