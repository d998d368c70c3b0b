//! `diffusion`: the decision rule as a request describes it, preset and single fields, and as an answer
//! gives it back.

use serde::{Deserialize, Serialize};
use unmask_model::diffusion::{Order, Policy, Quota, Revise, Score, ScoreKind, Window};
use unmask_model::error::PolicyError;
use utoipa::ToSchema;

use crate::body::integer;
use crate::error::ApiError;
use crate::options::{StreamStates, count, number, out_of_range};

/// `diffusion`: how the canvas is denoised. Every field is optional. A preset fills the fields, fields
/// beside it override it, and the answer gives back what resulted. Unknown fields are refused, because a
/// typing error here would silently change the result.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionOptions {
    /// A named combination of the fields below. Default `reference`.
    pub preset: Option<Preset>,
    /// T, the number of rounds or evaluations over which the canvas is filled.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1, example = 64)]
    pub steps: Option<i64>,
    /// Where commits may happen.
    pub window: Option<WindowName>,
    /// Positions of a block (`window`: `block`, which it implies) or of a sliding window.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub block_length: Option<i64>,
    /// In which order positions are considered.
    pub order: Option<OrderName>,
    /// How many are committed by one evaluation.
    pub quota: Option<QuotaName>,
    /// Number of `quota`: `count`, which it implies.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub k: Option<i64>,
    /// Number of `quota`: `threshold`, which it implies; a probability.
    #[schema(minimum = 0, maximum = 1)]
    pub threshold: Option<f64>,
    /// Number of `quota`: `factor`, which it implies.
    #[schema(exclusive_minimum = 0)]
    pub factor: Option<f64>,
    /// Number of `quota`: `entropy`, which it implies; nats.
    #[schema(minimum = 0)]
    pub entropy_budget: Option<f64>,
    /// Whether committed tokens are taken back (ReMDM).
    pub revise: Option<ReviseName>,
    /// Number of `revise`: how readily tokens are taken back.
    #[schema(minimum = 0, maximum = 1)]
    pub eta: Option<f64>,
    /// Draws positions in proportion to exp(score / this) instead of taking the best; 0 is off.
    #[schema(minimum = 0)]
    pub alg_temp: Option<f64>,
    /// Classifier-free guidance: logits become u + (guidance + 1)·(c − u), u without the given text; 0 is
    /// off. Every evaluation then computes two canvases.
    pub guidance: Option<f64>,
    /// What a document end in the last generated stretch means.
    pub eos: Option<EosRule>,
    /// `delta` adds the denoising states to a stream.
    pub stream_states: Option<StreamStates>,
    /// Send the state of every k-th evaluation; the last one is always sent.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub state_every: Option<i64>,
    /// Sample exactly as the reference does, also where a server should not: the mask token, unused rows
    /// of the embedding and document ends may be drawn anywhere, and an empty prompt leaves position 0
    /// open.
    pub reproduce: Option<bool>,
}

/// Named decision rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The reference's sampler: a position's round is uniform on 1..=T.
    #[default]
    Reference,
    /// One token per evaluation in random order: no parallel error, one evaluation per position.
    Exact,
    /// Random order in ⌈TM/(T + M)⌉ even parts: the error of `reference` in fewer evaluations.
    Balanced,
    /// Random order, as many at once as an entropy budget allows (0.5 nats).
    Budget,
    /// The reference's confidence order, of its benchmarks.
    Confidence,
    /// Dream's: most confident first, on its schedule of times.
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
}

/// Where commits may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WindowName {
    /// Anywhere.
    All,
    /// In the leftmost block that is not full.
    Block,
    /// Among the first open positions.
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
}

/// How many positions are committed by one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaName {
    /// Those whose round it is.
    Rounds,
    /// `k`.
    Count,
    /// Even parts in `steps` evaluations.
    Evaluations,
    /// Even parts with the error of `steps` independent rounds.
    Balanced,
    /// Dream's schedule over `steps`.
    Times,
    /// The reference's ranking over `steps`: the least certain stay open.
    Kept,
    /// All of probability `threshold`.
    Threshold,
    /// Fast-dLLM's `factor`.
    Factor,
    /// As many as `entropy_budget` allows.
    Entropy,
}

/// Whether committed tokens are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviseName {
    /// Never.
    None,
    /// With probability min(eta, largest possible).
    Cap,
    /// With probability eta × largest possible.
    Rescale,
    /// In a loop at 90 % committed.
    Loop,
}

/// What a document end means.
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
}

/// The decision rule that resulted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ResolvedPolicy {
    /// T, where the rule has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Where commits may happen.
    pub window: WindowName,
    /// Positions of a block or window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_length: Option<usize>,
    /// Order of commits.
    pub order: OrderName,
    /// How many at once.
    pub quota: QuotaName,
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
    /// Whether tokens are taken back.
    pub revise: ReviseName,
    /// Number of `revise`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// Temperature of the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg_temp: Option<f64>,
}

