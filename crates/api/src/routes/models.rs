//! `GET /v1/models`: what is served, with its defaults and limits.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

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
    /// Longest canvas: given and generated positions together.
    max_model_len: usize,
    /// What can be asked of it.
    capabilities: [&'static str; 2],
    /// Sizes.
    meta: Meta,
    /// Settings when a request gives none.
    sampling_defaults: Defaults,
    /// What a request may ask for.
    limits: RequestLimits,
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
    let AppState { model, limits, .. } = &state;
    let defaults = model.profile.defaults;
    let entry = Model {
        id: model.id.clone(),
        object: "model",
        created: model.created,
        owned_by: "unmask",
        max_model_len: model.limits.context,
        capabilities: ["completion", "fill"],
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
            canvas: limits.canvas.min(model.limits.context),
            cost: limits.cost,
            timeout_ms: limits.timeout.map(|timeout| timeout.as_millis() as u64),
        },
    };
    Json(Models { object: "list", data: vec![entry] })
}
