//! Parts shared by OpenAI's routes: the answer around the texts, and the stream.

mod answer;
mod chunks;
mod drafts;

use axum::Json;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use unmask_model::diffusion::ScoringState;
use unmask_model::tokenizer::TextTokenizer;
use utoipa::ToSchema;

use self::answer::Answer;
pub(super) use self::answer::Echo;
use self::chunks::Chunks;
use self::drafts::Drafts;
use super::{annotate, check_states, put_times};
use crate::clock::unix_seconds;
use crate::error::ApiError;
use crate::generation::Running;
use crate::healing::heal;
use crate::lengths;
use crate::logprobs::TokenLogprob;
use crate::observation::Observation;
use crate::prompt::Layout;
use crate::report::{DiffusionReport, StateEvent, Usage};
use crate::request::options::Settings;
use crate::sse::{self, json_event};
use crate::state::AppState;

/// Further contents of a stream.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct StreamOptions {
    /// A last chunk with `usage` and no choices.
    include_usage: Option<bool>,
    /// `usage` in every chunk, as far as it is known.
    continuous_usage_stats: Option<bool>,
    /// Pad every chunk, by its field `obfuscation`, to a multiple of 128 bytes, so that who watches the connection
    /// cannot tell tokens by their lengths. Default false.
    include_obfuscation: Option<bool>,
}

/// The answer, and every chunk of a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Completion<C> {
    /// The request's id behind the route's prefix.
    id: String,
    /// The kind of answer.
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
    /// Report of the denoising; in a stream, the report in the last chunk of each choice and denoising states
    /// in others.
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion: Option<Diffusion>,
    /// In a stream of drafts (`diffusing`), what the draft is.
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion_meta: Option<Draft>,
    /// Padding, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    obfuscation: Option<String>,
}

/// Sizes of padded chunks are multiples of this.
const PADDED_TO: usize = 128;

impl<C: Serialize> Completion<C> {
    /// The chunk as an event, padded if that was asked for.
    fn event(mut self, options: StreamOptions) -> Event {
        if options.include_obfuscation.unwrap_or(false) {
            self.obfuscation = Some(String::new());
            let bytes = serde_json::to_vec(&self).map_or(0, |chunk| chunk.len());
            self.obfuscation = Some("x".repeat(bytes.next_multiple_of(PADDED_TO) - bytes));
        }
        json_event(&self)
    }
}

/// The kind of text of a chunk in a stream of drafts.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Draft {
    /// The chunk's text replaces the ones before it.
    diffusion_content: bool,
    /// Share of the positions that are filled, from 0 to 1.
    diffusion_progress: f64,
}

/// A chunk's part about the denoising.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Diffusion {
    /// At the end.
    Report(DiffusionReport),
    /// On the way.
    State(StateEvent),
}

/// A route's format of texts.
pub(super) trait Dialect: Send + 'static {
    /// One text of an answer or a chunk.
    type Choice: Serialize;
    /// Stands before the request's id.
    const PREFIX: &'static str;
    /// The kind of a plain answer.
    const WHOLE: &'static str;
    /// The kind of a chunk.
    const CHUNK: &'static str;
    /// True if editors ask here: `max_tokens` is a maximum then, and long texts keep keys and values.
    const EDITOR: bool = false;

    /// A text of a plain answer.
    fn whole(index: usize, part: Part, tokenizer: &TextTokenizer) -> Self::Choice;
    /// A part of a text in a stream.
    fn chunk(index: usize, part: Part, tokenizer: &TextTokenizer) -> Self::Choice;
}

/// A part of a text, or all of it.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// True for the first chunk of its text.
    pub(super) first: bool,
    /// Its addition to the text.
    pub(super) text: String,
    /// True if the text replaces all earlier text, also when it is empty.
    pub(super) replaces: bool,
    /// The tokens that it completes, if they are wanted and it completes any.
    pub(super) tokens: Option<Vec<TokenLogprob>>,
    /// Why the text ends, in its last chunk.
    pub(super) finish_reason: Option<&'static str>,
}

/// A request that has passed all checks.
pub(super) struct Prepared {
    /// One canvas per prompt.
    pub(super) layouts: Vec<Layout>,
    pub(super) settings: Settings,
    /// The prompts, when answers begin with them.
    pub(super) echoes: Vec<Echo>,
    /// The prompts, when they are scored.
    pub(super) texts: Vec<ScoringState>,
    /// True for a stream of drafts.
    pub(super) diffusing: bool,
    /// True if text that is far from a hole was left out.
    pub(super) truncated: bool,
}

/// The options of a stream, if one is asked for.
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
    Prepared { layouts, settings, echoes, texts, diffusing, truncated }: Prepared,
    stream: Option<StreamOptions>,
    ignored: &[String],
    state: &AppState,
    observation: Observation,
) -> Result<Response, ApiError> {
    check_states(&settings, stream.is_some())?;
    if stream.is_some() && settings.scoring.is_some() {
        let message = "an echoed prompt's `logprobs` are known at the end only, so they cannot be streamed";
        return Err(ApiError::Conflict { param: "stream".to_owned(), message: message.to_owned() });
    }
    let evaluations = texts.iter().map(ScoringState::evaluations_left).sum();
    let (layouts, found) = lengths::find(layouts, &settings, state, &observation).await?;
    let (layouts, healed) = heal(layouts, &settings, state, &observation).await?;
    let running = Running::start(&layouts, texts, &settings, state, observation.clone())?;
    let mut running = running.after(found).after(healed);
    let prompt_tokens = layouts.iter().map(Layout::prompt_tokens).sum();
    let id = format!("{}{}", D::PREFIX, observation.id());
    let created = unix_seconds();
    let state_of = state.clone();
    let answer =
        Answer { id, created, state: state_of, settings, prompt_tokens, echoes, evaluations, truncated };
    let mut response = if let Some(options) = stream {
        observation.streams();
        if diffusing {
            sse::respond(running, Drafts::<D>::new(answer, options)).await?
        } else {
            let chunks = Chunks::<D>::new(answer, &running, options);
            sse::respond(running, chunks).await?
        }
    } else {
        let timings = running.finish().await?;
        put_times(Json(answer.whole::<D>(&running, &timings)).into_response(), &timings)
    };
    annotate(&mut response, state, ignored, &layouts);
    Ok(response)
}
