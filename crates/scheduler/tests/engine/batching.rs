//! The samples that share an evaluation, and the independence of each text from the others.

use std::collections::BTreeSet;
use std::time::Duration;

use unmask_model::diffusion::{
    DenoisingState, Noise, Policy, ScoreSpec, ScoringState, StateSpec, draw_round,
};
use unmask_model::predictor::Script;
use unmask_scheduler::{CostModel, DenoiseRequest, EngineConfig, EngineState, SubmitError};

use crate::fixture::{Gate, LIMITS, Report, of, request, sample, spawn};

#[tokio::test]
async fn text_alone_is_text_among_neighbours() {
    let alone = spawn(Script::default(), EngineConfig::default());
    let expected = Report::of(alone.submit(request(7)).unwrap()).await;
    assert_eq!(expected.end.as_ref().unwrap().batch_peak, 1);

    let (script, gate) = Gate::new(Script::default());
    let crowded = spawn(script, EngineConfig::default());
    let blocker = crowded.submit(request(500)).unwrap();
    gate.look();
    let mut neighbours: Vec<_> = (0..15).map(|name| crowded.submit(request(name)).unwrap()).collect();
    let seven = neighbours.remove(7);
    drop(blocker);
    gate.go();
    assert_eq!(gate.look().len(), 15);
    drop(gate);
    let found = Report::of(seven).await;
    assert_eq!(found.end.as_ref().unwrap().batch_peak, 15);
    assert_eq!(found.text(), expected.text());
    for neighbour in neighbours {
        assert!(Report::of(neighbour).await.end.is_ok());
    }
}

#[tokio::test]
async fn a_request_takes_one_evaluation_per_distinct_round() {
    let handle = spawn(Script::default(), EngineConfig::default());
    for (name, masked, steps) in [(1, 12, 16), (2, 40, 8), (3, 1, 100), (4, 30, 1)] {
        let state = sample(name, 0, masked, steps);
        let noise = Noise::Keyed { seed: u64::from(name), sample: 0 };
        let rounds: BTreeSet<u32> =
            state.canvas().open_positions().map(|position| draw_round(&noise, steps, position)).collect();
        let report = Report::of(handle.submit(of(vec![state])).unwrap()).await;
        assert_eq!(report.end.as_ref().unwrap().evaluations as usize, rounds.len());
        assert!(report.steps.iter().map(|step| step.round).eq(rounds));
        assert!(report.steps.iter().map(|step| step.evaluation).eq(1..=report.steps.len() as u32));
        assert_eq!(report.text().len(), masked);
        assert_eq!(report.steps.last().unwrap().remaining, 0);
    }
}

#[tokio::test]
async fn samples_of_a_request_advance_independently_and_end_together() {
    // Where launching an evaluation is all that costs, everybody takes part in each.
    let cost = CostModel { overhead: 1.0, ..CostModel::default() };
    let handle = spawn(Script::default(), EngineConfig { cost, ..EngineConfig::default() });
    let samples: Vec<_> = (0..3).map(|number| sample(1, number, 10 * (number as usize + 1), 20)).collect();
    let evaluations: Vec<u32> = samples.iter().map(DenoisingState::evaluations_left).collect();
    let report = Report::of(handle.submit(of(samples)).unwrap()).await;
    let timings = report.end.as_ref().unwrap();
    assert_eq!((timings.evaluations, timings.batch_peak), (evaluations.iter().sum(), 3));
    for (number, evaluations) in (0..3).zip(evaluations) {
        let mine: Vec<_> = report.steps.iter().filter(|step| step.sample == number).collect();
        assert!(mine.iter().map(|step| step.evaluation).eq(1..=evaluations));
        assert!(mine.is_sorted_by(|a, b| a.round < b.round && a.remaining >= b.remaining));
        assert_eq!(mine.last().unwrap().remaining, 0);
    }
    let longest = report.steps.iter().map(|step| step.evaluation).max().unwrap();
    assert_eq!(handle.status().evaluations, u64::from(longest));
}

#[tokio::test]
async fn a_batch_keeps_to_its_budget_and_the_others_come_next() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig { max_rows: 30, ..EngineConfig::default() });
    let mut generations = vec![handle.submit(request(0)).unwrap()];
    assert_eq!(gate.look(), [0]);
    generations.extend([1, 2].map(|name| handle.submit(request(name)).unwrap()));
    // 61 rows: more than the budget, so it is evaluated alone.
    generations.push(handle.submit(of(vec![sample(3, 0, 60, 16)])).unwrap());
    let mut turns = [0; 4];
    for _ in 0..14 {
        gate.go();
        let batch = gate.look();
        assert!(batch == [3] || (batch.len() <= 2 && !batch.contains(&3)), "{batch:?}");
        batch.into_iter().for_each(|name| turns[name as usize] += 1);
    }
    // It costs as much as nearly five of the others.
    assert!(turns[..3].iter().all(|turns| *turns >= 6) && turns[3] <= 3, "{turns:?}");
    drop(gate);
    for generation in generations {
        assert!(Report::of(generation).await.end.is_ok());
    }
}

