//! From the fields of `diffusion` to the decision rule that they mean.

use unmask_model::diffusion::{Order, Policy, Quota, Revise, Score, ScoreKind, Window};
use unmask_model::error::PolicyError;

use super::DiffusionOptions;
use crate::error::ApiError;
use crate::policy::{
    CommitRule, CommitRuleEntry, DEFAULT_BLOCK, DEFAULT_EDIT, Preset, ResolvedPolicy, ReviseName, WindowName,
    split_revise,
};
use crate::request::policy_conflicts::{Origin, Origins, both_given, word};
use crate::request::ranges::{count, number, out_of_range};

impl DiffusionOptions {
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

    /// `factor`, which a fraction of the positions is divided by.
    fn factor(&self) -> Result<Option<f64>, ApiError> {
        const MOST: f64 = 1000.0;
        match self.factor {
            Some(factor) if !(factor > 0.0 && factor <= MOST) => {
                Err(out_of_range("diffusion.factor", factor, format!("above 0 and at most {MOST}")))
            }
            factor => Ok(factor),
        }
    }

    /// The numbers of commit rules, by their fields.
    fn rule_numbers(&self) -> Result<[(&'static str, Option<f64>); 4], ApiError> {
        let k = count("diffusion.k", self.k, 1..=i64::from(u32::MAX))?;
        Ok([
            ("k", k.map(|k| k as f64)),
            ("threshold", number("diffusion.threshold", self.threshold, 0.0..=1.0)?),
            ("factor", self.factor()?),
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
