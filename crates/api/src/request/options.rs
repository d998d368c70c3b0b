//! The settings that all generating routes share, and their ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use unmask_model::checkpoint::SamplingDefaults;
use unmask_model::diffusion::Policy;
use unmask_model::predictor::Sampling;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::policy::{EosRule, Preset};
use crate::request::biases::biases;
use crate::request::deadlines::{GivenTimes, TimeoutHeader};
use crate::request::kv_cache::{self, KvChoice};
use crate::request::policy_options::DiffusionOptions;
use crate::request::ranges::{count, number, out_of_range, temperature};
use crate::request::scoring::{ScoreOptions, Scoring};
use crate::route_defaults::{Route, RouteDefault};
use crate::seed::Seed;
use crate::state::AppState;

/// The denoising states in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamStates {
    /// Text only.
    #[default]
    None,
    /// The positions that each evaluation committed.
    Delta,
    /// The same, and what the model would put at the others: `g`. Every evaluation then reads all open
    /// positions; what is committed is the same.
    Draft,
}

/// One string or several.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Strings {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// The fields as a request gave them.
#[derive(Clone, Debug, Default)]
pub struct GivenOptions {
    /// The kind of request.
    pub route: Route,
    /// Divides the logits.
    pub temperature: Option<f64>,
    /// Nucleus mass.
    pub top_p: Option<f64>,
    /// Only the k most probable tokens.
    pub top_k: Option<i64>,
    /// Least share of the largest probability.
    pub min_p: Option<f64>,
    /// Per committed occurrence.
    pub frequency_penalty: Option<f64>,
    /// For being committed at all.
    pub presence_penalty: Option<f64>,
    /// For standing on the canvas.
    pub repetition_penalty: Option<f64>,
    /// Added to the logits of tokens, by id.
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// Leading positions without a document end.
    pub min_tokens: Option<i64>,
    /// No document end anywhere.
    pub ignore_eos: Option<bool>,
    /// Random seed.
    pub seed: Option<Seed>,
    /// Samples.
    pub n: Option<i64>,
    /// Stop strings.
    pub stop: Option<Strings>,
    /// Alternatives to report with every token, and the field that says so.
    pub logprobs: Option<(&'static str, i64)>,
    /// True if the answer begins with the prompt.
    pub echo: bool,
    /// True if words and blanks that a hole cuts are healed.
    pub token_healing: Option<bool>,
    /// True for requests of editors, which keep keys and values of long texts unless told otherwise.
    pub editor: bool,
    /// Settings of the denoising.
    pub diffusion: Option<DiffusionOptions>,
    /// The header `x-request-timeout-ms`.
    pub timeout_header: TimeoutHeader,
    /// Milliseconds until the request is ended.
    pub timeout_ms: Option<i64>,
}

/// The settings after validation; no later step checks them again.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The distribution a token is drawn from; `banned` is empty unless every position shares it.
    pub sampling: Sampling,
    /// The decision rule.
    pub policy: Policy,
    /// Weight of classifier-free guidance; 0 is off.
    pub guidance: f64,
    /// The treatment of document ends.
    pub eos: EosRule,
    /// Leading positions without a document end, as far as there are so many.
    pub min_tokens: usize,
    /// Those that the request asked for.
    pub min_tokens_asked: usize,
    /// The request's seed, drawn when it gave none.
    pub seed: Seed,
    /// Samples per prompt.
    pub samples: usize,
    /// Strings that end a text.
    pub stops: Vec<String>,
    /// Alternatives to report with every token; `None` reports no log-probabilities.
    pub logprobs: Option<usize>,
    /// The scoring of prompts, if they are scored.
    pub scoring: Option<Scoring>,
    /// The states in a stream.
    pub states: StreamStates,
    /// Every how many evaluations.
    pub state_every: u32,
    /// True if the reference's law holds without our three deviations.
    pub reproduce: bool,
    /// True if words and blanks that a hole cuts are healed.
    pub healing: bool,
    /// The keys and values that are kept between evaluations.
    pub kv_cache: KvChoice,
    /// Limits on its time. The bound depends on the canvases, so it is checked with them.
    pub times: GivenTimes,
}

