//! One sample's memory between evaluations, and one step of it as a pure function.

use super::canvas::{Canvas, Cell};
use super::noise::{Noise, Purpose};
use super::policy::{LOOKAHEAD, Order, Policy, Quota, Revise, Window};
use super::schedule::{balanced_evaluations, part_size, plan, positions_kept_open, share};
use super::select::{Progress, candidates, cut, entropy_prefix, quota, rank};
use super::spec::{Commit, EarlyExit, Edit, Span, StateSpec};
use super::{remask, spec};
use crate::error::CanvasError;
use crate::predictor::{Ask, Guidance, ModelLimits, Position, Read, Sampling, TokenCount, TokenId, Want};

/// Everything one sample remembers. Between two steps it can be kept, moved or dropped at no cost:
/// attention is bidirectional, so there is nothing cached to keep in step with it.
#[derive(Clone, Debug)]
pub struct DenoisingState {
    canvas: Canvas,
    samplings: Vec<Sampling>,
    allowed: Vec<Vec<TokenId>>,
    spans: Vec<Span>,
    policy: Policy,
    noise: Noise,
    first_token: Option<TokenId>,
    guidance: Option<f64>,
    alternatives: usize,
    /// The positions to generate, ascending.
    targets: Vec<Position>,
    /// Planned orders: what is still to come, the next member last.
    plan: Vec<(u32, Position)>,
    round: u32,
    evaluations: u32,
    early_exit: Option<EarlyExit>,
    wants: Vec<Want>,
    /// For the pending ask: the canvas without its condition, and the tokens on it.
    unconditional: Vec<TokenId>,
    counts: Vec<TokenCount>,
    /// Whether position 0 is committed with the pending round; it is not asked for.
    first_due: bool,
    /// Edits that needed no evaluation; they are reported with the next one.
    unreported: Vec<Edit>,
}

impl DenoisingState {
    /// Prepares a sample; all that needs no network is drawn here.
    ///
    /// # Errors
    /// As [`Canvas::new`] and [`Policy::check`]; also an open position 0 that nothing can fill.
    pub fn new(spec: StateSpec, limits: &ModelLimits) -> Result<Self, CanvasError> {
        spec.policy.check()?;
        let canvas = Canvas::new(spec.given.iter().copied(), limits)?;
        let first_token = spec.first_token.filter(|_| limits.shift);
        if limits.shift && canvas.is_open(0) && first_token.is_none() {
            return Err(CanvasError::FirstPositionOpen);
        }
        if let Some(id) = first_token.filter(|id| *id as usize >= limits.vocabulary) {
            return Err(CanvasError::TokenOutOfVocabulary { id, rows: limits.vocabulary });
        }
        let targets: Vec<Position> = canvas.open_positions().collect();
        let Policy { window, order, quota, revise } = spec.policy;
        let planned = !matches!(order, Order::Score(_)) && revise == Revise::None;
        let mut plan = if planned { plan(&targets, window, order, quota, &spec.noise) } else { Vec::new() };
        plan.reverse();
        let mut state = Self {
            canvas,
            samplings: spec::checked_samplings(spec.samplings),
            allowed: spec.allowed,
            spans: spec.spans,
            policy: spec.policy,
            noise: spec.noise,
            first_token,
            guidance: spec.guidance.filter(|weight| *weight != 0.0),
            alternatives: spec.alternatives,
            targets,
            plan,
            round: 0,
            evaluations: 0,
            early_exit: None,
            wants: Vec::new(),
            unconditional: Vec::new(),
            counts: Vec::new(),
            first_due: false,
            unreported: Vec::new(),
        };
        state.prepare();
        Ok(state)
    }

    /// What the next evaluation must read, or `None` when this sample is done.
    #[must_use]
    pub fn ask(&self) -> Option<Ask<'_>> {
        let guidance = self.guidance.map(|weight| Guidance { tokens: &self.unconditional, weight });
        let ask = Ask {
            tokens: self.canvas.tokens(),
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
        let taken_back = self.remasks();
        for commit in self.commits(reads) {
            self.canvas.commit(commit.position, commit.token);
            edits.push(Edit::Commit(commit));
        }
        self.commit_first();
        for position in taken_back {
            self.canvas.remask(position);
            edits.push(Edit::Remask(position));
        }
        self.prepare();
        edits
    }

