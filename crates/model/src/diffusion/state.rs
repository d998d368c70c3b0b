//! One sample's memory between evaluations, and one step of it as a pure function: `prepare` writes the next
//! reads, and `decide` chooses what is committed of them.

mod block;
mod decide;
mod prepare;
mod times;

use std::borrow::Cow;
use std::ops::Range;

use self::block::BlockAtWork;
use super::blocks::Blocks;
use super::cache::Frozen;
use super::canvas::Canvas;
use super::noise::Noise;
use super::policy::{Order, Policy, Quota, Revise, Window};
use super::schedule::plan;
use super::spec::{self, Commit, EarlyExit, Edit, Span, StateSpec};
use crate::error::{CanvasError, PolicyError};
use crate::predictor::{
    Ask, Context, Guidance, ModelLimits, Position, Read, Sampling, TokenCount, TokenId, Visibility, Want,
    Work,
};

/// One sample: its canvas, its decision rule, and everything else that it remembers between two evaluations.
///
/// [`Self::ask`] says what the next evaluation must read, and [`Self::act`] takes the answers and commits
/// tokens. All decisions are a function of the [`StateSpec`] and the answers: random numbers are addressed by
/// seed, sample, round and position. Between two evaluations a state can be kept, moved or dropped at no
/// cost; attention is bidirectional, so there is no cache.
///
/// ```
/// use unmask_model::diffusion::{DenoisingState, Noise, Policy, StateSpec};
/// use unmask_model::predictor::{ModelLimits, Read, Visibility};
///
/// let limits = ModelLimits { vocabulary: 100, context: 8, mask_token: 99, shift: false, visibility: Visibility::Full };
/// let spec = StateSpec {
///     given: vec![Some(7), None, None],
///     policy: Policy::reference(64),
///     noise: Noise::Keyed { seed: 1, sample: 0 },
///     ..StateSpec::default()
/// };
/// let mut state = DenoisingState::new(spec, &limits)?;
/// while let Some(ask) = state.ask() {
///     // A network would answer here; this one always says 5.
///     let reads = vec![Read { token: 5, ..Read::default() }; ask.wants.len()];
///     state.act(&reads);
/// }
/// assert_eq!(state.canvas().tokens(), [7, 5, 5]);
/// assert!(state.evaluations() <= 2, "empty rounds of the 64 are skipped");
/// # Ok::<(), unmask_model::error::CanvasError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DenoisingState {
    canvas: Canvas,
    /// Those of the request, and where the most probable token is wanted each again at temperature 0.
    samplings: Vec<Sampling>,
    /// The number of them that are the request's.
    settings: u32,
    allowed: Vec<Vec<TokenId>>,
    spans: Vec<Span>,
    policy: Policy,
    noise: Noise,
    first_token: Option<TokenId>,
    /// True if position 0 stays when the condition is taken away.
    keeps_first: bool,
    /// True if a drawn mask leaves its position open.
    redraws: bool,
    guidance: Option<f64>,
    alternatives: usize,
    drafts: bool,
    /// True if the first position of a block of attention is read in the block before: there is a shift.
    reads_before: bool,
    /// Positions of the pending ask that are read for the draft alone, ascending.
    guessed: Vec<Position>,
    /// The tokens that the last evaluation would have put at the positions that stayed open.
    draft: Vec<(Position, TokenId)>,
    /// The positions to generate.
    blocks: Blocks,
    /// The blocks, where they are filled one after another.
    at_work: BlockAtWork,
    /// True if the block with the end of a document is finished before the sample ends.
    finish_block: bool,
    /// Planned orders: what is still to come, the next member last.
    plan: Vec<(u32, Position)>,
    round: u32,
    evaluations: u32,
    early_exit: Option<EarlyExit>,
    /// True if the pending evaluation commits everything that is open.
    last: bool,
    wants: Vec<Want>,
    /// For the pending ask: the canvas without its condition, and the tokens on it.
    unconditional: Vec<TokenId>,
    counts: Vec<TokenCount>,
    /// True if position 0 is committed with the pending round; it is not asked for.
    first_due: bool,
    /// True if the pending evaluation commits the first position of its block alone.
    alone: bool,
    /// The keys and values kept between evaluations, if any are.
    frozen: Option<Frozen>,
    /// Edits that needed no evaluation; they are reported with the next one.
    unreported: Vec<Edit>,
}

