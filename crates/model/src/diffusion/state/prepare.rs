//! The choice of the positions that are read next.

use std::collections::BTreeSet;

use super::DenoisingState;
use crate::diffusion::canvas::Cell;
use crate::diffusion::noise::Purpose;
use crate::diffusion::policy::{LOOKAHEAD, Order, Quota, Revise, Window};
use crate::diffusion::remask;
use crate::diffusion::spec::{self, EarlyExit, Edit};
use crate::predictor::{Position, Want};

impl DenoisingState {
    /// Writes the wants of the next evaluation; none when there is no next one.
    pub(super) fn prepare(&mut self) {
        self.wants.clear();
        self.alone = false;
        let labelled = matches!(self.policy.quota, Quota::Labels(_) | Quota::Kept(_))
            && self.policy.revise == Revise::None;
        if !labelled {
            // Only the reference's own samplers say when position 0 gets its token; elsewhere it has it
            // from the start.
            self.first_due = true;
            self.commit_first();
        }
        let ended = self.fills_blocks() && self.next_block();
        if (ended || !self.finish_block) && self.ends_early() {
            self.early_exit = Some(EarlyExit::Eos);
            return;
        }
        match (self.policy.order, self.policy.quota) {
            _ if self.last => self.prepare_rest(),
            (_, Quota::PerBlock { .. }) => self.prepare_block(),
            _ if self.policy.revise != Revise::None => self.prepare_revision(),
            (Order::Permutation, Quota::Entropy(_)) => self.prepare_lookahead(),
            (Order::Score(_), Quota::Kept(_)) => self.prepare_kept(),
            (Order::Score(_), _) => self.prepare_window(),
            _ => self.prepare_round(),
        }
        self.guess();
        self.wants.sort_unstable_by_key(|want| want.position);
        self.describe();
        self.freeze();
    }

    /// Chooses the rows that the pending evaluation computes.
    fn freeze(&mut self) {
        let Some(mut frozen) = self.frozen.take() else { return };
        if let Some(first) = self.wants.first().map(|want| want.position) {
            let block = self.blocks.of(first);
            let at_work = |position: &Position| self.blocks.of(*position) == block;
            let open = self.canvas.open_positions().filter(at_work);
            let start = self.blocks.members(block).first().copied().unwrap_or(first);
            frozen.prepare(&self.canvas, self.shown().end, &self.wants, open, (block, start));
        }
        self.frozen = Some(frozen);
    }

    /// Adds the open positions that the policy does not ask for, where a draft is wanted.
    fn guess(&mut self) {
        self.guessed.clear();
        if !self.drafts || self.wants.is_empty() {
            return;
        }
        let asked: BTreeSet<Position> = self.wants.iter().map(|want| want.position).collect();
        let shown = self.shown().end;
        let open = self.canvas.open_positions().take_while(|position| (*position as usize) < shown);
        let open = open.filter(|position| !asked.contains(position));
        self.guessed = open.filter(|position| !self.is_first(*position)).collect();
        let first = self.wants.len();
        for position in self.guessed.clone() {
            self.want(position);
        }
        self.wants[first..].iter_mut().for_each(|want| want.sampling += self.settings);
    }

    /// Everything that is open, and that the network is shown in one evaluation; nothing follows.
    fn prepare_rest(&mut self) {
        self.first_due = self.blocks.targets().first().is_some_and(|&position| self.is_first(position));
        let length = self.canvas.tokens().len();
        let first = self.canvas.open_positions().next();
        let shown = first.map_or(0, |position| self.blocks.span(self.blocks.of(position), length).end);
        for position in self.canvas.open_positions().collect::<Vec<_>>() {
            if (position as usize) < shown && self.canvas.is_open(position) && !self.is_first(position) {
                self.want(position);
            }
        }
        if self.wants.is_empty() {
            self.commit_first();
        }
    }

    /// The members of the next planned round that needs an evaluation.
    fn prepare_round(&mut self) {
        while self.wants.is_empty() {
            // A round that held position 0 alone needed no evaluation: its token is known.
            self.commit_first();
            let Some(&(round, _)) = self.plan.last() else { return };
            let start = self.plan.partition_point(|member| member.0 > round);
            self.round = round;
            for (_, position) in self.plan.split_off(start) {
                if self.is_first(position) {
                    self.first_due = true;
                } else {
                    self.want(position);
                }
            }
        }
    }

    /// The next positions of a random order, as many as may be worth reading.
    fn prepare_lookahead(&mut self) {
        self.round = self.evaluations + 1;
        // Position 0 may be committed already.
        self.plan.retain(|member| self.canvas.is_open(member.1));
        let next: Vec<Position> = self.plan.iter().rev().map(|member| member.1).collect();
        let current = next.first().map(|&position| self.blocks.of(position));
        let same = |position: &&Position| Some(self.blocks.of(**position)) == current;
        let ahead = next.iter().take_while(same).take(LOOKAHEAD);
        for position in ahead.copied().collect::<Vec<_>>() {
            self.want(position);
        }
    }

