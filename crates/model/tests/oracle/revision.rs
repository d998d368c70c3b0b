//! ReMDM: committed tokens that are taken back.

use crate::device;
use unmask_model::diffusion::{DenoisingState, Policy, Revise};
use unmask_model::predictor::{MarkovOracle, MaskPredictor};

use super::enumeration::{
    Beliefs, PLAIN, chi_square, independent_labels, law_of_labelings, remasking_law, transition,
};
use super::law::served;
use super::support::{finish, sample, spec};

fn revised(steps: u32, revise: Revise) -> Policy {
    Policy { revise, ..Policy::reference(steps) }
}

/// The largest σ that leaves a share of `after` committed.
fn most(before: f64, after: f64) -> f64 {
    if before > 0.0 { ((1.0 - after) / before).min(1.0) } else { 1.0 }
}

#[test]
fn without_remasking_its_law_is_the_references() {
    let law = law_of_labelings(&Beliefs::new(PLAIN), &independent_labels(3));
    for revise in [Revise::Cap(0.0), Revise::Rescale(0.0)] {
        let z = chi_square(&served(revised(3, revise), PLAIN), &law);
        println!("{revise:?}: z = {z:.2}");
        assert!(z.abs() < 3.0, "{revise:?}: z = {z}");
    }
}

#[test]
fn without_remasking_it_takes_as_many_evaluations_as_the_reference() {
    let mut oracle = MarkovOracle::new(&transition(), 32).reading_with(device::cpu());
    let steps = 24;
    let masked = 32;
    let seeds = 2000;
    let evaluations = |seed| sample(&mut oracle, masked, revised(steps, Revise::Cap(0.0)), seed).steps.len();
    let mean = (0..seeds).map(evaluations).sum::<usize>() as f64 / seeds as f64;
    let t = f64::from(steps);
    let expected = t * (1.0 - (1.0 - 1.0 / t).powi(masked as i32));
    assert!((mean / expected - 1.0).abs() < 0.01, "{mean} vs {expected}");
}

#[test]
fn its_law_is_the_definition_over_all_canvases() {
    let beliefs = Beliefs::new(PLAIN);
    let cap = |eta: f64| move |before, after| eta.min(most(before, after));
    let rescale = |eta: f64| move |before, after| eta * most(before, after);
    let cases = [
        (Revise::Cap(0.3), remasking_law(&beliefs, 4, cap(0.3))),
        (Revise::Cap(1.0), remasking_law(&beliefs, 4, cap(1.0))),
        (Revise::Rescale(0.5), remasking_law(&beliefs, 4, rescale(0.5))),
    ];
    for (revise, law) in cases {
        assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let z = chi_square(&served(revised(4, revise), PLAIN), &law);
        println!("{revise:?}: z = {z:.2}");
        assert!(z.abs() < 3.0, "{revise:?}: z = {z}");
    }
}

#[test]
fn only_generated_tokens_are_remasked_and_all_is_filled_within_the_steps() {
    let mut oracle = MarkovOracle::new(&transition(), 32).reading_with(device::cpu());
    let given: Vec<Option<u32>> = (0..32).map(|position| (position % 4 == 0).then_some(2)).collect();
    for revise in [Revise::Cap(0.2), Revise::Rescale(0.5), Revise::Loop(0.2)] {
        let mut remasked = 0;
        for seed in 0..50 {
            let state = DenoisingState::new(spec(given.clone(), revised(40, revise), seed), &oracle.limits());
            let run = finish(&mut oracle, state.unwrap());
            assert!(run.steps.len() <= 40);
            assert!(run.tokens.iter().all(|token| *token < 3), "something is masked");
            let commits = run.steps.iter().map(|step| step.commits.len()).sum::<usize>();
            let remasks: Vec<u32> = run.steps.iter().flat_map(|step| step.remasks.clone()).collect();
            assert!(remasks.iter().all(|position| position % 4 != 0), "a given token was taken back");
            assert_eq!(commits, 24 + remasks.len(), "every position is filled once more than emptied");
            remasked += remasks.len();
        }
        println!("{revise:?}: {} remasks per sample", remasked / 50);
        assert!(remasked > 50, "{revise:?}");
    }
}