impl GivenOptions {
    /// Checks every value against its range and fills in the model's defaults.
    ///
    /// # Errors
    /// A value outside its range, named with what is allowed.
    pub fn validate(self, state: &AppState) -> Result<Settings, ApiError> {
        let limits = state.limits;
        let family = state.model.profile.defaults;
        let samples = count("n", self.n, 1..=limits.samples as i64)?.unwrap_or(1) as usize;
        let mut diffusion = self.diffusion.clone().unwrap_or_default();
        let own = !diffusion.chooses_rule();
        let defaults = settle(&diffusion, state.model.defaults.of(self.route, family), family);
        diffusion.preset = Some(defaults.preset).filter(|_| own).or(diffusion.preset);
        // Several most probable texts are one text.
        let is_one = own && samples > 1 && defaults.temperature == 0.0;
        let natural = if is_one { family.temperature } else { defaults.temperature };
        let temperature = temperature("temperature", self.temperature)?.unwrap_or(natural);
        let block = state.model.block();
        let policy = diffusion.policy(Preset::of(family), (defaults.steps, limits.steps), block)?;
        let state_every = count("diffusion.state_every", diffusion.state_every, 1..=i64::from(u32::MAX))?;
        let least =
            count("min_tokens", self.min_tokens, 0..=limits.canvas as i64)?.map(|least| least as usize);
        let guidance = number("diffusion.guidance", diffusion.guidance, -1.0..=20.0)?.unwrap_or(0.0);
        let eos = self.eos_rule(diffusion.eos)?;
        let logprobs = match self.logprobs {
            Some((field, alternatives)) => count(field, Some(alternatives), 0..=MOST_ALTERNATIVES)?,
            None => None,
        };
        let scored = self.echo && logprobs.is_some();
        let scoring = ScoreOptions::check(diffusion.score, scored, defaults.steps)?;
        let sampling = self.sampling(temperature, defaults.top_p, state)?;
        let reproduce = diffusion.reproduce.unwrap_or(false);
        let editor = self.editor && !reproduce;
        let unasked = kv_cache::unasked(editor, diffusion.preset, Preset::of(family));
        let kv_cache = KvChoice::of(&diffusion, limits.kv_cache, unasked, state.model.limits.visibility)?;
        let healing = !reproduce && self.token_healing.unwrap_or(true);
        Ok(Settings {
            sampling,
            policy,
            guidance,
            eos,
            min_tokens: least.unwrap_or(if self.echo { 0 } else { defaults.min_tokens as usize }),
            min_tokens_asked: least.unwrap_or(0),
            seed: self.seed.unwrap_or_else(|| Seed::new(if temperature == 0.0 { 0 } else { fresh_seed() })),
            samples,
            stops: stops("stop", self.stop, limits.stops)?,
            logprobs: logprobs.map(|alternatives| alternatives as usize),
            scoring,
            states: diffusion.stream_states.unwrap_or_default(),
            state_every: state_every.unwrap_or(1) as u32,
            reproduce,
            healing,
            kv_cache,
            times: GivenTimes {
                header: self.timeout_header.0,
                timeout: self.timeout_ms,
                budget: diffusion.time_budget_ms,
                budget_field: None,
            },
        })
    }

    /// The rule for ends of the text: `diffusion.eos`, or llama.cpp's `ignore_eos`.
    fn eos_rule(&self, rule: Option<EosRule>) -> Result<EosRule, ApiError> {
        match (rule, self.ignore_eos) {
            (Some(EosRule::Cut | EosRule::Ignore | EosRule::Distrust), Some(true)) => {
                let message = "`ignore_eos` and `diffusion.eos` do not go together".to_owned();
                Err(ApiError::Conflict { param: "ignore_eos".to_owned(), message })
            }
            (_, Some(true)) => Ok(EosRule::Ban),
            (rule, _) => Ok(rule.unwrap_or_default()),
        }
    }

    /// The distribution a token is drawn from, without bans.
    fn sampling(&self, temperature: f64, top_p: f64, state: &AppState) -> Result<Sampling, ApiError> {
        let top_p = number("top_p", self.top_p, 0.0..=1.0)?.unwrap_or(top_p);
        // −1 and 0 both mean that all tokens may be drawn; clients send either.
        let top_k = count("top_k", self.top_k, -1..=i64::from(u32::MAX))?.unwrap_or(0).max(0);
        let frequency = number("frequency_penalty", self.frequency_penalty, -2.0..=2.0)?;
        let presence = number("presence_penalty", self.presence_penalty, -2.0..=2.0)?;
        let repetition = number("repetition_penalty", self.repetition_penalty, 0.1..=10.0)?;
        Ok(Sampling {
            repetition_penalty: repetition.unwrap_or(1.0),
            frequency_penalty: frequency.unwrap_or(0.0),
            presence_penalty: presence.unwrap_or(0.0),
            bias: biases("logit_bias", self.logit_bias.as_ref(), state.model.limits.vocabulary)?,
            banned: Vec::new(),
            distrusted: Vec::new(),
            temperature,
            top_k: top_k as usize,
            nucleus_first: state.model.profile.defaults.nucleus_first,
            top_p,
            min_p: number("min_p", self.min_p, 0.0..=1.0)?.unwrap_or(0.0),
        })
    }
}

/// Settings of a request that says `asked` of the decision rule: the model's for this kind of request where it says
/// nothing, else those of the preset that it names, or the family's.
#[must_use]
fn settle(asked: &DiffusionOptions, own: RouteDefault, family: SamplingDefaults) -> RouteDefault {
    if !asked.chooses_rule() {
        return own;
    }
    let preset = asked.preset.unwrap_or_else(|| Preset::of(family));
    let SamplingDefaults { steps, top_p, .. } = family;
    let free = asked.preset.is_none() && asked.reproduce != Some(true);
    let min_tokens = if free { own.min_tokens } else { 0 };
    RouteDefault { preset, steps, temperature: preset.temperature(family), top_p, min_tokens }
}

/// Largest `logprobs`.
pub(crate) const MOST_ALTERNATIVES: i64 = 20;

/// A seed below 2^53, so that every JSON reader can give it back exactly.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's per-map keys come from the operating system's generator.
    RandomState::new().hash_one(0_u8) >> 11
}

/// Stop strings: at most `most`, each of 1 to `longest` bytes.
///
/// # Errors
/// Too many, an empty one or a longer one.
pub fn stops(
    param: &str,
    given: Option<Strings>,
    (most, longest): (usize, usize),
) -> Result<Vec<String>, ApiError> {
    let stops = match given {
        None => Vec::new(),
        Some(Strings::One(stop)) => vec![stop],
        Some(Strings::Many(stops)) => stops,
    };
    if stops.len() > most {
        return Err(out_of_range(
            param,
            format!("{} strings", stops.len()),
            format!("at most {most} strings"),
        ));
    }
    if let Some(stop) = stops.iter().find(|stop| stop.is_empty() || stop.len() > longest) {
        let given = format!("a string of {} bytes", stop.len());
        return Err(out_of_range(param, given, format!("strings of 1 to {longest} bytes")));
    }
    Ok(stops)
}
