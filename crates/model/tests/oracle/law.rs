//! The law that a policy samples from, against enumeration: 30,000 draws, Pearson's statistic within three
//! standard deviations of its mean.

use crate::device;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use unmask_model::diffusion::{DenoisingState, Order, Policy, Quota, Revise, Window};
use unmask_model::predictor::{MarkovOracle, MaskPredictor, Sampling};

use super::enumeration::{
    Beliefs, Drawing, LENGTH, PLAIN, SEQUENCES, chi_square, code, independent_labels, joint,
    law_of_labelings, permutations, reference_loop, transition,
};
use super::support::{finish, spec};

const DRAWS: u64 = 30_000;
const STEPS: u32 = 3;

fn counts(draw: impl FnMut(u64) -> usize) -> Vec<u64> {
    let mut counts = vec![0; SEQUENCES];
    (0..DRAWS).map(draw).for_each(|code| counts[code] += 1);
    counts
}

/// Counts of the sequences that the policy ends with.
pub fn served(policy: Policy, drawing: Drawing) -> Vec<u64> {
    let mut oracle = MarkovOracle::new(&transition(), LENGTH).reading_with(device::cpu());
    let Drawing { temperature, top_p } = drawing;
    counts(|seed| {
        let mut spec = spec(vec![None; LENGTH], policy, seed);
        spec.samplings = vec![Sampling { temperature, top_p, ..Sampling::default() }];
        let state = DenoisingState::new(spec, &oracle.limits()).unwrap();
        code(finish(&mut oracle, state).tokens.iter().map(|token| *token as usize))
    })
}

fn assert_fits(counts: &[u64], law: &[f64]) {
    let z = chi_square(counts, law);
    println!("z = {z:.2}");
    assert!(z.abs() < 3.0, "z = {z}");
}

fn permuted(quota: Quota) -> Policy {
    Policy { window: Window::All, order: Order::Permutation, quota, revise: Revise::None }
}

#[test]
fn the_reference_loop_to_the_letter_has_the_law_of_independent_rounds() {
    let beliefs = Beliefs::new(PLAIN);
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    let counts = counts(|_| code(reference_loop(&beliefs, STEPS, &mut generator)));
    assert_fits(&counts, &law_of_labelings(&beliefs, &independent_labels(STEPS as usize)));
}

#[test]
fn the_served_reference_has_the_law_of_the_reference() {
    let law = law_of_labelings(&Beliefs::new(PLAIN), &independent_labels(STEPS as usize));
    assert_fits(&served(Policy::reference(STEPS), PLAIN), &law);
}

#[test]
fn thirty_thousand_draws_tell_the_reference_from_the_chain() {
    // Otherwise the tests around this one would show nothing.
    assert!(chi_square(&served(Policy::reference(STEPS), PLAIN), &joint()) > 10.0);
}

#[test]
fn one_position_at_a_time_in_random_order_has_the_law_of_the_chain() {
    assert_fits(&served(permuted(Quota::Count(1)), PLAIN), &joint());
}

#[test]
fn an_entropy_budget_of_nothing_has_the_law_of_the_chain() {
    assert_fits(&served(permuted(Quota::Entropy(0.0)), PLAIN), &joint());
}

#[test]
fn temperature_and_nucleus_shape_every_draw_of_the_reference() {
    let drawing = Drawing { temperature: 0.7, top_p: 0.8 };
    let law = law_of_labelings(&Beliefs::new(drawing), &independent_labels(STEPS as usize));
    assert_fits(&served(Policy::reference(STEPS), drawing), &law);
}

#[test]
fn temperature_and_nucleus_shape_every_draw_of_a_random_order() {
    for drawing in [Drawing { temperature: 0.7, top_p: 0.8 }, Drawing { temperature: 1.3, top_p: 1.0 }] {
        let law = law_of_labelings(&Beliefs::new(drawing), &permutations());
        assert_fits(&served(permuted(Quota::Count(1)), drawing), &law);
    }
}

#[test]
fn even_parts_of_a_random_order_are_drawn_independently_within_a_part() {
    let parts: Vec<[usize; LENGTH]> =
        permutations().iter().map(|places| places.map(|place| place / 2)).collect();
    let law = law_of_labelings(&Beliefs::new(PLAIN), &parts);
    // ⌈4·4/(4 + 4)⌉ = 2 parts.
    for quota in [Quota::Count(2), Quota::Evaluations(2), Quota::Balanced(4)] {
        assert_fits(&served(permuted(quota), PLAIN), &law);
    }
}

#[test]
fn stratified_rounds_are_a_random_order_within_each_stretch() {
    let labelings = [[0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0]];
    let law = law_of_labelings(&Beliefs::new(PLAIN), &labelings);
    let quota = Quota::OwnRound(2);
    let policy = Policy { window: Window::All, order: Order::Stratified, quota, revise: Revise::None };
    assert_fits(&served(policy, PLAIN), &law);
}
