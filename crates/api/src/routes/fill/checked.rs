//! The checks of one hole: its name, its length, its settings.

use super::decisions::{Choices, Decision};
use super::forms::{GivenHole, conflict};
use super::request::Length;
use crate::error::ApiError;
use crate::hole::HoleSpec;
use crate::request::biases::biases;
use crate::request::options::{Settings, stops};
use crate::request::ranges::{out_of_range, temperature};
use crate::state::AppState;

/// The longest length that is tried when the request does not say.
pub(super) const DEFAULT_MOST: usize = 32;

/// Characters of a hole's name.
const MOST_NAME: usize = 64;

/// A hole after its checks: its length and its tokens may still have to be found.
#[derive(Debug)]
pub(super) struct CheckedHole {
    /// The hole, without a length and decided tokens.
    pub(super) spec: HoleSpec,
    pub(super) length: Wanted,
    /// The texts to choose from, if it is not generated.
    pub(super) choices: Option<Choices>,
    /// The choice, once it is known.
    pub(super) decision: Option<Decision>,
}

/// The positions of a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// From the first to the second.
    Between(usize, usize),
    /// From 1 to what is usual and fits.
    Default,
}

impl CheckedHole {
    /// Returns true if its length is searched.
    pub(super) fn ranged(&self) -> bool {
        !matches!(self.length, Wanted::Between(min, max) if min == max)
    }

    pub(super) fn of(
        number: usize,
        given: GivenHole,
        length: Option<Length>,
        first: bool,
        settings: &Settings,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let GivenHole { at, options } = given;
        let field = |name: &str| format!("{at}.{name}");
        let id = match (options.hole, options.id) {
            (Some(_), Some(_)) => {
                return Err(conflict(&field("id"), "`hole` and `id` are the same; give one"));
            }
            (Some(id), None) => checked_name(&field("hole"), id)?,
            (None, Some(id)) => checked_name(&field("id"), id)?,
            (None, None) => number.to_string(),
        };
        let settings_given = options.length.is_some() || options.stop.is_some();
        let settings_given = settings_given || options.temperature.is_some() || options.logit_bias.is_some();
        if options.choices.is_some() && settings_given {
            let message = "`choices` take the place of generation: `length`, `stop`, `temperature` and \
                           `logit_bias` have no meaning beside them";
            return Err(conflict(&field("choices"), message));
        }
        let tokenizer = &state.model.tokenizer;
        let choices = options.choices.map(|given| Choices::new(&field("choices"), given, first, tokenizer));
        let choices = choices.transpose()?;
        let length = match options.length {
            _ if choices.is_some() => {
                let longest = choices.as_ref().map_or(0, Choices::longest);
                Wanted::Between(longest, longest)
            }
            Some(length) => wanted(&field("length"), length, state)?,
            None => length.map_or(Ok(Wanted::Default), |length| wanted("length", length, state))?,
        };
        let own = options.temperature.is_some() || options.logit_bias.is_some();
        let mut sampling = settings.sampling.clone();
        if let Some(value) = temperature(&field("temperature"), options.temperature)? {
            sampling.temperature = value;
        }
        if let Some(given) = &options.logit_bias {
            sampling.bias = biases(&field("logit_bias"), Some(given), state.model.limits.vocabulary)?;
        }
        let given = options.stop.map(|given| stops(&field("stop"), Some(given), state.limits.stops));
        let sampling = own.then_some(sampling);
        let stops = given.transpose()?;
        let healing = !settings.reproduce && options.token_healing.unwrap_or(settings.healing);
        let spec = HoleSpec { id, sampling, stops, healing, ..HoleSpec::default() };
        Ok(Self { spec, length, choices, decision: None })
    }
}

pub(super) fn checked_name(param: &str, name: String) -> Result<String, ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if (1..=MOST_NAME).contains(&name.len()) && name.chars().all(plain) {
        return Ok(name);
    }
    // What a client sent is shown back shortened: it may be anything.
    let shown: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
    Err(out_of_range(param, format!("`{shown}`"), format!("1 to {MOST_NAME} letters, digits, `_` or `-`")))
}

pub(super) fn wanted(param: &str, length: Length, state: &AppState) -> Result<Wanted, ApiError> {
    let most = state.limits.canvas;
    let within = |name: &str, length: i64| {
        let size = usize::try_from(length).ok().filter(|length| (1..=most).contains(length));
        size.ok_or_else(|| out_of_range(&format!("{param}{name}"), length, format!("from 1 to {most}")))
    };
    match length {
        Length::Exactly(length) => within("", length).map(|length| Wanted::Between(length, length)),
        Length::Between(range) => {
            let min = range.min.map_or(Ok(1), |min| within(".min", min))?;
            let max = range.max.map_or(Ok(DEFAULT_MOST.min(most)), |max| within(".max", max))?;
            if min > max {
                let message = format!("`{param}.min` is {min}, which is above `{param}.max`, {max}");
                return Err(conflict(&format!("{param}.min"), &message));
            }
            Ok(Wanted::Between(min, max))
        }
    }
}
