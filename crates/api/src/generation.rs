//! The one path that every generating route shares: submit, then collect or stream.

use std::sync::Arc;

use unmask_model::diffusion::Edit;
use unmask_scheduler::{DenoiseRequest, DenoisingEvent, Generation, GenerationError, Timings};

use crate::error::ApiError;
use crate::options::Settings;
use crate::prompt::{Layout, Sample, check_cost};
use crate::state::{AppState, ServedModel};
use crate::text_view::TextView;

/// A request that the engine has taken.
#[derive(Debug)]
pub struct Running {
    /// One per sample; prompt after prompt, each with all its samples.
    pub views: Vec<Progress>,
    events: Generation,
    model: Arc<ServedModel>,
    stops: Vec<String>,
}

/// How far a sample is.
#[derive(Debug)]
pub struct Progress {
    /// Its text.
    pub view: TextView,
    /// Positions still masked.
    pub remaining: usize,
    /// Whether it has ended.
    pub done: bool,
    /// Whether it was ended because its text holds a stop string.
    pub stopped: bool,
    /// Evaluations so far.
    pub evaluations: u32,
    /// Evaluations it will take at most; exact for planned orders.
    pub planned: u32,
}

/// What happened to one sample.
#[derive(Debug)]
pub struct Step {
    /// Which.
    pub sample: usize,
    /// What was committed.
    pub edits: Vec<Edit>,
}

impl Running {
    /// Builds every sample of every layout and hands them to the engine. All that can be refused is
    /// refused here, before anything is answered.
    ///
    /// # Errors
    /// Too expensive, not a canvas of this model, or the engine takes nothing.
    pub fn start(layouts: &[Layout], settings: &Settings, state: &AppState) -> Result<Self, ApiError> {
        check_cost(layouts, settings, state)?;
        let mut samples = Vec::with_capacity(layouts.len() * settings.samples);
        for layout in layouts {
            for sample in 0..settings.samples as u32 {
                samples.push(layout.sample(&state.model, settings, sample)?);
            }
        }
        let mut views = Vec::with_capacity(samples.len());
        let mut states = Vec::with_capacity(samples.len());
        for Sample { state, view } in samples {
            let (remaining, planned) = (state.canvas().masked(), state.evaluations_left());
            let (done, stopped) = (false, false);
            views.push(Progress { view, remaining, done, stopped, planned, evaluations: 0 });
            states.push(state);
        }
        let events = state.engine.submit(DenoiseRequest { samples: states, ..DenoiseRequest::default() })?;
        Ok(Self { views, events, model: Arc::clone(&state.model), stops: settings.stops.clone() })
    }

    /// The next step, folded into its view, or the timings at the end.
    ///
    /// # Errors
    /// The engine did not finish the request.
    pub async fn next(&mut self) -> Result<Next, ApiError> {
        loop {
            match self.events.next().await {
                Some(DenoisingEvent::Step { sample, evaluation, edits, remaining, done, .. }) => {
                    let sample = sample as usize;
                    let Some(progress) = self.views.get_mut(sample).filter(|progress| !progress.done) else {
                        // A sample was stopped while the engine was evaluating it.
                        continue;
                    };
                    progress.view.fold(&edits);
                    (progress.remaining, progress.evaluations, progress.done) = (remaining, evaluation, done);
                    if done {
                        progress.view.close();
                    } else if progress.view.stopped(&self.model.tokenizer, &self.stops) {
                        // Nothing that is still open would be shown.
                        self.events.stop(sample as u32);
                        (progress.done, progress.stopped) = (true, true);
                    }
                    return Ok(Next::Step(Step { sample, edits }));
                }
                Some(DenoisingEvent::Finished(timings) | DenoisingEvent::Expired(timings)) => return Ok(Next::Finished(timings)),
                Some(DenoisingEvent::Failed(error)) => return Err(error.into()),
                None => return Err(GenerationError::EngineStopped.into()),
            }
        }
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

/// What [`Running::next`] found.
#[derive(Debug)]
pub enum Next {
    /// A step of one sample.
    Step(Step),
    /// All samples are done.
    Finished(Timings),
}
