//! What OpenAI's routes share: the answer around the texts, and the stream.

use std::marker::PhantomData;

use axum::Json;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use unmask_scheduler::Timings;
use utoipa::ToSchema;

use super::{annotate, check_states, put_times};
use crate::error::{ApiError, ErrorBody};
use crate::generation::{Running, Step};
use crate::observation::Observation;
use crate::options::{Settings, StreamStates};
use crate::prompt::Layout;
use crate::report::{DiffusionReport, StateEvent, Thinned, Usage, unix_seconds};
use crate::sse::{self, Grammar, KEEP_ALIVE, json_event};
use crate::state::AppState;
use crate::text_view::End;

/// What else a stream carries.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct StreamOptions {
    /// A last chunk with `usage` and no choices.
    include_usage: Option<bool>,
    /// Accepted; no padding is sent.
    include_obfuscation: Option<bool>,
}

/// The answer, and every chunk of a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Completion<C> {
    /// The request's id behind the route's prefix.
    id: String,
    /// What this is.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The model.
    model: String,
    /// Names the build, the weights and where they are computed.
    system_fingerprint: String,
    /// The texts: prompt after prompt, each with its `n` answers.
    choices: Vec<C>,
    /// Tokens used.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    /// How it was denoised; in a stream, the report in the last chunk of each choice and denoising
    /// states in others.
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion: Option<Diffusion>,
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

/// How a route writes a text.
pub(super) trait Dialect: Send + 'static {
    /// One text of an answer or a chunk.
    type Choice: Serialize;
    /// Stands before the request's id.
    const PREFIX: &'static str;
    /// What a plain answer is called.
    const WHOLE: &'static str;
    /// What a chunk is called.
    const CHUNK: &'static str;

    /// A text of a plain answer.
    fn whole(index: usize, text: String, finish_reason: &'static str) -> Self::Choice;
    /// A part of a text in a stream.
    fn part(index: usize, part: Part) -> Self::Choice;
}

/// A part of a text.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Whether it is the first chunk of its text.
    pub(super) first: bool,
    /// What it adds.
    pub(super) text: String,
    /// Why the text ends, in its last chunk.
    pub(super) finish_reason: Option<&'static str>,
}

/// Whether to stream, and what beside the text.
///
/// # Errors
/// Options of a stream that is not asked for.
pub(super) fn stream(
    asked: Option<bool>,
    options: Option<StreamOptions>,
) -> Result<Option<StreamOptions>, ApiError> {
    match (asked, options) {
        (Some(true), options) => Ok(Some(options.unwrap_or_default())),
        (_, None) => Ok(None),
        (_, Some(_)) => {
            let message = "`stream_options` needs `stream`: true".to_owned();
            Err(ApiError::Conflict { param: "stream_options".to_owned(), message })
        }
    }
}