impl DiffusionOptions {
    /// The decision rule; `default_steps` is the model's T, `most_steps` the server's limit.
    ///
    /// # Errors
    /// A number outside its range, or two fields that do not go together.
    pub fn policy(&self, default_steps: u32, most_steps: u32) -> Result<Policy, ApiError> {
        let steps = count("diffusion.steps", self.steps, 1..=i64::from(most_steps))?;
        let steps = steps.map_or(default_steps, |steps| steps as u32);
        let base = self.preset.unwrap_or_default().policy(steps);
        let window = self.window(base.window)?;
        let quota_given = self.quota(steps, base.quota)?;
        let alg_temp = number("diffusion.alg_temp", self.alg_temp, 0.0..=f64::MAX)?;
        let mut order = match (self.order, quota_given, self.preset) {
            (Some(name), ..) => name.order(),
            (None, Some(quota), None) => natural_order(quota),
            (None, ..) => base.order,
        };
        if let (Order::Score(score), Some(temperature)) = (&mut order, alg_temp) {
            score.temperature = temperature;
        } else if alg_temp.is_some_and(|temperature| temperature > 0.0) {
            return Err(conflict("alg_temp", "order"));
        }
        let quota = match (quota_given, self.order, self.preset) {
            (Some(quota), ..) => quota,
            (None, Some(_), None) => natural_quota(order, steps),
            (None, ..) => base.quota,
        };
        let policy = Policy { window, order, quota, revise: self.revise(base.revise)? };
        policy.check().map_err(|error| match error {
            PolicyError::Conflict { first, second } => conflict(first, second),
            PolicyError::Range { field, allowed } => {
                out_of_range(&format!("diffusion.{field}"), "out of range", allowed)
            }
        })?;
        Ok(policy)
    }

    fn window(&self, base: Window) -> Result<Window, ApiError> {
        let given = count("diffusion.block_length", self.block_length, 1..=i64::from(u32::MAX))?;
        let length = given.map(|length| length as usize);
        let own = match base {
            Window::Block(length) | Window::Sliding(length) => length,
            Window::All | Window::LeftToRight => DEFAULT_BLOCK,
        };
        match (self.window, length) {
            (None, None) => Ok(base),
            (None, Some(length)) => Ok(Window::Block(length)),
            (Some(WindowName::Block), length) => Ok(Window::Block(length.unwrap_or(own))),
            (Some(WindowName::Sliding), length) => Ok(Window::Sliding(length.unwrap_or(own))),
            (Some(WindowName::All | WindowName::LeftToRight), Some(_)) => {
                Err(conflict("window", "block_length"))
            }
            (Some(WindowName::All), None) => Ok(Window::All),
            (Some(WindowName::LeftToRight), None) => Ok(Window::LeftToRight),
        }
    }

    /// The quota that the fields name, if they name one.
    fn quota(&self, steps: u32, base: Quota) -> Result<Option<Quota>, ApiError> {
        let k = count("diffusion.k", self.k, 1..=i64::from(u32::MAX))?.map(|k| Quota::Count(k as usize));
        let threshold = number("diffusion.threshold", self.threshold, 0.0..=1.0)?.map(Quota::Threshold);
        let factor =
            number("diffusion.factor", self.factor, f64::MIN_POSITIVE..=f64::MAX)?.map(Quota::Factor);
        let entropy =
            number("diffusion.entropy_budget", self.entropy_budget, 0.0..=f64::MAX)?.map(Quota::Entropy);
        let numbers = [
            ("k", QuotaName::Count, k),
            ("threshold", QuotaName::Threshold, threshold),
            ("factor", QuotaName::Factor, factor),
            ("entropy_budget", QuotaName::Entropy, entropy),
        ];
        let mut given = numbers.into_iter().filter_map(|(field, name, quota)| Some((field, name, quota?)));
        let first = given.next();
        if let (Some((first, ..)), Some((second, ..))) = (first, given.next()) {
            return Err(conflict(first, second));
        }
        match (self.quota, first) {
            (None, number) => Ok(number.map(|(_, _, quota)| quota)),
            (Some(name), Some((field, own, _))) if own != name => Err(conflict("quota", field)),
            (Some(_), Some((_, _, quota))) => Ok(Some(quota)),
            (Some(name), None) => Ok(Some(name.quota(steps, base))),
        }
    }

