//! The choice of commits and remasks of an evaluation.

use super::DenoisingState;
use crate::diffusion::canvas::Cell;
use crate::diffusion::noise::Purpose;
use crate::diffusion::policy::{Order, Quota, Revise};
use crate::diffusion::remask;
use crate::diffusion::schedule::{
    balanced_evaluations, least_in_block, part_size, positions_kept_open, share,
};
use crate::diffusion::select::{Candidate, candidates, cut, entropy_prefix, is_above, quota, rank};
use crate::diffusion::spec::Commit;
use crate::predictor::{Position, Read};

impl DenoisingState {
    /// The committed positions that the current step of a reviser takes back.
    pub(super) fn remasks(&self) -> Vec<Position> {
        let Quota::Labels(steps) = self.policy.quota else { return Vec::new() };
        if self.policy.revise == Revise::None || self.round == 0 {
            return Vec::new();
        }
        let share = remask::step(self.policy.revise, self.round, steps).remask;
        let number = |position: Position| self.noise.number(Purpose::Decision, self.round, position);
        let committed = |position: Position| self.canvas.cells()[position as usize] == Cell::Committed;
        let targets = self.blocks.targets().iter().copied();
        targets
            .filter(|&position| committed(position) && !self.is_first(position) && number(position) < share)
            .collect()
    }

    /// The commits of this evaluation.
    pub(super) fn commits(&mut self, reads: &[Read]) -> Vec<Commit> {
        let (mut found, filled): (Vec<_>, Vec<_>) = candidates(&self.wants, reads)
            .into_iter()
            .partition(|candidate| !self.fills_blocks() || self.canvas.is_open(candidate.position));
        match (self.policy.order, self.policy.quota) {
            _ if self.last => {}
            (Order::Permutation, Quota::Entropy(budget)) => {
                let place = |position: Position| self.plan.iter().rposition(|member| member.1 == position);
                found.sort_by_key(|candidate| std::cmp::Reverse(place(candidate.position)));
                found.truncate(entropy_prefix(&found, budget));
                self.plan.truncate(self.plan.len() - found.len());
            }
            (Order::Score(_), Quota::Kept(steps)) => {
                let cut = self.cut(reads, steps);
                self.first_due =
                    self.first_token.is_some() && reads.first().is_some_and(|read| read.score >= cut);
                found.retain(|candidate| {
                    candidate.read.score >= cut && self.canvas.is_open(candidate.position)
                });
            }
            (Order::Score(score), rule) => {
                rank(&mut found, score, &self.noise, self.round);
                found.truncate(quota(&found, rule, score.kind, self.part_due(found.len())));
            }
            _ => {}
        }
        found.extend(filled.into_iter().filter(|candidate| self.is_changed(*candidate)));
        found.sort_by_key(|candidate| candidate.position);
        found.iter().map(|candidate| Commit::new(candidate.position, candidate.read)).collect()
    }

    /// Returns true if a committed position takes the token that was drawn at it.
    fn is_changed(&self, candidate: Candidate<'_>) -> bool {
        let (Revise::Edit { threshold, .. }, Order::Score(score)) = (self.policy.revise, self.policy.order)
        else {
            return false;
        };
        let token = candidate.read.token;
        let other = self.canvas.tokens()[candidate.position as usize] != token;
        other && token != self.canvas.mask_token() && is_above(score.kind, candidate.read, threshold)
    }

    /// The threshold of the reference's confidence order; after the last round everything is committed.
    fn cut(&self, reads: &[Read], steps: u32) -> f32 {
        if self.round >= steps {
            return f32::NEG_INFINITY;
        }
        let ranked = self
            .wants
            .iter()
            .zip(reads)
            .filter(|(want, _)| self.blocks.targets().binary_search(&want.position).is_ok());
        let mut scores: Vec<f32> = ranked.map(|(_, read)| read.score).collect();
        // Position 0 shares the score of row 0, which reads position 1.
        if self.blocks.targets().first().is_some_and(|&position| self.is_first(position)) {
            scores.extend(reads.first().map(|read| read.score));
        }
        cut(scores, positions_kept_open(self.blocks.targets().len(), self.round, steps))
    }

    /// Evaluations over which even parts are filled, `total` in all.
    pub(super) fn rounds(&self, total: u32) -> u32 {
        let blocks = self.blocks.count() as u32;
        (0..blocks).map(|block| share(total, block, blocks)).sum()
    }

    /// The block that evaluation `round` belongs to when each takes its share of them, and its number there from 0.
    pub(super) fn block_at(&self, round: u32) -> (usize, u32) {
        let (Quota::Evaluations(total) | Quota::Times(total)) = self.policy.quota else { return (0, 0) };
        let blocks = self.blocks.count() as u32;
        let mut inside = round - 1;
        for block in 0..blocks {
            let own = share(total, block, blocks);
            if inside < own {
                return (block as usize, inside);
            }
            inside -= own;
        }
        (blocks.saturating_sub(1) as usize, inside)
    }

    /// The number of positions that an evaluation commits when each block is filled evenly in its share of
    /// them.
    pub(super) fn part_at(&self, round: u32) -> usize {
        let Quota::Evaluations(total) = self.policy.quota else { return 0 };
        let (block, inside) = self.block_at(round);
        let members = self.blocks.members(block).len();
        let rounds = share(total, block as u32, self.blocks.count() as u32) as usize;
        members / rounds + usize::from((inside as usize) < members % rounds)
    }

    /// The number of the `open` positions of the window that are due by the rule's schedule.
    fn part_due(&self, open: usize) -> usize {
        if self.redraws && matches!(self.policy.quota, Quota::Evaluations(_)) {
            // As if nothing had been drawn again.
            return self.part_at(self.round);
        }
        if let Quota::PerBlock { steps, .. } = self.policy.quota {
            return least_in_block(self.blocks.size(), steps, self.at_work.evaluations);
        }
        if let Quota::Times(steps) = self.policy.quota {
            return self.due_now(steps, open);
        }
        let block = self.wants.first().map_or(0, |want| self.blocks.of(want.position));
        let members = self.blocks.members(block).len();
        let blocks = self.blocks.count() as u32;
        let parts = match self.policy.quota {
            Quota::Evaluations(total) => share(total, block as u32, blocks),
            Quota::Balanced(steps) => balanced_evaluations(share(steps, block as u32, blocks), members),
            _ => 1,
        };
        part_size(members, parts as usize, members - open.min(members))
    }
}
