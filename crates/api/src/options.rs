//! The settings that all generating routes share, and their ranges.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use unmask_model::diffusion::{Order, Policy};
use unmask_model::predictor::Sampling;
use utoipa::ToSchema;

use crate::body::integer;
use crate::error::ApiError;
use crate::state::AppState;

/// `diffusion`: how the canvas is denoised. Every field is optional; unknown ones are refused, because a
/// typing error here would silently change the result.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionOptions {
    /// T, the number of rounds over which the canvas is filled, and the most evaluations that an answer
    /// takes. In random order, rounds that commit nothing cost nothing, so that it also takes at most as
    /// many as it has positions.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1, example = 64)]
    pub steps: Option<i64>,
    /// `random` is the reference's sampler: a position's round is uniform. `confidence` is the one of its
    /// benchmarks: the least certain positions wait.
    pub order: Option<OrderName>,
    /// `delta` adds the denoising states to a stream.
    pub stream_states: Option<StreamStates>,
    /// Send the state of every k-th evaluation; the last one is always sent.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub state_every: Option<i64>,
    /// Sample exactly as the reference does, also where a server should not: the mask token, unused rows
    /// of the embedding and document ends may be drawn anywhere.
    pub reproduce: Option<bool>,
}

/// The order of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderName {
    /// Rounds uniform at random, drawn at admission.
    #[default]
    Random,
    /// Most certain positions first.
    Confidence,
}

/// Whether a stream carries denoising states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamStates {
    /// Text only.
    #[default]
    None,
    /// The positions that each evaluation committed.
    Delta,
}

/// One string or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Strings {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// The fields as a request gave them.
#[derive(Clone, Debug, Default)]
pub struct GivenOptions {
    /// Divides the logits.
    pub temperature: Option<f64>,
    /// Nucleus mass.
    pub top_p: Option<f64>,
    /// Random seed.
    pub seed: Option<i64>,
    /// Samples.
    pub n: Option<i64>,
    /// Stop strings.
    pub stop: Option<Strings>,
    /// How the canvas is denoised.
    pub diffusion: Option<DiffusionOptions>,
}

/// The settings after validation: nobody checks them again.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The distribution a token is drawn from; `banned` is empty unless every position shares it.
    pub sampling: Sampling,
    /// The decision rule.
    pub policy: Policy,
    /// Its order as the API names it.
    pub order: OrderName,
    /// The request's seed, drawn when it gave none.
    pub seed: u64,
    /// Samples per prompt.
    pub samples: usize,
    /// Strings that end a text.
    pub stops: Vec<String>,
    /// Whether to stream states.
    pub states: StreamStates,
    /// Every how many evaluations.
    pub state_every: u32,
    /// Whether the reference's law holds without our three deviations.
    pub reproduce: bool,
}

impl GivenOptions {
    /// Checks every value against its range and fills in the model's defaults.
    ///
    /// # Errors
    /// A value outside its range, named with what is allowed.
    pub fn validate(self, state: &AppState) -> Result<Settings, ApiError> {
        let limits = state.limits;
        let defaults = state.model.profile.defaults;
        let diffusion = self.diffusion.unwrap_or_default();
        let temperature = number("temperature", self.temperature, 0.0..=2.0)?.unwrap_or(defaults.temperature);
        // What f32 cannot divide by is none: the limit of small temperatures is the most probable token.
        let temperature = if temperature < f64::from(f32::MIN_POSITIVE) { 0.0 } else { temperature };
        let top_p = number("top_p", self.top_p, 0.0..=1.0)?.unwrap_or(defaults.top_p);
        let steps = count("diffusion.steps", diffusion.steps, 1..=i64::from(limits.steps))?;
        let steps = steps.map_or(defaults.steps, |steps| steps as u32);
        let samples = count("n", self.n, 1..=limits.samples as i64)?.unwrap_or(1) as usize;
        let state_every = count("diffusion.state_every", diffusion.state_every, 1..=i64::from(u32::MAX))?;
        let order = diffusion.order.unwrap_or_default();
        let policy_order = match order {
            OrderName::Random => Order::Random,
            OrderName::Confidence => Order::Confidence,
        };
        // The same bits for a negative seed: any i64 is a seed of its own.
        let seed = self.seed.map(i64::cast_unsigned);
        Ok(Settings {
            sampling: Sampling { temperature, top_p, banned: Vec::new() },
            policy: Policy { order: policy_order, steps },
            order,
            seed: seed.unwrap_or_else(|| if temperature == 0.0 { 0 } else { fresh_seed() }),
            samples,
            stops: stops(self.stop, limits.stops)?,
            states: diffusion.stream_states.unwrap_or_default(),
            state_every: state_every.unwrap_or(1) as u32,
            reproduce: diffusion.reproduce.unwrap_or(false),
        })
    }
}

/// A seed below 2^53, so that every JSON reader can give it back exactly.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's per-map keys come from the operating system's generator.
    RandomState::new().hash_one(0_u8) >> 11
}

fn stops(given: Option<Strings>, (most, longest): (usize, usize)) -> Result<Vec<String>, ApiError> {
    let stops = match given {
        None => Vec::new(),
        Some(Strings::One(stop)) => vec![stop],
        Some(Strings::Many(stops)) => stops,
    };
    if stops.len() > most {
        return Err(out_of_range(
            "stop",
            format!("{} strings", stops.len()),
            format!("at most {most} strings"),
        ));
    }
    if let Some(stop) = stops.iter().find(|stop| stop.is_empty() || stop.len() > longest) {
        let given = format!("a string of {} bytes", stop.len());
        return Err(out_of_range("stop", given, format!("strings of 1 to {longest} bytes")));
    }
    Ok(stops)
}

/// A real number in a range.
fn number(name: &str, given: Option<f64>, allowed: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
    within(name, given, &allowed)
}

/// An integer in a range.
///
/// # Errors
/// It lies outside.
pub fn count(name: &str, given: Option<i64>, allowed: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
    within(name, given, &allowed)
}

fn within<T: PartialOrd + Display>(
    name: &str,
    given: Option<T>,
    allowed: &RangeInclusive<T>,
) -> Result<Option<T>, ApiError> {
    match given {
        Some(value) if !allowed.contains(&value) => {
            let range = format!("from {} to {}", allowed.start(), allowed.end());
            Err(out_of_range(name, value.to_string(), range))
        }
        other => Ok(other),
    }
}

/// The error for a value outside its range.
pub fn out_of_range(param: &str, given: impl Display, allowed: impl Display) -> ApiError {
    ApiError::OutOfRange { param: param.to_owned(), given: given.to_string(), allowed: allowed.to_string() }
}