    /// Everything that was open at the start: the reference ranks closed positions, too.
    fn prepare_kept(&mut self) {
        if self.canvas.masked() == 0 {
            return;
        }
        self.round = self.evaluations + 1;
        let mut positions = self.blocks.targets().to_vec();
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
        }
        for position in positions {
            self.want(position);
        }
    }

    /// The open positions of the block at work, and the committed ones where those may change. The first position of a
    /// block of attention goes before the others if its row is in the block before: the most probable token there, as in
    /// Fast-dLLM v2.
    fn prepare_block(&mut self) {
        self.round = self.evaluations + 1;
        let first = self.blocks.members(self.at_work.number).first().copied();
        let before =
            |position: &Position| self.canvas.is_open(*position) && self.blocks.is_behind_block(*position);
        if let Some(position) = first.filter(|_| self.reads_before).filter(before) {
            self.want(position);
            self.wants[0].sampling += self.settings;
            return;
        }
        let edits = matches!(self.policy.revise, Revise::Edit { .. });
        for position in self.blocks.members(self.at_work.number).to_vec() {
            if edits || self.canvas.is_open(position) {
                self.want(position);
            }
        }
    }

    /// The open positions that the window shows.
    fn prepare_window(&mut self) {
        match self.policy.quota {
            Quota::Times(steps) => match self.next_time(steps) {
                Some(round) => self.round = round,
                None => return,
            },
            Quota::Evaluations(total) if self.redraws => {
                let mut rounds = self.round + 1..=self.rounds(total);
                match rounds.find(|round| self.part_at(*round) > 0) {
                    Some(round) => self.round = round,
                    None => return,
                }
            }
            _ => self.round = self.evaluations + 1,
        }
        let visible = self.visible();
        self.alone = visible.first().is_some_and(|first| self.leads(self.blocks.of(*first)));
        let most = if self.alone { 1 } else { visible.len() };
        for position in visible.into_iter().take(most) {
            self.want(position);
        }
    }

    /// The open positions inside the window.
    fn visible(&self) -> Vec<Position> {
        let targets = self.blocks.targets().iter().copied();
        let mut open = targets.filter(|&position| self.canvas.is_open(position)).peekable();
        let first = open.peek().copied();
        match self.policy.window {
            Window::All => open.collect(),
            Window::Sliding(size) => open.take(size).collect(),
            Window::LeftToRight => open.take(1).collect(),
            Window::Block(_) if self.redraws => {
                // Blocks end with their evaluations; what drew the mask competes on.
                let (block, _) = self.block_at(self.round);
                let members = self.blocks.members_up_to(block);
                open.take_while(|position| members.contains(position)).collect()
            }
            Window::Block(_) => {
                let current = first.map(|position| self.blocks.of(position));
                open.take_while(|&position| Some(self.blocks.of(position)) == current).collect()
            }
        }
    }

    /// The next step of a reviser that commits something. Steps that only take back need no evaluation.
    fn prepare_revision(&mut self) {
        let Quota::Labels(steps) = self.policy.quota else { return };
        while self.wants.is_empty() && self.round < steps {
            self.round += 1;
            let commit = remask::step(self.policy.revise, self.round, steps).commit;
            for position in self.blocks.targets().to_vec() {
                let number = self.noise.number(Purpose::Decision, self.round, position);
                if self.canvas.is_open(position) && number < commit {
                    self.want(position);
                }
            }
            if self.wants.is_empty() {
                for position in self.remasks() {
                    self.canvas.remask(position);
                    self.touch(position);
                    self.unreported.push(Edit::Remask(position));
                }
            }
        }
    }

    /// Returns true if everything masked lies right of a settled document end, so that no part of it is
    /// shown.
    fn ends_early(&self) -> bool {
        let edits = matches!(self.policy.revise, Revise::Edit { .. });
        if !edits && (self.policy.revise != Revise::None || self.canvas.masked() == 0) {
            return false;
        }
        let open = |position: usize| self.canvas.cells()[position] == Cell::Masked;
        let hidden: Vec<usize> = self
            .spans
            .iter()
            .filter_map(|span| {
                let ends = |position: usize| span.ends_at.contains(&self.canvas.tokens()[position]);
                let mut places = span.range.clone().filter(|_| !span.ends_at.is_empty());
                let found = places.find(|&position| open(position) || ends(position))?;
                let rest = found..span.range.end;
                (!open(found)).then(|| rest.filter(|&position| open(position)).count())
            })
            .collect();
        !hidden.is_empty() && hidden.iter().sum::<usize>() == self.canvas.masked()
    }

    fn want(&mut self, position: Position) {
        let span = self.spans.iter().find(|span| span.range.contains(&(position as usize)));
        self.wants.push(Want {
            position,
            sampling: span.map_or(0, |span| span.sampling).min(self.settings - 1),
            allowed: span.and_then(|span| span.allowed),
            uniform: self.noise.token(self.round, position),
            target: None,
        });
    }

    /// Writes down what the pending ask says about the canvas besides its tokens.
    fn describe(&mut self) {
        if self.guidance.is_some() {
            self.unconditional = spec::without_condition(&self.canvas, self.keeps_first);
        }
        if self.samplings.iter().any(spec::penalises) {
            self.counts = spec::counts(&self.canvas);
        }
    }
}
