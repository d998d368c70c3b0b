//! The JSON of a served model: its defaults, sizes and limits.

use serde::Serialize;
use utoipa::ToSchema;

use crate::policy::{KvCacheName, OrderName, Preset};
use crate::route_defaults::RouteDefault;

/// The models served: always one.
#[derive(Debug, Serialize, ToSchema)]
pub struct Models {
    /// `list`.
    pub(super) object: &'static str,
    /// The models.
    pub(super) data: Vec<Model>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    /// Its name in requests.
    pub(super) id: String,
    /// `model`.
    pub(super) object: &'static str,
    /// When it was loaded, in seconds since 1970.
    pub(super) created: u64,
    /// `unmask`.
    pub(super) owned_by: &'static str,
    /// Its name.
    pub(super) root: String,
    /// Longest canvas: given and generated positions together.
    pub(super) max_model_len: usize,
    /// Kinds of input and output.
    pub(super) architecture: Modalities,
    /// Kinds of requests: `completion`, `fill`, `score`, and `chat` when there is a chat template.
    pub(super) capabilities: Vec<&'static str>,
    /// Settings of the denoising and their limits.
    pub(super) diffusion: Denoising,
    /// Sizes.
    pub(super) meta: Meta,
    /// The family's settings: those of `"preset": "reference"`.
    pub(super) sampling_defaults: Defaults,
    /// Settings when a request chooses nothing of the decision rule, by kind of request.
    pub(super) route_defaults: Routes,
    /// Limits of a request.
    pub(super) limits: RequestLimits,
    /// Limits of all clients together, and of each connection.
    pub(super) server_limits: ServerLimits,
}

/// Kinds of input and output.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Modalities {
    /// `text`.
    pub(super) input_modalities: [&'static str; 1],
    /// `text`.
    pub(super) output_modalities: [&'static str; 1],
}

/// Settings of a model's denoising and their limits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Denoising {
    /// The model's family.
    pub(super) family: &'static str,
    /// The program's version, a hash of the weights, the precision and the device, as in answers.
    pub(super) system_fingerprint: String,
    /// T when a request gives none.
    pub(super) default_steps: u32,
    /// Largest T.
    pub(super) max_steps: u32,
    /// Orders of commits.
    pub(super) orders: [OrderName; 8],
    /// Smallest and largest `block_length`.
    pub(super) block_lengths: [usize; 2],
    /// The positions that a position sees: `full` (all others) or `block_causal` (its own block and those before it, so that no text
    /// can stand after a hole).
    pub(super) attention: &'static str,
    /// Keys and values that are kept between evaluations.
    pub(super) kv_cache: KvCache,
}

/// Keys and values that a server keeps between evaluations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServerKvCache)]
pub(super) struct KvCache {
    /// Bytes of all of them at most.
    pub(super) limit_bytes: u64,
    /// Bytes of one position in all layers.
    pub(super) bytes_per_token: u64,
    /// Positions of a block, for a model whose positions see no later block: finished blocks are kept, and nothing is
    /// approximated. `null` for a model in which every position sees all others.
    pub(super) block_length: Option<usize>,
    /// The choice of requests that say nothing; `null` where that depends on the route.
    pub(super) default: Option<KvCacheName>,
}

/// Sizes of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Meta {
    /// Longest canvas that training saw, where it is known.
    pub(super) n_ctx_train: Option<usize>,
    /// Rows of the embedding.
    pub(super) n_vocab: usize,
    /// Numbers in the model.
    pub(super) n_params: usize,
}

/// Settings when a request gives none.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Defaults {
    /// The decision rule.
    pub(super) preset: Preset,
    /// T.
    pub(super) steps: u32,
    /// Divides the logits.
    pub(super) temperature: f64,
    /// Nucleus mass.
    pub(super) top_p: f64,
    /// Order of commits.
    pub(super) order: OrderName,
}

/// Settings when a request chooses nothing of the decision rule.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Routes {
    /// For a text with holes: `/fill`, `/infill`, and completions with a `suffix`.
    pub(super) fill: RouteDefault,
    /// For a text to continue: completions without a `suffix`.
    pub(super) complete: RouteDefault,
    /// For `/v1/chat/completions`.
    pub(super) chat: RouteDefault,
}

/// Limits of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestLimits {
    /// Bytes of a request body.
    pub(super) body_bytes: usize,
    /// Largest T.
    pub(super) steps: u32,
    /// Answers per prompt.
    pub(super) n: usize,
    /// Prompts per request.
    pub(super) prompts: usize,
    /// Tokens to generate per answer.
    pub(super) generated_tokens: usize,
    /// (given + generated positions) × evaluations × answers.
    pub(super) cost: u64,
    /// Stop strings.
    pub(super) stops: usize,
    /// Bytes of a stop string.
    pub(super) stop_bytes: usize,
    /// Entries of `logit_bias`.
    pub(super) logit_bias: usize,
    /// Largest `logprobs` and `top_logprobs`.
    pub(super) logprobs: usize,
    /// Messages of a chat.
    pub(super) messages: usize,
    /// Characters of a message.
    pub(super) message_characters: usize,
    /// Holes of a text to fill.
    pub(super) holes: usize,
    /// Choices of a hole.
    pub(super) choices: usize,
    /// Lengths that are tried for a hole.
    pub(super) length_candidates: usize,
    /// Largest and default `timeout_ms`; null when it is four times what a request takes alone, at least
    /// 120,000.
    pub(super) timeout_ms: Option<u64>,
}

/// Limits of all clients together, and of each connection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerLimits {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Bytes of a request's head.
    pub(super) header_bytes: usize,
    /// Headers of a request over HTTP/1.1; over HTTP/2 their bytes are counted alone, with 32 more for each.
    pub(super) headers: usize,
    /// Until a request's head has arrived.
    pub(super) header_timeout_ms: u64,
    /// Until its body has arrived.
    pub(super) body_timeout_ms: u64,
    /// Time that a connection may be idle between requests.
    pub(super) idle_timeout_ms: u64,
    /// Time for which a client may read nothing of an answer.
    pub(super) write_timeout_ms: u64,
    /// Samples that are denoised at the same time.
    pub(super) running: usize,
    /// Requests in the queue at most.
    pub(super) queued_requests: usize,
    /// Time that a request may spend in the queue.
    pub(super) queue_time_ms: u64,
}
