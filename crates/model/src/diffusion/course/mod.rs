//! The courses that decision rules take: which positions each evaluation reads, and which of them it commits.
//!
//! A [`Policy`] is what a request says; its course is what the sample does. Every course has the same three parts: the
//! positions of the next evaluation, the commits among them, and the evaluations that are left.
//!
//! | course | order | quota |
//! | --- | --- | --- |
//! | [`PlannedRounds`] | `IndependentRounds`, `Stratified`, `Permutation` | `OwnRound`, `Count`, `Evaluations`, `Balanced` |
//! | [`LookAhead`] | `Permutation` | `Entropy` |
//! | [`Ranked`] | `Score` | `Count`, `Evaluations`, `Balanced`, `Threshold`, `Factor`, `Entropy` |
//! | [`Scheduled`] | `Score` | `DreamSchedule`; `Evaluations` where drawn masks are drawn again |
//! | [`ReferenceTopK`] | `Score` | `ReferenceTopK` |
//! | [`InBlocks`] | `Score` | `PerBlock`, with or without edits |
//! | [`Remasking`] | `IndependentRounds` | `OwnRound`, with a reviser |
//!
//! A further rule is a variant of [`Quota`] or [`Order`] in `policy.rs`, and its lines in the course that it takes.

mod in_blocks;
mod planned;
mod ranked;
mod remasking;
mod scheduled;
mod top_k;

use self::in_blocks::InBlocks;
use self::planned::{LookAhead, PlannedRounds};
use self::ranked::Ranked;
pub(super) use self::ranked::{Candidate, candidates};
use self::remasking::Remasking;
use self::scheduled::{Curve, Scheduled};
use self::top_k::ReferenceTopK;
use super::policy::{Order, Policy, Quota, Revise, Window};
use super::sample::Sample;
use crate::predictor::Position;

/// The positions that the next evaluation reads; none when there is no next one.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) positions: Vec<Position>,
    /// True if the most probable token is taken whatever the temperature.
    pub(super) most_probable: bool,
}

impl Reading {
    fn of(positions: Vec<Position>) -> Self {
        Self { positions, most_probable: false }
    }
}

/// The course of one sample, with its state between evaluations.
#[derive(Clone, Debug)]
pub(super) enum Course {
    Planned(PlannedRounds),
    LookAhead(LookAhead),
    Ranked(Ranked),
    Scheduled(Scheduled),
    TopK(ReferenceTopK),
    InBlocks(InBlocks),
    Remasking(Remasking),
}

impl Course {
    /// The course of a checked policy; what needs no network is drawn here. `redraws`: a drawn mask leaves its position
    /// open, if the number of evaluations is fixed.
    pub(super) fn new(policy: Policy, redraws: bool, sample: &Sample) -> Self {
        let Sample { blocks, noise, .. } = sample;
        match (policy.order, policy.quota, policy.revise) {
            (_, Quota::OwnRound(steps), Revise::Cap(_) | Revise::Rescale(_) | Revise::Loop(_)) => {
                Self::Remasking(Remasking::new(policy.revise, steps))
            }
            (Order::Score(score), Quota::PerBlock { steps, threshold }, revise) => {
                Self::InBlocks(InBlocks::new(score, steps, threshold, revise))
            }
            (Order::Score(_), Quota::ReferenceTopK(steps), _) => Self::TopK(ReferenceTopK::new(steps)),
            (Order::Score(score), Quota::DreamSchedule(steps), _) => {
                Self::Scheduled(Scheduled::new(score, Curve::Dream, steps, redraws))
            }
            (Order::Score(score), Quota::Evaluations(steps), _) if redraws => {
                Self::Scheduled(Scheduled::new(score, Curve::Even, steps, redraws))
            }
            (Order::Score(score), quota, _) => Self::Ranked(Ranked::new(score, quota)),
            (Order::Permutation, Quota::Entropy(budget), _) => {
                Self::LookAhead(LookAhead::new(blocks, budget, noise))
            }
            (order, quota, _) => Self::Planned(PlannedRounds::new(blocks, order, quota, noise)),
        }
    }

