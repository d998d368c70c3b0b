//! The routes that a run asks, with the model behind them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ItemError, block};
use crate::terminal::api::{Api, AskError};

/// Repetitions of a request that a busy server refuses.
const RETRIES: u32 = 8;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The API, and what it says of its model.
pub(in super::super) struct Server {
    api: Api,
    pub(in super::super) model: Model,
}

/// A served model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Model {
    pub(in super::super) id: String,
    pub(in super::super) family: String,
    pub(in super::super) parameters: u64,
    /// The weights, the precision and the program's version; empty of a server that does not say.
    pub(in super::super) fingerprint: String,
    /// Positions of a canvas.
    pub(in super::super) context: usize,
    /// True if there is a chat template.
    pub(in super::super) chats: bool,
}

impl Server {
    /// Asks for the model.
    ///
    /// # Errors
    /// The server does not answer, or not as this program does.
    pub(in super::super) async fn open(api: Api) -> Result<Self, ItemError> {
        let models = api.answer("/v1/models", None).await?;
        let entry = &models["data"][0];
        let foreign = |what| ItemError::Foreign { path: "/v1/models", what };
        let model = Model {
            id: entry["id"].as_str().ok_or_else(|| foreign("id"))?.to_owned(),
            family: entry["diffusion"]["family"]
                .as_str()
                .ok_or_else(|| foreign("diffusion.family"))?
                .to_owned(),
            fingerprint: entry["diffusion"]["system_fingerprint"].as_str().unwrap_or_default().to_owned(),
            parameters: entry["meta"]["n_params"].as_u64().unwrap_or_default(),
            context: entry["max_model_len"].as_u64().ok_or_else(|| foreign("max_model_len"))? as usize,
            chats: entry["capabilities"].as_array().is_some_and(|list| list.contains(&json!("chat"))),
        };
        Ok(Self { api, model })
    }

    /// The answer to a request. A server that is busy is asked again after a pause.
    ///
    /// # Errors
    /// Those of the API.
    pub(in super::super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ItemError> {
        let mut pause = RETRY_PAUSE;
        for _ in 0..RETRIES {
            match self.api.answer(path, Some(body)).await {
                Err(AskError::RefusedBy { status, .. }) if matches!(status.as_u16(), 429 | 503) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                answer => return Ok(answer?),
            }
        }
        Ok(self.api.answer(path, Some(body)).await?)
    }

    /// The tokens of a text; with `start`, the document start comes first.
    ///
    /// # Errors
    /// Those of [`Self::post`].
    pub(super) async fn tokens(&self, text: &str, start: bool) -> Result<Vec<u64>, ItemError> {
        let body = json!({ "prompt": text, "add_special_tokens": start });
        self.ids(&body).await
    }

    /// The tokens of a user's message in the chat template.
    ///
    /// # Errors
    /// Those of [`Self::post`].
    pub(super) async fn message_tokens(&self, messages: &Value) -> Result<Vec<u64>, ItemError> {
        self.ids(&json!({ "messages": messages })).await
    }

    /// The tokens of a text with the bytes that each spells.
    ///
    /// # Errors
    /// Those of [`Self::post`].
    pub(super) async fn pieces(&self, text: &str) -> Result<Vec<(u64, Vec<u8>)>, ItemError> {
        let body = json!({ "prompt": text, "add_special_tokens": false, "with_pieces": true });
        let answer = self.post("/tokenize", &body).await?;
        let list = answer["tokens"].as_array();
        let pieces = list.and_then(|list| list.iter().map(block::piece).collect::<Option<Vec<_>>>());
        pieces.ok_or(ItemError::Foreign { path: "/tokenize", what: "pieces" })
    }

    async fn ids(&self, body: &Value) -> Result<Vec<u64>, ItemError> {
        let answer = self.post("/tokenize", body).await?;
        let list = answer["tokens"].as_array();
        let tokens = list.and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
        tokens.ok_or(ItemError::Foreign { path: "/tokenize", what: "tokens" })
    }

    /// True if the paper's scripts put the document start before the prompts of tasks that use the tokenizer's
    /// defaults: those for GPT-2 do not.
    pub(super) fn has_start(&self) -> bool {
        self.model.family != "diffugpt"
    }
}