    fn revise(&self, base: Revise) -> Result<Revise, ApiError> {
        let eta = number("diffusion.eta", self.eta, 0.0..=1.0)?;
        let (name, own) = split_revise(base);
        let name = self.revise.unwrap_or(name);
        let eta = match name {
            ReviseName::None if eta.is_some() => return Err(conflict("revise", "eta")),
            ReviseName::None => return Ok(Revise::None),
            // The authors' settings.
            ReviseName::Cap => eta.or(own).unwrap_or(0.008),
            ReviseName::Rescale => eta.or(own).unwrap_or(0.015),
            ReviseName::Loop => eta.or(own).unwrap_or(0.02),
        };
        Ok(match name {
            ReviseName::None => Revise::None,
            ReviseName::Cap => Revise::Cap(eta),
            ReviseName::Rescale => Revise::Rescale(eta),
            ReviseName::Loop => Revise::Loop(eta),
        })
    }
}

/// Positions of a block when none are given.
const DEFAULT_BLOCK: usize = 32;

impl Preset {
    fn policy(self, steps: u32) -> Policy {
        let score = |kind| Order::Score(Score { kind, temperature: 0.0 });
        let rule = |window, order, quota| Policy { window, order, quota, revise: Revise::None };
        let block = Window::Block(DEFAULT_BLOCK);
        match self {
            Self::Reference => Policy::reference(steps),
            Self::Exact => rule(Window::All, Order::Permutation, Quota::Count(1)),
            Self::Balanced => rule(Window::All, Order::Permutation, Quota::Balanced(steps)),
            Self::Budget => rule(Window::All, Order::Permutation, Quota::Entropy(0.5)),
            Self::Confidence => Policy::confidence(steps),
            Self::Dream => rule(Window::All, score(ScoreKind::Drawn), Quota::Times(steps)),
            Self::Llada => rule(block, score(ScoreKind::Model), Quota::Evaluations(steps)),
            Self::Threshold => rule(block, score(ScoreKind::Model), Quota::Threshold(0.9)),
            Self::Factor => rule(block, score(ScoreKind::Model), Quota::Factor(1.0)),
            Self::Remdm => Policy { revise: Revise::Cap(0.008), ..Policy::reference(steps) },
            Self::Greedy => rule(Window::All, score(ScoreKind::Drawn), Quota::Count(1)),
        }
    }
}

impl OrderName {
    fn order(self) -> Order {
        let score = |kind| Order::Score(Score { kind, temperature: 0.0 });
        match self {
            Self::Random => Order::Labels,
            Self::Permutation => Order::Permutation,
            Self::Stratified => Order::Stratified,
            Self::Confidence => score(ScoreKind::Drawn),
            Self::ModelConfidence => score(ScoreKind::Model),
            Self::Margin => score(ScoreKind::Margin),
            Self::Entropy => score(ScoreKind::Entropy),
        }
    }
}

impl QuotaName {
    /// With the numbers of the preset where it has this quota, else with usual ones.
    fn quota(self, steps: u32, base: Quota) -> Quota {
        match (self, base) {
            (Self::Rounds, _) => Quota::Labels(steps),
            (Self::Count, Quota::Count(k)) => Quota::Count(k),
            (Self::Count, _) => Quota::Count(1),
            (Self::Evaluations, _) => Quota::Evaluations(steps),
            (Self::Balanced, _) => Quota::Balanced(steps),
            (Self::Times, _) => Quota::Times(steps),
            (Self::Kept, _) => Quota::Kept(steps),
            (Self::Threshold, _) => Quota::Threshold(0.9),
            (Self::Factor, _) => Quota::Factor(1.0),
            (Self::Entropy, _) => Quota::Entropy(0.5),
        }
    }
}

/// The order that a quota is meant for, when a request names the quota alone.
fn natural_order(quota: Quota) -> Order {
    match quota {
        Quota::Labels(_) => Order::Labels,
        Quota::Count(_) | Quota::Evaluations(_) | Quota::Balanced(_) | Quota::Entropy(_) => {
            Order::Permutation
        }
        Quota::Times(_) | Quota::Kept(_) => OrderName::Confidence.order(),
        Quota::Threshold(_) | Quota::Factor(_) => OrderName::ModelConfidence.order(),
    }
}

/// The quota that goes with an order, when a request names the order alone.
fn natural_quota(order: Order, steps: u32) -> Quota {
    match order {
        Order::Labels | Order::Stratified => Quota::Labels(steps),
        Order::Permutation => Quota::Balanced(steps),
        Order::Score(Score { kind: ScoreKind::Drawn, temperature: 0.0 }) => Quota::Kept(steps),
        Order::Score(_) => Quota::Times(steps),
    }
}

fn conflict(first: &str, second: &str) -> ApiError {
    let message = format!("these values of `diffusion.{first}` and `diffusion.{second}` do not go together");
    ApiError::Conflict { param: format!("diffusion.{first}"), message }
}

