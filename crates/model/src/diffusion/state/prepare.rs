//! The reads of the next evaluation, as the predictor gets them.

use std::collections::BTreeSet;

use super::DenoisingState;
use crate::diffusion::canvas::Cell;
use crate::diffusion::course::Reading;
use crate::diffusion::spec::{self, EarlyExit};
use crate::predictor::{Position, Want};

impl DenoisingState {
    /// Writes the wants of the next evaluation; none when there is no next one.
    pub(super) fn prepare(&mut self) {
        self.wants.clear();
        if !self.course.places_first() {
            self.sample.first_due = true;
            self.sample.commit_first();
        }
        let ended = self.course.next_block(&self.sample);
        if (ended || !self.finish_block) && self.ends_early() {
            self.early_exit = Some(EarlyExit::Eos);
            return;
        }
        let reading = if self.last { self.rest() } else { self.course.next(&mut self.sample) };
        for position in reading.positions {
            self.want(position);
        }
        if reading.most_probable {
            self.wants.iter_mut().for_each(|want| want.sampling += self.settings);
        }
        self.guess();
        self.wants.sort_unstable_by_key(|want| want.position);
        self.describe();
        self.freeze();
    }

    /// Chooses the rows that the pending evaluation computes.
    fn freeze(&mut self) {
        let shown = self.shown().end;
        let sample = &mut self.sample;
        let Some(mut frozen) = sample.frozen.take() else { return };
        if let Some(first) = self.wants.first().map(|want| want.position) {
            let block = sample.blocks.of(first);
            let start = sample.blocks.members(block).first().copied().unwrap_or(first);
            frozen.prepare(&sample.canvas, shown, &self.wants, sample.open_in(block), (block, start));
        }
        sample.frozen = Some(frozen);
    }

    /// Adds the open positions that the policy does not ask for, where a draft is wanted.
    fn guess(&mut self) {
        self.guessed.clear();
        if !self.drafts || self.wants.is_empty() {
            return;
        }
        let asked: BTreeSet<Position> = self.wants.iter().map(|want| want.position).collect();
        let shown = self.shown().end;
        let open = self.sample.canvas.open_positions().take_while(|position| (*position as usize) < shown);
        let open = open.filter(|position| !asked.contains(position));
        self.guessed = open.filter(|position| !self.sample.is_first(*position)).collect();
        let first = self.wants.len();
        for position in self.guessed.clone() {
            self.want(position);
        }
        self.wants[first..].iter_mut().for_each(|want| want.sampling += self.settings);
    }

    /// Everything that is open, and that the network is shown in one evaluation; nothing follows.
    fn rest(&mut self) -> Reading {
        let sample = &mut self.sample;
        sample.first_due = sample.generates_first();
        let length = sample.canvas.tokens().len();
        let first = sample.canvas.open_positions().next();
        let shown = first.map_or(0, |position| sample.blocks.span(sample.blocks.of(position), length).end);
        let open = sample.canvas.open_positions().take_while(|position| (*position as usize) < shown);
        let positions: Vec<Position> = open.filter(|position| !sample.is_first(*position)).collect();
        if positions.is_empty() {
            sample.commit_first();
        }
        Reading { positions, most_probable: false }
    }

    /// Returns true if everything masked lies right of a settled document end, so that no part of it is
    /// shown.
    fn ends_early(&self) -> bool {
        let canvas = &self.sample.canvas;
        if self.course.remasks() || (canvas.masked() == 0 && !self.course.edits()) {
            return false;
        }
        let open = |position: usize| canvas.cells()[position] == Cell::Masked;
        let hidden: Vec<usize> = self
            .spans
            .iter()
            .filter_map(|span| {
                let ends = |position: usize| span.ends_at.contains(&canvas.tokens()[position]);
                let mut places = span.range.clone().filter(|_| !span.ends_at.is_empty());
                let found = places.find(|&position| open(position) || ends(position))?;
                let rest = found..span.range.end;
                (!open(found)).then(|| rest.filter(|&position| open(position)).count())
            })
            .collect();
        !hidden.is_empty() && hidden.iter().sum::<usize>() == canvas.masked()
    }

    fn want(&mut self, position: Position) {
        let span = self.spans.iter().find(|span| span.range.contains(&(position as usize)));
        self.wants.push(Want {
            position,
            sampling: span.map_or(0, |span| span.sampling).min(self.settings - 1),
            allowed: span.and_then(|span| span.allowed),
            uniform: self.sample.noise.token(self.sample.round, position),
            target: None,
        });
    }

    /// Writes down what the pending ask says about the canvas besides its tokens.
    fn describe(&mut self) {
        if self.guidance.is_some() {
            self.unconditional = spec::without_condition(&self.sample.canvas, self.keeps_first);
        }
        if self.samplings.iter().any(spec::penalises) {
            self.counts = spec::counts(&self.sample.canvas);
        }
    }
}
