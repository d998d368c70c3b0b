//! One sample's memory between evaluations, and one step of it as a pure function.

use std::ops::Range;

use super::canvas::Canvas;
use super::noise::Noise;
use super::policy::{Order, Policy};
use super::schedule::{draw_round, positions_kept_open};
use crate::error::CanvasError;
use crate::predictor::{Ask, ModelLimits, Position, Read, Sampling, TokenId, Want};

/// What a sample starts from.
#[derive(Clone, Debug)]
pub struct StateSpec {
    /// One entry per position: a given token, or `None` to generate one.
    pub given: Vec<Option<TokenId>>,
    /// The settings in use.
    pub samplings: Vec<Sampling>,
    /// Which of `samplings` each stretch of the canvas follows; positions outside follow the first.
    pub spans: Vec<(Range<usize>, u32)>,
    /// The decision rule.
    pub policy: Policy,
    /// The random numbers.
    pub noise: Noise,
    /// What an open position 0 becomes when its round comes, for models with shift, whose head cannot
    /// predict it. The reference puts the caller's own id there. `None` refuses such a canvas.
    pub first_token: Option<TokenId>,
}

/// One change to a canvas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edit {
    /// Where.
    pub position: Position,
    /// The token committed there.
    pub token: TokenId,
    /// Its log-probability (nats) under the distribution it was drawn from.
    pub score: f32,
    /// Its log-probability (nats) under the model, before temperature and filters.
    pub logprob: f32,
}

/// Everything one sample remembers. Between two steps it can be kept, moved or dropped at no cost:
/// attention is bidirectional, so there is nothing cached to keep in step with it.
#[derive(Clone, Debug)]
pub struct DenoisingState {
    canvas: Canvas,
    samplings: Vec<Sampling>,
    sampling_of: Vec<u32>,
    steps: u32,
    noise: Noise,
    first_token: Option<TokenId>,
    plan: Plan,
    round: u32,
    evaluations: u32,
    wants: Vec<Want>,
    /// Whether position 0 is committed with the pending round; it is not asked for.
    first_due: bool,
}

/// What is still to come, by order.
#[derive(Clone, Debug)]
enum Plan {
    /// Positions with their rounds, the latest round first, so that the next one is at the end.
    Rounds(Vec<(u32, Position)>),
    /// The positions that were open at the start: all of them are ranked at every evaluation.
    Ranking(Vec<Position>),
}

impl DenoisingState {
    /// Prepares a sample; the rounds of a planned order are drawn here.
    ///
    /// # Errors
    /// As [`Canvas::new`]; also zero steps, and an open position 0 that nothing can fill.
    pub fn new(spec: StateSpec, limits: &ModelLimits) -> Result<Self, CanvasError> {
        let StateSpec { given, samplings, spans, policy, noise, first_token } = spec;
        let canvas = Canvas::new(given, limits)?;
        if policy.steps == 0 {
            return Err(CanvasError::NoSteps);
        }
        let first_token = first_token.filter(|_| limits.shift);
        if limits.shift && canvas.is_open(0) && first_token.is_none() {
            return Err(CanvasError::FirstPositionOpen);
        }
        if let Some(id) = first_token.filter(|id| *id as usize >= limits.vocabulary) {
            return Err(CanvasError::TokenOutOfVocabulary { id, rows: limits.vocabulary });
        }
        let mut sampling_of = vec![0; canvas.tokens().len()];
        for (range, sampling) in spans {
            let end = range.end.min(sampling_of.len());
            sampling_of[range.start.min(end)..end].fill(sampling.min(samplings.len().max(1) as u32 - 1));
        }
        let plan = match policy.order {
            Order::Random => {
                let mut rounds: Vec<_> = canvas
                    .open_positions()
                    .map(|position| (draw_round(&noise, policy.steps, position), position))
                    .collect();
                rounds.sort_unstable_by(|a, b| b.cmp(a));
                Plan::Rounds(rounds)
            }
            Order::Confidence => Plan::Ranking(canvas.open_positions().collect()),
        };
        let samplings = if samplings.is_empty() { vec![Sampling::default()] } else { samplings };
        let mut state = Self {
            canvas,
            samplings,
            sampling_of,
            steps: policy.steps,
            noise,
            first_token,
            plan,
            round: 0,
            evaluations: 0,
            wants: Vec::new(),
            first_due: false,
        };
        state.prepare();
        Ok(state)
    }

