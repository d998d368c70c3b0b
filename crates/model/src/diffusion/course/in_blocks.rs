//! One block after another, each in evaluations of its own (`Quota::PerBlock`): SDAR, LLaDA2, Fast-dLLM v2.

use super::ranked::{Candidate, is_above, rank};
use super::{Reading, Sample};
use crate::diffusion::policy::{Revise, Score};
use crate::diffusion::schedule::even_part;

/// A rule that fills a block before it goes on to the next, and may change the block's tokens meanwhile.
#[derive(Clone, Copy, Debug)]
pub(in crate::diffusion) struct InBlocks {
    score: Score,
    /// S.
    steps: u32,
    threshold: Option<f64>,
    /// The probability above which another token takes the place of a committed one; `None` changes none.
    edit_threshold: Option<f64>,
    /// Most evaluations of a full block.
    most_post: u32,
    block: BlockAtWork,
    /// True if the pending evaluation is about the first position of a block of attention alone.
    before: bool,
}

/// The block at work.
#[derive(Clone, Copy, Debug, Default)]
struct BlockAtWork {
    number: usize,
    evaluations: u32,
    /// Those of them that began with a full block.
    post: u32,
    /// True if the last of those changed nothing.
    settled: bool,
}

impl InBlocks {
    pub(super) fn new(score: Score, steps: u32, threshold: Option<f64>, revise: Revise) -> Self {
        let (edit_threshold, most_post) = match revise {
            Revise::Edit { threshold, post, .. } => (Some(threshold), post),
            _ => (None, 0),
        };
        let block = BlockAtWork::default();
        Self { score, steps, threshold, edit_threshold, most_post, block, before: false }
    }

    /// True if committed tokens may give way to others.
    pub(super) fn edits(&self) -> bool {
        self.edit_threshold.is_some()
    }

    /// Goes on to the next block if this one is finished. Returns whether a block has just ended.
    pub(super) fn next_block(&mut self, sample: &Sample) -> bool {
        let begun = self.block.evaluations > 0;
        let mut ended = false;
        while self.block.number < sample.blocks.count()
            && sample.open_in(self.block.number).next().is_none()
            && !(begun && !ended && self.post_left(&self.block) > 0)
        {
            self.block = BlockAtWork { number: self.block.number + 1, ..BlockAtWork::default() };
            ended = true;
        }
        ended
    }

    /// The open positions of the block at work, and the committed ones where those may change. The first position of a
    /// block of attention goes before the others if its row is in the block before: the most probable token there, as in
    /// Fast-dLLM v2.
    pub(super) fn next(&mut self, sample: &mut Sample) -> Reading {
        sample.round = sample.evaluations + 1;
        let members = sample.blocks.members(self.block.number);
        let first = members.first().copied().filter(|first| sample.canvas.is_open(*first));
        let before = first.filter(|first| sample.reads_before && sample.blocks.is_behind_block(*first));
        self.before = before.is_some();
        if let Some(position) = before {
            return Reading { positions: vec![position], most_probable: true };
        }
        let read = |position: &_| self.edits() || sample.canvas.is_open(*position);
        Reading::of(members.iter().copied().filter(read).collect())
    }

    /// Keeps all open positions above the threshold, at least those that are due, and the committed ones that change.
    pub(super) fn commit(&mut self, sample: &Sample, found: &mut Vec<Candidate<'_>>) {
        if self.before {
            return;
        }
        let all = std::mem::take(found);
        let (mut open, filled): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|candidate| sample.canvas.is_open(candidate.position));
        let full = open.is_empty();
        rank(&mut open, self.score, &sample.noise, sample.round);
        let due = even_part(sample.blocks.size(), self.steps, self.block.evaluations);
        open.truncate(self.count(&open, due));
        found.extend(open);
        let kept = found.len();
        found.extend(filled.into_iter().filter(|candidate| self.is_changed(sample, *candidate)));
        self.block.evaluations += 1;
        if full {
            self.block.post += 1;
            self.block.settled = found.len() == kept;
        }
    }

    /// Most evaluations that this block and the later ones can take.
    pub(super) fn left(&self, sample: &Sample) -> u32 {
        let fresh = BlockAtWork::default();
        let later =
            (self.block.number + 1..sample.blocks.count()).map(|number| BlockAtWork { number, ..fresh });
        let left = std::iter::once(self.block).chain(later).map(|block| {
            let behind = |position: &_| sample.reads_before && sample.blocks.is_behind_block(*position);
            let open = sample.open_in(block.number).count();
            let first = sample.open_in(block.number).filter(behind).count();
            let filling = most_in_block(open - first, sample.blocks.size(), self.steps, block.evaluations);
            first as u32 + filling + self.post_left(&block)
        });
        left.sum()
    }

    /// Evaluations that a full block can still take.
    fn post_left(&self, block: &BlockAtWork) -> u32 {
        if block.settled { 0 } else { self.most_post.saturating_sub(block.post) }
    }

    /// The number of ranked positions, from the best, that are committed where `due` of them are due.
    fn count(&self, ranked: &[Candidate<'_>], due: usize) -> usize {
        let least = due.clamp(1, ranked.len().max(1));
        let above = |threshold| {
            let above = |candidate: &&Candidate<'_>| is_above(self.score.kind, candidate.read, threshold);
            ranked.iter().take_while(above).count()
        };
        self.threshold.map_or(0, above).max(least)
    }

    /// Returns true if a committed position takes the token that was drawn at it.
    fn is_changed(&self, sample: &Sample, candidate: Candidate<'_>) -> bool {
        let token = candidate.read.token;
        let other = sample.canvas.tokens()[candidate.position as usize] != token;
        let above = |threshold| is_above(self.score.kind, candidate.read, threshold);
        other && token != sample.canvas.mask_token() && self.edit_threshold.is_some_and(above)
    }
}

/// Most evaluations from `evaluation` on that `open` positions of a block of `size` take, where each commits at least its
/// even part of the block.
fn most_in_block(mut open: usize, size: usize, steps: u32, evaluation: u32) -> u32 {
    let mut count = 0;
    while open > 0 {
        open -= even_part(size, steps, evaluation + count).clamp(1, open);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::policy::ScoreKind;
    use crate::predictor::Read;

    #[test]
    fn a_block_is_filled_in_its_evaluations() {
        assert_eq!([0, 1, 2, 3].map(|evaluation| even_part(8, 3, evaluation)), [3, 3, 2, 2]);
        assert_eq!([0, 1, 2].map(|evaluation| even_part(4, 4, evaluation)), [1; 3]);
        assert_eq!(most_in_block(8, 8, 3, 0), 3);
        assert_eq!(most_in_block(3, 8, 3, 1), 1);
        assert_eq!(most_in_block(4, 8, 3, 1), 2);
        // More steps than positions: one each.
        assert_eq!(most_in_block(4, 4, 9, 0), 4);
    }

    #[test]
    fn a_block_commits_what_is_above_the_threshold_and_at_least_what_is_due() {
        let probabilities = [0.99_f32, 0.95, 0.92, 0.5];
        let reads = probabilities.map(|p| Read { score: p.ln(), ..Read::default() });
        let ranked: Vec<Candidate<'_>> =
            (0..).zip(&reads).map(|(position, read)| Candidate { position, read }).collect();
        let score = Score { kind: ScoreKind::Drawn, temperature: 0.0 };
        let count = |threshold| InBlocks::new(score, 1, threshold, Revise::None).count(&ranked, 2);
        assert_eq!([None, Some(0.4), Some(0.9), Some(0.97)].map(count), [2, 4, 3, 2]);
    }
}
