//! The machine-readable contract, generated from the handlers.

use axum::Json;
use utoipa::OpenApi;

use super::table;

#[derive(OpenApi)]
#[openapi(
    // Its path in the router has a wildcard, which the document does not know.
    paths(super::models::retrieve),
    info(
        title = "Unmask",
        description = "Inference server for masked diffusion language models: a prompt or a text with holes goes \
                       in, and the tokens appear everywhere at once instead of left to right.",
        license(name = "Apache-2.0 OR MIT")
    ),
    tags(
        (name = "generation", description = "Texts and holes"),
        (name = "models", description = "What is served"),
        (name = "text", description = "Tokens and prompts"),
        (name = "operations", description = "Probes and this document"),
    )
)]
struct Base;

pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// The document, as `/openapi.json` serves it and `openapi/openapi.json` holds it.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    table().into_openapi()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object),
))]
pub async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
