//! The stream of OpenAI's routes.

use std::marker::PhantomData;

use axum::response::sse::{Event, KeepAlive};
use unmask_scheduler::Timings;

use super::answer::{Answer, reason};
use super::{Completion, Dialect, Diffusion, Part, StreamOptions};
use crate::error::{ApiError, ErrorBody};
use crate::generation::{Running, Step};
use crate::logprobs::{TokenLogprob, placed};
use crate::report::{StateEvent, Thinned, Usage};
use crate::request::options::StreamStates;
use crate::sse::{Grammar, KEEP_ALIVE, json_event};

/// OpenAI's stream: chunks with exactly one choice, text that only ever grows, one final chunk per
/// choice, `[DONE]`.
pub(super) struct Chunks<D> {
    answer: Answer,
    /// The parts sent of each choice.
    sent: Vec<Sent>,
    options: StreamOptions,
    thinned: Thinned,
    dialect: PhantomData<fn() -> D>,
}

/// The parts sent of a choice.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// True if it has had a chunk.
    begun: bool,
    /// Bytes of its generated text.
    bytes: usize,
    /// Tokens of it.
    tokens: usize,
}

impl<D: Dialect> Chunks<D> {
    pub(super) fn new(answer: Answer, running: &Running, options: StreamOptions) -> Self {
        let sent = vec![Sent::default(); running.views.len()];
        Self { answer, sent, options, thinned: Thinned::default(), dialect: PhantomData }
    }

    fn event(&mut self, running: &Running, index: usize, part: Part, diffusion: Option<Diffusion>) -> Event {
        let first = !std::mem::replace(&mut self.sent[index].begun, true);
        let choice = D::chunk(index, Part { first, ..part }, &self.answer.state.model.tokenizer);
        let every = self.options.continuous_usage_stats.unwrap_or(false);
        let usage = every.then(|| Usage::new(self.answer.prompt_tokens, running.kept()));
        Completion { usage, diffusion, ..self.answer.around(D::CHUNK, vec![choice]) }.event(self.options)
    }

    fn state_event(&mut self, running: &Running, state: StateEvent, index: usize) -> Event {
        self.event(running, index, Part::default(), Some(Diffusion::State(state)))
    }

    /// The text that a choice has gained since it was last sent, and the tokens that it completes; with
    /// `all`, also those that a stop string has cut.
    fn gained(&mut self, running: &Running, index: usize, all: bool) -> Part {
        let text = running.text(index);
        let sent = &mut self.sent[index];
        let gained = text.text.get(sent.bytes..).unwrap_or_default().to_owned();
        if gained.is_empty() && !all {
            // Tokens that spell nothing yet come with the text that they end up in, or with the last chunk.
            return Part::default();
        }
        sent.bytes = text.text.len();
        let mut part = Part { text: gained, ..Part::default() };
        if self.answer.settings.logprobs.is_some() {
            let view = &running.views[index].view;
            let tokenizer = &self.answer.state.model.tokenizer;
            let hole = &view.holes()[0];
            let spelled = if all { text.tokens } else { view.spelled(hole, sent.bytes, tokenizer) };
            let before = self.answer.echo(index).map_or(0, |echo| echo.text.chars().count());
            let judged = view.judged(hole, 0..spelled.min(text.tokens));
            let tokens = placed(judged, before, hole.at_start, tokenizer);
            let new: Vec<TokenLogprob> = tokens.into_iter().skip(sent.tokens).collect();
            sent.tokens += new.len();
            part.tokens = Some(new).filter(|tokens| !tokens.is_empty());
        }
        part
    }
}

impl<D: Dialect> Grammar for Chunks<D> {
    fn start(&mut self, running: &Running) -> Vec<Event> {
        let mut events = Vec::new();
        for (c, progress) in running.views.iter().enumerate() {
            if let Some(text) = self.answer.echo(c).map(|echo| echo.text.clone()) {
                events.push(self.event(running, c, Part { text, ..Part::default() }, None));
            }
            if self.answer.settings.states != StreamStates::None {
                let start = StateEvent::start(c, progress, &self.answer.settings);
                events.push(self.state_event(running, start, c));
            }
        }
        events
    }

    fn step(&mut self, running: &Running, step: Step) -> Vec<Event> {
        let Step { sample: c, edits, .. } = step;
        let mut events = Vec::new();
        let settings = &self.answer.settings;
        if settings.states != StreamStates::None
            && let Some(change) = self.thinned.due(c, edits, &running.views[c], settings.state_every)
        {
            let state = StateEvent::step(c, &running.views[c], &change, &self.answer.state.model);
            events.push(self.state_event(running, state, c));
        }
        let gained = self.gained(running, c, false);
        if !gained.text.is_empty() {
            events.push(self.event(running, c, gained, None));
        }
        events
    }

    fn finish(&mut self, running: &Running, timings: &Timings) -> Vec<Event> {
        let mut events = Vec::new();
        let kept = running.kept();
        let report = self.answer.report(running, timings, kept);
        for (c, progress) in running.views.iter().enumerate() {
            let gained = self.gained(running, c, true);
            let mut last = Part { finish_reason: Some(reason(running.text(c).end)), ..Part::default() };
            if gained.text.is_empty() {
                last.tokens = gained.tokens;
            } else {
                events.push(self.event(running, c, gained, None));
            }
            if self.answer.settings.states != StreamStates::None {
                let end = StateEvent::end(c, progress, &running.text(c));
                events.push(self.state_event(running, end, c));
            }
            events.push(self.event(running, c, last, Some(Diffusion::Report(report.clone()))));
        }
        if self.options.include_usage.unwrap_or(false) {
            let usage = Some(Usage::new(self.answer.prompt_tokens, kept));
            let around = self.answer.around::<D::Choice>(D::CHUNK, Vec::new());
            events.push(Completion { usage, ..around }.event(self.options));
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
