//! Requests to the engine, and those whose results an answer depends on.

use unmask_model::diffusion::{Commit, Edit, SequenceScore};
use unmask_scheduler::{DenoiseRequest, DenoisingEvent, Generation, GenerationError, Timings};

use crate::error::ApiError;
use crate::observation::Observation;
use crate::request::deadlines::{Deadlines, longest};
use crate::request::options::Settings;
use crate::state::AppState;

/// Hands a request to the engine, in the name of its client and on its account, which is charged `tokens`.
///
/// # Errors
/// The client may not have so many in a minute, or the engine takes nothing.
pub fn submit(
    request: DenoiseRequest,
    tokens: usize,
    state: &AppState,
    observation: &Observation,
) -> Result<Generation, ApiError> {
    observation.charge(tokens)?;
    let request = DenoiseRequest { client: observation.client(), ..request };
    Ok(state.engine.submit(request).inspect_err(|_| observation.give_back(tokens))?)
}

/// The results of evaluations before an answer.
#[derive(Debug)]
pub struct Found {
    /// The commits, by sample.
    pub commits: Vec<Vec<Commit>>,
    /// The score of each text.
    pub scores: Vec<SequenceScore>,
    /// Times and amounts of work.
    pub timings: Timings,
}

/// Evaluates something that an answer depends on, within the time of the request; it is charged `tokens`.
///
/// # Errors
/// A time that is too long or has passed, or the engine did not evaluate.
pub async fn evaluate(
    request: DenoiseRequest,
    tokens: usize,
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Result<Found, ApiError> {
    let longest = longest(&request.samples, &request.texts, state);
    let Deadlines { deadline, .. } = settings.times.resolve(observation.arrived(), longest)?;
    let mut commits = vec![Vec::new(); request.samples.len()];
    let mut scores = Vec::new();
    let mut events = submit(DenoiseRequest { deadline, ..request }, tokens, state, observation)?;
    loop {
        match events.next().await {
            Some(DenoisingEvent::Step { sample, edits, .. }) => {
                let committed = edits.into_iter().filter_map(|edit| match edit {
                    Edit::Commit(commit) => Some(commit),
                    Edit::Remask(_) => None,
                });
                commits[sample as usize].extend(committed);
            }
            Some(DenoisingEvent::Scored { score, .. }) => scores.push(score),
            Some(DenoisingEvent::Finished(timings)) => return Ok(Found { commits, scores, timings }),
            Some(DenoisingEvent::Expired(_)) => return Err(observation.timed_out(deadline)),
            Some(DenoisingEvent::Failed(error)) => return Err(error.into()),
            None => return Err(GenerationError::EngineStopped.into()),
        }
    }
}
