//! The one path that every generating route shares: submit, then collect or stream.

mod before;
mod progress;

use std::sync::Arc;
use std::time::Instant;

use unmask_model::diffusion::{EarlyExit, Edit, ScoringState, SequenceScore};
use unmask_scheduler::{DenoiseRequest, DenoisingEvent, Generation, GenerationError, Timings};

pub use self::before::{Found, evaluate, submit};
pub use self::progress::Progress;
use crate::error::ApiError;
use crate::metrics::labels::Ending;
use crate::observation::Observation;
use crate::prompt::{Layout, Sample, check_cost};
use crate::request::deadlines::{Deadlines, longest};
use crate::request::options::Settings;
use crate::state::{AppState, ServedModel};
use crate::text_view::HoleText;

/// A request that the engine has taken: its stream of events, and the texts folded from them.
///
/// All generating routes share this path. A plain answer collects until the end, a stream calls [`Self::next`] and sends
/// the changes after each step. Dropping the value cancels the request, so a client that disconnects frees the device
/// before the next evaluation.
#[derive(Debug)]
pub struct Running {
    /// One per sample; prompt after prompt, each with all its samples.
    pub views: Vec<Progress>,
    /// One per scored text, when all is finished.
    pub scores: Vec<SequenceScore>,
    /// Tokens of all texts as far as they are settled.
    kept: usize,
    events: Generation,
    model: Arc<ServedModel>,
    observation: Observation,
    deadline: Option<Instant>,
    /// Time of what was computed before, if anything was.
    before: Option<Timings>,
}

/// An evaluation of one sample.
#[derive(Debug)]
pub struct Step {
    /// The sample.
    pub sample: usize,
    /// Positions that were committed or masked again.
    pub edits: Vec<Edit>,
}

impl Running {
    /// Builds every sample of every layout and hands them to the engine, with the `texts` to score. All that
    /// can be refused is refused here, before anything is answered.
    ///
    /// # Errors
    /// Too expensive, not a canvas of this model, a time that is too long, or the engine takes nothing.
    pub fn start(
        layouts: &[Layout],
        texts: Vec<ScoringState>,
        settings: &Settings,
        state: &AppState,
        observation: Observation,
    ) -> Result<Self, ApiError> {
        check_cost(layouts, &texts, settings, state)?;
        let mut views = Vec::with_capacity(layouts.len() * settings.samples);
        let mut samples = Vec::with_capacity(views.capacity());
        let mut kept = 0;
        for layout in layouts {
            for number in 0..settings.samples as u32 {
                let Sample { state: sample, view } = layout.sample(&state.model, settings, number)?;
                let mut progress = Progress::new(view, sample.evaluations_left());
                // What was known before has its text already.
                progress.settle(&state.model.tokenizer);
                kept += progress.count_kept(&state.model.tokenizer);
                views.push(progress);
                samples.push(sample);
            }
        }
        let times = settings.times.resolve(observation.arrived(), longest(&samples, &texts, state))?;
        let Deadlines { deadline, finish_by } = times;
        let tokens = charge(layouts, &texts, settings);
        let request = DenoiseRequest { samples, texts, deadline, finish_by, ..DenoiseRequest::default() };
        let events = submit(request, tokens, state, &observation)?;
        observation.accepted(layouts, settings.samples);
        let model = Arc::clone(&state.model);
        Ok(Self { views, scores: Vec::new(), kept, events, model, observation, deadline, before: None })
    }

    /// The same, after something else that was computed for the request.
    #[must_use]
    pub fn after(self, before: Option<Timings>) -> Self {
        let before = match (self.before, before) {
            (Some(first), Some(second)) => Some(first.then(second)),
            (first, second) => first.or(second),
        };
        Self { before, ..self }
    }

    /// The text of a sample's first hole as far as it is settled.
    #[must_use]
    pub fn text(&self, index: usize) -> HoleText {
        let view = &self.views[index].view;
        view.text(&view.holes()[0], &self.model.tokenizer)
    }

    /// Tokens of all texts as far as they are settled.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The texts of a sample's holes as far as they are settled.
    #[must_use]
    pub fn texts(&self, index: usize) -> Vec<HoleText> {
        let view = &self.views[index].view;
        view.holes().iter().map(|hole| view.text(hole, &self.model.tokenizer)).collect()
    }

