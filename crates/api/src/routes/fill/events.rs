//! The native stream of `/fill`.

use axum::response::sse::{Event, KeepAlive};
use serde::Serialize;
use serde_json::json;
use unmask_scheduler::Timings;

use super::answer::{Answer, FilledHole};
use crate::error::{ApiError, ErrorBody};
use crate::generation::{Running, Step};
use crate::report::{StateEvent, Thinned};
use crate::request::options::StreamStates;
use crate::sse::{Grammar, KEEP_ALIVE, named_event};

/// The native stream: named events, numbered from 0, ended by `fill.done` or `error`.
pub(super) struct Events {
    answer: Answer,
    seq: u64,
    thinned: Thinned,
    /// Holes of each choice that were announced, from the left.
    announced: Vec<usize>,
}

impl Events {
    pub(super) fn new(answer: Answer) -> Self {
        let announced = vec![0; answer.choices];
        Self { answer, seq: 0, thinned: Thinned::default(), announced }
    }

    /// One `fill.hole` for each hole of a choice up to `end` that was not announced yet. They go from left to
    /// right: where a hole starts in the text is known when all before it are final.
    fn holes(&mut self, running: &Running, choice: usize, end: usize) -> Vec<Event> {
        let begin = std::mem::replace(&mut self.announced[choice], end);
        if begin == end {
            return Vec::new();
        }
        let holes = self.answer.choice(running, choice).holes.into_iter();
        let due = holes.take(end).skip(begin);
        due.map(|hole| self.event("fill.hole", HoleOf { choice, hole })).collect()
    }

    fn event(&mut self, name: &'static str, value: impl Serialize) -> Event {
        let seq = self.seq;
        self.seq += 1;
        named_event(name, &Named { name, seq, value })
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

/// The data of `fill.state`.
#[derive(Serialize)]
struct StateOf {
    state: StateEvent,
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
            self.event("fill.start", json!({ "id": id, "model": model, "choices": self.answer.choices })),
        ];
        if self.answer.settings.states != StreamStates::None {
            for (c, progress) in running.views.iter().enumerate() {
                let state = StateEvent::start(c, progress, &self.answer.settings);
                events.push(self.event("fill.state", StateOf { state }));
            }
        }
        events
    }

    fn step(&mut self, running: &Running, step: Step) -> Vec<Event> {
        if self.answer.searches() {
            return Vec::new();
        }
        let Step { sample: c, edits } = step;
        let progress = &running.views[c];
        let mut events = Vec::new();
        let (states, every) = (self.answer.settings.states, self.answer.settings.state_every);
        if states != StreamStates::None
            && let Some(change) = self.thinned.due(c, edits, progress, every)
        {
            let state = StateEvent::step(c, progress, &change, &self.answer.state.model);
            events.push(self.event("fill.state", StateOf { state }));
        }
        let endings = &progress.endings;
        let settled = endings.iter().position(Option::is_none).unwrap_or(endings.len());
        events.extend(self.holes(running, c, settled));
        events
    }

    fn finish(&mut self, running: &Running, timings: &Timings) -> Vec<Event> {
        let mut events = Vec::new();
        for choice in 0..self.answer.choices {
            // What was searched, or cut short by the deadline, has not been announced yet.
            let all = self.answer.text.holes.len();
            events.extend(self.holes(running, choice, all));
        }
        let filled = self.answer.whole(running, timings);
        events.push(self.event("fill.done", filled));
        events
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Event> {
        vec![self.event("error", ErrorBody { error: error.object() })]
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive::new().interval(KEEP_ALIVE).event(named_event("ping", &json!({ "type": "ping" })))
    }
}
