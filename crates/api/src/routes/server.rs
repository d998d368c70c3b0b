//! Descriptions of the server: `/version`, and llama.cpp's `/props`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::AppState;

/// The version.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    /// The program's version.
    version: &'static str,
}

/// The version of the program.
#[utoipa::path(get, path = "/version", tag = "operations", responses(
    (status = 200, description = "The version", body = Version),
))]
pub async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// The properties that clients of llama.cpp read first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Props {
    /// Settings of a request that gives none.
    default_generation_settings: GenerationSettings,
    /// Samples that are denoised at the same time.
    total_slots: usize,
    /// The model's name.
    model_alias: String,
    /// The chat template, in Jinja; empty when there is none.
    chat_template: String,
    /// Document start; empty when there is none.
    bos_token: String,
    /// Document end; empty when there is none.
    eos_token: String,
    /// The program and its version.
    build_info: String,
}

/// Settings of a request that gives none.
#[derive(Debug, Serialize, ToSchema)]
pub struct GenerationSettings {
    /// Longest canvas.
    n_ctx: usize,
}

/// The server in llama.cpp's words.
#[utoipa::path(get, path = "/props", tag = "operations", responses(
    (status = 200, description = "The server's properties", body = Props),
))]
pub async fn props(State(state): State<AppState>) -> Json<Props> {
    let model = &state.model;
    let template = model.chat_template.as_ref().map(|template| template.source().to_owned());
    Json(Props {
        default_generation_settings: GenerationSettings { n_ctx: model.limits.context },
        total_slots: state.slots,
        model_alias: model.id.clone(),
        chat_template: template.unwrap_or_default(),
        bos_token: model.profile.bos_token.clone().unwrap_or_default(),
        eos_token: model.profile.eos_token.clone().unwrap_or_default(),
        build_info: concat!("unmask ", env!("CARGO_PKG_VERSION")).to_owned(),
    })
}
