//! `diffusion`: the decision rule as a request describes it, by a preset and by single fields.

use serde::Deserialize;
use unmask_model::diffusion::{Order, Policy, Quota, Revise, Score, ScoreKind, Window};
use unmask_model::error::PolicyError;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::request::fields::{integer, object};
use crate::request::kv_cache::RefreshOption;

use crate::policy::{
    CommitRule, CommitRuleEntry, DEFAULT_BLOCK, DEFAULT_EDIT, EosRule, KvCacheName, OrderName, Preset,
    ResolvedPolicy, ReviseName, WindowName, split_revise,
};
use crate::request::options::StreamStates;
use crate::request::policy_conflicts::{Origin, Origins, both_given, word};
use crate::request::ranges::{count, number, out_of_range};
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
    /// `dual` on `/infill`, for completions with a `suffix`, and for `preset`: `threshold` and `factor` of LLaDA and Dream, else
    /// `off`.
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

    /// The decision rule; `usual` is the model's preset, `default_steps` its T, `most_steps` the server's limit, `block` the
    /// positions of a block where the network's attention is causal between blocks.
    ///
    /// # Errors
    /// A number outside its range, or two choices that do not go together.
    pub fn policy(
        &self,
        usual: Preset,
        (default_steps, most_steps): (u32, u32),
        block: Option<usize>,
    ) -> Result<Policy, ApiError> {
        let steps_given = count("diffusion.steps", self.steps, 1..=i64::from(most_steps))?;
        let steps = steps_given.map_or(default_steps.min(most_steps), |steps| steps as u32);
        let base = self.preset.unwrap_or(usual).policy(steps);
        let window = match block {
            Some(block) => self.attention_window(block, base.window)?,
            None => self.window(base.window)?,
        };
        let quota_given = self.quota(steps, base.quota)?;
        let alg_temp = number("diffusion.alg_temp", self.alg_temp, 0.0..=1000.0)?;
        let mut order = match (self.order, quota_given, self.preset) {
            (Some(name), ..) => name.order(),
            (None, Some(quota), None) => CommitRuleEntry::of(quota).0.order.order(),
            (None, ..) => base.order,
        };
        if let (Order::Score(score), Some(temperature)) = (&mut order, alg_temp) {
            score.temperature = temperature;
        }
        let mut quota = match (quota_given, self.order, self.preset) {
            (Some(quota), ..) => quota,
            // Of the rules that rank positions, this one alone is meant for blocks of attention.
            (None, Some(_), None) if block.is_some() && matches!(order, Order::Score(_)) => {
                CommitRuleEntry::named(CommitRule::PerBlock).quota(steps, None, base.quota)
            }
            (None, Some(_), None) => natural_quota(window, order, steps),
            (None, ..) => base.quota,
        };
        if let (Quota::PerBlock { steps, threshold }, Window::Block(size)) = (&mut quota, window) {
            *steps = steps_given.map_or(size as u32, |given| given as u32).min(most_steps);
            let certain =
                matches!(order, Order::Score(Score { kind: ScoreKind::Drawn | ScoreKind::Model, .. }));
            if self.threshold.is_none() && !certain {
                *threshold = None;
            }
        }
        let policy = Policy { window, order, quota, revise: self.revise(base.revise)? };
        let conflict = |first, second| self.origins(block.is_some()).conflict(policy, first, second);
        if alg_temp.is_some_and(|temperature| temperature > 0.0) && !matches!(order, Order::Score(_)) {
            return Err(conflict("alg_temp", "order"));
        }
        policy.check().map_err(|error| match error {
            PolicyError::Conflict { first, second } => conflict(first, second),
            PolicyError::Range { field, allowed } => {
                out_of_range(&format!("diffusion.{field}"), "out of range", allowed)
            }
        })?;
        if steps_given.is_some() && ResolvedPolicy::from(policy).steps.is_none() {
            return Err(conflict("steps", "quota"));
        }
        Ok(policy)
    }

    /// The sources of the rule's choices.
    fn origins(&self, in_blocks: bool) -> Origins {
        let given = |fields: &[(&'static str, bool)]| {
            fields.iter().find_map(|(field, given)| given.then_some(*field))
        };
        let of = |field: Option<&'static str>| field.map_or(Origin::Preset, Origin::Field);
        let implied = |field: Option<&'static str>| match field {
            Some(field) if self.preset.is_none() => Origin::Implied(field),
            _ => Origin::Preset,
        };
        let order = given(&[("order", self.order.is_some())]);
        let quota = given(&[
            ("k", self.k.is_some()),
            ("threshold", self.threshold.is_some()),
            ("factor", self.factor.is_some()),
            ("entropy_budget", self.entropy_budget.is_some()),
            ("commit_rule", self.quota.is_some()),
        ]);
        Origins {
            preset: self.preset,
            window: match given(&[
                ("window", self.window.is_some()),
                ("block_length", self.block_length.is_some()),
            ]) {
                None if in_blocks => Origin::Model,
                field => of(field),
            },
            order: order.map_or(implied(quota), Origin::Field),
            quota: quota.map_or(implied(order), Origin::Field),
            revise: of(given(&[
                ("revise", self.revise.is_some()),
                ("editing_threshold", self.editing_threshold.is_some()),
                ("max_post_steps", self.max_post_steps.is_some()),
                ("early_stop", self.early_stop.is_some()),
            ])),
        }
    }

    /// The blocks of a network whose attention is causal between them, or equal parts of them: what is filled later
    /// cannot be seen by what is filled before.
    fn attention_window(&self, block: usize, base: Window) -> Result<Window, ApiError> {
        let refused = |field: &str, told: String| {
            let param = format!("diffusion.{field}");
            let message = format!(
                "`{param}` is {told}, but this model's attention is causal between blocks of {block} positions, which \
                 are filled one after another, whole or in equal parts; leave the field out"
            );
            Err(ApiError::Conflict { param, message })
        };
        match (self.window, self.block_length) {
            (Some(name @ (WindowName::All | WindowName::Sliding | WindowName::LeftToRight)), _) => {
                refused("window", format!("`{}`", word(name)))
            }
            (_, Some(length)) => match usize::try_from(length) {
                Ok(length) if block.is_multiple_of(length) => Ok(Window::Block(length)),
                _ => refused("block_length", length.to_string()),
            },
            (_, None) => match base {
                // What a rule says of blocks of attention is that they have parts.
                Window::Block(length) if length < DEFAULT_BLOCK && block.is_multiple_of(length) => Ok(base),
                _ => Ok(Window::Block(block)),
            },
        }
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
                Err(both_given("window", "block_length"))
            }
            (Some(WindowName::All), None) => Ok(Window::All),
            (Some(WindowName::LeftToRight), None) => Ok(Window::LeftToRight),
        }
    }

    /// The numbers of commit rules, by their fields.
    fn rule_numbers(&self) -> Result<[(&'static str, Option<f64>); 4], ApiError> {
        let k = count("diffusion.k", self.k, 1..=i64::from(u32::MAX))?;
        Ok([
            ("k", k.map(|k| k as f64)),
            ("threshold", number("diffusion.threshold", self.threshold, 0.0..=1.0)?),
            ("factor", number("diffusion.factor", self.factor, 0.0..=1000.0)?),
            ("entropy_budget", number("diffusion.entropy_budget", self.entropy_budget, 0.0..=1e9)?),
        ])
    }

    /// The quota that the fields name, if they name one.
    fn quota(&self, steps: u32, base: Quota) -> Result<Option<Quota>, ApiError> {
        let numbers = self.rule_numbers()?;
        let mut given = numbers.into_iter().filter_map(|(field, number)| Some((field, number?)));
        let first = given.next();
        if let (Some((first, _)), Some((second, _))) = (first, given.next()) {
            return Err(both_given(first, second));
        }
        let named = self.quota.map(CommitRuleEntry::named);
        let rule = match (named, first) {
            (Some(rule), Some((field, _))) if rule.number.is_none_or(|number| number.field != field) => {
                return Err(both_given("commit_rule", field));
            }
            (Some(rule), _) => Some(rule),
            (None, Some((field, _))) => CommitRuleEntry::with_number(field, base),
            (None, None) => None,
        };
        Ok(rule.map(|rule| rule.quota(steps, first.map(|(_, number)| number), base)))
    }

    /// LLaDA2.1's edits, if that is the `name` of the reviser.
    fn edit(&self, name: ReviseName, base: Revise) -> Result<Option<Revise>, ApiError> {
        let threshold = number("diffusion.editing_threshold", self.editing_threshold, 0.0..=1.0)?;
        let post = count("diffusion.max_post_steps", self.max_post_steps, 0..=1024)?;
        let fields = [
            ("editing_threshold", self.editing_threshold.is_some()),
            ("max_post_steps", self.max_post_steps.is_some()),
            ("early_stop", self.early_stop.is_some()),
        ];
        if name != ReviseName::Edit {
            return match fields.into_iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(both_given("revise", field)),
                None => Ok(None),
            };
        }
        if self.eta.is_some() {
            return Err(both_given("revise", "eta"));
        }
        let Revise::Edit { threshold: usual, post: usual_post, early_stop } =
            (if let Revise::Edit { .. } = base { base } else { DEFAULT_EDIT })
        else {
            return Ok(None);
        };
        Ok(Some(Revise::Edit {
            threshold: threshold.unwrap_or(usual),
            post: post.map_or(usual_post, |post| post as u32),
            early_stop: self.early_stop.unwrap_or(early_stop),
        }))
    }

    fn revise(&self, base: Revise) -> Result<Revise, ApiError> {
        let eta = number("diffusion.eta", self.eta, 0.0..=1.0)?;
        let (name, own) = split_revise(base);
        let name = self.revise.unwrap_or(if self.edits() { ReviseName::Edit } else { name });
        if let Some(edit) = self.edit(name, base)? {
            return Ok(edit);
        }
        let eta = match name {
            ReviseName::None | ReviseName::Edit if eta.is_some() => {
                let message = "`diffusion.eta` is a number of `diffusion.revise`, which is `none`".to_owned();
                return Err(ApiError::Conflict { param: "diffusion.eta".to_owned(), message });
            }
            ReviseName::None | ReviseName::Edit => return Ok(Revise::None),
            // The authors' settings.
            ReviseName::Cap => eta.or(own).unwrap_or(0.008),
            ReviseName::Rescale => eta.or(own).unwrap_or(0.015),
            ReviseName::Loop => eta.or(own).unwrap_or(0.02),
        };
        Ok(match name {
            ReviseName::None | ReviseName::Edit => Revise::None,
            ReviseName::Cap => Revise::Cap(eta),
            ReviseName::Rescale => Revise::Rescale(eta),
            ReviseName::Loop => Revise::Loop(eta),
        })
    }
}

