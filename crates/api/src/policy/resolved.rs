//! The decision rule that a request came to, in the names of requests.

use serde::Serialize;
use unmask_model::diffusion::{Order, Policy, Revise, Score, ScoreKind, Window};
use utoipa::ToSchema;

use super::commit_rules::CommitRuleEntry;
use super::names::{CommitRule, OrderName, ReviseName, WindowName};

/// The decision rule that resulted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ResolvedPolicy {
    /// T, where the rule has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// The region in which positions are committed.
    pub window: WindowName,
    /// Positions of a block or window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_length: Option<usize>,
    /// Order of commits.
    pub order: OrderName,
    /// The number of positions that one evaluation commits.
    #[serde(rename = "commit_rule")]
    pub quota: CommitRule,
    /// Number of `count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    /// Number of `threshold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Number of `factor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Number of `entropy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy_budget: Option<f64>,
    /// Changes of committed tokens.
    pub revise: ReviseName,
    /// Number of `revise`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// Number of `edit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub editing_threshold: Option<f64>,
    /// Most evaluations of a full block, of `edit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_post_steps: Option<u32>,
    /// With `edit`, true if a document end ends the text before its block is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<bool>,
    /// Temperature of the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg_temp: Option<f64>,
}

/// The name of a reviser and its `eta`.
pub(crate) fn split_revise(revise: Revise) -> (ReviseName, Option<f64>) {
    match revise {
        Revise::None => (ReviseName::None, None),
        Revise::Cap(eta) => (ReviseName::Cap, Some(eta)),
        Revise::Rescale(eta) => (ReviseName::Rescale, Some(eta)),
        Revise::Loop(eta) => (ReviseName::Loop, Some(eta)),
        Revise::Edit { .. } => (ReviseName::Edit, None),
    }
}

impl From<Policy> for ResolvedPolicy {
    fn from(policy: Policy) -> Self {
        let (window, block_length) = match policy.window {
            Window::All => (WindowName::All, None),
            Window::Block(length) => (WindowName::Block, Some(length)),
            Window::Sliding(length) => (WindowName::Sliding, Some(length)),
            Window::LeftToRight => (WindowName::LeftToRight, None),
        };
        let (order, alg_temp) = match policy.order {
            Order::IndependentRounds => (OrderName::Random, None),
            Order::Permutation => (OrderName::Permutation, None),
            Order::Stratified => (OrderName::Stratified, None),
            Order::Score(Score { kind, temperature }) => (
                match kind {
                    ScoreKind::Drawn => OrderName::Confidence,
                    ScoreKind::Model => OrderName::ModelConfidence,
                    ScoreKind::Margin => OrderName::Margin,
                    ScoreKind::Entropy => OrderName::Entropy,
                    ScoreKind::Position => OrderName::Position,
                },
                Some(temperature),
            ),
        };
        let (revise, eta) = split_revise(policy.revise);
        let edit = match policy.revise {
            Revise::Edit { threshold, post, early_stop } => Some((threshold, post, early_stop)),
            _ => None,
        };
        let (rule, numbers) = CommitRuleEntry::of(policy.quota);
        let number =
            |field| numbers.number.filter(|_| rule.number.is_some_and(|number| number.field == field));
        Self {
            steps: numbers.steps,
            window,
            block_length,
            order,
            quota: rule.name,
            k: number("k").map(|k| k as usize),
            threshold: number("threshold"),
            factor: number("factor"),
            entropy_budget: number("entropy_budget"),
            revise,
            eta,
            editing_threshold: edit.map(|edit| edit.0),
            max_post_steps: edit.map(|edit| edit.1),
            early_stop: edit.map(|edit| edit.2),
            alg_temp,
        }
    }
}
