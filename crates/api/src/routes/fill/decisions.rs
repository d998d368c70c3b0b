//! Holes with `choices`: which of the alternatives the model finds most probable.
//!
//! Every alternative is scored with everything around it in view, token by token from the left, what is not known
//! yet masked: the other holes, and the rest of the alternative. Alternatives of one token, of however many holes,
//! look at the same canvas, which the device computes once.

use serde::Serialize;
use unmask_model::diffusion::{ScoreMode, ScoreSpec, ScoringState, SequenceScore};
use unmask_model::predictor::{Position, TokenId};
use unmask_model::tokenizer::TextTokenizer;
use unmask_scheduler::{DenoiseRequest, Timings};
use utoipa::ToSchema;

use super::holes::HoledText;
use super::nearest::keep_nearest;
use crate::error::ApiError;
use crate::generation::{Found, evaluate, scored};
use crate::observation::Observation;
use crate::prompt::check_cost;
use crate::request::options::Settings;
use crate::request::ranges::out_of_range;
use crate::state::AppState;

/// Alternatives of a hole.
pub(in crate::routes) const MOST_CHOICES: usize = 64;

/// Bytes of an alternative.
const LONGEST_CHOICE: usize = 1024;

/// The alternatives of a hole.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    texts: Vec<String>,
    tokens: Vec<Vec<TokenId>>,
}

/// The decision about a hole.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) text: String,
    /// Its tokens with their log-probabilities.
    pub(super) tokens: Vec<(TokenId, f32)>,
    pub(super) rated: Vec<RatedChoice>,
    pub(super) margin: f64,
}

/// An alternative and how probable it is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct RatedChoice {
    /// The alternative.
    text: String,
    /// Its log-probability (nats) given all that stands around the hole: the sum over its tokens.
    logprob: f64,
    /// Its share of the probability of all alternatives.
    probability: f64,
    /// Its tokens.
    tokens: usize,
}

impl Choices {
    /// Checks and tokenizes alternatives. `param` is the field they are given in; `first` says that no text
    /// stands before the hole.
    ///
    /// # Errors
    /// None or too many, one that is empty or too long, or two that are the same.
    pub(super) fn new(
        param: &str,
        texts: Vec<String>,
        first: bool,
        tokenizer: &TextTokenizer,
    ) -> Result<Self, ApiError> {
        let range = |given, allowed: &str| Err(out_of_range(param, given, allowed));
        if !(1..=MOST_CHOICES).contains(&texts.len()) {
            return range(format!("{} strings", texts.len()), &format!("1 to {MOST_CHOICES} strings"));
        }
        let sized = |text: &String| (1..=LONGEST_CHOICE).contains(&text.len());
        if let Some(number) = texts.iter().position(|text| !sized(text)) {
            let allowed = format!("strings of 1 to {LONGEST_CHOICE} bytes");
            return range(format!("a string of {} bytes, as [{number}]", texts[number].len()), &allowed);
        }
        let earlier = |again: usize| texts[..again].iter().position(|text| *text == texts[again]);
        if let Some((first, again)) = (1..texts.len()).find_map(|again| Some((earlier(again)?, again))) {
            return range(format!("the same string twice, as [{first}] and [{again}]"), "different strings");
        }
        let encode = |text: &String| {
            if first { tokenizer.encode(text) } else { tokenizer.encode_piece(text) }
        };
        let tokens = texts.iter().map(encode).collect::<Result<_, _>>()?;
        Ok(Self { texts, tokens })
    }

