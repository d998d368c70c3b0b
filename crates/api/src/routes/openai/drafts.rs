//! A stream of drafts, as Mercury writes it: every chunk holds the whole text as it is, and the reader replaces
//! the one before.

use std::marker::PhantomData;

use axum::response::sse::{Event, KeepAlive};
use unmask_scheduler::Timings;

use super::answer::{Answer, reason};
use super::{Completion, Dialect, Diffusion, Draft, Part, StreamOptions};
use crate::error::{ApiError, ErrorBody};
use crate::generation::{Running, Step};
use crate::report::Usage;
use crate::sse::{Grammar, KEEP_ALIVE, json_event};

/// Drafts of one text, its final form, a closing chunk without a text, `[DONE]`.
pub(super) struct Drafts<D> {
    answer: Answer,
    options: StreamOptions,
    dialect: PhantomData<fn() -> D>,
}

impl<D: Dialect> Drafts<D> {
    pub(super) fn new(answer: Answer, options: StreamOptions) -> Self {
        Self { answer, options, dialect: PhantomData }
    }

    fn chunk(&self, part: Part, progress: Option<f64>) -> Completion<D::Choice> {
        let choice = D::chunk(0, part, &self.answer.state.model.tokenizer);
        let draft = |progress| Draft { diffusion_content: true, diffusion_progress: progress };
        Completion { diffusion_meta: progress.map(draft), ..self.answer.around(D::CHUNK, vec![choice]) }
    }
}

impl<D: Dialect> Grammar for Drafts<D> {
    fn start(&mut self, _: &Running) -> Vec<Event> {
        Vec::new()
    }

    fn step(&mut self, running: &Running, _: Step) -> Vec<Event> {
        let progress = &running.views[0];
        if progress.done {
            // The final form follows at once.
            return Vec::new();
        }
        let hole = &progress.view.holes()[0];
        let text = progress.view.draft(hole, &self.answer.state.model.tokenizer);
        let filled = 1.0 - progress.remaining as f64 / hole.range.len().max(1) as f64;
        vec![
            self.chunk(Part { first: true, text, replaces: true, ..Part::default() }, Some(filled))
                .event(self.options),
        ]
    }

    fn finish(&mut self, running: &Running, timings: &Timings) -> Vec<Event> {
        let kept = running.kept();
        let whole = Part { replaces: true, ..self.answer.choice(running, 0) };
        let finish_reason = Some(reason(running.text(0).end));
        let report = Some(Diffusion::Report(self.answer.report(running, timings, kept)));
        let last = self.chunk(whole, Some(1.0));
        let closing = self.chunk(Part { finish_reason, ..Part::default() }, None);
        let closing = Completion { diffusion: report, ..closing };
        let mut events = vec![last.event(self.options), closing.event(self.options)];
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
