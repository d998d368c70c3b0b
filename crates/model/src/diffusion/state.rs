//! One sample between two evaluations, and one step of it as a pure function: `prepare` writes the next reads, and the
//! course chooses what is committed of them.

mod prepare;
mod shown;

use std::borrow::Cow;

use self::shown::blocks;
use super::cache::Frozen;
use super::canvas::Canvas;
use super::course::{Course, candidates};
use super::policy::Revise;
use super::sample::Sample;
use super::spec::{self, Commit, EarlyExit, Edit, Span, StateSpec};
use crate::error::CanvasError;
use crate::predictor::{
    Ask, Context, Guidance, ModelLimits, Position, Read, Sampling, TokenCount, TokenId, Visibility, Want,
};

/// One sample: its canvas, its decision rule, and everything else that it remembers between two evaluations.
///
/// [`Self::ask`] says what the next evaluation must read, and [`Self::act`] takes the answers and commits
/// tokens. All decisions are a function of the [`StateSpec`] and the answers: random numbers are addressed by
/// seed, sample, round and position. Between two evaluations a state can be kept, moved or dropped at no
/// cost.
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
    sample: Sample,
    course: Course,
    /// Those of the request, and where the most probable token is wanted each again at temperature 0.
    samplings: Vec<Sampling>,
    /// The number of them that are the request's.
    settings: u32,
    allowed: Vec<Vec<TokenId>>,
    spans: Vec<Span>,
    /// True if position 0 stays when the condition is taken away.
    keeps_first: bool,
    guidance: Option<f64>,
    alternatives: usize,
    drafts: bool,
    /// True if the block with the end of a document is finished before the sample ends.
    finish_block: bool,
    early_exit: Option<EarlyExit>,
    /// True if the pending evaluation commits everything that is open.
    last: bool,
    wants: Vec<Want>,
    /// Positions of the pending ask that are read for the draft alone, ascending.
    guessed: Vec<Position>,
    /// The tokens that the last evaluation would have put at the positions that stayed open.
    draft: Vec<(Position, TokenId)>,
    /// For the pending ask: the canvas without its condition, and the tokens on it.
    unconditional: Vec<TokenId>,
    counts: Vec<TokenCount>,
}

impl DenoisingState {
    /// Prepares a sample; all that needs no network is drawn here.
    ///
    /// # Errors
    /// Those of [`Canvas::new`] and [`Policy::check`](super::Policy::check); also an open position 0 that nothing can fill, and a window that is neither
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
        let reads_before = limits.shift && matches!(limits.visibility, Visibility::BlockCausal { .. });
        let sample = Sample {
            blocks: blocks(canvas.open_positions().collect(), spec.policy.window, limits)?,
            canvas,
            window: spec.policy.window,
            noise: spec.noise,
            first_token,
            first_due: false,
            reads_before,
            frozen: Frozen::new(spec.kv_cache, limits.visibility, limits.shift),
            round: 0,
            evaluations: 0,
            unreported: Vec::new(),
        };
        let mut samplings = spec::checked_samplings(spec.samplings);
        let settings = samplings.len() as u32;
        if spec.drafts || reads_before {
            let greedy = |sampling: &Sampling| Sampling { temperature: 0.0, ..sampling.clone() };
            samplings.extend(samplings.iter().map(greedy).collect::<Vec<_>>());
        }
        let late_stop = matches!(spec.policy.revise, Revise::Edit { early_stop: false, .. });
        let mut state = Self {
            course: Course::new(spec.policy, spec.redraw_masks, &sample),
            sample,
            samplings,
            settings,
            allowed: spec.allowed,
            spans: spec::within(spec.spans, length),
            keeps_first: limits.shift,
            guidance: spec.guidance.filter(|weight| *weight != 0.0),
            alternatives: spec.alternatives,
            drafts: spec.drafts,
            finish_block: spec.finish_block || late_stop,
            early_exit: None,
            last: false,
            wants: Vec::new(),
            guessed: Vec::new(),
            draft: Vec::new(),
            unconditional: Vec::new(),
            counts: Vec::new(),
        };
        state.prepare();
        // A single evaluation has nothing to keep for.
        if state.evaluations_left() <= 1 {
            state.sample.frozen = state.sample.frozen.filter(Frozen::is_exact);
        }
        Ok(state)
    }

    /// The reads of the next evaluation; `None` when this sample is done.
    #[must_use]
    pub fn ask(&self) -> Option<Ask<'_>> {
        let shown = self.shown();
        let unconditional = self.unconditional.get(..shown.end).unwrap_or_default();
        let guidance = self.guidance.map(|weight| Guidance { tokens: unconditional, weight });
        let tokens = &self.sample.canvas.tokens()[..shown.end];
        let ask = Ask {
            tokens,
            context: self.sample.frozen.as_ref().map_or(Context::Fresh, Frozen::context),
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
        self.sample.evaluations += 1;
        let mut edits = std::mem::take(&mut self.sample.unreported);
        let taken_back = if self.last { Vec::new() } else { self.course.taken_back(&self.sample) };
        let thought = |(want, read): (&Want, &Read)| (want.position, read.token);
        let thoughts = self.wants.iter().zip(reads).filter(|_| self.drafts);
        self.draft = thoughts.map(thought).collect();
        let asked = self.set_guesses_aside(reads);
        edits.extend(self.commits(&asked).into_iter().map(Edit::Commit));
        self.sample.commit_first();
        edits.extend(taken_back.into_iter().map(Edit::Remask));
        for edit in &edits {
            self.apply(edit);
        }
        let canvas = &self.sample.canvas;
        self.draft.retain(|(position, _)| canvas.is_open(*position));
        if self.last {
            self.wants.clear();
        } else {
            self.prepare();
        }
        edits
    }

    /// The part of the answers that the course commits.
    fn commits(&mut self, reads: &[Read]) -> Vec<Commit> {
        let mut found = candidates(&self.wants, reads);
        if !self.last {
            self.course.commit(&mut self.sample, &mut found);
        }
        if self.course.redraws() {
            let mask = self.sample.canvas.mask_token();
            found.retain(|candidate| candidate.read.token != mask);
        }
        found.sort_by_key(|candidate| candidate.position);
        found.iter().map(|candidate| Commit::new(candidate.position, candidate.read)).collect()
    }

    fn apply(&mut self, edit: &Edit) {
        let canvas = &mut self.sample.canvas;
        let position = match edit {
            Edit::Commit(Commit { position, token, .. }) => {
                if canvas.is_open(*position) {
                    canvas.commit(*position, *token);
                } else {
                    canvas.replace(*position, *token);
                }
                *position
            }
            Edit::Remask(position) => {
                canvas.remask(*position);
                *position
            }
        };
        self.sample.touch(position);
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
        &self.sample.canvas
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
        self.sample.round
    }

    /// Evaluations that this sample has used.
    #[must_use]
    pub fn evaluations(&self) -> u32 {
        self.sample.evaluations
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
        self.course.left(&self.sample)
    }
}
