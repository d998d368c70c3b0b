//! The machine-readable contract, generated from the handlers.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, PathItem, Ref, Response, SecurityRequirement};
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
    document.paths.paths.values_mut().flat_map(operations).for_each(ask_for_a_key);
    document.merge(open().merge(metrics()).into_openapi());
    let not_allowed = "On a loopback address, or with --allowed-host: `Host` is no name of this server";
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        answer(operation, "403", not_allowed);
    }
    let components = document.components.get_or_insert_default();
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

/// What is the same of every route that stands behind the keys.
fn ask_for_a_key(operation: &mut Operation) {
    // The empty requirement: a server without keys asks for none.
    let schemes = [BEARER, HEADER].map(|scheme| SecurityRequirement::new(scheme, [""; 0]));
    operation.security = Some(schemes.into_iter().chain([SecurityRequirement::default()]).collect());
    answer(operation, "401", "The server has keys, and this is none of them");
    if operation.request_body.is_some() {
        answer(operation, "408", "The body did not arrive in time");
        answer(operation, "429", "The client has used up its requests or tokens of this minute");
    }
}

/// An error that a route's own documentation does not name.
fn answer(operation: &mut Operation, status: &str, description: &str) {
    let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
    let response = Response::builder().description(description).content("application/json", body).build();
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object),
))]
pub async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
