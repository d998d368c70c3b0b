//! Messages to the text that the chat template makes of them.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::respond;
use crate::body::{Body, RequestBody, UnknownFields};
use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::messages::{GivenMessages, Message, unread_variables};
use crate::observation::Observation;
use crate::routes::{check_model, lay_out};
use crate::state::AppState;

/// Messages to render.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"messages": [{"role": "user", "content": "Why is the sky blue?"}]}))]
pub struct ApplyTemplateRequest {
    /// The model to use; absent or empty means the one served.
    model: Option<String>,
    /// The conversation, 1 to 256 messages.
    #[schema(min_items = 1, max_items = 256)]
    messages: Vec<Message>,
    /// The same as in /v1/chat/completions.
    add_generation_prompt: Option<bool>,
    /// The same as in /v1/chat/completions.
    continue_final_message: Option<bool>,
    /// The same as in /v1/chat/completions.
    chat_template_kwargs: Option<BTreeMap<String, Value>>,
}

impl RequestBody for ApplyTemplateRequest {
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Tolerate;
}

/// A rendered prompt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppliedTemplate {
    /// The text. Sent to /v1/completions, special tokens in it would be ordinary text.
    prompt: String,
}

/// The prompt that the chat template makes of messages.
#[utoipa::path(post, path = "/apply-template", tag = "text", request_body = ApplyTemplateRequest, responses(
    (status = 200, description = "The prompt", body = AppliedTemplate),
))]
pub async fn apply_template(
    State(state): State<AppState>,
    observation: Observation,
    Body { request, mut ignored, bytes }: Body<ApplyTemplateRequest>,
) -> Result<Response, ApiError> {
    check_model(request.model.as_deref(), &state.model)?;
    ignored.extend(unread_variables(request.chat_template_kwargs.as_ref(), &state)?);
    let ApplyTemplateRequest { messages, add_generation_prompt, continue_final_message, .. } = request;
    let variables = request.chat_template_kwargs;
    let given = GivenMessages { messages, add_generation_prompt, continue_final_message, variables };
    let model = state.model.clone();
    let work = move |_: &Abandoned| Ok(given.prompt(&model)?.text());
    let prompt = lay_out(&state, &observation, bytes, work).await?;
    Ok(respond(AppliedTemplate { prompt }, &state, &ignored))
}
