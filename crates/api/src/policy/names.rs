//! Names of decision rules and of their parts.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use unmask_model::checkpoint::SamplingDefaults;
use unmask_model::diffusion::{Order, Policy, Quota, Revise, Score, ScoreKind, Window};
use utoipa::ToSchema;

/// Named decision rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The reference's sampler: a position's round is uniform on 1..=T.
    #[default]
    Reference,
    /// One token per evaluation in random order: no parallel error, one evaluation per position.
    Exact,
    /// Random order in ⌈TM/(T + M)⌉ even parts: the error of `reference` in fewer evaluations. Experimental.
    Balanced,
    /// Random order, as many at once as an entropy budget allows (0.5 nats).
    Budget,
    /// The reference's confidence order, of its benchmarks.
    Confidence,
    /// Dream's: least entropy first, on its schedule of times.
    Dream,
    /// LLaDA's: blocks of 32, the least confident wait.
    Llada,
    /// Fast-dLLM's: blocks of 32, all tokens of probability 0.9.
    Threshold,
    /// Fast-dLLM's: blocks of 32, factor 1.
    Factor,
    /// The reference's rounds, with tokens taken back (ReMDM, cap 0.008).
    Remdm,
    /// The most certain position at a time, its most probable token (temperature 0 unless given).
    Greedy,
    /// One position at a time from left to right, as autoregressive models write.
    #[value(name = "left_to_right")]
    LeftToRight,
    /// SDAR's: in each block, `steps` evaluations; all tokens of a probability above 0.85, at least an even part of the
    /// block.
    Sdar,
    /// LLaDA2.0's: as `sdar` above 0.95.
    Llada2,
    /// LLaDA2.1's: as `sdar` above 0.7, and tokens of the block give way to others of a probability above 0.5.
    #[serde(rename = "llada2.1")]
    #[value(name = "llada2.1")]
    Llada21,
    /// Fast-dLLM v2's: as `sdar` above 0.9, the most certain position at least, in parts of 8 positions.
    #[value(name = "fast_dllm_v2")]
    FastDllmV2,
    /// Stable-DiffCoder's: as `sdar` without a threshold, by the probability under the model itself.
    #[value(name = "stable_diffcoder")]
    StableDiffcoder,
}

/// The region in which positions are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WindowName {
    /// Anywhere.
    All,
    /// In the leftmost block that is not full.
    Block,
    /// Among the first open positions. Experimental.
    Sliding,
    /// At the first open position.
    LeftToRight,
}

/// In which order positions are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderName {
    /// Rounds uniform at random, each position for itself.
    Random,
    /// One random order of all positions.
    Permutation,
    /// Random rounds in which neighbours are far apart.
    Stratified,
    /// By the probability of the drawn token, after temperature and filters.
    Confidence,
    /// By the probability of the drawn token under the model itself.
    ModelConfidence,
    /// By the difference of the two largest probabilities.
    Margin,
    /// Least entropy first.
    Entropy,
    /// From left to right.
    Position,
}

/// The number of positions committed by one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommitRule {
    /// Those whose round it is.
    Rounds,
    /// `k`.
    Count,
    /// Even parts in `steps` evaluations.
    Evaluations,
    /// Even parts with the error of `steps` independent rounds. Experimental.
    Balanced,
    /// Dream's schedule over `steps`.
    #[serde(alias = "times")]
    DreamSchedule,
    /// The reference's ranking over `steps`: the least certain stay open.
    #[serde(alias = "kept")]
    ReferenceTopK,
    /// All of probability `threshold`.
    Threshold,
    /// Fast-dLLM's `factor`.
    Factor,
    /// The number that `entropy_budget` allows.
    Entropy,
    /// In each block and evaluation all of a probability above `threshold`, at least an even part of the block, which
    /// `steps` evaluations fill. A `threshold` of 1 leaves the even parts alone.
    PerBlock,
}

/// Changes of committed tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviseName {
    /// Never.
    None,
    /// With probability min(eta, largest possible).
    Cap,
    /// With probability eta × largest possible. Experimental.
    Rescale,
    /// In a loop at 90 % committed. Experimental.
    Loop,
    /// A token gives way to another of a probability above `editing_threshold` while its block is worked on.
    Edit,
}

