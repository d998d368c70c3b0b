//! Properties of every policy that is accepted, for any canvas and seed; the other policies are refused.

use crate::device;
use proptest::prelude::*;
use proptest::strategy::Union;
use unmask_model::diffusion::{
    Cell, DenoisingState, Order, Policy, Quota, Revise, Score, ScoreKind, StateSpec, Window,
};
use unmask_model::error::CanvasError;
use unmask_model::predictor::{MarkovOracle, MaskPredictor, Sampling, TokenId};

use super::enumeration::{SYMBOLS, transition};
use super::support::{Run, finish, spec, step};

/// Longest canvas that is tried.
pub const LENGTH: usize = 24;
const MASK: TokenId = SYMBOLS as TokenId;

pub fn oracle() -> MarkovOracle {
    MarkovOracle::new(&transition(), LENGTH).reading_with(device::cpu())
}

/// Any combination of choices with numbers from these.
fn policies(counts: BoxedStrategy<u32>, shares: BoxedStrategy<f64>) -> impl Strategy<Value = Policy> {
    let size = || counts.clone().prop_map(|count| count as usize);
    let window = prop_oneof![
        3 => Just(Window::All),
        1 => size().prop_map(Window::Block),
        1 => size().prop_map(Window::Sliding),
        1 => Just(Window::LeftToRight),
    ];
    let kinds = [ScoreKind::Drawn, ScoreKind::Model, ScoreKind::Margin, ScoreKind::Entropy];
    let temperature = prop_oneof![3 => Just(0.0), 1 => shares.clone()];
    let score = (prop::sample::select(kinds.to_vec()), temperature)
        .prop_map(|(kind, temperature)| Order::Score(Score { kind, temperature }));
    let order = prop_oneof![
        2 => Just(Order::IndependentRounds),
        1 => Just(Order::Permutation),
        1 => Just(Order::Stratified),
        2 => score,
    ];
    let counted =
        [Quota::OwnRound, Quota::Evaluations, Quota::Balanced, Quota::DreamSchedule, Quota::ReferenceTopK];
    let counted = counted.map(|quota| counts.clone().prop_map(quota).boxed());
    let measured = [Quota::Threshold, Quota::Factor, Quota::Entropy];
    let measured = measured.map(|quota| shares.clone().prop_map(quota).boxed());
    let quotas =
        Union::new(counted.into_iter().chain(measured).chain([size().prop_map(Quota::Count).boxed()]));
    let revise = prop_oneof![
        3 => Just(Revise::None),
        1 => shares.clone().prop_map(Revise::Cap),
        1 => shares.clone().prop_map(Revise::Rescale),
        1 => shares.prop_map(Revise::Loop),
    ];
    (window, order, quotas, revise).prop_map(|(window, order, quota, revise)| Policy {
        window,
        order,
        quota,
        revise,
    })
}

/// Policies that are accepted.
pub fn policy() -> impl Strategy<Value = Policy> {
    let counts = (1_u32..30).boxed();
    let shares = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0].boxed();
    policies(counts, shares).prop_filter("accepted", |policy| policy.check().is_ok())
}

/// Canvases with given and open positions; given ones may hold the mask token.
pub fn canvas() -> impl Strategy<Value = Vec<Option<TokenId>>> {
    let cell = prop_oneof![2 => Just(None), 1 => (0..=MASK).prop_map(Some)];
    prop::collection::vec(cell, 1..=LENGTH).prop_filter("something is open", |given| given.contains(&None))
}

/// A sample by a policy that is accepted.
pub fn any_spec() -> impl Strategy<Value = StateSpec> {
    let temperature = prop::sample::select(vec![0.0, 0.7, 1.0, 1.5]);
    let top_p = prop::sample::select(vec![0.6, 0.9, 1.0]);
    (canvas(), policy(), any::<u64>(), temperature, top_p).prop_map(
        |(given, policy, seed, temperature, top_p)| {
            let samplings = vec![Sampling { temperature, top_p, ..Sampling::default() }];
            StateSpec { samplings, ..spec(given, policy, seed) }
        },
    )
}

fn state(spec: &StateSpec) -> DenoisingState {
    DenoisingState::new(spec.clone(), &oracle().limits()).unwrap()
}

