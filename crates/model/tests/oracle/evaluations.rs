//! The number of evaluations that a sample takes.

use crate::device;
use std::collections::BTreeSet;

use unmask_model::diffusion::{DenoisingState, Noise, Order, Policy, Quota, Revise, Window, draw_round};
use unmask_model::predictor::{MarkovOracle, MaskPredictor};

use super::enumeration::transition;
use super::support::{sample, spec, step};

const GRID: [(u32, usize); 7] = [(16, 8), (16, 32), (64, 8), (64, 32), (64, 128), (256, 32), (256, 128)];
const SEEDS: u64 = 1000;

fn permuted(quota: Quota) -> Policy {
    Policy { window: Window::All, order: Order::Permutation, quota, revise: Revise::None }
}

#[test]
fn the_reference_evaluates_once_per_round_that_has_members() {
    let mut oracle = MarkovOracle::new(&transition(), 128).reading_with(device::cpu());
    for (rounds, masked) in GRID {
        let mut total = 0;
        for seed in 0..SEEDS {
            let run = sample(&mut oracle, masked, Policy::reference(rounds), seed);
            let noise = Noise::Keyed { seed, sample: 0 };
            let distinct: BTreeSet<u32> =
                (0..masked as u32).map(|position| draw_round(&noise, rounds, position)).collect();
            assert!(run.steps.iter().map(|step| step.round).eq(distinct), "seed {seed}");
            total += run.steps.len();
        }
        let t = f64::from(rounds);
        let expected = t * (1.0 - (1.0 - 1.0 / t).powi(masked as i32));
        let mean = total as f64 / SEEDS as f64;
        println!("T={rounds} M={masked}: {mean:.3} evaluations, expected {expected:.3}");
        assert!((mean / expected - 1.0).abs() < 0.01, "T={rounds} M={masked}: {mean} vs {expected}");
    }
}

#[test]
fn one_position_at_a_time_takes_an_evaluation_per_position() {
    let mut oracle = MarkovOracle::new(&transition(), 128).reading_with(device::cpu());
    for masked in [1, 8, 32, 128] {
        for seed in 0..20 {
            let run = sample(&mut oracle, masked, permuted(Quota::Count(1)), seed);
            assert_eq!(run.steps.len(), masked);
            assert!(run.steps.iter().all(|step| step.wants.len() == 1));
        }
    }
}

#[test]
fn planned_rounds_read_each_position_once() {
    let mut oracle = MarkovOracle::new(&transition(), 64).reading_with(device::cpu());
    for policy in [Policy::reference(16), permuted(Quota::Count(5)), permuted(Quota::Balanced(16))] {
        let run = sample(&mut oracle, 64, policy, 3);
        assert_eq!(run.steps.iter().map(|step| step.wants.len()).sum::<usize>(), 64);
    }
}

#[test]
fn balanced_parts_number_the_harmonic_mean_and_differ_by_one() {
    let mut oracle = MarkovOracle::new(&transition(), 128).reading_with(device::cpu());
    for (rounds, masked) in GRID {
        let sizes = |quota| -> Vec<usize> {
            let run = sample(&mut oracle.clone(), masked, permuted(quota), 5);
            run.steps.iter().map(|step| step.commits.len()).collect()
        };
        let t = rounds as usize;
        let balanced = sizes(Quota::Balanced(rounds));
        assert_eq!(balanced.len(), (t * masked).div_ceil(t + masked));
        for sizes in [balanced, sizes(Quota::Evaluations(rounds))] {
            assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] - sizes[sizes.len() - 1] <= 1, "{sizes:?}");
        }
        assert_eq!(sizes(Quota::Evaluations(rounds)).len(), t.min(masked));
    }
    // The most rounds that a rule may have; more are refused, because plans walk through all of them.
    let run = sample(&mut oracle, 128, permuted(Quota::Balanced(1 << 16)), 5);
    assert_eq!(run.steps.len(), 128);
    assert!(permuted(Quota::Balanced(u32::MAX)).check().is_err());
}

#[test]
fn nothing_is_evaluated_when_nothing_is_masked() {
    let mut oracle = MarkovOracle::new(&transition(), 8).reading_with(device::cpu());
    let given = spec(vec![Some(1); 8], Policy::reference(4), 0);
    let done = DenoisingState::new(given, &oracle.limits()).unwrap();
    assert_eq!((done.ask().is_none(), done.evaluations_left(), done.early_exit()), (true, 0, None));
    let one_open = spec(vec![Some(1), None, Some(2)], Policy::reference(4), 0);
    let mut state = DenoisingState::new(one_open, &oracle.limits()).unwrap();
    assert!(step(&mut oracle, &mut state).is_some());
    assert!(state.ask().is_none());
    assert_eq!((state.evaluations(), state.evaluations_left()), (1, 0));
}
