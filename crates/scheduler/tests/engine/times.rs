//! Deadlines, time budgets and patience in the queue, in every phase of a request.

use std::time::{Duration, Instant};

use unmask_model::diffusion::EarlyExit;
use unmask_model::predictor::Script;
use unmask_scheduler::{DenoiseRequest, EngineConfig, GenerationError, SubmitError};

use crate::fixture::{Gate, Report, of, request, sample, spawn};

#[expect(clippy::disallowed_methods, reason = "deadlines are points in time")]
fn now() -> Instant {
    Instant::now()
}

/// Returns when the clock shows more than `time`.
fn pass(time: Instant) {
    while now() <= time {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_ends_the_request_unevaluated() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig { max_running: 1, ..EngineConfig::default() });
    let running = handle.submit(request(0)).unwrap();
    gate.look();
    let deadline = now();
    let late = handle.submit(DenoiseRequest { deadline: Some(deadline), ..request(1) }).unwrap();
    pass(deadline);
    drop(gate);
    let report = Report::of(late).await;
    assert!(report.expired && report.steps.is_empty());
    assert_eq!(report.end.unwrap().evaluations, 0);
    assert!(!Report::of(running).await.expired);
}

#[tokio::test]
async fn a_deadline_that_passes_in_an_evaluation_keeps_what_that_one_committed() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig::default());
    let deadline = now() + Duration::from_millis(20);
    let late = handle.submit(DenoiseRequest { deadline: Some(deadline), ..request(0) }).unwrap();
    let other = handle.submit(request(1)).unwrap();
    gate.look();
    pass(deadline);
    drop(gate);
    let report = Report::of(late).await;
    assert!(report.expired);
    assert_eq!((report.steps.len(), report.end.as_ref().unwrap().evaluations), (1, 1));
    assert_eq!(Report::of(other).await.text().len(), 12);
}

#[tokio::test]
async fn a_deadline_far_away_changes_nothing() {
    let handle = spawn(Script::default(), EngineConfig::default());
    let far = Some(now() + Duration::from_hours(1));
    let timed = DenoiseRequest { deadline: far, finish_by: far, ..request(0) };
    let found = Report::of(handle.submit(timed).unwrap()).await;
    let expected = Report::of(handle.submit(request(0)).unwrap()).await;
    assert_eq!(found.text(), expected.text());
    assert!(!found.expired && found.steps.iter().all(|step| step.early_exit.is_none()));
}

#[tokio::test]
async fn a_time_budget_commits_everything_that_is_open_with_one_last_evaluation() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig::default());
    let budget = now() + Duration::from_millis(20);
    let hurried = handle.submit(DenoiseRequest { finish_by: Some(budget), ..request(0) }).unwrap();
    gate.look();
    pass(budget);
    drop(gate);
    let report = Report::of(hurried).await;
    assert_eq!((report.steps.len(), report.text().len()), (2, 12));
    let last = report.steps.last().unwrap();
    assert_eq!((last.remaining, last.early_exit), (0, Some(EarlyExit::TimeBudget)));
}

#[tokio::test]
async fn a_time_budget_that_is_over_already_takes_one_evaluation() {
    let handle = spawn(Script::default(), EngineConfig::default());
    let hurried = DenoiseRequest { finish_by: Some(now()), ..request(0) };
    let report = Report::of(handle.submit(hurried).unwrap()).await;
    assert_eq!((report.steps.len(), report.text().len()), (1, 12));
}

/// A long canvas that has to save for its next evaluation would come back long after its budget.
#[tokio::test]
async fn a_last_evaluation_does_not_wait_for_its_turn() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig::default());
    let budget = now() + Duration::from_millis(50);
    let long = DenoiseRequest { finish_by: Some(budget), ..of(vec![sample(7, 0, 400, 16)]) };
    let long = handle.submit(long).unwrap();
    assert_eq!(gate.look(), [7]);
    let short = handle.submit(request(1)).unwrap();
    for _ in 0..2 {
        gate.go();
        assert_eq!(gate.look(), [1]);
    }
    pass(budget);
    gate.go();
    assert_eq!(gate.look(), [7, 1]);
    drop(gate);
    assert_eq!(Report::of(long).await.text().len(), 400);
    assert_eq!(Report::of(short).await.text().len(), 12);
}

#[tokio::test]
async fn who_waits_too_long_is_told_when_to_come_back() {
    let (script, gate) = Gate::new(Script::default());
    let patience = Duration::from_millis(50);
    let config = EngineConfig { max_running: 1, max_wait: patience, ..EngineConfig::default() };
    let handle = spawn(script, config);
    let running = handle.submit(request(0)).unwrap();
    gate.look();
    let impatient = handle.submit(request(1)).unwrap();
    pass(now() + patience);
    drop(gate);
    let error = Report::of(impatient).await.end.unwrap_err();
    let GenerationError::QueueTimeout { waited, retry_after } = error else { unreachable!("{error}") };
    assert!(waited > patience && retry_after > Duration::ZERO);
    assert!(Report::of(running).await.end.is_ok());
}

/// An evaluation that took 20 ms in place of the predicted microseconds moves the prediction by a tenth of that.
#[tokio::test]
async fn the_time_to_come_back_follows_the_measured_speed() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig { max_running: 1, queue: 1, ..EngineConfig::default() });
    let mut generations = vec![handle.submit(request(0)).unwrap()];
    gate.look();
    pass(now() + Duration::from_millis(20));
    gate.go();
    gate.look();
    generations.push(handle.submit(request(1)).unwrap());
    let refusal = handle.submit(request(2)).unwrap_err();
    let SubmitError::QueueFull { retry_after, .. } = refusal else { unreachable!("{refusal}") };
    assert!(retry_after >= Duration::from_millis(2), "{retry_after:?}");
    drop(gate);
    for generation in generations {
        assert!(Report::of(generation).await.end.is_ok());
    }
}
