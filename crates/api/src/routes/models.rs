//! `GET /v1/models` and `/v1/models/{id}`: what is served, with its defaults and limits.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use unmask_model::checkpoint::Visibility;

use super::check_model;
use super::fill::{MOST_CANDIDATES, MOST_CHOICES, MOST_HOLES};
use crate::config::Patience;
use crate::error::ApiError;
use crate::limits::{HEAD, HEADERS};
use crate::messages::{LONGEST_MESSAGE, MOST_MESSAGES};
use crate::policy::KvCacheName;
use crate::policy::{OrderName, Preset, ResolvedPolicy};
use crate::request::options::{MOST_ALTERNATIVES, MOST_BIASES};
use crate::route_defaults::{Route, RouteDefault};
use crate::state::AppState;

/// The models served: always one.
#[derive(Debug, Serialize, ToSchema)]
pub struct Models {
    /// `list`.
    object: &'static str,
    /// The models.
    data: Vec<Model>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    /// Its name in requests.
    id: String,
    /// `model`.
    object: &'static str,
    /// When it was loaded, in seconds since 1970.
    created: u64,
    /// `unmask`.
    owned_by: &'static str,
    /// Its name.
    root: String,
    /// Longest canvas: given and generated positions together.
    max_model_len: usize,
    /// Kinds of input and output.
    architecture: Modalities,
    /// Kinds of requests: `completion`, `fill`, `score`, and `chat` when there is a chat template.
    capabilities: Vec<&'static str>,
    /// Settings of the denoising and their limits.
    diffusion: Denoising,
    /// Sizes.
    meta: Meta,
    /// The family's settings: those of `"preset": "reference"`.
    sampling_defaults: Defaults,
    /// Settings when a request chooses nothing of the decision rule, by kind of request.
    route_defaults: Routes,
    /// Limits of a request.
    limits: RequestLimits,
    /// Limits of all clients together, and of each connection.
    server_limits: ServerLimits,
}

/// Kinds of input and output.
#[derive(Debug, Serialize, ToSchema)]
pub struct Modalities {
    /// `text`.
    input_modalities: [&'static str; 1],
    /// `text`.
    output_modalities: [&'static str; 1],
}

/// Settings of a model's denoising and their limits.
#[derive(Debug, Serialize, ToSchema)]
pub struct Denoising {
    /// The model's family.
    family: &'static str,
    /// T when a request gives none.
    default_steps: u32,
    /// Largest T.
    max_steps: u32,
    /// Orders of commits.
    orders: [OrderName; 8],
    /// Smallest and largest `block_length`.
    block_lengths: [usize; 2],
    /// The positions that a position sees: `full` (all others) or `block_causal` (its own block and those before it, so that no text
    /// can stand after a hole).
    attention: &'static str,
    /// Keys and values that are kept between evaluations.
    kv_cache: KvCache,
}

/// Keys and values that a server keeps between evaluations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServerKvCache)]
pub struct KvCache {
    /// Bytes of all of them at most.
    limit_bytes: u64,
    /// Bytes of one position in all layers.
    bytes_per_token: u64,
    /// Positions of a block, for a model whose positions see no later block: finished blocks are kept, and nothing is
    /// approximated. `null` for a model in which every position sees all others.
    block_length: Option<usize>,
    /// The choice of requests that say nothing; `null` where that depends on the route.
    default: Option<KvCacheName>,
}

/// Sizes of a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct Meta {
    /// Longest canvas that training saw, where it is known.
    n_ctx_train: Option<usize>,
    /// Rows of the embedding.
    n_vocab: usize,
    /// Numbers in the model.
    n_params: usize,
}

/// Settings when a request gives none.
#[derive(Debug, Serialize, ToSchema)]
pub struct Defaults {
    /// The decision rule.
    preset: Preset,
    /// T.
    steps: u32,
    /// Divides the logits.
    temperature: f64,
    /// Nucleus mass.
    top_p: f64,
    /// Order of commits.
    order: OrderName,
}

/// Settings when a request chooses nothing of the decision rule.
#[derive(Debug, Serialize, ToSchema)]
pub struct Routes {
    /// For a text with holes: `/fill`, `/infill`, and completions with a `suffix`.
    fill: RouteDefault,
    /// For a text to continue: completions without a `suffix`.
    complete: RouteDefault,
    /// For `/v1/chat/completions`.
    chat: RouteDefault,
}

/// Limits of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestLimits {
    /// Bytes of a request body.
    body_bytes: usize,
    /// Largest T.
    steps: u32,
    /// Answers per prompt.
    n: usize,
    /// Prompts per request.
    prompts: usize,
    /// Tokens to generate per answer.
    generated_tokens: usize,
    /// (given + generated positions) × evaluations × answers.
    cost: u64,
    /// Stop strings.
    stops: usize,
    /// Bytes of a stop string.
    stop_bytes: usize,
    /// Entries of `logit_bias`.
    logit_bias: usize,
    /// Largest `logprobs` and `top_logprobs`.
    logprobs: usize,
    /// Messages of a chat.
    messages: usize,
    /// Characters of a message.
    message_characters: usize,
    /// Holes of a text to fill.
    holes: usize,
    /// Choices of a hole.
    choices: usize,
    /// Lengths that are tried for a hole.
    length_candidates: usize,
    /// Largest and default `timeout_ms`; null when it is four times what a request takes alone, at least
    /// 120,000.
    timeout_ms: Option<u64>,
}