fn split_revise(revise: Revise) -> (ReviseName, Option<f64>) {
    match revise {
        Revise::None => (ReviseName::None, None),
        Revise::Cap(eta) => (ReviseName::Cap, Some(eta)),
        Revise::Rescale(eta) => (ReviseName::Rescale, Some(eta)),
        Revise::Loop(eta) => (ReviseName::Loop, Some(eta)),
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
            Order::Labels => (OrderName::Random, None),
            Order::Permutation => (OrderName::Permutation, None),
            Order::Stratified => (OrderName::Stratified, None),
            Order::Score(Score { kind, temperature }) => (
                match kind {
                    ScoreKind::Drawn => OrderName::Confidence,
                    ScoreKind::Model => OrderName::ModelConfidence,
                    ScoreKind::Margin => OrderName::Margin,
                    ScoreKind::Entropy => OrderName::Entropy,
                },
                Some(temperature),
            ),
        };
        let (revise, eta) = split_revise(policy.revise);
        let mut resolved = Self {
            steps: None,
            window,
            block_length,
            order,
            quota: QuotaName::Rounds,
            k: None,
            threshold: None,
            factor: None,
            entropy_budget: None,
            revise,
            eta,
            alg_temp,
        };
        let (name, steps) = match policy.quota {
            Quota::Labels(steps) => (QuotaName::Rounds, Some(steps)),
            Quota::Evaluations(steps) => (QuotaName::Evaluations, Some(steps)),
            Quota::Balanced(steps) => (QuotaName::Balanced, Some(steps)),
            Quota::Times(steps) => (QuotaName::Times, Some(steps)),
            Quota::Kept(steps) => (QuotaName::Kept, Some(steps)),
            Quota::Count(k) => {
                resolved.k = Some(k);
                (QuotaName::Count, None)
            }
            Quota::Threshold(threshold) => {
                resolved.threshold = Some(threshold);
                (QuotaName::Threshold, None)
            }
            Quota::Factor(factor) => {
                resolved.factor = Some(factor);
                (QuotaName::Factor, None)
            }
            Quota::Entropy(budget) => {
                resolved.entropy_budget = Some(budget);
                (QuotaName::Entropy, None)
            }
        };
        Self { quota: name, steps, ..resolved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<Policy, String> {
        let options: DiffusionOptions = serde_json::from_str(json).unwrap();
        options.policy(64, 512).map_err(|error| error.to_string())
    }

    #[test]
    fn every_preset_is_a_valid_rule() {
        for preset in [
            "reference",
            "exact",
            "balanced",
            "budget",
            "confidence",
            "dream",
            "llada",
            "threshold",
            "factor",
            "remdm",
            "greedy",
        ] {
            let rule = policy(&format!(r#"{{"preset": "{preset}"}}"#)).unwrap();
            assert_eq!(rule.check(), Ok(()), "{preset}");
        }
        assert_eq!(policy("{}").unwrap(), Policy::reference(64));
    }

    #[test]
    fn fields_override_their_preset_and_imply_each_other() {
        assert_eq!(policy(r#"{"order": "confidence", "steps": 8}"#).unwrap(), Policy::confidence(8));
        let rule = policy(r#"{"preset": "llada", "block_length": 8, "k": 2}"#).unwrap();
        assert_eq!((rule.window, rule.quota), (Window::Block(8), Quota::Count(2)));
        let rule = policy(r#"{"threshold": 0.7}"#).unwrap();
        assert_eq!((rule.order, rule.quota), (OrderName::ModelConfidence.order(), Quota::Threshold(0.7)));
        let rule = policy(r#"{"preset": "dream", "order": "margin", "alg_temp": 0.5}"#).unwrap();
        assert_eq!(rule.order, Order::Score(Score { kind: ScoreKind::Margin, temperature: 0.5 }));
    }

    #[test]
    fn impossible_combinations_name_both_fields() {
        for (json, fields) in [
            (r#"{"preset": "reference", "threshold": 0.9}"#, ["order", "quota"]),
            (r#"{"k": 2, "factor": 1.0}"#, ["k", "factor"]),
            (r#"{"quota": "rounds", "k": 2}"#, ["quota", "k"]),
            (r#"{"window": "left_to_right"}"#, ["window", "order"]),
            (r#"{"window": "all", "block_length": 4}"#, ["window", "block_length"]),
            (r#"{"preset": "remdm", "window": "block"}"#, ["revise", "window"]),
            (r#"{"alg_temp": 1}"#, ["alg_temp", "order"]),
            (r#"{"eta": 0.1}"#, ["revise", "eta"]),
        ] {
            let message = policy(json).unwrap_err();
            for field in fields {
                assert!(message.contains(&format!("diffusion.{field}")), "{json}: {message}");
            }
        }
    }
}
