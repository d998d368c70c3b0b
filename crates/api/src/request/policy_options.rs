//! `diffusion`: the decision rule as a request describes it, by a preset and by single fields.

mod resolve;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::policy::{CommitRule, EosRule, KvCacheName, OrderName, Preset, ReviseName, WindowName};
use crate::request::fields::{integer, object};
use crate::request::kv_cache::RefreshOption;
use crate::request::options::StreamStates;
use crate::request::scoring::ScoreOptions;

/// `diffusion`: how the canvas is denoised. Every field is optional. A preset fills the fields, fields
/// beside it override it, and the answer gives back what resulted. Unknown fields are refused, because a
/// typing error here would silently change the result.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionOptions {
    /// A named combination of the fields below. Default: the model's for this route, as `/v1/models` shows it under
    /// `route_defaults`, where no other field of the rule is given; else the family's.
    pub preset: Option<Preset>,
    /// T, the number of rounds or evaluations over which the canvas is filled; with `commit_rule`: `per_block` each block.
    /// Default: the model's, of `per_block` as many as a block has positions. Refused where the rule has none, as with
    /// `preset`: `exact`.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1, example = 64)]
    pub steps: Option<i64>,
    /// The region in which positions are committed.
    pub window: Option<WindowName>,
    /// Positions of a block (`window`: `block`, which it implies) or of a sliding window.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub block_length: Option<i64>,
    /// In which order positions are considered.
    pub order: Option<OrderName>,
    /// The number of positions that one evaluation commits.
    #[serde(rename = "commit_rule", alias = "quota")]
    pub quota: Option<CommitRule>,
    /// Number of `commit_rule`: `count`, which it implies.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub k: Option<i64>,
    /// Number of `commit_rule`: `threshold`, which it implies, or `per_block`; a probability.
    #[schema(minimum = 0, maximum = 1)]
    pub threshold: Option<f64>,
    /// Number of `commit_rule`: `factor`, which it implies.
    #[schema(exclusive_minimum = 0, maximum = 1000)]
    pub factor: Option<f64>,
    /// Number of `commit_rule`: `entropy`, which it implies; nats.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub entropy_budget: Option<f64>,
    /// Changes of committed tokens (ReMDM, LLaDA2.1).
    pub revise: Option<ReviseName>,
    /// Number of `revise`: how readily tokens are taken back.
    #[schema(minimum = 0, maximum = 1)]
    pub eta: Option<f64>,
    /// Number of `revise`: `edit`, which it implies: the probability above which another token takes the place of one.
    /// Needs `commit_rule`: `per_block`.
    #[schema(minimum = 0, maximum = 1)]
    pub editing_threshold: Option<f64>,
    /// With `revise`: `edit`, the most evaluations of a full block, which end when one changes nothing.
    /// Default 16.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 0, maximum = 1024)]
    pub max_post_steps: Option<i64>,
    /// With `revise`: `edit`, true if the text ends as soon as a document end and all before it are
    /// committed. By default the block with the document end is finished first, and edited.
    pub early_stop: Option<bool>,
    /// Draws positions in proportion to exp(score / this) instead of taking the best; 0 is off.
    #[schema(minimum = 0, maximum = 1000)]
    pub alg_temp: Option<f64>,
    /// Classifier-free guidance: logits become u + (guidance + 1)·(c − u), u without the given text; 0 is
    /// off. Every evaluation then computes two canvases.
    #[schema(minimum = -1, maximum = 20)]
    pub guidance: Option<f64>,
    /// Keys and values that are kept between evaluations, so that only some rows are computed: an approximation (Fast-dLLM)
    /// for models in which every position sees all others. Default: the server's (`--kv-cache`), else from 256 positions on
    /// `dual` on `/infill` and `/v1/fim/completions`, for completions with a `suffix`, and for `preset`: `threshold` and
    /// `factor` of LLaDA and Dream, else `off`.
    pub kv_cache: Option<KvCacheName>,
    /// The evaluations that compute the whole canvas again: every n-th one, the first one of each `block` (with
    /// `block_first` it commits the first position alone, as Fast-dLLM does for Dream), or `never` but the first one, which is
    /// the default. Needs `kv_cache`.
    pub refresh: Option<RefreshOption>,
    /// Positions on each side of an open one that are computed as well. Default 16. Needs `kv_cache`.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 0)]
    pub near: Option<i64>,
    /// The treatment of a document end in the last generated stretch.
    pub eos: Option<EosRule>,
    /// Milliseconds from the request's arrival after which it should be done: the evaluation that ends at
    /// about this time commits all that is open, and `early_exit` says `time_budget`. When that happens
    /// depends on the load, so the seed alone does not repeat such a text. At most what `timeout_ms` may be,
    /// and without effect when that comes first.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub time_budget_ms: Option<i64>,
    /// `delta` adds the denoising states to a stream; `draft` also what would stand at open positions.
    pub stream_states: Option<StreamStates>,
    /// Send the state of every k-th evaluation; the last one is always sent.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub state_every: Option<i64>,
    /// Sample exactly as the reference does, also where a server should not: the mask token, unused rows
    /// of the embedding and document ends may be drawn anywhere, and an empty prompt leaves position 0
    /// open.
    pub reproduce: Option<bool>,
    /// The scoring of an echoed prompt (`echo` with `logprobs` of /v1/completions).
    #[serde(deserialize_with = "object")]
    pub score: Option<ScoreOptions>,
}

impl DiffusionOptions {
    /// Returns true if any part of the decision rule is chosen; `reproduce` asks for the reference's.
    #[must_use]
    pub fn chooses_rule(&self) -> bool {
        let names =
            self.preset.is_some() || self.window.is_some() || self.order.is_some() || self.quota.is_some();
        let counts = [self.steps, self.block_length, self.k].iter().any(Option::is_some);
        let numbers = [self.threshold, self.factor, self.entropy_budget, self.eta, self.alg_temp];
        let numbers = numbers.iter().any(Option::is_some);
        let revises = self.revise.is_some() || self.edits();
        names || counts || numbers || revises || self.reproduce == Some(true)
    }

    /// Returns true if a field of `revise`: `edit` is given.
    fn edits(&self) -> bool {
        self.editing_threshold.is_some() || self.max_post_steps.is_some() || self.early_stop.is_some()
    }
}