/// The quota that goes with a window and an order, when a request names the order alone.
fn natural_quota(window: Window, order: Order, steps: u32) -> Quota {
    if matches!(window, Window::Sliding(_) | Window::LeftToRight) {
        return Quota::Count(1);
    }
    match order {
        Order::IndependentRounds | Order::Stratified => Quota::OwnRound(steps),
        Order::Permutation => Quota::Balanced(steps),
        Order::Score(Score { kind: ScoreKind::Drawn, temperature: 0.0 }) => Quota::ReferenceTopK(steps),
        Order::Score(_) => Quota::DreamSchedule(steps),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<Policy, String> {
        let options: DiffusionOptions = serde_json::from_str(json).unwrap();
        options.policy(Preset::Reference, (64, 512), None).map_err(|error| error.to_string())
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
            "sdar",
            "llada2",
            "llada2.1",
            "fast_dllm_v2",
            "stable_diffcoder",
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
        let rule = policy(r#"{"window": "left_to_right", "order": "margin"}"#).unwrap();
        assert_eq!(rule.quota, Quota::Count(1));
    }

    /// An error must not name a field that the client did not send.
    #[test]
    fn blocks_of_attention_are_the_window_of_every_rule() {
        let rule = |json: &str| {
            let options: DiffusionOptions = serde_json::from_str(json).unwrap();
            options.policy(Preset::Sdar, (64, 512), Some(4)).unwrap()
        };
        let per_block = |steps, threshold| Quota::PerBlock { steps, threshold };
        for (json, quota) in [
            ("{}", per_block(4, Some(0.85))),
            (r#"{"steps": 2, "threshold": 0.7}"#, per_block(2, Some(0.7))),
            // Nothing is above it, so that the even parts remain.
            (r#"{"preset": "llada2", "threshold": 1}"#, per_block(4, None)),
            (r#"{"order": "position"}"#, per_block(4, None)),
            (r#"{"preset": "stable_diffcoder"}"#, per_block(4, None)),
            (r#"{"preset": "exact"}"#, Quota::Count(1)),
        ] {
            let found = rule(json);
            assert_eq!((found.window, found.quota), (Window::Block(4), quota), "{json}");
            assert_eq!(found.revise, Revise::None, "{json}");
        }
        let parts = rule(r#"{"block_length": 2, "threshold": 0.7}"#);
        assert_eq!((parts.window, parts.quota), (Window::Block(2), per_block(2, Some(0.7))));
        let fast =
            |block| DiffusionOptions::default().policy(Preset::FastDllmV2, (8, 512), Some(block)).unwrap();
        assert_eq!((fast(32).window, fast(32).quota), (Window::Block(8), per_block(8, Some(0.9))));
        assert_eq!(fast(4).window, Window::Block(4), "blocks that have no such parts");
        let edit = |threshold, post, early_stop| Revise::Edit { threshold, post, early_stop };
        for (json, revise) in [
            (r#"{"preset": "llada2.1"}"#, edit(0.5, 16, false)),
            (r#"{"editing_threshold": 0.9, "early_stop": true}"#, edit(0.9, 16, true)),
            (r#"{"revise": "edit", "max_post_steps": 0}"#, edit(0.5, 0, false)),
            (r#"{"preset": "llada2.1", "revise": "none"}"#, Revise::None),
        ] {
            assert_eq!(rule(json).revise, revise, "{json}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_told_in_the_words_of_the_request() {
        for (json, param, told) in [
            (
                r#"{"preset": "reference", "threshold": 0.9}"#,
                "threshold",
                ["the order `random` of `diffusion.preset`: `reference`", "`diffusion.threshold`"],
            ),
            (
                r#"{"window": "left_to_right"}"#,
                "window",
                ["`diffusion.window`: `left_to_right`", "the default order `random`"],
            ),
            (
                r#"{"window": "sliding", "k": 2}"#,
                "window",
                ["`diffusion.window`: `sliding`", "the order `permutation` that `diffusion.k` implies"],
            ),
            (
                r#"{"block_length": 4, "order": "confidence"}"#,
                "block_length",
                [
                    "`diffusion.block_length`",
                    "the commit rule `reference_top_k` that `diffusion.order` implies",
                ],
            ),
            (
                r#"{"order": "random", "commit_rule": "dream_schedule"}"#,
                "order",
                ["`diffusion.order`: `random`", "`diffusion.commit_rule`: `dream_schedule`"],
            ),
            (
                r#"{"order": "random", "quota": "times"}"#,
                "order",
                ["`diffusion.order`: `random`", "`diffusion.commit_rule`: `dream_schedule`"],
            ),
            (
                r#"{"preset": "remdm", "window": "block"}"#,
                "window",
                ["the revise `cap` of `diffusion.preset`: `remdm`", "`diffusion.window`: `block`"],
            ),
            (r#"{"alg_temp": 1}"#, "alg_temp", ["`diffusion.alg_temp`", "the default order `random`"]),
            (
                r#"{"alg_temp": 1, "threshold": 0.9}"#,
                "alg_temp",
                ["`diffusion.alg_temp`", "`diffusion.threshold`"],
            ),
            (
                r#"{"preset": "exact", "steps": 8}"#,
                "steps",
                ["`diffusion.steps`", "the commit rule `count` of `diffusion.preset`: `exact`"],
            ),
            (
                r#"{"steps": 8, "entropy_budget": 1}"#,
                "steps",
                ["`diffusion.steps`", "`diffusion.entropy_budget`"],
            ),
            (r#"{"k": 2, "factor": 1.0}"#, "k", ["`diffusion.k`", "`diffusion.factor`"]),
            (
                r#"{"commit_rule": "rounds", "k": 2}"#,
                "commit_rule",
                ["`diffusion.commit_rule`", "`diffusion.k`"],
            ),
            (
                r#"{"window": "all", "block_length": 4}"#,
                "window",
                ["`diffusion.window`", "`diffusion.block_length`"],
            ),
            (r#"{"eta": 0.1}"#, "eta", ["`diffusion.eta`", "`diffusion.revise`"]),
        ] {
            let options: DiffusionOptions = serde_json::from_str(json).unwrap();
            let error = options.policy(Preset::Reference, (64, 512), None).unwrap_err().object();
            assert_eq!(error.param, Some(format!("diffusion.{param}")), "{json}: {}", error.message);
            assert!(told.iter().all(|part| error.message.contains(part)), "{json}: {}", error.message);
        }
    }
}
