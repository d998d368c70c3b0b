//! `POST /infill`: llama.cpp's infilling, for llama.vim and llama.vscode.

pub mod answer;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use self::answer::{Answer, Described, Events};
use super::fill::nearest;
use super::{annotate, check_model, lay_out, put_times};
use crate::body::{Body, RequestBody, UnknownFields};
use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::generation::Running;
use crate::healing::heal;
use crate::lengths::{self, LONGEST};
use crate::observation::Observation;
use crate::prompt::{Layout, Size, unseen_suffix};
use crate::request::deadlines::TimeoutHeader;
use crate::request::fields::{integer, object};
use crate::request::options::{GivenOptions, Settings, StreamStates};
use crate::request::policy_options::DiffusionOptions;
use crate::request::ranges::count;
use crate::request::shared_fields::with_shared_fields;
use crate::route_defaults::Route;
use crate::seed::Seed;
use crate::sse;
use crate::state::AppState;

/// Blanks that a line can be asked to be indented by.
const MOST_INDENT: i64 = 1024;

with_shared_fields! {
    [
        temperature top_p top_k min_p frequency_penalty presence_penalty repetition_penalty logit_bias
        min_tokens ignore_eos stop timeout_ms token_healing
    ]
    /// A text around the cursor.
    #[derive(Debug, Deserialize, ToSchema)]
    #[schema(example = json!({"input_prefix": "def add(a, b):\n", "prompt": "    return ", "input_suffix": "\n", "n_predict": 8, "seed": 7}))]
    pub struct InfillRequest {
        /// The model to use; absent or empty means the one served.
        model: Option<String>,
        /// The lines before the cursor's.
        input_prefix: Option<String>,
        /// The text after the cursor.
        input_suffix: Option<String>,
        /// Texts of other places, which stand before the prefix. When the model has no room for all, the
        /// first ones are left out first.
        input_extra: Option<Vec<Extra>>,
        /// The text before the cursor in its line.
        prompt: Option<String>,
        /// The most tokens to generate: between a prefix and a suffix as many as fit best, at most 64.
        /// -1 is the same as 64; 0 generates nothing and is answered at once.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = -1)]
        n_predict: Option<i64>,
        /// Milliseconds after which it should be done; 0 is off. The same as `diffusion.time_budget_ms`, which
        /// counts when both are given.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = 0)]
        t_max_predict_ms: Option<i64>,
        /// The text ends before the first line, after the cursor's own, that begins with fewer blanks than
        /// this. Default 0.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = 0, maximum = 1024)]
        n_indent: Option<i64>,
        /// Only these fields of the answer, each under its path: `timings/prompt_n`.
        response_fields: Option<Vec<String>>,
        /// Answers; of several, a list. Default 1.
        #[serde(default, deserialize_with = "integer")]
        #[schema(minimum = 1)]
        n_cmpl: Option<i64>,
        /// The answer is a function of the request and this number. Default, and for -1: random.
        seed: Option<Seed>,
        /// Send the text as it settles.
        stream: Option<bool>,
        /// Settings of the denoising. States are not streamed here.
        #[serde(default, deserialize_with = "object")]
        diffusion: Option<DiffusionOptions>,
    }
}

/// A text of another place.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Extra {
    /// Its text.
    text: String,
    /// Its name, which is not used.
    #[serde(default, rename = "filename")]
    _filename: Option<String>,
}

impl RequestBody for InfillRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
    const REPAIRS_SURROGATES: bool = true;
}