    /// The next step, folded into its view, or the timings at the end.
    ///
    /// # Errors
    /// The engine did not finish the request, or its deadline passed before any text was settled.
    pub async fn next(&mut self) -> Result<Next, ApiError> {
        let found = self.find_next().await;
        if let Err(error) = &found {
            self.observation.failed(error);
        }
        found
    }

    async fn find_next(&mut self) -> Result<Next, ApiError> {
        loop {
            match self.events.next().await {
                Some(DenoisingEvent::Step { sample, evaluation, edits, draft, done, early_exit, .. }) => {
                    let sample = sample as usize;
                    let Some(progress) = self.views.get_mut(sample).filter(|progress| !progress.done) else {
                        // A sample was stopped while the engine was evaluating it.
                        continue;
                    };
                    progress.view.fold(&edits);
                    progress.draft = draft;
                    progress.remaining = progress.view.open();
                    (progress.evaluations, progress.done) = (evaluation, done);
                    if done {
                        progress.early_exit = early_exit.map(ending);
                        progress.view.close();
                    } else if progress.view.stopped(&self.model.tokenizer) {
                        // Nothing that is still open would be shown.
                        self.events.stop(sample as u32);
                        (progress.done, progress.early_exit) = (true, Some(Ending::Stop));
                    }
                    self.observation.step(progress.view.begun());
                    progress.settle(&self.model.tokenizer);
                    self.kept += progress.count_kept(&self.model.tokenizer);
                    return Ok(Next::Step(Step { sample, edits }));
                }
                Some(DenoisingEvent::Scored { score, .. }) => self.scores.push(score),
                Some(DenoisingEvent::Finished(timings)) => return Ok(self.finished(timings)),
                Some(DenoisingEvent::Expired(timings)) => {
                    self.observation.spent(timings);
                    for progress in self.views.iter_mut().filter(|progress| !progress.done) {
                        progress.early_exit = Some(Ending::Timeout);
                    }
                    let begun = |index: usize| self.texts(index).iter().any(|hole| !hole.text.is_empty());
                    let settled = |index: usize| self.views[index].done || begun(index);
                    if (0..self.views.len()).any(settled) {
                        return Ok(self.finished(timings));
                    }
                    return Err(self.observation.timed_out(self.deadline));
                }
                Some(DenoisingEvent::Failed(error)) => return Err(error.into()),
                None => return Err(GenerationError::EngineStopped.into()),
            }
        }
    }

    fn finished(&self, timings: Timings) -> Next {
        let timings = self.before.map_or(timings, |before| before.then(timings));
        let texts: Vec<Vec<HoleText>> = (0..self.views.len()).map(|index| self.texts(index)).collect();
        let kept = texts.iter().flatten().map(|text| text.tokens).sum();
        let endings = self.views.iter().flat_map(Progress::all_endings).collect();
        self.observation.spent(timings);
        self.observation.generated(kept, endings);
        Next::Finished(timings)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn finish(&mut self) -> Result<Timings, ApiError> {
        loop {
            if let Next::Finished(timings) = self.next().await? {
                return Ok(timings);
            }
        }
    }
}

/// The charge of a request: the positions of every canvas that is computed, given and generated ones, of each sample
/// and of each text that is scored; twice with guidance, which computes a second canvas beside each.
fn charge(layouts: &[Layout], texts: &[ScoringState], settings: &Settings) -> usize {
    let canvases = if settings.guidance == 0.0 { 1 } else { 2 };
    let generated: usize = layouts.iter().map(Layout::charged).sum();
    generated * settings.samples * canvases + scored(texts)
}

/// The charge of scoring texts: the positions of the canvas of each.
#[must_use]
pub fn scored(texts: &[ScoringState]) -> usize {
    texts.iter().map(ScoringState::length).sum()
}

/// The result of [`Running::next`].
#[derive(Debug)]
pub enum Next {
    /// A step of one sample.
    Step(Step),
    /// All samples are done.
    Finished(Timings),
}

fn ending(exit: EarlyExit) -> Ending {
    match exit {
        EarlyExit::Eos => Ending::Eos,
        EarlyExit::Stop => Ending::Stop,
        EarlyExit::TimeBudget => Ending::TimeBudget,
    }
}
