//! Scores of a given text under the model: evaluations of the text with parts of it masked.
//!
//! A masked diffusion model has no single formula for the probability of a text. A score is therefore the
//! value of one of several estimators ([`ScoreMode`]), and values of different modes are not comparable.

mod masks;
mod plan;

use std::iter::zip;
use std::ops::Range;

use self::plan::{Plan, standard_error};
use super::noise::Noise;
use crate::error::CanvasError;
use crate::predictor::{Ask, ModelLimits, Position, Read, Sampling, TokenId, Visibility, Want};

/// A text to score, and where on its canvas.
#[derive(Clone, Debug, Default)]
pub struct ScoreSpec {
    /// The whole canvas, every position given.
    pub tokens: Vec<TokenId>,
    /// Positions before this one are context: shown and not scored. Position 0 of a model with shift is
    /// context always, because its head cannot predict it.
    pub from: Position,
    /// Positions from this one on are context, too; `None` scores to the end. So a text in a hole is scored
    /// with what stands right of it in view.
    pub to: Option<Position>,
    /// The estimator.
    pub mode: ScoreMode,
    /// The random masks, in the modes that draw them. Texts with the same noise and as many scored
    /// positions are masked alike (common random numbers), so that less of their difference is chance.
    /// [`Noise::Recorded`] replays a run of the mode `Reference`: `tokens[k][p]` is the number that masks
    /// position p in entry k.
    pub noise: Noise,
    /// Most probable tokens to report at each scored position, in the modes that read a position once.
    pub alternatives: usize,
}

/// The estimator of a score. n is the number of scored positions; everything is in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScoreMode {
    /// log p(x_i | x_<i) with everything from i on masked: n evaluations, and their sum is the logarithm
    /// of a joint probability, that of generating the text from left to right.
    #[default]
    Chain,
    /// `Chain` with this many positions per evaluation. The members of a block do not see each other.
    Block(usize),
    /// log p(x_i | all others): n evaluations. The sum ranks texts by acceptability and is no
    /// log-probability (Salazar et al., 1910.14659).
    PseudoLikelihood,
    /// The evidence lower bound, estimated without bias: the mean of (n/k)·Σ log p(x_i | what is not
    /// masked) over random sets of k masked positions, k uniform on 1..=n (Nie et al., 2502.09992; Ou et
    /// al., 2406.03736). It bounds the log-probability of generating the text in a random order, and is
    /// equal to it when the model's conditionals contradict each other nowhere.
    ///
    /// The samples are stratified: sample j of m (from 0) takes k from the j-th of m equal parts of 1..=n.
    /// When there are no more than `samples` sets at all, each is evaluated once and the value is exact.
    Elbo {
        /// Most evaluations, from 1 to 65536.
        samples: u32,
    },
    /// The likelihood score of the reference's multiple-choice tasks (`eval_forward` of
    /// `evaluation/eval-diffugpt.py`, HKUNLP/DiffuLLaMA c17e897): for t = T..1 each scored position is
    /// masked with probability t/T, and the score is the plain mean over t of the mean log-probability of
    /// the masked positions, 0 where none is masked. That is a mean per token and not a sum, and it is
    /// what the reference prints with its sign changed: there the *lowest* cross-entropy wins.
    ///
    /// Like the reference it takes every position that holds the mask id for masked, context included.
    /// The other modes know no such tokens: what is masked is a matter of the position alone.
    Reference {
        /// T, from 1 to 65536. A step that masks nothing needs no evaluation.
        steps: u32,
    },
}

/// The score of a text, as its mode defines it.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceScore {
    /// Each position's part of the total (nats); `None` where nothing is scored. Log-probabilities in the
    /// modes without samples, shares of the estimate otherwise: 0 where no sample masked the position.
    pub logprobs: Vec<Option<f64>>,
    /// Their sum (nats).
    pub total: f64,
    /// Standard error of the total (nats); on average its square does not underestimate the variance. 0
    /// when nothing was left to chance, `None` when a single sample cannot tell.
    pub standard_error: Option<f64>,
    /// At each position, the most probable tokens with their log-probabilities (nats), best first; empty
    /// where nothing is scored, and in the modes with samples.
    pub alternatives: Vec<Vec<(TokenId, f32)>>,
}

/// One text that is scored, and everything that it remembers between two evaluations.
///
/// It is driven like a [`DenoisingState`](super::DenoisingState): [`Self::ask`] until there is none, and [`Self::act`]
/// with the answers. [`Self::score`] is then complete.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use unmask_model::diffusion::{ScoreMode, ScoreSpec, ScoringState};
/// use unmask_model::predictor::{MarkovOracle, MaskPredictor};
///
/// let mut oracle = MarkovOracle::random(10, 1.0, 32, 3);
/// let tokens = vec![4, 1, 8, 8, 2];
/// let spec = ScoreSpec { tokens: tokens.clone(), mode: ScoreMode::Chain, ..ScoreSpec::default() };
/// let mut text = ScoringState::new(spec, &oracle.limits())?;
/// while let Some(ask) = text.ask() {
///     let reads = oracle.predict(&[ask])?.remove(0);
///     text.act(&reads);
/// }
/// // The oracle's conditionals are exact, so their sum is the chain's own log-probability.
/// assert!((text.score().total - oracle.log_probability(&tokens)).abs() < 1e-3);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ScoringState {
    text: Vec<TokenId>,
    scored: Range<Position>,
    plan: Plan,
    noise: Noise,
    limits: ModelLimits,
    /// The evaluations to come, numbered from 0, the next one last.
    rounds: Vec<u32>,
    evaluations: u32,
    /// The pending ask.
    canvas: Vec<TokenId>,
    wants: Vec<Want>,
    samplings: [Sampling; 1],
    logprobs: Vec<Option<f64>>,
    /// Each round's part of the total, in modes with random masks; empty otherwise.
    samples: Vec<f64>,
    /// Alternatives to read at each position, and those that were read.
    wanted: usize,
    alternatives: Vec<Vec<(TokenId, f32)>>,
}