    /// The reads of the next evaluation. Sets the sample's round; what needs no evaluation happens here.
    pub(super) fn next(&mut self, sample: &mut Sample) -> Reading {
        match self {
            Self::Planned(course) => course.next(sample),
            Self::LookAhead(course) => course.next(sample),
            Self::Ranked(_) => Ranked::next(sample),
            Self::Scheduled(course) => course.next(sample),
            Self::TopK(_) => ReferenceTopK::next(sample),
            Self::InBlocks(course) => course.next(sample),
            Self::Remasking(course) => course.next(sample),
        }
    }

    /// Leaves in `found`, which holds all that was read, ascending, what is committed.
    pub(super) fn commit(&mut self, sample: &mut Sample, found: &mut Vec<Candidate<'_>>) {
        match self {
            Self::Planned(_) | Self::Remasking(_) => {}
            Self::LookAhead(course) => course.commit(found),
            Self::Ranked(course) => course.commit(sample, found),
            Self::Scheduled(course) => course.commit(sample, found),
            Self::TopK(course) => course.commit(sample, found),
            Self::InBlocks(course) => course.commit(sample, found),
        }
    }

    /// Most evaluations that are left, the pending one included: exact for planned rounds, a bound for others.
    pub(super) fn left(&self, sample: &Sample) -> u32 {
        match self {
            Self::Planned(course) => course.left(sample),
            Self::LookAhead(_) | Self::Ranked(_) => sample.canvas.masked() as u32,
            Self::Scheduled(course) => course.left(sample),
            Self::TopK(course) => course.left(sample),
            Self::InBlocks(course) => course.left(sample),
            Self::Remasking(course) => course.left(sample),
        }
    }

    /// The committed positions that the pending evaluation takes back.
    pub(super) fn taken_back(&self, sample: &Sample) -> Vec<Position> {
        match self {
            Self::Remasking(course) => course.taken_back(sample),
            _ => Vec::new(),
        }
    }

    /// Goes on to the next block if the one at work is finished. Returns whether a block has just ended.
    pub(super) fn next_block(&mut self, sample: &Sample) -> bool {
        match self {
            Self::InBlocks(course) => course.next_block(sample),
            _ => false,
        }
    }

    /// True if the course says when position 0 gets a token that the network cannot predict; it has it from the start
    /// otherwise. Only `OwnRound` without a reviser and `ReferenceTopK` do.
    pub(super) fn places_first(&self) -> bool {
        match self {
            Self::Planned(course) => course.places_first,
            Self::TopK(_) => true,
            _ => false,
        }
    }

    /// True if a drawn mask leaves its position open.
    pub(super) fn redraws(&self) -> bool {
        matches!(self, Self::Scheduled(course) if course.redraws)
    }

    /// True if committed positions may become masks again.
    pub(super) fn remasks(&self) -> bool {
        matches!(self, Self::Remasking(_))
    }

    /// True if committed tokens may give way to others.
    pub(super) fn edits(&self) -> bool {
        matches!(self, Self::InBlocks(course) if course.edits())
    }
}

impl Policy {
    /// Most evaluations that this rule takes for `open` neighbouring positions to generate, whatever is drawn.
    #[must_use]
    pub fn most_evaluations(&self, open: u64) -> u64 {
        match (self.quota, self.window, self.revise) {
            (Quota::ReferenceTopK(steps), ..) => u64::from(steps),
            (Quota::OwnRound(steps), _, Revise::Cap(_) | Revise::Rescale(_) | Revise::Loop(_)) => {
                u64::from(steps)
            }
            (Quota::OwnRound(steps), Window::All, _) => open.min(u64::from(steps)),
            (Quota::PerBlock { .. }, Window::Block(size), Revise::Edit { post, .. }) => {
                open + (open.div_ceil(size as u64) + 1) * u64::from(post)
            }
            _ => open,
        }
    }
}