/// Generates what was laid out and answers, plain or as a stream.
///
/// # Errors
/// As [`Running::start`] and, of a plain answer, [`Running::finish`].
pub(super) async fn respond<D: Dialect>(
    (layouts, settings): (Vec<Layout>, Settings),
    stream: Option<StreamOptions>,
    ignored: &[String],
    state: &AppState,
    observation: Observation,
) -> Result<Response, ApiError> {
    check_states(&settings, stream.is_some())?;
    let mut running = Running::start(&layouts, &settings, state, observation.clone())?;
    let prompt_tokens = layouts.iter().map(Layout::prompt_tokens).sum();
    let id = format!("{}{}", D::PREFIX, observation.id());
    let answer = Answer { id, created: unix_seconds(), state: state.clone(), settings, prompt_tokens };
    let mut response = if let Some(options) = stream {
        observation.streams();
        let (sent, begun) = (vec![0; running.views.len()], vec![false; running.views.len()]);
        let with_usage = options.include_usage.unwrap_or(false);
        let (thinned, dialect) = (Thinned::default(), PhantomData::<fn() -> D>);
        sse::respond(running, Chunks { answer, sent, begun, with_usage, thinned, dialect }).await?
    } else {
        let timings = running.finish().await?;
        put_times(Json(answer.whole::<D>(&running, &timings)).into_response(), &timings)
    };
    annotate(&mut response, state, ignored, &layouts);
    Ok(response)
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
    fn around<C>(&self, object: &'static str, choices: Vec<C>) -> Completion<C> {
        let model = &self.state.model;
        Completion {
            id: self.id.clone(),
            object,
            created: self.created,
            model: model.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
            choices,
            usage: None,
            diffusion: None,
        }
    }

    fn kept(&self, running: &Running) -> usize {
        (0..running.views.len()).map(|index| running.text(index).tokens).sum()
    }

    fn whole<D: Dialect>(&self, running: &Running, timings: &Timings) -> Completion<D::Choice> {
        let choice = |index| {
            let text = running.text(index);
            D::whole(index, text.text, reason(text.end))
        };
        let kept = self.kept(running);
        let report = DiffusionReport::new(&self.settings, timings, &running.views, kept);
        Completion {
            usage: Some(Usage::new(self.prompt_tokens, kept)),
            diffusion: Some(Diffusion::Report(report)),
            ..self.around(D::WHOLE, (0..running.views.len()).map(choice).collect())
        }
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
struct Chunks<D> {
    answer: Answer,
    /// Bytes of each choice's text that were sent.
    sent: Vec<usize>,
    /// Whether a choice has had a chunk.
    begun: Vec<bool>,
    with_usage: bool,
    thinned: Thinned,
    dialect: PhantomData<fn() -> D>,
}

impl<D: Dialect> Chunks<D> {
    fn event(&mut self, index: usize, part: Part, diffusion: Option<Diffusion>) -> Event {
        let first = !std::mem::replace(&mut self.begun[index], true);
        let choice = D::part(index, Part { first, ..part });
        json_event(&Completion { diffusion, ..self.answer.around(D::CHUNK, vec![choice]) })
    }

    fn state_event(&mut self, state: StateEvent, index: usize) -> Event {
        self.event(index, Part::default(), Some(Diffusion::State(state)))
    }

    /// What the text of a choice has gained since it was last sent.
    fn gained(&mut self, running: &Running, index: usize) -> Option<Event> {
        let text = running.text(index).text;
        let gained = text.get(self.sent[index]..).filter(|gained| !gained.is_empty())?.to_owned();
        self.sent[index] = text.len();
        Some(self.event(index, Part { text: gained, ..Part::default() }, None))
    }
}

impl<D: Dialect> Grammar for Chunks<D> {
    fn start(&mut self, running: &Running) -> Vec<Event> {
        if self.answer.settings.states == StreamStates::None {
            return Vec::new();
        }
        let mut events = Vec::new();
        for (c, progress) in running.views.iter().enumerate() {
            let start = StateEvent::start(c, progress, &self.answer.settings);
            events.push(self.state_event(start, c));
        }
        events
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
        events.extend(self.gained(running, c));
        events
    }

    fn finish(&mut self, running: &Running, timings: &Timings) -> Vec<Event> {
        let mut events = Vec::new();
        let kept = self.answer.kept(running);
        let report = DiffusionReport::new(&self.answer.settings, timings, &running.views, kept);
        for (c, progress) in running.views.iter().enumerate() {
            events.extend(self.gained(running, c));
            let text = running.text(c);
            if self.answer.settings.states == StreamStates::Delta {
                events.push(self.state_event(StateEvent::end(c, progress, &text), c));
            }
            let last = Part { finish_reason: Some(reason(text.end)), ..Part::default() };
            events.push(self.event(c, last, Some(Diffusion::Report(report.clone()))));
        }
        if self.with_usage {
            let usage = Some(Usage::new(self.answer.prompt_tokens, kept));
            events.push(json_event(&Completion {
                usage,
                ..self.answer.around::<D::Choice>(D::CHUNK, Vec::new())
            }));
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
