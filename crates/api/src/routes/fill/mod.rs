//! `POST /fill`: infilling, the native route.

mod answer;
mod checked;
mod decisions;
mod events;
mod forms;
mod holes;
pub(super) mod nearest;
mod request;
mod search;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use unmask_model::predictor::TokenId;

use self::answer::{Answer, Filled};
pub(super) use self::decisions::MOST_CHOICES;
use self::decisions::Questions;
use self::events::Events;
use self::forms::GivenText;
pub(super) use self::forms::MOST_HOLES;
use self::holes::HoledText;
use self::request::{FillRequest, ScoreName};
pub(super) use self::search::MOST_CANDIDATES;
use self::search::{Canvases, Search, candidates, grid};
use super::{annotate, check_model, check_states, lay_out, put_times};
use crate::body::Body;
use crate::clock::unix_seconds;
use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::generation::Running;
use crate::healing::heal;
use crate::observation::Observation;
use crate::request::deadlines::TimeoutHeader;
use crate::request::options::{GivenOptions, Settings, StreamStates};
use crate::route_defaults::Route;
use crate::sse;
use crate::state::AppState;

const DESCRIPTION: &str = "The filled text; with `stream`, named events: `fill.start`, `fill.state`, `fill.hole`, \
                           `fill.done` (this object) or `error`, and `ping` in times of silence";

/// Fill the holes in a text.
#[utoipa::path(
    post,
    path = "/fill",
    tag = "generation",
    request_body = FillRequest,
    responses(
        (status = 200, description = DESCRIPTION, body = Filled),
    )
)]
pub async fn fill(
    State(state): State<AppState>,
    observation: Observation,
    timeout: TimeoutHeader,
    body: Body<FillRequest>,
) -> Result<Response, ApiError> {
    let Body { request, bytes, .. } = body;
    check_model(request.model.as_deref(), &state.model)?;
    let stream = request.stream.unwrap_or(false);
    let parts = request.parts.unwrap_or_default();
    let shared = state.clone();
    let work = move |abandoned: &Abandoned| prepare(request, timeout, &shared, abandoned);
    let prepared = lay_out(&state, &observation, bytes, work).await?;
    let Prepared { mut text, tokens, lengths, candidates, cut, questions, mut settings, score } = prepared;
    let choices = settings.samples;
    let decided = match questions {
        Some(questions) => Some(questions.answer(&mut text, &settings, &state, &observation).await?),
        None => None,
    };
    let canvases = |lengths: &[Vec<usize>]| Canvases::new(&text, &tokens, lengths, cut, &state);
    let Search { lengths, after, timings: found } =
        Search::of(lengths, candidates, canvases, &settings, &state, &observation).await?;
    if found.is_some() {
        settings.samples = choices.div_ceil(lengths.len());
    }
    let Canvases { layouts, truncated } = canvases(&lengths);
    let (layouts, healed) = heal(layouts, &settings, &state, &observation).await?;
    let running = Running::start(&layouts, Vec::new(), &settings, &state, observation.clone())?;
    let mut running = running.after(found).after(healed);
    let prompt_tokens = layouts[0].prompt_tokens();
    observation.given(prompt_tokens);
    let answer = Answer {
        id: format!("fill-{}", observation.id()),
        created: unix_seconds(),
        state: state.clone(),
        settings,
        text,
        lengths,
        after,
        choices,
        score,
        parts,
        truncated,
        prompt_tokens,
        observation: observation.clone(),
        decided,
    };
    let mut response = if stream {
        observation.streams();
        sse::respond(running, Events::new(answer)).await?
    } else {
        let timings = running.finish().await?;
        put_times(Json(answer.whole(&running, &timings)).into_response(), &timings)
    };
    annotate(&mut response, &state, &[], &layouts);
    Ok(response)
}

/// Fill the holes in a text (the same as `/fill`).
#[utoipa::path(
    post,
    path = "/v1/fill",
    tag = "generation",
    request_body = FillRequest,
    responses(
        (status = 200, description = DESCRIPTION, body = Filled),
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

/// A request that has passed all checks.
struct Prepared {
    text: HoledText,
    /// The tokens around the holes.
    tokens: Vec<Vec<TokenId>>,
    /// Lengths of the holes that are looked at.
    lengths: Vec<Vec<usize>>,
    /// The number of candidates that are filled.
    candidates: usize,
    /// True if the text may be cut.
    cut: bool,
    /// The decisions to take before anything is generated.
    questions: Option<Questions>,
    settings: Settings,
    score: ScoreName,
}

/// Checks every setting and tokenizes the text around the holes.
fn prepare(
    mut request: FillRequest,
    timeout_header: TimeoutHeader,
    state: &AppState,
    abandoned: &Abandoned,
) -> Result<Prepared, ApiError> {
    let text = GivenText::of(&mut request)?;
    let cut = request.truncate.unwrap_or(true);
    let search = request.length_search.unwrap_or_default();
    let length = request.length;
    let stream = request.stream.unwrap_or(false);
    let states = request.diffusion.as_ref().and_then(|diffusion| diffusion.stream_states);
    let mut settings = given(request, timeout_header).validate(state)?;
    let mut text = HoledText::of(text, length, &settings, state)?;
    let mut tokens = text.tokens(cut, &state.model, abandoned)?;
    text.heal_choices(&mut tokens, &state.model.tokenizer)?;
    let ranges = text.fit(&tokens, cut, state)?;
    let ranges = match state.model.block() {
        Some(block) => text.at_end(ranges, block)?,
        None => ranges,
    };
    let lengths = grid(&ranges);
    let candidates = candidates(search.candidates)?;
    if stream && states.is_none() && lengths.len() == 1 {
        settings.states = StreamStates::Delta;
    }
    if settings.states != StreamStates::None && lengths.len() > 1 {
        let message = "`diffusion.stream_states` needs holes of exact lengths: where lengths are searched, \
                       it is not known before the end which states are those of the answer";
        let param = "diffusion.stream_states".to_owned();
        return Err(ApiError::Conflict { param, message: message.to_owned() });
    }
    check_states(&settings, stream)?;
    let asked = text.holes.iter().any(|hole| hole.choices.is_some());
    let questions = asked.then(|| Questions::new(&text, &tokens, &ranges, cut, state)).transpose()?;
    // A hole whose length is given has no distance to compare.
    let usual = if lengths.len() > 1 { ScoreName::Fit } else { ScoreName::MeanLogprob };
    let score = search.score.filter(|score| *score != ScoreName::Fit || lengths.len() > 1).unwrap_or(usual);
    Ok(Prepared { text, tokens, lengths, candidates, cut, questions, settings, score })
}

/// The settings as the request gave them.
fn given(mut request: FillRequest, timeout_header: TimeoutHeader) -> GivenOptions {
    GivenOptions {
        route: Route::Fill,
        token_healing: request.token_healing,
        diffusion: request.diffusion.take(),
        timeout_header,
        ..request.given()
    }
}