/// Complete at the cursor.
#[utoipa::path(
    post,
    path = "/infill",
    tag = "generation",
    request_body = InfillRequest,
    responses(
        (status = 200, description = "The text, a list of `n_cmpl` of them, or what `response_fields` left of it; with `stream`, `text/event-stream` of `{content, stop: false}` and a last event with everything but the text", body = Described),
    )
)]
pub async fn infill(
    State(state): State<AppState>,
    observation: Observation,
    timeout: TimeoutHeader,
    body: Body<InfillRequest>,
) -> Result<Response, ApiError> {
    let Body { mut request, ignored, bytes } = body;
    check_model(request.model.as_deref(), &state.model)?;
    let stream = request.stream.unwrap_or(false);
    let fields = request.response_fields.take();
    let indent = count("n_indent", request.n_indent, 0..=MOST_INDENT)?.unwrap_or(0) as usize;
    if request.n_predict == Some(0) {
        // Editors warm servers up like this; there is nothing to keep warm.
        let count = count("n_cmpl", request.n_cmpl, 1..=state.limits.samples as i64)?.unwrap_or(1);
        return Ok(Answer::nothing(&state, fields, count as usize, stream));
    }
    let prepared = state.clone();
    let work = move |_: &Abandoned| prepare(request, timeout, &prepared);
    let work = lay_out(&state, &observation, bytes, work).await?;
    let (layout, truncated, settings) = work;
    if settings.states != StreamStates::None {
        let message = "states are not streamed on /infill; POST /fill streams them".to_owned();
        return Err(ApiError::Conflict { param: "diffusion.stream_states".to_owned(), message });
    }
    let (layouts, found) = lengths::find(vec![layout], &settings, &state, &observation).await?;
    let (layouts, healed) = heal(layouts, &settings, &state, &observation).await?;
    let running = Running::start(&layouts, Vec::new(), &settings, &state, observation.clone())?;
    let mut running = running.after(found).after(healed);
    let prompt_tokens = layouts[0].prompt_tokens();
    let answer = Answer { state: state.clone(), settings, fields, indent, truncated, prompt_tokens };
    let mut response = if stream {
        observation.streams();
        let sent = vec![0; running.views.len()];
        sse::respond(running, Events { answer, sent }).await?
    } else {
        let timings = running.finish().await?;
        put_times(Json(answer.whole(&running, &timings)).into_response(), &timings)
    };
    annotate(&mut response, &state, &ignored, &layouts);
    Ok(response)
}

/// Tokenizes the text around the cursor and checks every setting.
fn prepare(
    mut request: InfillRequest,
    timeout_header: TimeoutHeader,
    state: &AppState,
) -> Result<(Layout, bool, Settings), ApiError> {
    let mut diffusion = request.diffusion.take().unwrap_or_default();
    let budget = request.t_max_predict_ms.filter(|_| diffusion.time_budget_ms.is_none());
    diffusion.time_budget_ms = diffusion.time_budget_ms.or(budget.filter(|milliseconds| *milliseconds != 0));
    let samples = count("n_cmpl", request.n_cmpl, 1..=state.limits.samples as i64)?;
    let seed = request.seed.filter(|seed| !seed.is(-1));
    let mut settings = GivenOptions {
        route: Route::Fill,
        seed,
        n: samples,
        editor: true,
        diffusion: Some(diffusion),
        timeout_header,
        ..request.given()
    }
    .validate(state)?;
    settings.times.budget_field = budget.map(|_| "t_max_predict_ms");
    let mut before = String::new();
    for extra in request.input_extra.unwrap_or_default() {
        before += &extra.text;
        if !before.ends_with('\n') {
            before.push('\n');
        }
    }
    before += request.input_prefix.as_deref().unwrap_or_default();
    before += request.prompt.as_deref().unwrap_or_default();
    let after = request.input_suffix.unwrap_or_default();
    let tokenizer = &state.model.tokenizer;
    let tokens = nearest::tokens_before(&before, &state.model)?;
    if let (Some(block), false) = (state.model.block(), after.is_empty()) {
        return Err(unseen_suffix("input_suffix", block));
    }
    let mut around = [tokens, tokenizer.encode_piece(nearest::after(&after, &state.model))?];
    let asked = count("n_predict", request.n_predict, -1..=i64::MAX)?.filter(|count| *count != -1);
    let longest = LONGEST.max(settings.min_tokens);
    let most = asked.map_or(longest, |most| longest.min(usize::try_from(most).unwrap_or(longest)));
    Size::AtMost(most).check_least(settings.min_tokens_asked)?;
    let truncated = nearest::make_room(&mut around, most, &state.model);
    let [tokens, after] = around;
    // Before the end of a file, nothing tells how much is missing; a document end will.
    let found = !after.is_empty() && !settings.reproduce;
    let size = Size::AtMost(most);
    let layout = Layout::around(tokens, after, false, size, ("input_prefix", "n_predict"), state)?;
    let layout = layout.healing(settings.healing);
    let layout = if found { layout.at_least(settings.min_tokens.clamp(1, most)) } else { layout };
    Ok((layout, truncated, settings))
}
