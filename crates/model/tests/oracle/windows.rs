//! The places of commits, and their order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use unmask_model::diffusion::{DenoisingState, Order, Policy, Quota, Revise, StateSpec, Window};
use unmask_model::predictor::{MaskPredictor, Position};

use super::any_policy::{any_spec, oracle};
use super::support::{Step, finish};

/// The positions to generate, ascending.
fn targets(spec: &StateSpec) -> Vec<Position> {
    (0..).zip(&spec.given).filter(|(_, given)| given.is_none()).map(|(position, _)| position).collect()
}

fn steps(spec: &StateSpec) -> Vec<Step> {
    let mut oracle = oracle();
    let state = DenoisingState::new(spec.clone(), &oracle.limits()).unwrap();
    finish(&mut oracle, state).steps
}

/// Every step with the positions that were open before it.
fn with_open(spec: &StateSpec) -> Vec<(Step, Vec<Position>)> {
    let mut open = targets(spec);
    let remaining = |step: Step| {
        let before = open.clone();
        open.retain(|position| !step.committed().contains(position));
        (step, before)
    };
    steps(spec).into_iter().map(remaining).collect()
}

/// A sample by any policy that goes with the window.
fn windowed(window: impl Strategy<Value = Window>) -> impl Strategy<Value = StateSpec> {
    (any_spec(), window)
        .prop_map(|(spec, window)| StateSpec { policy: Policy { window, ..spec.policy }, ..spec })
        .prop_filter("accepted", |spec| spec.policy.check().is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn blocks_are_finished_one_after_another(
        (spec, size) in (1_usize..12).prop_flat_map(|size| (windowed(Just(Window::Block(size))), Just(size))),
    ) {
        let targets = targets(&spec);
        for (step, open) in with_open(&spec) {
            let block = targets.chunks(size).find(|block| block.contains(&open[0])).unwrap();
            prop_assert!(step.wants.iter().all(|want| block.contains(&want.position)));
            prop_assert!(step.committed().iter().all(|position| block.contains(position)));
        }
    }

    #[test]
    fn a_sliding_window_shows_its_size_in_open_positions(
        (spec, size) in (1_usize..12).prop_flat_map(|size| (windowed(Just(Window::Sliding(size))), Just(size))),
    ) {
        for (step, open) in with_open(&spec) {
            let shown = &open[..size.min(open.len())];
            prop_assert!(step.wants.iter().map(|want| want.position).eq(shown.iter().copied()));
            prop_assert!(step.committed().iter().all(|position| shown.contains(position)));
        }
    }

    #[test]
    fn left_to_right_commits_the_first_open_position(spec in windowed(Just(Window::LeftToRight))) {
        for (step, open) in with_open(&spec) {
            prop_assert_eq!(step.committed(), vec![open[0]]);
        }
    }

    #[test]
    fn stratified_neighbours_are_committed_in_different_rounds(
        spec in any_spec(), rounds in 1_u32..12,
    ) {
        let quota = Quota::OwnRound(rounds);
        let policy = Policy { window: Window::All, order: Order::Stratified, quota, revise: Revise::None };
        let spec = StateSpec { policy, ..spec };
        let steps = steps(&spec);
        prop_assert!(steps.iter().all(|step| (1..=rounds).contains(&step.round)));
        for stretch in targets(&spec).chunks(rounds as usize) {
            let round_of = |position: &Position| {
                steps.iter().find(|step| step.committed().contains(position)).unwrap().round
            };
            let different: BTreeSet<u32> = stretch.iter().map(round_of).collect();
            prop_assert_eq!(different.len(), stretch.len());
        }
    }
}
