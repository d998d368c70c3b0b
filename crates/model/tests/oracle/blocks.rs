//! Rules that fill one block after another, against laws that are written down by enumeration.

use std::collections::BTreeMap;

use unmask_model::diffusion::{
    DenoisingState, EarlyExit, Order, Policy, Quota, Revise, Score, ScoreKind, Span, StateSpec, Window,
};
use unmask_model::error::{CanvasError, PolicyError};
use unmask_model::predictor::{MarkovOracle, MaskPredictor};

use super::enumeration::{
    Beliefs, Canvas, LENGTH, PLAIN, SEQUENCES, SYMBOLS, chi_square, code, joint, law_of_labelings, sequence,
    transition,
};
use super::support::{finish, spec, step};
use crate::device;

const DRAWS: u64 = 30_000;
const BLOCK: usize = 2;

fn oracle() -> MarkovOracle {
    MarkovOracle::new(&transition(), LENGTH).reading_with(device::cpu()).in_blocks(BLOCK)
}

fn per_block(kind: ScoreKind, steps: u32, threshold: Option<f64>, revise: Revise) -> Policy {
    Policy {
        window: Window::Block(BLOCK),
        order: Order::Score(Score { kind, temperature: 0.0 }),
        quota: Quota::PerBlock { steps, threshold },
        revise,
    }
}

fn assert_law(policy: Policy, law: &[f64]) {
    let mut oracle = oracle();
    let mut counts = vec![0; SEQUENCES];
    for seed in 0..DRAWS {
        let state = DenoisingState::new(spec(vec![None; LENGTH], policy, seed), &oracle.limits()).unwrap();
        let run = finish(&mut oracle, state);
        counts[code(run.tokens.iter().map(|token| *token as usize))] += 1;
    }
    let z = chi_square(&counts, law);
    println!("{policy:?}: z = {z:.2}");
    assert!(z.abs() < 3.0, "{policy:?}: z = {z}");
}

/// The rule as its authors describe it.
#[derive(Clone, Copy)]
struct Rule {
    steps: usize,
    threshold: f64,
    /// Threshold of edits, and most evaluations of a full block.
    edit: Option<(f64, u32)>,
}

/// Where a sample is: its canvas, the block at work, evaluations in it, and those of them that began with a full block.
type At = (Canvas, usize, usize, u32);

impl Rule {
    /// The law of the finished sequence: every draw of every evaluation, with its probability.
    fn law(self, beliefs: &Beliefs) -> Vec<f64> {
        let mut law = vec![0.0; SEQUENCES];
        let mut open: BTreeMap<At, f64> = BTreeMap::from([(([SYMBOLS; LENGTH], 0, 0, 0), 1.0)]);
        while let Some((at, mass)) = open.pop_first() {
            let places: Vec<usize> = (at.1 * BLOCK..(at.1 + 1) * BLOCK)
                .filter(|place| self.edit.is_some() || at.0[*place] == SYMBOLS)
                .collect();
            for draw in 0..SYMBOLS.pow(places.len() as u32) {
                let drawn: Vec<(usize, usize, f64)> = places
                    .iter()
                    .zip(0..)
                    .map(|(place, digit)| {
                        let symbol = draw / SYMBOLS.pow(digit) % SYMBOLS;
                        let mut seen = at.0;
                        seen[*place] = SYMBOLS;
                        (*place, symbol, beliefs.at(seen, *place)[symbol])
                    })
                    .collect();
                let mass = mass * drawn.iter().map(|(.., p)| p).product::<f64>();
                match self.next(at, &drawn) {
                    Some(next) => *open.entry(next).or_default() += mass,
                    None => law[code(self.apply(at, &drawn).0)] += mass,
                }
            }
        }
        law
    }

