//! A sample depends on its own specification and on nothing else: neither on what shares its evaluations
//! nor on where its state was meanwhile.

use proptest::prelude::*;
use unmask_model::diffusion::{DenoisingState, StateSpec};
use unmask_model::predictor::{MarkovOracle, MaskPredictor, Read, TokenId};

use super::any_policy::{any_spec, oracle};
use super::support::{apply, finish, step};

/// The results that a request received.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    reads: Vec<Vec<Read>>,
    tokens: Vec<TokenId>,
}

fn alone(spec: &StateSpec) -> Outcome {
    let mut oracle = oracle();
    let state = DenoisingState::new(spec.clone(), &oracle.limits()).unwrap();
    let run = finish(&mut oracle, state);
    Outcome { reads: run.steps.into_iter().map(|step| step.reads).collect(), tokens: run.tokens }
}

/// All that have arrived share every call; the order in a call changes from tick to tick.
fn together(specs: &[(StateSpec, u32)]) -> Vec<Outcome> {
    let mut oracle = oracle();
    let start = |(spec, _): &(StateSpec, u32)| DenoisingState::new(spec.clone(), &oracle.limits()).unwrap();
    let mut states: Vec<DenoisingState> = specs.iter().map(start).collect();
    let mut outcomes: Vec<Outcome> = specs.iter().map(|_| Outcome::default()).collect();
    let mut tick = 0;
    while states.iter().any(|state| state.ask().is_some()) {
        let waiting = |number: &usize| specs[*number].1 <= tick && states[*number].ask().is_some();
        let mut members: Vec<usize> = (0..specs.len()).filter(waiting).collect();
        let shift = if members.is_empty() { 0 } else { tick as usize % members.len() };
        members.rotate_left(shift);
        advance(&mut oracle, &mut states, &members, &mut outcomes);
        tick += 1;
    }
    for (outcome, state) in outcomes.iter_mut().zip(&states) {
        outcome.tokens = state.canvas().tokens().to_vec();
    }
    outcomes
}

fn advance(
    oracle: &mut MarkovOracle,
    states: &mut [DenoisingState],
    members: &[usize],
    outcomes: &mut [Outcome],
) {
    let asks: Vec<_> = members.iter().filter_map(|member| states[*member].ask()).collect();
    let reads = oracle.predict(&asks).unwrap();
    for (member, reads) in members.iter().zip(reads) {
        let state = &mut states[*member];
        let (before, wants) = state.ask().map(|ask| (ask.tokens.to_vec(), ask.wants.to_vec())).unwrap();
        outcomes[*member].reads.push(apply(state, before, wants, reads).reads);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_request_among_fifteen_others_reads_and_yields_what_it_does_alone(
        specs in prop::collection::vec((any_spec(), 0_u32..20), 16),
    ) {
        for ((spec, _), outcome) in specs.iter().zip(together(&specs)) {
            prop_assert_eq!(alone(spec), outcome);
        }
    }

    #[test]
    fn a_state_put_aside_at_any_evaluation_resumes_as_if_nothing_had_happened(
        spec in any_spec(), moment in any::<prop::sample::Index>(),
    ) {
        let mut oracle = oracle();
        let mut state = DenoisingState::new(spec.clone(), &oracle.limits()).unwrap();
        let whole = finish(&mut oracle, state.clone());
        let before = moment.index(whole.steps.len());
        for _ in 0..before {
            step(&mut oracle, &mut state);
        }
        let kept = state.clone();
        // What becomes of the original is of no concern to the copy.
        while step(&mut oracle, &mut state).is_some() {}
        let resumed = finish(&mut oracle, kept);
        prop_assert_eq!(&resumed.tokens, &whole.tokens);
        let rest = &whole.steps[before..];
        prop_assert_eq!(resumed.steps.len(), rest.len());
        for (resumed, whole) in resumed.steps.iter().zip(rest) {
            prop_assert_eq!(&resumed.reads, &whole.reads);
            prop_assert_eq!(&resumed.commits, &whole.commits);
            prop_assert_eq!(&resumed.remasks, &whole.remasks);
        }
    }
}