impl DenoisingState {
    /// Prepares a sample; all that needs no network is drawn here.
    ///
    /// # Errors
    /// Those of [`Canvas::new`] and [`Policy::check`]; also an open position 0 that nothing can fill, and a window that is neither
    /// the blocks of a network whose attention is causal between blocks nor equal parts of them.
    pub fn new(spec: StateSpec, limits: &ModelLimits) -> Result<Self, CanvasError> {
        spec.policy.check()?;
        let canvas = Canvas::new(spec.given.iter().copied(), limits)?;
        let length = canvas.tokens().len();
        let first_token = spec.first_token.filter(|_| limits.shift);
        if limits.shift && canvas.is_open(0) && first_token.is_none() && !spec.reads_first {
            return Err(CanvasError::FirstPositionOpen);
        }
        if let Some(id) = first_token.filter(|id| *id as usize >= limits.vocabulary) {
            return Err(CanvasError::TokenOutOfVocabulary { id, rows: limits.vocabulary });
        }
        let Policy { window, order, quota, revise } = spec.policy;
        let blocks = blocks(canvas.open_positions().collect(), window, limits)?;
        let planned = !matches!(order, Order::Score(_)) && revise == Revise::None;
        let mut plan = if planned { plan(&blocks, order, quota, &spec.noise) } else { Vec::new() };
        plan.reverse();
        let mut samplings = spec::checked_samplings(spec.samplings);
        let settings = samplings.len() as u32;
        let reads_before = limits.shift && matches!(limits.visibility, Visibility::BlockCausal { .. });
        if spec.drafts || reads_before {
            let greedy = |sampling: &Sampling| Sampling { temperature: 0.0, ..sampling.clone() };
            samplings.extend(samplings.iter().map(greedy).collect::<Vec<_>>());
        }
        let mut state = Self {
            canvas,
            samplings,
            settings,
            allowed: spec.allowed,
            spans: spec::within(spec.spans, length),
            policy: spec.policy,
            noise: spec.noise,
            first_token,
            keeps_first: limits.shift,
            redraws: spec.redraw_masks
                && !planned
                && matches!(quota, Quota::Times(_) | Quota::Evaluations(_)),
            guidance: spec.guidance.filter(|weight| *weight != 0.0),
            alternatives: spec.alternatives,
            drafts: spec.drafts,
            reads_before,
            guessed: Vec::new(),
            draft: Vec::new(),
            blocks,
            at_work: BlockAtWork::default(),
            finish_block: spec.finish_block || matches!(revise, Revise::Edit { early_stop: false, .. }),
            plan,
            round: 0,
            evaluations: 0,
            early_exit: None,
            last: false,
            wants: Vec::new(),
            unconditional: Vec::new(),
            counts: Vec::new(),
            first_due: false,
            alone: false,
            frozen: Frozen::new(spec.kv_cache, limits.visibility, limits.shift),
            unreported: Vec::new(),
        };
        state.prepare();
        // A single evaluation has nothing to keep for.
        if state.evaluations_left() <= 1 {
            state.frozen = state.frozen.filter(Frozen::is_exact);
        }
        Ok(state)
    }