    /// Ends the sample although positions are masked: what is wanted of it is settled.
    pub fn stop(&mut self) {
        if !self.wants.is_empty() {
            self.early_exit = Some(EarlyExit::Stop);
            self.wants.clear();
        }
    }

    /// The canvas as it stands.
    #[must_use]
    pub fn canvas(&self) -> &Canvas {
        &self.canvas
    }

    /// Why the sample ended with positions masked, if it did.
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

    /// How many evaluations this sample has consumed.
    #[must_use]
    pub fn evaluations(&self) -> u32 {
        self.evaluations
    }

    /// How many evaluations this sample can still consume: exact for planned rounds, a bound for others.
    #[must_use]
    pub fn evaluations_left(&self) -> u32 {
        if self.wants.is_empty() {
            return 0;
        }
        let masked = self.canvas.masked() as u32;
        match (self.policy.quota, self.policy.order) {
            (Quota::Labels(steps), _) if self.policy.revise != Revise::None => steps - self.round + 1,
            (Quota::Entropy(_), Order::Permutation) => masked,
            (_, Order::Labels | Order::Stratified | Order::Permutation) => {
                let costs = |round: &[(u32, Position)]| round.iter().any(|member| !self.is_first(member.1));
                1 + self.plan.chunk_by(|a, b| a.0 == b.0).filter(|round| costs(round)).count() as u32
            }
            (Quota::Times(steps) | Quota::Kept(steps), _) => steps - self.evaluations,
            _ => masked,
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

    /// Writes the wants of the next evaluation; none when there is no next one.
    fn prepare(&mut self) {
        self.wants.clear();
        let labelled = matches!(self.policy.quota, Quota::Labels(_) | Quota::Kept(_))
            && self.policy.revise == Revise::None;
        if !labelled {
            // Only the reference's own samplers say when position 0 gets its token; elsewhere it has it
            // from the start.
            self.first_due = true;
            self.commit_first();
        }
        if self.ends_early() {
            self.early_exit = Some(EarlyExit::Eos);
            return;
        }
        match (self.policy.order, self.policy.quota) {
            _ if self.policy.revise != Revise::None => self.prepare_revision(),
            (Order::Permutation, Quota::Entropy(_)) => self.prepare_lookahead(),
            (Order::Score(_), Quota::Kept(_)) => self.prepare_kept(),
            (Order::Score(_), _) => self.prepare_window(),
            _ => self.prepare_round(),
        }
        self.wants.sort_unstable_by_key(|want| want.position);
        self.describe();
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
        let next: Vec<Position> = self.plan.iter().rev().map(|member| member.1).collect();
        let block = |position: Position| self.block_of(position);
        let current = next.first().map(|&position| block(position));
        let ahead = next.iter().take_while(|&&position| Some(block(position)) == current).take(LOOKAHEAD);
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
        let mut positions = self.targets.clone();
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

    /// The open positions that the window shows.
    fn prepare_window(&mut self) {
        self.round = self.evaluations + 1;
        for position in self.visible() {
            self.want(position);
        }
    }

    /// The open positions inside the window.
    fn visible(&self) -> Vec<Position> {
        let mut open =
            self.targets.iter().copied().filter(|&position| self.canvas.is_open(position)).peekable();
        let first = open.peek().copied();
        match self.policy.window {
            Window::All => open.collect(),
            Window::Sliding(size) => open.take(size).collect(),
            Window::LeftToRight => open.take(1).collect(),
            Window::Block(_) => {
                let current = first.map(|position| self.block_of(position));
                open.take_while(|&position| Some(self.block_of(position)) == current).collect()
            }
        }
    }

    /// Which block of the window a position to generate lies in.
    fn block_of(&self, position: Position) -> usize {
        match self.policy.window {
            Window::Block(size) => self.targets.partition_point(|&target| target < position) / size,
            Window::All | Window::Sliding(_) | Window::LeftToRight => 0,
        }
    }

    /// The next step of a reviser that commits something. Steps that only take back need no evaluation.
    fn prepare_revision(&mut self) {
        let Quota::Labels(steps) = self.policy.quota else { return };
        while self.wants.is_empty() && self.round < steps {
            self.round += 1;
            let commit = remask::step(self.policy.revise, self.round, steps).commit;
            for position in self.targets.clone() {
                let number = self.noise.number(Purpose::Decision, self.round, position);
                if self.canvas.is_open(position) && number < commit {
                    self.want(position);
                }
            }
            if self.wants.is_empty() {
                for position in self.remasks() {
                    self.canvas.remask(position);
                    self.unreported.push(Edit::Remask(position));
                }
            }
        }
    }

    /// The committed positions that the current step of a reviser takes back.
    fn remasks(&self) -> Vec<Position> {
        let Quota::Labels(steps) = self.policy.quota else { return Vec::new() };
        if self.policy.revise == Revise::None || self.round == 0 {
            return Vec::new();
        }
        let share = remask::step(self.policy.revise, self.round, steps).remask;
        let number = |position: Position| self.noise.number(Purpose::Decision, self.round, position);
        let committed = |position: Position| self.canvas.cells()[position as usize] == Cell::Committed;
        let targets = self.targets.iter().copied();
        targets
            .filter(|&position| committed(position) && !self.is_first(position) && number(position) < share)
            .collect()
    }

    /// What this evaluation commits.
    fn commits(&mut self, reads: &[Read]) -> Vec<Commit> {
        let mut found = candidates(&self.wants, reads);
        match (self.policy.order, self.policy.quota) {
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
                found.truncate(quota(&found, rule, score.kind, self.progress(found.len())));
            }
            _ => {}
        }
        found.sort_by_key(|candidate| candidate.position);
        found.iter().map(|candidate| Commit::new(candidate.position, candidate.read)).collect()
    }

    /// Where the reference's confidence order cuts; after the last round everything is committed.
    fn cut(&self, reads: &[Read], steps: u32) -> f32 {
        if self.round >= steps {
            return f32::NEG_INFINITY;
        }
        let ranked = self
            .wants
            .iter()
            .zip(reads)
            .filter(|(want, _)| self.targets.binary_search(&want.position).is_ok());
        let mut scores: Vec<f32> = ranked.map(|(_, read)| read.score).collect();
        // Position 0 shares the score of row 0, which reads position 1.
        if self.targets.first().is_some_and(|&position| self.is_first(position)) {
            scores.extend(reads.first().map(|read| read.score));
        }
        cut(scores, positions_kept_open(self.targets.len(), self.round, steps))
    }

    /// Where even parts stand: how many of the `open` positions of the window are due.
    fn progress(&self, open: usize) -> Progress {
        let size = match self.policy.window {
            Window::Block(size) => size,
            _ => self.targets.len(),
        };
        let block = self.wants.first().map_or(0, |want| self.block_of(want.position));
        let members = size.min(self.targets.len() - (block * size).min(self.targets.len()));
        let blocks = self.targets.len().div_ceil(size.max(1)) as u32;
        let parts = match self.policy.quota {
            Quota::Evaluations(total) => share(total, block as u32, blocks),
            Quota::Balanced(steps) => balanced_evaluations(share(steps, block as u32, blocks), members),
            _ => 1,
        };
        Progress { round: self.round, part: part_size(members, parts as usize, members - open.min(members)) }
    }

    /// Whether all that is masked lies right of a document end that is settled: nothing of it is shown.
    fn ends_early(&self) -> bool {
        if self.policy.revise != Revise::None || self.canvas.masked() == 0 {
            return false;
        }
        let open = |position: usize| self.canvas.cells()[position] == Cell::Masked;
        let hidden: usize = self
            .spans
            .iter()
            .filter_map(|span| {
                let end = span.ends_at?;
                let found = span.range.clone().find(|&p| open(p) || self.canvas.tokens()[p] == end)?;
                let rest = found..span.range.end;
                (!open(found)).then(|| rest.filter(|&position| open(position)).count())
            })
            .sum();
        hidden == self.canvas.masked()
    }

    fn want(&mut self, position: Position) {
        let span = self.spans.iter().find(|span| span.range.contains(&(position as usize)));
        self.wants.push(Want {
            position,
            sampling: span.map_or(0, |span| span.sampling).min(self.samplings.len() as u32 - 1),
            allowed: span.and_then(|span| span.allowed),
            uniform: self.noise.token(self.round, position),
            target: None,
        });
    }

    /// Writes down what the pending ask says about the canvas besides its tokens.
    fn describe(&mut self) {
        if self.guidance.is_some() {
            self.unconditional = spec::without_condition(&self.canvas);
        }
        if self.samplings.iter().any(spec::penalises) {
            self.counts = spec::counts(&self.canvas);
        }
    }
}