    /// Tokenizes every alternative between the bytes `left` and `right`, which its tokens share with the texts around
    /// it. Where there are none, nothing changes.
    ///
    /// # Errors
    /// The tokenizer refused one.
    pub(super) fn join(
        &mut self,
        left: &[u8],
        right: &[u8],
        tokenizer: &TextTokenizer,
    ) -> Result<(), ApiError> {
        if left.is_empty() && right.is_empty() {
            return Ok(());
        }
        let left = String::from_utf8_lossy(left);
        let right = String::from_utf8_lossy(right);
        let encode = |text: &String| tokenizer.encode_piece(&format!("{left}{text}{right}"));
        self.tokens = self.texts.iter().map(encode).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Positions of the longest alternative.
    pub(super) fn longest(&self) -> usize {
        self.tokens.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The alternative with the largest sum, the first of equals. `scores` are those of the alternatives, `at`
    /// is where they stand on their canvases.
    fn decide(&self, scores: &[SequenceScore], at: usize) -> Decision {
        let best = scores.iter().map(|score| score.total).fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score.total - best).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let rated = self.texts.iter().zip(&self.tokens).zip(scores).zip(&weights);
        let rated: Vec<RatedChoice> = rated
            .map(|(((text, tokens), score), weight)| RatedChoice {
                text: text.clone(),
                logprob: score.total,
                probability: weight / sum,
                tokens: tokens.len(),
            })
            .collect();
        let mut shares: Vec<f64> = rated.iter().map(|choice| choice.probability).collect();
        shares.sort_unstable_by(|a, b| b.total_cmp(a));
        let margin = shares[0] - shares.get(1).copied().unwrap_or(0.0);
        let winner = scores.iter().position(|score| score.total == best).unwrap_or(0);
        let logprob = |place: usize| scores[winner].logprobs[at + place].unwrap_or(0.0) as f32;
        let tokens = self.tokens[winner].iter().enumerate().map(|(place, id)| (*id, logprob(place)));
        Decision { text: self.texts[winner].clone(), tokens: tokens.collect(), rated, margin }
    }
}

/// Refuses alternatives that are over the cap of costs, before a canvas of them is built.
fn check_choices(
    text: &HoledText,
    tokens: &[Vec<TokenId>],
    lengths: &[usize],
    state: &AppState,
) -> Result<(), ApiError> {
    let given: usize = tokens.iter().map(Vec::len).sum();
    let open: usize = lengths.iter().sum();
    let mut cost = 0_u64;
    let limit = state.limits.cost;
    for (hole, length) in text.holes.iter().zip(lengths) {
        let around = given + open - length;
        let of = |alternative: &Vec<TokenId>| ((around + alternative.len()) * alternative.len()) as u64;
        cost += hole.choices.iter().flat_map(|choices| &choices.tokens).map(of).sum::<u64>();
    }
    if cost <= limit {
        return Ok(());
    }
    let formula = "all alternatives, each (given + generated positions) × its tokens".to_owned();
    Err(ApiError::TooExpensive { cost, limit, formula })
}

/// The alternatives of all holes on their canvases.
pub(super) struct Questions {
    /// Hole by hole, alternative by alternative.
    texts: Vec<ScoringState>,
    /// Holes with choices, and where they begin.
    holes: Vec<(usize, usize)>,
}

impl Questions {
    /// One canvas per alternative. `ranges` are those of the holes' lengths; while others are decided, a hole
    /// stands for the middle of its own. `cut` says that the text may be cut.
    ///
    /// # Errors
    /// A canvas that the model cannot hold.
    pub(super) fn new(
        text: &HoledText,
        tokens: &[Vec<TokenId>],
        ranges: &[(usize, usize)],
        cut: bool,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let bos = state.model.tokenizer.document_start();
        let mut tokens = tokens.to_vec();
        let lengths: Vec<usize> = ranges.iter().map(|(min, max)| (min + max) / 2).collect();
        if cut {
            let taken = usize::from(bos.is_some()) + lengths.iter().sum::<usize>();
            keep_nearest(&mut tokens, state.model.limits.context.saturating_sub(taken));
        }
        check_choices(text, &tokens, &lengths, state)?;
        let mut texts = Vec::new();
        let mut holes = Vec::new();
        for (number, hole) in text.holes.iter().enumerate() {
            let Some(choices) = &hole.choices else { continue };
            for alternative in &choices.tokens {
                let mut canvas: Vec<TokenId> = bos.into_iter().collect();
                let mut stretch = 0..0;
                for (other, given) in tokens.iter().enumerate() {
                    canvas.extend(given);
                    if other == number {
                        stretch = canvas.len()..canvas.len() + alternative.len();
                        canvas.extend(alternative);
                    } else if let Some(length) = lengths.get(other) {
                        canvas.resize(canvas.len() + length, state.model.limits.mask_token);
                    }
                }
                if holes.last().is_none_or(|(last, _)| *last != number) {
                    holes.push((number, stretch.start));
                }
                let from = stretch.start as Position;
                let to = Some(stretch.end as Position);
                let spec =
                    ScoreSpec { tokens: canvas, from, to, mode: ScoreMode::Chain, ..ScoreSpec::default() };
                texts.push(ScoringState::new(spec, &state.model.limits)?);
            }
        }
        Ok(Self { texts, holes })
    }

    /// Has the alternatives scored and notes with each hole which one won. Returns what it took.
    ///
    /// # Errors
    /// Too expensive, a time that is too long, or the engine did not get there.
    pub(super) async fn answer(
        self,
        text: &mut HoledText,
        settings: &Settings,
        state: &AppState,
        observation: &Observation,
    ) -> Result<Timings, ApiError> {
        check_cost(&[], &self.texts, settings, state)?;
        let tokens = scored(&self.texts);
        let request = DenoiseRequest { texts: self.texts, ..DenoiseRequest::default() };
        let Found { scores, timings, .. } = evaluate(request, tokens, settings, state, observation).await?;
        let mut rest = &scores[..];
        for (number, at) in self.holes {
            let hole = &mut text.holes[number];
            let Some(choices) = &hole.choices else { continue };
            let (own, others) = rest.split_at(choices.tokens.len());
            hole.decision = Some(choices.decide(own, at));
            rest = others;
        }
        Ok(timings)
    }
}