    /// The reads of the next evaluation; `None` when this sample is done.
    #[must_use]
    pub fn ask(&self) -> Option<Ask<'_>> {
        let shown = self.shown();
        let unconditional = self.unconditional.get(..shown.end).unwrap_or_default();
        let guidance = self.guidance.map(|weight| Guidance { tokens: unconditional, weight });
        let tokens = &self.canvas.tokens()[..shown.end];
        let ask = Ask {
            tokens,
            context: self.frozen.as_ref().map_or(Context::Fresh, Frozen::context),
            wants: &self.wants,
            samplings: &self.samplings,
            allowed: &self.allowed,
            counts: &self.counts,
            guidance,
            alternatives: self.alternatives,
        };
        (!self.wants.is_empty()).then_some(ask)
    }

    /// Takes the answers to [`Self::ask`], one per want in order, and commits what the policy decides.
    /// A position 0 that only `first_token` can fill is committed without being reported: it was not
    /// drawn, and the reference drops it from what it returns.
    pub fn act(&mut self, reads: &[Read]) -> Vec<Edit> {
        debug_assert_eq!(reads.len(), self.wants.len(), "one read per want");
        self.evaluations += 1;
        let mut edits = std::mem::take(&mut self.unreported);
        let taken_back = if self.last { Vec::new() } else { self.remasks() };
        let thought = |(want, read): (&Want, &Read)| (want.position, read.token);
        let thoughts = self.wants.iter().zip(reads).filter(|_| self.drafts);
        self.draft = thoughts.map(thought).collect();
        let asked = self.set_guesses_aside(reads);
        let mask = self.canvas.mask_token();
        let commits = self.commits(&asked);
        let full = self.block_is_full();
        let mut changed = false;
        for commit in commits.into_iter().filter(|commit| !self.redraws || commit.token != mask) {
            if self.canvas.is_open(commit.position) {
                self.canvas.commit(commit.position, commit.token);
            } else {
                self.canvas.replace(commit.position, commit.token);
                changed = true;
            }
            edits.push(Edit::Commit(commit));
        }
        if !self.reads_block_before() {
            self.at_work.evaluated(full, changed);
        }
        self.commit_first();
        for position in taken_back {
            self.canvas.remask(position);
            edits.push(Edit::Remask(position));
        }
        for edit in &edits {
            let (Edit::Commit(Commit { position, .. }) | Edit::Remask(position)) = edit;
            self.touch(*position);
        }
        let canvas = &self.canvas;
        self.draft.retain(|(position, _)| canvas.is_open(*position));
        if self.last {
            self.wants.clear();
        } else {
            self.prepare();
        }
        edits
    }

    /// Leaves only the wants that the policy asked for, and returns their reads.
    fn set_guesses_aside<'a>(&mut self, reads: &'a [Read]) -> Cow<'a, [Read]> {
        if self.guessed.is_empty() {
            return Cow::Borrowed(reads);
        }
        let guessed = &self.guessed;
        let asked = |want: &Want| guessed.binary_search(&want.position).is_err();
        let kept = self.wants.iter().zip(reads).filter(|(want, _)| asked(want)).map(|(_, read)| read.clone());
        let kept = kept.collect();
        self.wants.retain(asked);
        Cow::Owned(kept)
    }

    /// With drafts, the tokens that the last evaluation would have put at the positions that are still open.
    #[must_use]
    pub fn draft(&self) -> &[(Position, TokenId)] {
        &self.draft
    }

    /// Ends the sample although positions are masked: what is wanted of it is settled.
    pub fn stop(&mut self) {
        if !self.wants.is_empty() {
            self.early_exit = Some(EarlyExit::Stop);
            self.wants.clear();
        }
    }

    /// Makes the next evaluation the last one: it reads every open position and commits them all at once,
    /// as a policy of one step would. Its random numbers are those of the pending round, so the text is a
    /// function of the seed and of the moment this is called.
    pub fn finish_next(&mut self) {
        if !self.wants.is_empty() && !self.last {
            self.last = true;
            self.early_exit = Some(EarlyExit::TimeBudget);
            self.prepare();
        }
    }

    /// The canvas as it stands.
    #[must_use]
    pub fn canvas(&self) -> &Canvas {
        &self.canvas
    }

    /// The reason for an end before the schedule's, if there was one.
    #[must_use]
    pub fn early_exit(&self) -> Option<EarlyExit> {
        self.early_exit
    }

    /// The round that the pending ask belongs to, from 1: the planned round of its positions, the step of
    /// a reviser, or the number of the evaluation.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.round
    }

    /// Evaluations that this sample has used.
    #[must_use]
    pub fn evaluations(&self) -> u32 {
        self.evaluations
    }

    /// The most evaluations that this sample can still use: exact for planned rounds, a bound for others.
    #[must_use]
    pub fn evaluations_left(&self) -> u32 {
        if self.wants.is_empty() {
            return 0;
        }
        if self.last {
            return 1;
        }
        let masked = self.canvas.masked() as u32;
        match (self.policy.quota, self.policy.order) {
            (Quota::Labels(steps), _) if self.policy.revise != Revise::None => steps - self.round + 1,
            (Quota::PerBlock { steps, .. }, _) => self.block_evaluations_left(steps),
            (Quota::Entropy(_), Order::Permutation) => masked,
            (_, Order::Labels | Order::Stratified | Order::Permutation) => {
                let costs = |round: &[(u32, Position)]| round.iter().any(|member| !self.is_first(member.1));
                1 + self.plan.chunk_by(|a, b| a.0 == b.0).filter(|round| costs(round)).count() as u32
            }
            (Quota::Times(steps), _) => self.times_left(steps),
            (Quota::Kept(steps), _) => steps - self.evaluations,
            (Quota::Evaluations(total), Order::Score(_)) if self.redraws => {
                let later = self.round + 1..=self.rounds(total);
                1 + later.filter(|round| self.part_at(*round) > 0).count() as u32
            }
            _ => masked,
        }
    }

    /// The positions of the block that is asked about; the network is shown those before it as well. The whole canvas where
    /// the network's attention knows no blocks.
    fn shown(&self) -> Range<usize> {
        let length = self.canvas.tokens().len();
        if self.reads_block_before() {
            return 0..self.wants[0].position as usize + 1;
        }
        let block = self.wants.first().map(|want| self.blocks.of(want.position));
        block.map_or(0..length, |block| self.blocks.span(block, length))
    }

    /// Returns true if the pending evaluation is about the first position of a block of attention alone, whose row is in
    /// the block before.
    fn reads_block_before(&self) -> bool {
        self.reads_before && matches!(&self.wants[..], [want] if self.blocks.is_behind_block(want.position))
    }

    /// Returns true if keys and values are kept between evaluations.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.frozen.is_some()
    }

    /// The work left to compute, as far as it is known now; a bound for rules that may end early.
    #[must_use]
    pub fn work_left(&self) -> Work {
        let Some(ask) = self.ask() else { return Work::default() };
        let left = self.evaluations_left();
        let (Some(frozen), Context::Frozen { as_of, .. }) = (&self.frozen, ask.context) else {
            return Work::of(&ask, 0).times(left);
        };
        let refresh = Work { rows: as_of.len() as u64, pairs: Work::canvas(as_of.len()).pairs };
        Work::of(&ask, as_of.len()).times(left) + refresh.times(frozen.refreshes(left))
    }

    /// Notes that the token at a position changed.
    fn touch(&mut self, position: Position) {
        if let Some(frozen) = &mut self.frozen {
            frozen.touch(position);
        }
    }

    /// Returns true for the position that only `first_token` can fill.
    fn is_first(&self, position: Position) -> bool {
        position == 0 && self.first_token.is_some()
    }

    fn commit_first(&mut self) {
        if let Some(token) = self.first_token.filter(|_| self.first_due) {
            self.canvas.commit(0, token);
            self.touch(0);
        }
        self.first_due = false;
    }
}

/// The blocks in which the positions to generate are filled; one where the window has none.
fn blocks(targets: Vec<Position>, window: Window, limits: &ModelLimits) -> Result<Blocks, PolicyError> {
    match (limits.visibility, window) {
        (Visibility::BlockCausal { block }, Window::Block(size)) if block.is_multiple_of(size) => {
            Ok(Blocks::of_positions(targets, size, block))
        }
        (Visibility::BlockCausal { .. }, _) => {
            Err(PolicyError::Conflict { first: "window", second: "attention" })
        }
        (Visibility::Full, Window::Block(size)) => Ok(Blocks::of_targets(targets, size)),
        (Visibility::Full, Window::All | Window::Sliding(_) | Window::LeftToRight) => {
            let count = targets.len();
            Ok(Blocks::of_targets(targets, count))
        }
    }
}