    /// What the next evaluation must read, or `None` when nothing is masked any more.
    #[must_use]
    pub fn ask(&self) -> Option<Ask<'_>> {
        let ask = Ask { tokens: self.canvas.tokens(), wants: &self.wants, samplings: &self.samplings };
        (!self.wants.is_empty()).then_some(ask)
    }

    /// Takes the answers to [`Self::ask`], one per want in order, and commits what the policy decides.
    /// A position 0 that only `first_token` can fill is committed without being reported: it was not
    /// drawn, and the reference drops it from what it returns.
    pub fn act(&mut self, reads: &[Read]) -> Vec<Edit> {
        debug_assert_eq!(reads.len(), self.wants.len(), "one read per want");
        self.evaluations += 1;
        let mut edits: Vec<Edit> =
            self.wants.iter().zip(reads).map(|(want, read)| edit(want.position, read)).collect();
        if let Plan::Ranking(start) = &self.plan {
            let cut = self.cut(start, &edits);
            edits.retain(|edit| edit.score >= cut && self.canvas.is_open(edit.position));
            // Position 0 shares the score of row 0, which reads position 1.
            self.first_due = self.first_token.is_some() && reads.first().is_none_or(|read| read.score >= cut);
        }
        for edit in &edits {
            self.canvas.commit(edit.position, edit.token);
        }
        self.commit_first();
        self.prepare();
        edits
    }

    /// The canvas as it stands.
    #[must_use]
    pub fn canvas(&self) -> &Canvas {
        &self.canvas
    }

    /// The round that the pending ask belongs to, 1..=T: its label for a planned order, the number of
    /// the evaluation for a score order.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.round
    }

    /// How many evaluations this sample has consumed.
    #[must_use]
    pub fn evaluations(&self) -> u32 {
        self.evaluations
    }

    /// How many evaluations this sample can still consume: exact for planned orders.
    #[must_use]
    pub fn evaluations_left(&self) -> u32 {
        if self.wants.is_empty() {
            return 0;
        }
        let costs = |round: &[(u32, Position)]| round.iter().any(|&(_, position)| !self.is_first(position));
        match &self.plan {
            Plan::Rounds(rounds) => {
                1 + rounds.chunk_by(|a, b| a.0 == b.0).filter(|round| costs(round)).count() as u32
            }
            Plan::Ranking(_) => self.steps - self.evaluations,
        }
    }

    /// Whether `position` is the one that only `first_token` can fill.
    fn is_first(&self, position: Position) -> bool {
        position == 0 && self.first_token.is_some()
    }

    fn commit_first(&mut self) {
        if let Some(token) = self.first_token.filter(|_| self.first_due) {
            self.canvas.commit(0, token);
        }
        self.first_due = false;
    }

    /// Writes the wants of the next evaluation; none when nothing is masked.
    fn prepare(&mut self) {
        self.wants.clear();
        match self.plan {
            Plan::Rounds(_) => self.prepare_round(),
            Plan::Ranking(_) if self.canvas.masked() > 0 => self.prepare_ranking(),
            Plan::Ranking(_) => {}
        }
    }

    fn prepare_round(&mut self) {
        while self.wants.is_empty() {
            // A round that held position 0 alone needed no evaluation: its token is known.
            self.commit_first();
            let Plan::Rounds(rounds) = &mut self.plan else { return };
            let Some(&(round, _)) = rounds.last() else { return };
            let members = rounds.partition_point(|member| member.0 > round);
            let members = rounds.split_off(members);
            self.round = round;
            for &(_, position) in members.iter().rev() {
                if self.is_first(position) {
                    self.first_due = true;
                } else {
                    self.wants.push(want(&self.noise, round, position, &self.sampling_of));
                }
            }
        }
    }

    fn prepare_ranking(&mut self) {
        let Plan::Ranking(start) = &self.plan else { return };
        let mut positions = start.clone();
        if positions.first().is_some_and(|&position| self.is_first(position)) {
            // Position 0 has no row of its own; row 0 reads position 1.
            positions.remove(0);
            if positions.first() != Some(&1) && self.canvas.tokens().len() > 1 {
                positions.insert(0, 1);
            }
        }
        if positions.is_empty() {
            self.first_due = true;
            self.commit_first();
            return;
        }
        self.round = self.evaluations + 1;
        self.wants.extend(
            positions.iter().map(|&position| want(&self.noise, self.round, position, &self.sampling_of)),
        );
    }

    /// The score from which on the reference's confidence order commits: every position that was open
    /// at the start is ranked by its fresh score, closed ones too, and those strictly below the cut stay
    /// open. After the last round nothing does.
    fn cut(&self, start: &[Position], fresh: &[Edit]) -> f32 {
        if self.round >= self.steps {
            return f32::NEG_INFINITY;
        }
        let ranked = fresh.iter().filter(|edit| start.binary_search(&edit.position).is_ok());
        let mut scores: Vec<f32> = ranked.map(|edit| edit.score).collect();
        if start.first().is_some_and(|&position| self.is_first(position)) {
            scores.extend(fresh.first().map(|edit| edit.score));
        }
        scores.sort_unstable_by(f32::total_cmp);
        let keep = positions_kept_open(start.len(), self.round, self.steps);
        scores.get(keep).copied().unwrap_or(f32::INFINITY)
    }
}

fn want(noise: &Noise, round: u32, position: Position, sampling_of: &[u32]) -> Want {
    Want { position, sampling: sampling_of[position as usize], uniform: noise.token(round, position) }
}

fn edit(position: Position, read: &Read) -> Edit {
    Edit { position, token: read.token, score: read.score, logprob: read.logprob }
}