#[tokio::test]
async fn a_full_queue_refuses_with_its_numbers() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig { max_running: 1, queue: 2, ..EngineConfig::default() });
    let mut generations = vec![handle.submit(request(0)).unwrap()];
    gate.look();
    generations.extend([1, 2].map(|name| handle.submit(request(name)).unwrap()));
    let status = handle.status();
    assert_eq!((status.running, status.waiting, status.evaluations), (1, 2, 1));
    let refusal = handle.submit(request(3)).unwrap_err();
    let SubmitError::QueueFull { waiting: 2, limit: 2, retry_after } = refusal else {
        unreachable!("{refusal}")
    };
    // One of 12 to 16 evaluations of 13 rows was predicted to be left when the evaluation under way began.
    assert!(retry_after > Duration::ZERO && retry_after < Duration::from_secs(1), "{retry_after:?}");
    assert_eq!(refusal.to_string(), "the queue is full: 2 requests wait and 2 may");
    drop(gate);
    for generation in generations {
        assert!(Report::of(generation).await.end.is_ok());
    }
    let status = handle.status();
    assert_eq!((status.running, status.waiting, status.state), (0, 0, EngineState::Serving));
}

#[tokio::test]
async fn a_request_needs_samples_but_not_evaluations() {
    let handle = spawn(Script::default(), EngineConfig::default());
    assert_eq!(handle.submit(of(vec![])).unwrap_err(), SubmitError::NoSamples);
    // Only position 0 is open, whose token is known without the network.
    let spec = StateSpec {
        given: vec![None, Some(1)],
        samplings: vec![],
        spans: vec![],
        policy: Policy::reference(4),
        noise: Noise::Keyed { seed: 1, sample: 0 },
        first_token: Some(5),
        ..StateSpec::default()
    };
    let state = DenoisingState::new(spec, &LIMITS).unwrap();
    let report = Report::of(handle.submit(of(vec![state])).unwrap()).await;
    assert_eq!((report.steps.len(), report.end.unwrap().evaluations), (0, 0));
    assert_eq!(handle.status().evaluations, 0);
}

/// Requests that join, leave or are stopped between any two evaluations leave the other texts as they are
/// alone, under budgets that split the batches in every way.
#[tokio::test]
async fn joining_and_leaving_change_no_other_text() {
    for seed in 0..30_u64 {
        let mut random = seed;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let (script, gate) = Gate::new(Script::default());
        let config = EngineConfig {
            max_rows: 20 + 13 * seed as usize,
            max_running: 6,
            queue: 64,
            ..EngineConfig::default()
        };
        let handle = spawn(script, config);
        let mut here = vec![(0, handle.submit(request(0)).unwrap())];
        for tick in 1..24 {
            gate.look();
            // At least one joins, so that there is a next evaluation to look at.
            for number in 0..1 + below(2) as u32 {
                let name = 10 * tick + number;
                here.push((name, handle.submit(request(name)).unwrap()));
            }
            if below(2) == 0 {
                here.remove(below(here.len() as u64) as usize);
            }
            gate.go();
        }
        drop(gate);
        for (name, generation) in here {
            let found = Report::of(generation).await;
            let alone = spawn(Script::default(), EngineConfig::default());
            let expected = Report::of(alone.submit(request(name)).unwrap()).await;
            assert_eq!(found.text(), expected.text(), "seed {seed}, request {name}");
        }
    }
}

/// A text that is scored is one more canvas in the batch: its score is the one it has alone, and all scores come
/// before the end, also that of a text without anything to score.
#[tokio::test]
async fn texts_are_scored_beside_samples() {
    let text = |from: u32| {
        let tokens = vec![3, 1, 4, 1, 5];
        ScoringState::new(ScoreSpec { tokens, from, ..ScoreSpec::default() }, &LIMITS).unwrap()
    };
    let handle = spawn(Script::default(), EngineConfig::default());
    let scored = |samples, texts| DenoiseRequest { samples, texts, ..DenoiseRequest::default() };
    let alone = Report::of(handle.submit(scored(Vec::new(), vec![text(2)])).unwrap()).await;
    assert_eq!((alone.end.as_ref().unwrap().evaluations, alone.end.as_ref().unwrap().reads), (3, 3));
    let samples = vec![sample(7, 0, 6, 4)];
    let both = Report::of(handle.submit(scored(samples, vec![text(5), text(2)])).unwrap()).await;
    assert_eq!(both.scores.len(), 2);
    assert_eq!((both.scores[0].total, both.scores[0].logprobs.len()), (0.0, 5));
    assert_eq!(both.scores[1], alone.scores[0]);
    assert_eq!(both.text().len(), 6);
    let nothing = Report::of(handle.submit(scored(Vec::new(), vec![text(5)])).unwrap()).await;
    assert_eq!((nothing.scores.len(), nothing.end.unwrap().evaluations), (1, 0));
    assert!(matches!(handle.submit(DenoiseRequest::default()), Err(SubmitError::NoSamples)));
}