    /// The canvas after an evaluation, and whether a token gave way to another.
    fn apply(self, (mut canvas, _, evaluations, _): At, drawn: &[(usize, usize, f64)]) -> (Canvas, bool) {
        let before = canvas;
        let mut ranked: Vec<_> = drawn.iter().filter(|(place, ..)| before[*place] == SYMBOLS).collect();
        // Equal but for the rounding of sums.
        let key = |p: f64| (p * 1e9).round();
        ranked.sort_by(|a, b| key(b.2).total_cmp(&key(a.2)).then(a.0.cmp(&b.0)));
        let least = BLOCK / self.steps + usize::from(evaluations < BLOCK % self.steps);
        let above = ranked.iter().filter(|(.., p)| *p > self.threshold).count();
        for (place, symbol, _) in ranked.iter().take(above.max(least)) {
            canvas[*place] = *symbol;
        }
        let mut changed = false;
        for (place, symbol, p) in drawn.iter().filter(|(place, ..)| before[*place] != SYMBOLS) {
            if self.edit.is_some_and(|(threshold, _)| *p > threshold) && before[*place] != *symbol {
                (canvas[*place], changed) = (*symbol, true);
            }
        }
        (canvas, changed)
    }

    /// The sample's progress after an evaluation; `None` at its end.
    fn next(self, at: At, drawn: &[(usize, usize, f64)]) -> Option<At> {
        let (_, block, evaluations, post) = at;
        let full = |canvas: Canvas| canvas[block * BLOCK..][..BLOCK].iter().all(|symbol| *symbol != SYMBOLS);
        let (canvas, changed) = self.apply(at, drawn);
        let post = post + u32::from(full(at.0));
        let most = self.edit.map_or(0, |(_, most)| most);
        let settled = full(at.0) && !changed;
        if !full(canvas) || (!settled && post < most) {
            return Some((canvas, block, evaluations + 1, post));
        }
        (block + 1 < LENGTH / BLOCK).then_some((canvas, block + 1, 0, 0))
    }
}

#[test]
fn one_position_at_a_time_in_blocks_has_the_law_of_the_chain() {
    let window = Window::Block(BLOCK);
    let one = |order, quota| Policy { window, order, quota, revise: Revise::None };
    assert_law(one(Order::Permutation, Quota::Count(1)), &joint());
    assert_law(per_block(ScoreKind::Position, BLOCK as u32, None, Revise::None), &joint());
}

/// Parts of a block are filled one after another, as blocks are.
#[test]
fn single_positions_as_parts_of_a_block_have_the_law_of_the_chain() {
    let parts = per_block(ScoreKind::Drawn, 1, None, Revise::None);
    assert_law(Policy { window: Window::Block(1), ..parts }, &joint());
}

#[test]
fn a_block_in_one_evaluation_is_drawn_independently() {
    let law = law_of_labelings(&Beliefs::new(PLAIN), &[[0, 0, 1, 1]]);
    assert_law(per_block(ScoreKind::Drawn, 1, None, Revise::None), &law);
    // 30,000 draws tell it from the chain.
    assert!(law.iter().zip(joint()).any(|(a, b)| (a - b).abs() > 0.01));
}

#[test]
fn a_threshold_commits_what_is_above_it_and_at_least_an_even_part() {
    let beliefs = Beliefs::new(PLAIN);
    // None of them is a probability of the chain, which rounding could put on either side.
    for threshold in [0.223, 0.337, 0.471] {
        let law = Rule { steps: BLOCK, threshold, edit: None }.law(&beliefs);
        assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert_law(per_block(ScoreKind::Drawn, BLOCK as u32, Some(threshold), Revise::None), &law);
    }
}

#[test]
fn edits_follow_their_threshold_until_nothing_changes() {
    let beliefs = Beliefs::new(PLAIN);
    for (threshold, edit, post) in
        [(0.337, 0.423, 2), (0.471, 0.311, 1), (0.223, 0.573, 3), (0.337, 0.423, 0)]
    {
        let law = Rule { steps: BLOCK, threshold, edit: Some((edit, post)) }.law(&beliefs);
        assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let revise = Revise::Edit { threshold: edit, post, early_stop: false };
        assert_law(per_block(ScoreKind::Drawn, BLOCK as u32, Some(threshold), revise), &law);
    }
}

/// A sample whose text ends at symbol 0.
fn ending(given: usize, policy: Policy, finish_block: bool, seed: u64) -> StateSpec {
    let cells = (0..LENGTH).map(|place| (place < given).then_some(1)).collect();
    let span = Span { range: given..LENGTH, ends_at: vec![0], ..Span::default() };
    StateSpec { spans: vec![span], finish_block, ..spec(cells, policy, seed) }
}