impl ScoringState {
    /// Prepares a text. One without scored positions needs no evaluation and has the score 0.
    ///
    /// # Errors
    /// The text must fit the model's context, every token must be a row of the embedding, and the number
    /// of the mode must lie in its range. A network whose attention is causal between blocks scores from left to right
    /// only.
    pub fn new(spec: ScoreSpec, limits: &ModelLimits) -> Result<Self, CanvasError> {
        let ScoreSpec { tokens: text, from, to, mode, noise, alternatives: wanted } = spec;
        mode.check()?;
        if let Visibility::BlockCausal { block } = limits.visibility
            && !matches!(mode, ScoreMode::Chain | ScoreMode::Block(_))
        {
            return Err(CanvasError::BlockCausalScore { block });
        }
        if text.len() > limits.context {
            return Err(CanvasError::TooLong { length: text.len(), limit: limits.context });
        }
        if let Some(&id) = text.iter().find(|&&id| id as usize >= limits.vocabulary) {
            return Err(CanvasError::TokenOutOfVocabulary { id, rows: limits.vocabulary });
        }
        let length = text.len();
        let end = to.unwrap_or(Position::MAX).min(length as Position);
        let scored = from.max(Position::from(limits.shift)).min(end)..end;
        let mut logprobs = vec![None; length];
        logprobs[scored.start as usize..end as usize].fill(Some(0.0));
        let once = matches!(mode, ScoreMode::Chain | ScoreMode::Block(_) | ScoreMode::PseudoLikelihood);
        let mut state = Self {
            text,
            plan: Plan::new(mode, scored.len() as u32),
            scored,
            noise,
            limits: *limits,
            rounds: Vec::new(),
            evaluations: 0,
            canvas: Vec::new(),
            wants: Vec::new(),
            // The token read is of no interest, and the most probable one is the cheapest to find.
            samplings: [Sampling { temperature: 0.0, ..Sampling::default() }],
            logprobs,
            samples: Vec::new(),
            wanted: if once { wanted } else { 0 },
            alternatives: vec![Vec::new(); length],
        };
        state.number_rounds();
        state.prepare();
        Ok(state)
    }

    /// The reads of the next evaluation; `None` when the score is complete.
    #[must_use]
    pub fn ask(&self) -> Option<Ask<'_>> {
        let tokens = &self.canvas;
        let wants = &self.wants;
        let samplings = &self.samplings;
        let ask = Ask { tokens, wants, samplings, alternatives: self.wanted, ..Ask::default() };
        (!self.wants.is_empty()).then_some(ask)
    }

    /// Takes the answers to [`Self::ask`], one per want in order. A read without its target makes the
    /// score NaN rather than wrong.
    pub fn act(&mut self, reads: &[Read]) {
        debug_assert_eq!(reads.len(), self.wants.len(), "one read per want");
        let Some(round) = self.rounds.pop() else { return };
        let weight = self.plan.weight(self.scored.len() as u32, self.wants.len() as u32);
        let mut sum = 0.0;
        for (want, read) in zip(&self.wants, reads) {
            let term = weight * read.target.map_or(f64::NAN, f64::from);
            *self.logprobs[want.position as usize].get_or_insert(0.0) += term;
            self.alternatives[want.position as usize].clone_from(&read.alternatives);
            sum += term;
        }
        if let Some(sample) = self.samples.get_mut(round as usize) {
            *sample = sum;
        }
        self.evaluations += 1;
        self.prepare();
    }

    /// Positions of the canvas.
    #[must_use]
    pub fn length(&self) -> usize {
        self.text.len()
    }

    /// Evaluations that this text has used.
    #[must_use]
    pub fn evaluations(&self) -> u32 {
        self.evaluations
    }

    /// Evaluations that this text still needs, exactly.
    #[must_use]
    pub fn evaluations_left(&self) -> u32 {
        self.rounds.len() as u32
    }

    /// The score; what has been summed so far while [`Self::ask`] still asks.
    #[must_use]
    pub fn score(&self) -> SequenceScore {
        SequenceScore {
            logprobs: self.logprobs.clone(),
            // Sums of floats start from −0.
            total: 0.0 + self.logprobs.iter().flatten().sum::<f64>(),
            standard_error: standard_error(&self.samples),
            alternatives: self.alternatives.clone(),
        }
    }

    fn number_rounds(&mut self) {
        let rounds = self.plan.rounds(self.scored.len() as u32);
        let masks_any = |round: &u32| match self.plan {
            Plan::Grid(steps) => self.grid(*round, steps).next().is_some(),
            _ => true,
        };
        self.rounds = (0..rounds).rev().filter(masks_any).collect();
        if let Plan::Strata(_) | Plan::Grid(_) = self.plan {
            self.samples = vec![0.0; rounds as usize];
        }
    }

    /// Writes the canvas and the wants of the next evaluation; none when there is no next one.
    fn prepare(&mut self) {
        self.wants.clear();
        let Some(&round) = self.rounds.last() else { return };
        let masked = self.masked(round);
        self.canvas.clone_from(&self.text);
        if let (Plan::LeftToRight(_), Some(&first)) = (self.plan, masked.first()) {
            self.canvas[first as usize..self.scored.end as usize].fill(self.limits.mask_token);
        }
        for position in masked {
            self.canvas[position as usize] = self.limits.mask_token;
            let target = Some(self.text[position as usize]);
            self.wants.push(Want { position, target, ..Want::default() });
        }
    }
}
