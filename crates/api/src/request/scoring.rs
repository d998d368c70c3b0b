//! `diffusion.score`: how probable the model finds a prompt, and what an answer says about it.

use serde::{Deserialize, Serialize};
use unmask_model::diffusion::{Noise, ScoreMode, ScoreSpec, ScoringState, SequenceScore};
use unmask_model::predictor::{Position, TokenId};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::request::fields::integer;
use crate::request::options::Settings;
use crate::request::ranges::count;
use crate::state::ServedModel;

/// The log-probabilities of a prompt (`echo` with `logprobs`). Numbers of different modes are not comparable.
/// Unknown fields are refused.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreOptions {
    /// The estimator. Default `chain`.
    pub mode: Option<ScoreModeName>,
    /// Tokens of the prompt that are context: they cost nothing, and their log-probability is null. Default 0.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 0)]
    pub from: Option<i64>,
    /// Positions per evaluation (`block`). Default 8.
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1)]
    pub block: Option<i64>,
    /// Evaluations (`elbo`; default 64), or T (`reference`; default the model's `steps`).
    #[serde(deserialize_with = "integer")]
    #[schema(minimum = 1, maximum = 65536)]
    pub samples: Option<i64>,
}

/// An estimator of how probable a text is; L is the number of scored tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScoreModeName {
    /// log p of each token given those left of it, everything from it on masked: L evaluations. The sum is a
    /// true joint log-probability.
    #[default]
    Chain,
    /// `chain` with `block` tokens per evaluation, which do not see each other.
    Block,
    /// log p of each token given all others: L evaluations. Ranks texts; no log-probability.
    Pll,
    /// The evidence lower bound from `samples` random sets of masks. Tokens have their shares of the sum.
    Elbo,
    /// The score of the authors' multiple-choice evaluation over `samples` rates: a mean per token.
    Reference,
}

/// A checked [`ScoreOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scoring {
    mode: ScoreMode,
    name: ScoreModeName,
    from: usize,
}

/// Report of the scoring.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ScoreReport {
    /// The estimator.
    mode: ScoreModeName,
    /// Evaluations that it took, over all prompts; `forward_passes` counts them, too.
    forward_passes: u32,
    /// Prompt by prompt.
    prompts: Vec<PromptScore>,
}

/// The score of one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PromptScore {
    /// Nats: the sum of the tokens' values; in the mode `reference` a mean per token.
    total: f64,
    /// Standard error of `total`: 0 where nothing is left to chance, null when one sample cannot tell.
    standard_error: Option<f64>,
}

impl ScoreOptions {
    /// The scoring of a request that asks for it (`scored`), by the options that are `given` or by the default ones.
    ///
    /// # Errors
    /// Options of a request that scores nothing, and those of [`Self::validate`].
    pub fn check(given: Option<Self>, scored: bool, steps: u32) -> Result<Option<Scoring>, ApiError> {
        if given.is_some() && !scored {
            let message = "`diffusion.score` says how a prompt is scored: it needs `echo` and `logprobs`, which \
                           only /v1/completions has";
            return Err(conflict("diffusion.score", message));
        }
        let scoring = given.unwrap_or_default().validate(steps)?;
        Ok(scored.then_some(scoring))
    }

    /// The mode, with its number in range; `steps` is the model's T.
    ///
    /// # Errors
    /// A number outside its range, or one that the mode does not have.
    pub fn validate(self, steps: u32) -> Result<Scoring, ApiError> {
        let name = self.mode.unwrap_or_default();
        let block = count("diffusion.score.block", self.block, 1..=i64::from(u32::MAX))?;
        let samples = count("diffusion.score.samples", self.samples, 1..=65536)?;
        let from = count("diffusion.score.from", self.from, 0..=i64::from(u32::MAX))?;
        let sampled = matches!(name, ScoreModeName::Elbo | ScoreModeName::Reference);
        if block.is_some() && name != ScoreModeName::Block {
            return Err(conflict("diffusion.score.block", "`block` needs `mode`: \"block\""));
        }
        if samples.is_some() && !sampled {
            return Err(conflict(
                "diffusion.score.samples",
                "`samples` needs `mode`: \"elbo\" or \"reference\"",
            ));
        }
        let samples = samples.map(|samples| samples as u32);
        let mode = match name {
            ScoreModeName::Chain => ScoreMode::Chain,
            ScoreModeName::Block => ScoreMode::Block(block.unwrap_or(8) as usize),
            ScoreModeName::Pll => ScoreMode::PseudoLikelihood,
            ScoreModeName::Elbo => ScoreMode::Elbo { samples: samples.unwrap_or(64) },
            ScoreModeName::Reference => ScoreMode::Reference { steps: samples.unwrap_or(steps) },
        };
        Ok(Scoring { mode, name, from: from.unwrap_or(0) as usize })
    }
}

impl Scoring {
    /// A prompt to score: its tokens behind `bos`, which is context.
    ///
    /// # Errors
    /// It is longer than the model's context.
    pub fn text(
        self,
        bos: Option<TokenId>,
        prompt: &[TokenId],
        settings: &Settings,
        model: &ServedModel,
    ) -> Result<ScoringState, ApiError> {
        let spec = ScoreSpec {
            tokens: bos.into_iter().chain(prompt.iter().copied()).collect(),
            from: (usize::from(bos.is_some()) + self.from.min(prompt.len())) as Position,
            mode: self.mode,
            noise: Noise::Keyed { seed: settings.seed.bits, sample: 0 },
            alternatives: settings.logprobs.unwrap_or(0),
            ..ScoreSpec::default()
        };
        Ok(ScoringState::new(spec, &model.limits)?)
    }

    /// The report about `scores` that took `forward_passes` evaluations.
    #[must_use]
    pub fn report(self, scores: &[SequenceScore], forward_passes: u32) -> ScoreReport {
        let score =
            |score: &SequenceScore| PromptScore { total: score.total, standard_error: score.standard_error };
        ScoreReport { mode: self.name, forward_passes, prompts: scores.iter().map(score).collect() }
    }
}

fn conflict(param: &str, message: &str) -> ApiError {
    ApiError::Conflict { param: param.to_owned(), message: message.to_owned() }
}
