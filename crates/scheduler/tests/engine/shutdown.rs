//! Draining, and what happens when the handles are gone.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use unmask_model::predictor::Script;
use unmask_scheduler::{EngineConfig, EngineHandle, EngineState, GenerationError, SubmitError};

use crate::fixture::{Gate, Report, request, spawn};

fn one_at_a_time() -> EngineConfig {
    EngineConfig { max_running: 1, ..EngineConfig::default() }
}

/// Polls once and tells whether that was the end.
async fn poll_once(mut future: Pin<&mut impl Future<Output = ()>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

#[tokio::test]
async fn a_drain_finishes_what_was_accepted_and_refuses_the_rest() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, one_at_a_time());
    let running = handle.submit(request(0)).unwrap();
    gate.look();
    let waiting = handle.submit(request(1)).unwrap();
    let mut drain = pin!(handle.drain(Duration::from_hours(1)));
    assert!(!poll_once(drain.as_mut()).await);
    assert_eq!(handle.status().state, EngineState::Draining);
    assert_eq!(handle.submit(request(2)).unwrap_err(), SubmitError::ShuttingDown);
    drop(gate);
    drain.await;
    assert_eq!(Report::of(running).await.text().len(), 12);
    assert_eq!(Report::of(waiting).await.text().len(), 12);
    assert_eq!(handle.status().state, EngineState::Stopped);
    assert_eq!(handle.submit(request(2)).unwrap_err(), SubmitError::EngineStopped);
    // A second drain has nothing to wait for.
    handle.drain(Duration::ZERO).await;
}

/// The ends of a running and a waiting request when a drain gives them `grace`.
async fn cut_short(grace: Duration, until_the_grace_is_over: impl Future<Output = ()>) {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, one_at_a_time());
    let running = handle.submit(request(0)).unwrap();
    gate.look();
    let waiting = handle.submit(request(1)).unwrap();
    let mut drain = pin!(handle.drain(grace));
    tokio::select! {
        biased;
        () = &mut drain => unreachable!("an evaluation is under way"),
        () = until_the_grace_is_over => {}
    }
    // The drain has seen the end of its grace and waits for this evaluation only.
    gate.go();
    drain.await;
    let report = Report::of(running).await;
    assert_eq!(report.steps.len(), 1);
    assert!(matches!(report.end, Err(GenerationError::ShuttingDown)));
    let report = Report::of(waiting).await;
    assert!(report.steps.is_empty());
    assert!(matches!(report.end, Err(GenerationError::ShuttingDown)));
    assert_eq!(handle.status().state, EngineState::Stopped);
}

#[tokio::test]
async fn no_grace_fails_the_rest_before_the_next_evaluation() {
    cut_short(Duration::ZERO, std::future::ready(())).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_grace_fails_the_rest_before_the_next_evaluation() {
    // Time stands still and jumps from deadline to deadline: nothing here waits.
    cut_short(Duration::from_millis(1), tokio::time::sleep(Duration::from_millis(20))).await;
}

#[tokio::test]
async fn an_idle_engine_drains_at_once() {
    let handle = spawn(Script::default(), EngineConfig::default());
    handle.drain(Duration::from_hours(1)).await;
    assert_eq!(handle.status().state, EngineState::Stopped);
}

#[tokio::test]
async fn without_handles_the_engine_finishes_what_it_accepted() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, one_at_a_time());
    let other = handle.clone();
    let generations = [0, 1].map(|name| handle.submit(request(name)).unwrap());
    gate.look();
    drop(handle);
    drop(other);
    drop(gate);
    for generation in generations {
        assert_eq!(Report::of(generation).await.text().len(), 12);
    }
}

#[test]
fn handles_and_streams_cross_threads() {
    fn crosses<T: Send + Sync + Clone>() {}
    fn moves<T: Send + Unpin + tokio_stream::Stream>() {}
    crosses::<EngineHandle>();
    moves::<unmask_scheduler::Generation>();
}
