//! The machine-readable contract, generated from the handlers.

mod shared;

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{PathItem, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;

use super::{keyed, metrics, open};

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
    servers((url = "/", description = "This server")),
    tags(
        (name = "generation", description = "Texts and holes"),
        (name = "models", description = "What is served"),
        (name = "text", description = "Tokens and prompts"),
        (name = "operations", description = "Probes and this document"),
    )
)]
struct Base;

/// The document, as `/openapi.json` serves it and `openapi/openapi.json` holds it.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = OpenApiRouter::with_openapi(Base::openapi()).merge(keyed()).into_openapi();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        // The empty requirement: a server without keys asks for none.
        let schemes = [BEARER, HEADER].map(|scheme| SecurityRequirement::new(scheme, [""; 0]));
        operation.security = Some(schemes.into_iter().chain([SecurityRequirement::default()]).collect());
        shared::complete(operation, true);
    }
    let mut unkeyed = open().merge(metrics()).into_openapi();
    for operation in unkeyed.paths.paths.values_mut().flat_map(operations) {
        shared::complete(operation, false);
    }
    document.merge(unkeyed);
    let components = document.components.get_or_insert_default();
    shared::describe(components);
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    components.add_security_scheme(BEARER, bearer);
    let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key")));
    components.add_security_scheme(HEADER, header);
    document
}

const BEARER: &str = "bearer";
const HEADER: &str = "header";

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post].into_iter().flatten()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object),
))]
pub async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
