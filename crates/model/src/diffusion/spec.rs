//! The start of a sample, and the reports of its steps.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cache::KvCache;
use super::canvas::{Canvas, Cell};
use super::noise::Noise;
use super::policy::Policy;
use crate::predictor::{Position, Read, Sampling, TokenCount, TokenId};

/// The start of a sample: its canvas, settings, rule and random numbers.
///
/// Only `given` has to be set; the defaults are the model's own distribution, the reference's sampler over 64
/// rounds and the seed 0. [`DenoisingState`](super::DenoisingState) has an example.
#[derive(Clone, Debug, Default)]
pub struct StateSpec {
    /// One entry per position: a given token, or `None` to generate one.
    pub given: Vec<Option<TokenId>>,
    /// The settings in use; none means the model's own distribution.
    pub samplings: Vec<Sampling>,
    /// Sets of tokens that spans refer to, each ascending.
    pub allowed: Vec<Vec<TokenId>>,
    /// Settings of stretches of the canvas. The first span that contains a position counts, and positions
    /// outside all spans follow the first settings.
    pub spans: Vec<Span>,
    /// The decision rule.
    pub policy: Policy,
    /// The random numbers.
    pub noise: Noise,
    /// The token that an open position 0 gets when its round comes, for models with shift, whose head cannot
    /// predict it. The reference puts the caller's own id there. `None` refuses such a canvas.
    pub first_token: Option<TokenId>,
    /// True if an open position 0 of a model with shift is read from the first row, which also predicts
    /// position 1 (Dream); otherwise only `first_token` fills it.
    pub reads_first: bool,
    /// True if a position whose drawn token is the mask itself stays open, as in samplers that recognise open
    /// positions by their token. It has an effect only for rules with a fixed number of evaluations: others
    /// might not end.
    pub redraw_masks: bool,
    /// True if the block of [`Quota::PerBlock`](super::Quota::PerBlock) that holds the end of a document is finished
    /// before the sample ends, as in the authors' scripts; otherwise it ends as soon as all before that end is
    /// committed.
    pub finish_block: bool,
    /// Weight of classifier-free guidance against the canvas without its given tokens.
    pub guidance: Option<f64>,
    /// Most probable tokens to report with each commit.
    pub alternatives: usize,
    /// True if every evaluation also reads the most probable token at the positions that stay open. That
    /// takes rows of the head, and changes nothing about the commits.
    pub drafts: bool,
    /// The keys and values that are kept between evaluations. A network whose positions see no later block keeps those
    /// of finished blocks in any case.
    pub kv_cache: Option<KvCache>,
}

/// Settings of a stretch of the canvas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its positions.
    pub range: Range<usize>,
    /// Index into [`StateSpec::samplings`].
    pub sampling: u32,
    /// Index into [`StateSpec::allowed`]: only these tokens are drawn here.
    pub allowed: Option<u32>,
    /// Tokens that end the stretch: what lies right of the first of them is not shown. Once nothing else
    /// is masked, the sample is done.
    pub ends_at: Vec<TokenId>,
}

/// One change to a canvas.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// A masked position got a token, or a committed one another ([`super::Revise::Edit`]).
    Commit(Commit),
    /// A committed position is masked again.
    Remask(Position),
}

/// A token that was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The position.
    pub position: Position,
    /// The token.
    pub token: TokenId,
    /// Its log-probability (nats) under the distribution it was drawn from.
    pub score: f32,
    /// Its log-probability (nats) under the model, before penalties, temperature and filters.
    pub logprob: f32,
    /// The most probable tokens under the model at that moment, best first.
    pub alternatives: Vec<(TokenId, f32)>,
}

impl Commit {
    pub(super) fn new(position: Position, read: &Read) -> Self {
        let Read { token, score, logprob, ref alternatives, .. } = *read;
        Self { position, token, score, logprob, alternatives: alternatives.clone() }
    }
}

/// The reason for an end before the schedule's; after the first two, positions are still masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// All of them lie right of a document end.
    Eos,
    /// Its reader had what it wanted.
    Stop,
    /// Its time was over: one evaluation committed everything that was open, in the block at work where the network does
    /// not see later ones.
    TimeBudget,
}

impl Default for Policy {
    /// The reference's sampler over 64 rounds.
    fn default() -> Self {
        Self::reference(64)
    }
}

pub(super) fn checked_samplings(samplings: Vec<Sampling>) -> Vec<Sampling> {
    if samplings.is_empty() { vec![Sampling::default()] } else { samplings }
}

/// The spans, cut to a canvas of `length` positions.
pub(super) fn within(mut spans: Vec<Span>, length: usize) -> Vec<Span> {
    for span in &mut spans {
        span.range.end = span.range.end.min(length);
    }
    spans
}

pub(super) fn penalises(sampling: &Sampling) -> bool {
    sampling.repetition_penalty != 1.0
        || sampling.frequency_penalty != 0.0
        || sampling.presence_penalty != 0.0
}

/// The canvas with every given token masked; `keeps_first` leaves the one at position 0, where a document starts.
pub(super) fn without_condition(canvas: &Canvas, keeps_first: bool) -> Vec<TokenId> {
    let cells = canvas.cells().iter().zip(canvas.tokens()).enumerate();
    cells
        .map(
            |(position, (cell, &token))| {
                if *cell == Cell::Fixed && (position > 0 || !keeps_first) {
                    canvas.mask_token()
                } else {
                    token
                }
            },
        )
        .collect()
}

/// The occurrences of each token on the canvas; masks are not counted.
pub(super) fn counts(canvas: &Canvas) -> Vec<TokenCount> {
    let mut counts = BTreeMap::new();
    for (cell, &token) in canvas.cells().iter().zip(canvas.tokens()) {
        let count = counts.entry(token).or_insert(TokenCount { token, given: 0, generated: 0 });
        match cell {
            Cell::Fixed => count.given += 1,
            Cell::Committed => count.generated += 1,
            Cell::Masked => {}
        }
    }
    counts.into_values().filter(|count| count.given + count.generated > 0).collect()
}