/// Limits of all clients together, and of each connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerLimits {
    /// Connections at a time.
    connections: usize,
    /// Bytes of a request's head.
    header_bytes: usize,
    /// Headers of a request over HTTP/1.1; over HTTP/2 their bytes are counted alone, with 32 more for each.
    headers: usize,
    /// Until a request's head has arrived.
    header_timeout_ms: u64,
    /// Until its body has arrived.
    body_timeout_ms: u64,
    /// Time that a connection may be idle between requests.
    idle_timeout_ms: u64,
    /// Time for which a client may read nothing of an answer.
    write_timeout_ms: u64,
    /// Samples that are denoised at the same time.
    running: usize,
    /// Requests in the queue at most.
    queued_requests: usize,
    /// Time that a request may spend in the queue.
    queue_time_ms: u64,
}

/// The model served here.
#[utoipa::path(get, path = "/v1/models", tag = "models", responses(
    (status = 200, description = "The model", body = Models),
))]
pub async fn list(State(state): State<AppState>) -> Json<Models> {
    Json(Models { object: "list", data: vec![entry(&state)] })
}

/// One model.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "models",
    params(("id" = String, Path, description = "The model's name; a slash in it may be sent as it is or as %2F")),
    responses(
        (status = 200, description = "The model", body = Model),
    )
)]
pub async fn retrieve(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    check_model(Some(&id), &state.model)?;
    Ok(Json(entry(&state)))
}

/// All orders of commits.
const ORDERS: [OrderName; 8] = [
    OrderName::Random,
    OrderName::Permutation,
    OrderName::Stratified,
    OrderName::Confidence,
    OrderName::ModelConfidence,
    OrderName::Margin,
    OrderName::Entropy,
    OrderName::Position,
];

fn entry(state: &AppState) -> Model {
    let AppState { model, limits, .. } = state;
    let defaults = model.profile.defaults;
    let preset = Preset::of(defaults);
    let text = ["text"];
    let chat = model.chat_template.as_ref().map(|_| "chat");
    let canvas = limits.canvas;
    Model {
        id: model.id.clone(),
        object: "model",
        created: model.created,
        owned_by: "unmask",
        root: model.id.clone(),
        max_model_len: model.limits.context,
        architecture: Modalities { input_modalities: text, output_modalities: text },
        capabilities: ["completion", "fill", "score"].into_iter().chain(chat).collect(),
        diffusion: Denoising {
            family: model.profile.family.name,
            default_steps: defaults.steps,
            max_steps: limits.steps,
            orders: ORDERS,
            block_lengths: model.block().map_or([1, canvas], |block| [block, block]),
            attention: if model.block().is_some() { "block_causal" } else { "full" },
            kv_cache: KvCache {
                limit_bytes: model.kv_cache.0,
                bytes_per_token: model.kv_cache.1,
                block_length: match model.limits.visibility {
                    Visibility::Full => None,
                    Visibility::BlockCausal { block } => Some(block),
                },
                default: limits.kv_cache,
            },
        },
        meta: Meta {
            n_ctx_train: model.profile.trained_length,
            n_vocab: model.limits.vocabulary,
            n_params: model.parameters,
        },
        sampling_defaults: Defaults {
            steps: defaults.steps,
            temperature: defaults.temperature,
            top_p: defaults.top_p,
            order: ResolvedPolicy::from(preset.policy(defaults.steps)).order,
            preset,
        },
        route_defaults: Routes {
            fill: model.defaults.of(Route::Fill, defaults),
            complete: model.defaults.of(Route::Complete, defaults),
            chat: model.defaults.of(Route::Chat, defaults),
        },
        limits: RequestLimits {
            body_bytes: limits.body_bytes,
            steps: limits.steps,
            n: limits.samples,
            prompts: limits.prompts,
            generated_tokens: canvas,
            cost: limits.cost,
            stops: limits.stops.0,
            stop_bytes: limits.stops.1,
            logit_bias: MOST_BIASES,
            logprobs: MOST_ALTERNATIVES as usize,
            messages: MOST_MESSAGES,
            message_characters: LONGEST_MESSAGE,
            holes: MOST_HOLES,
            choices: MOST_CHOICES,
            length_candidates: MOST_CANDIDATES,
            timeout_ms: limits.timeout.map(milliseconds),
        },
        server_limits: server_limits(state),
    }
}

fn server_limits(state: &AppState) -> ServerLimits {
    let Patience { slow_reader, header, idle, connections, .. } = state.patience;
    let (queue, wait) = state.queue;
    ServerLimits {
        connections,
        header_bytes: HEAD,
        headers: HEADERS,
        header_timeout_ms: milliseconds(header),
        body_timeout_ms: milliseconds(state.limits.body_time),
        idle_timeout_ms: milliseconds(idle),
        write_timeout_ms: milliseconds(slow_reader),
        running: state.slots,
        queued_requests: queue,
        queue_time_ms: milliseconds(wait),
    }
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}