fn run(spec: &StateSpec) -> Run {
    finish(&mut oracle(), state(spec))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn given_tokens_never_change_and_all_others_are_filled(spec in any_spec()) {
        let mut oracle = oracle();
        let mut state = state(&spec);
        while let Some(step) = step(&mut oracle, &mut state) {
            for (position, given) in spec.given.iter().enumerate().filter_map(|(p, given)| Some((p, (*given)?))) {
                prop_assert_eq!(step.before[position], given);
                prop_assert_eq!(state.canvas().cells()[position], Cell::Fixed);
            }
        }
        prop_assert_eq!(state.canvas().masked(), 0);
        for (token, given) in state.canvas().tokens().iter().zip(&spec.given) {
            prop_assert_eq!(*token, given.unwrap_or(*token));
            prop_assert!(given.is_some() || *token < MASK);
        }
    }

    #[test]
    fn without_a_reviser_each_position_is_committed_once_as_it_was_read(spec in any_spec()) {
        prop_assume!(spec.policy.revise == Revise::None);
        let mut committed = Vec::new();
        for step in run(&spec).steps {
            prop_assert!(step.remasks.is_empty());
            for &(position, token) in &step.commits {
                prop_assert_eq!(step.before[position as usize], MASK);
                prop_assert_eq!(step.read_at(position).token, token);
                committed.push(position as usize);
            }
        }
        committed.sort_unstable();
        let open = (0..spec.given.len()).filter(|position| spec.given[*position].is_none());
        prop_assert!(committed.into_iter().eq(open));
    }

    #[test]
    fn wants_ascend_and_are_positions_to_generate(spec in any_spec()) {
        for step in run(&spec).steps {
            prop_assert!(step.wants.is_sorted_by(|a, b| a.position < b.position));
            prop_assert!(step.wants.iter().all(|want| spec.given[want.position as usize].is_none()));
        }
    }

    #[test]
    fn no_more_evaluations_are_taken_than_were_said_to_be_left(spec in any_spec()) {
        let mut oracle = oracle();
        let mut state = state(&spec);
        let mut left = vec![state.evaluations_left()];
        while step(&mut oracle, &mut state).is_some() {
            left.push(state.evaluations_left());
        }
        prop_assert_eq!(state.evaluations() as usize, left.len() - 1);
        for (taken, left_then) in left.iter().enumerate() {
            prop_assert!(state.evaluations() - taken as u32 <= *left_then, "after {}: {:?}", taken, left);
        }
        prop_assert_eq!(left.last(), Some(&0));
        let open = spec.given.iter().filter(|given| given.is_none()).count() as u64;
        prop_assert!(u64::from(left[0]) <= spec.policy.most_evaluations(open), "{:?}", left);
        let exact = !matches!(spec.policy.order, Order::Score(_))
            && !matches!(spec.policy.quota, Quota::Entropy(_))
            && spec.policy.revise == Revise::None;
        prop_assert!(!exact || left[0] == state.evaluations());
    }

    #[test]
    fn every_evaluation_commits_unless_the_rule_may_commit_none(spec in any_spec()) {
        prop_assume!(!matches!(spec.policy.quota, Quota::DreamSchedule(_) | Quota::ReferenceTopK(_)));
        for step in run(&spec).steps {
            prop_assert!(!step.commits.is_empty());
        }
    }

    #[test]
    fn a_policy_that_is_refused_is_an_error_and_not_a_panic(
        policy in policies(
            prop_oneof![Just(0), Just(10_000), 1_u32..30].boxed(),
            prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.1), Just(1e300), Just(1e-320), 0.0..1.0].boxed(),
        ),
        given in canvas(), seed in any::<u64>(),
    ) {
        let mut oracle = oracle();
        match (policy.check(), DenoisingState::new(spec(given, policy, seed), &oracle.limits())) {
            (Ok(()), Ok(mut state)) => prop_assert!(step(&mut oracle, &mut state).is_some()),
            (Err(refused), Err(error)) => prop_assert_eq!(error, CanvasError::Policy(refused)),
            (check, _) => prop_assert!(false, "check and construction disagree: {:?}", check),
        }
    }
}
