//! Choices of a decision rule that do not go together, in the words of the request that made them: the fields it
//! gave, what they imply, the preset that the rest comes from.

use serde::Serialize;
use unmask_model::diffusion::Policy;

use crate::error::ApiError;
use crate::policy::{Preset, ResolvedPolicy};

/// The source of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A field says it.
    Field(&'static str),
    /// It goes with what a field says.
    Implied(&'static str),
    /// The preset, or the default one.
    Preset,
    /// The network's attention.
    Model,
}

/// A rule and where each of its choices comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origins {
    pub(crate) preset: Option<Preset>,
    pub(crate) window: Origin,
    pub(crate) order: Origin,
    pub(crate) quota: Origin,
    pub(crate) revise: Origin,
}

impl Origins {
    /// The error for two parts of `policy`: each is one of its four choices, or a field that was given.
    pub(crate) fn conflict(&self, policy: Policy, first: &'static str, second: &'static str) -> ApiError {
        let side = |name| if name == "quota" { "commit_rule" } else { name };
        let [first, second] = [side(first), side(second)];
        let sides = [first, second].map(|side| (self.origin(side), self.told(policy, side)));
        let message = format!("{} does not go together with {}", sides[0].1, sides[1].1);
        let given = sides.iter().find_map(|(origin, _)| match origin {
            Origin::Field(field) | Origin::Implied(field) => Some(*field),
            Origin::Preset | Origin::Model => None,
        });
        // A preset agrees with itself: one side was given, or is what the model's attention asks for.
        let own = if self.preset.is_some() { "preset" } else { first };
        ApiError::Conflict { param: format!("diffusion.{}", given.unwrap_or(own)), message }
    }

    fn origin(&self, side: &'static str) -> Origin {
        match side {
            "window" => self.window,
            "order" => self.order,
            "commit_rule" => self.quota,
            "revise" => self.revise,
            field => Origin::Field(field),
        }
    }

    fn told(&self, policy: Policy, side: &'static str) -> String {
        let rule = ResolvedPolicy::from(policy);
        let value = match side {
            "window" => word(rule.window),
            "order" => word(rule.order),
            "commit_rule" => word(rule.quota),
            "revise" => word(rule.revise),
            field => return format!("`diffusion.{field}`"),
        };
        let plain = side.replace('_', " ");
        match (self.origin(side), self.preset) {
            (Origin::Field(field), _) if field == side => format!("`diffusion.{field}`: `{value}`"),
            (Origin::Field(field), _) => format!("`diffusion.{field}`"),
            (Origin::Implied(field), _) => format!("the {plain} `{value}` that `diffusion.{field}` implies"),
            (Origin::Model, _) => format!("the {plain} `{value}` of this model's attention"),
            (Origin::Preset, Some(preset)) => {
                format!("the {plain} `{value}` of `diffusion.preset`: `{}`", word(preset))
            }
            (Origin::Preset, None) => format!("the default {plain} `{value}`"),
        }
    }
}

/// A name as requests write it.
pub(crate) fn word(name: impl Serialize) -> String {
    serde_json::to_value(name).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
}

/// The error for two fields that were both given.
pub(crate) fn both_given(first: &str, second: &str) -> ApiError {
    let message = format!("these values of `diffusion.{first}` and `diffusion.{second}` do not go together");
    ApiError::Conflict { param: format!("diffusion.{first}"), message }
}