/// The treatment of a document end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EosRule {
    /// The text ends there, and the sample as soon as nothing left of it is open.
    #[default]
    Cut,
    /// The text goes on; what follows is another document.
    Ignore,
    /// It is never drawn.
    Ban,
    /// `cut`, and positions at which the model expects a document end are filled late: orders by the model's
    /// confidence leave document ends out (LLaDA's `confidence_eos_eot_inf`).
    Distrust,
}

/// The positions whose keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum KvCacheName {
    /// None: every evaluation computes the whole canvas.
    Off,
    /// Those before the first open position.
    Prefix,
    /// All except the open positions, their neighbours and what was committed since the last refresh.
    Dual,
}

/// Positions of a block when none are given.
pub(crate) const DEFAULT_BLOCK: usize = 32;

/// Positions that Fast-dLLM v2 fills before it goes on in its block.
const FAST_DLLM_PART: usize = 8;

/// LLaDA2.1's edits in the settings for quality of its authors.
pub(crate) const DEFAULT_EDIT: Revise = Revise::Edit { threshold: 0.5, post: 16, early_stop: false };

/// SDAR's threshold.
pub(crate) const DEFAULT_PER_BLOCK: f64 = 0.85;

impl Preset {
    /// The preset that a family uses by default.
    #[must_use]
    pub fn of(family: SamplingDefaults) -> Self {
        Self::from_str(family.preset, false).unwrap_or_default()
    }

    /// The rule behind the name.
    pub(crate) fn policy(self, steps: u32) -> Policy {
        let score = |kind| Order::Score(Score { kind, temperature: 0.0 });
        let rule = |window, order, quota| Policy { window, order, quota, revise: Revise::None };
        let block = Window::Block(DEFAULT_BLOCK);
        let even = Quota::PerBlock { steps, threshold: None };
        let per_block = |threshold| {
            rule(block, score(ScoreKind::Drawn), Quota::PerBlock { steps, threshold: Some(threshold) })
        };
        match self {
            Self::Reference => Policy::reference(steps),
            Self::Exact => rule(Window::All, Order::Permutation, Quota::Count(1)),
            Self::Balanced => rule(Window::All, Order::Permutation, Quota::Balanced(steps)),
            Self::Budget => rule(Window::All, Order::Permutation, Quota::Entropy(0.5)),
            Self::Confidence => Policy::confidence(steps),
            Self::Dream => rule(Window::All, score(ScoreKind::Entropy), Quota::DreamSchedule(steps)),
            Self::Llada => rule(block, score(ScoreKind::Model), Quota::Evaluations(steps)),
            Self::Threshold => rule(block, score(ScoreKind::Model), Quota::Threshold(0.9)),
            Self::Factor => rule(block, score(ScoreKind::Model), Quota::Factor(1.0)),
            Self::Remdm => Policy { revise: Revise::Cap(0.008), ..Policy::reference(steps) },
            Self::Greedy => rule(Window::All, score(ScoreKind::Drawn), Quota::Count(1)),
            Self::LeftToRight => rule(Window::All, score(ScoreKind::Position), Quota::Count(1)),
            Self::Sdar => per_block(DEFAULT_PER_BLOCK),
            Self::Llada2 => per_block(0.95),
            Self::Llada21 => Policy { revise: DEFAULT_EDIT, ..per_block(0.7) },
            Self::FastDllmV2 => Policy { window: Window::Block(FAST_DLLM_PART), ..per_block(0.9) },
            Self::StableDiffcoder => rule(block, score(ScoreKind::Model), even),
        }
    }
}

impl OrderName {
    /// The order behind the name.
    pub(crate) fn order(self) -> Order {
        let score = |kind| Order::Score(Score { kind, temperature: 0.0 });
        match self {
            Self::Random => Order::IndependentRounds,
            Self::Permutation => Order::Permutation,
            Self::Stratified => Order::Stratified,
            Self::Confidence => score(ScoreKind::Drawn),
            Self::ModelConfidence => score(ScoreKind::Model),
            Self::Margin => score(ScoreKind::Margin),
            Self::Entropy => score(ScoreKind::Entropy),
            Self::Position => score(ScoreKind::Position),
        }
    }
}

#[cfg(test)]
mod tests {
    use unmask_model::checkpoint::families::FAMILIES;

    use super::*;

    #[test]
    fn every_family_names_a_preset() {
        for family in FAMILIES {
            let found = Preset::from_str(family.defaults.preset, false);
            assert!(found.is_ok(), "{}: {}", family.name, family.defaults.preset);
        }
    }
}