#[test]
fn nothing_behind_the_block_at_work_is_shown_and_an_end_ends_the_sample() {
    let mut oracle = oracle();
    let edits = |early_stop| Revise::Edit { threshold: 0.4, post: 2, early_stop };
    let mut ended = 0;
    for (revise, finish_block, given) in
        [(Revise::None, false, 0), (Revise::None, true, 1), (edits(false), false, 1), (edits(true), false, 0)]
    {
        let policy = per_block(ScoreKind::Drawn, BLOCK as u32, Some(0.4), revise);
        for seed in 0..300 {
            let start = ending(given, policy, finish_block, seed);
            let mut state = DenoisingState::new(start, &oracle.limits()).unwrap();
            let bound = state.evaluations_left();
            assert!(u64::from(bound) <= policy.most_evaluations(state.canvas().masked() as u64));
            let mut left = bound;
            while let Some(step) = step(&mut oracle, &mut state) {
                let block = step.wants[0].position as usize / BLOCK;
                assert_eq!(step.before.len(), (block + 1) * BLOCK);
                assert!(step.wants.iter().all(|want| want.position as usize / BLOCK == block));
                assert!(state.evaluations_left() < left, "{left} evaluations were left");
                left = state.evaluations_left();
            }
            assert!(state.evaluations() <= bound, "{} of {bound}", state.evaluations());
            let tokens = state.canvas().tokens();
            let end = tokens.iter().skip(given).position(|token| *token == 0).map(|end| end + given);
            if state.early_exit() == Some(EarlyExit::Eos) {
                ended += 1;
                let end = end.unwrap();
                assert!((given..end).all(|place| tokens[place] != SYMBOLS as u32));
                let block = (end / BLOCK + 1) * BLOCK;
                assert!(tokens[block..].iter().all(|token| *token == SYMBOLS as u32));
                if finish_block || revise == edits(false) {
                    assert!(tokens[..block].iter().all(|token| *token != SYMBOLS as u32));
                }
            } else {
                assert!(state.canvas().masked() == 0 && end.is_none_or(|end| end / BLOCK == 1));
            }
        }
    }
    assert!(ended > 300, "{ended} samples ended early");
}

#[test]
fn the_time_budget_fills_the_block_at_work_and_ends() {
    let mut oracle = oracle();
    let policy = per_block(ScoreKind::Drawn, BLOCK as u32, None, Revise::None);
    let mut state = DenoisingState::new(spec(vec![None; LENGTH], policy, 1), &oracle.limits()).unwrap();
    step(&mut oracle, &mut state);
    state.finish_next();
    assert_eq!(state.evaluations_left(), 1);
    step(&mut oracle, &mut state);
    assert!(state.ask().is_none());
    assert_eq!((state.canvas().masked(), state.early_exit()), (BLOCK, Some(EarlyExit::TimeBudget)));
}

/// A position of a later block may not be committed before those that cannot see it.
#[test]
fn other_windows_than_the_blocks_of_attention_are_refused() {
    let limits = oracle().limits();
    let refused = |policy| {
        let found = DenoisingState::new(spec(vec![None; LENGTH], policy, 1), &limits);
        matches!(found, Err(CanvasError::Policy(PolicyError::Conflict { first: "window", .. })))
    };
    assert!(refused(Policy::reference(4)));
    assert!(refused(Policy { window: Window::Block(3), ..Policy::reference(4) }));
    assert!(!refused(Policy { window: Window::Block(BLOCK), ..Policy::reference(4) }));
}

/// The enumeration itself: with one step and no threshold it is the product law.
#[test]
fn the_enumeration_agrees_with_the_product_law() {
    let beliefs = Beliefs::new(PLAIN);
    let found = Rule { steps: 1, threshold: 1.0, edit: None }.law(&beliefs);
    let expected = law_of_labelings(&beliefs, &[[0, 0, 1, 1]]);
    for number in 0..SEQUENCES {
        assert!((found[number] - expected[number]).abs() < 1e-12, "{:?}", sequence(number));
    }
}
