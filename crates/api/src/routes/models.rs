//! `GET /v1/models` and `/v1/models/{id}`: what is served, with its defaults and limits.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::check_model;
use crate::error::{ApiError, ErrorBody};
use crate::policy_names::OrderName;
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
    /// What goes in and what comes out.
    architecture: Modalities,
    /// What can be asked of it: `completion`, `fill`, and `chat` when there is a chat template.
    capabilities: Vec<&'static str>,
    /// How it can be denoised.
    diffusion: Denoising,
    /// Sizes.
    meta: Meta,
    /// Settings when a request gives none.
    sampling_defaults: Defaults,
    /// What a request may ask for.
    limits: RequestLimits,
}

/// What goes in and what comes out.
#[derive(Debug, Serialize, ToSchema)]
pub struct Modalities {
    /// `text`.
    input_modalities: [&'static str; 1],
    /// `text`.
    output_modalities: [&'static str; 1],
}

/// How a model can be denoised.
#[derive(Debug, Serialize, ToSchema)]
pub struct Denoising {
    /// T when a request gives none.
    default_steps: u32,
    /// Largest T.
    max_steps: u32,
    /// Orders of commits.
    orders: [OrderName; 7],
    /// Smallest and largest `block_length`.
    block_lengths: [usize; 2],
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
    /// T.
    steps: u32,
    /// Divides the logits.
    temperature: f64,
    /// Nucleus mass.
    top_p: f64,
    /// Order of commits.
    order: OrderName,
}

/// What a request may ask for.
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
    /// Positions to generate per answer.
    canvas: usize,
    /// (given + generated positions) × evaluations × answers.
    cost: u64,
    /// Largest and default `timeout_ms`; null when it is four times what a request takes alone, at least
    /// 120,000.
    timeout_ms: Option<u64>,
}

/// What is served here.
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
        (status = 404, description = "It is not served here", body = ErrorBody),
    )
)]
pub async fn retrieve(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    check_model(Some(&id), &state.model)?;
    Ok(Json(entry(&state)))
}

fn entry(state: &AppState) -> Model {
    let AppState { model, limits, .. } = state;
    let defaults = model.profile.defaults;
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
        capabilities: ["completion", "fill"].into_iter().chain(chat).collect(),
        diffusion: Denoising {
            default_steps: defaults.steps,
            max_steps: limits.steps,
            orders: [
                OrderName::Random,
                OrderName::Permutation,
                OrderName::Stratified,
                OrderName::Confidence,
                OrderName::ModelConfidence,
                OrderName::Margin,
                OrderName::Entropy,
            ],
            block_lengths: [1, canvas],
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
            order: OrderName::Random,
        },
        limits: RequestLimits {
            body_bytes: limits.body_bytes,
            steps: limits.steps,
            n: limits.samples,
            prompts: limits.prompts,
            canvas,
            cost: limits.cost,
            timeout_ms: limits.timeout.map(|timeout| timeout.as_millis() as u64),
        },
    }
}
