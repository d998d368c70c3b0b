//! `GET /v1/models` and `/v1/models/{id}`: what is served, with its defaults and limits.

mod answer;

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use unmask_model::checkpoint::Visibility;

use self::answer::{
    Defaults, Denoising, KvCache, Meta, Modalities, Model, Models, RequestLimits, Routes, ServerLimits,
};
use super::check_model;
use super::fill::{MOST_CANDIDATES, MOST_CHOICES, MOST_HOLES};
use crate::config::Patience;
use crate::error::ApiError;
use crate::limits::{HEAD, HEADERS};
use crate::messages::{LONGEST_MESSAGE, MOST_MESSAGES};
use crate::policy::{OrderName, Preset, ResolvedPolicy};
use crate::request::biases::MOST_BIASES;
use crate::request::options::MOST_ALTERNATIVES;
use crate::route_defaults::Route;
use crate::state::AppState;

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
            system_fingerprint: model.fingerprint.clone(),
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
        limits: request_limits(state),
        server_limits: server_limits(state),
    }
}

fn request_limits(state: &AppState) -> RequestLimits {
    let limits = state.limits;
    RequestLimits {
        body_bytes: limits.body_bytes,
        steps: limits.steps,
        n: limits.samples,
        prompts: limits.prompts,
        generated_tokens: limits.canvas,
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
