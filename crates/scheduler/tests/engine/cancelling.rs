//! Readers that leave, and readers that are slow.

use std::time::Duration;

use unmask_model::predictor::Script;
use unmask_scheduler::EngineConfig;

use crate::fixture::{Gate, Report, request, spawn};

#[tokio::test]
async fn a_request_dropped_mid_run_is_absent_from_the_next_evaluation() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig::default());
    let leaver = handle.submit(request(0)).unwrap();
    assert_eq!(gate.look(), [0]);
    let stayer = handle.submit(request(1)).unwrap();
    gate.go();
    assert_eq!(gate.look(), [0, 1]);
    drop(leaver);
    gate.go();
    assert_eq!(gate.look(), [1]);
    assert_eq!(handle.status().running, 1);
    drop(gate);
    assert!(Report::of(stayer).await.end.is_ok());
}

#[tokio::test]
async fn a_request_dropped_while_it_waits_never_runs() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig { max_running: 1, ..EngineConfig::default() });
    let first = handle.submit(request(0)).unwrap();
    assert_eq!(gate.look(), [0]);
    let leaver = handle.submit(request(1)).unwrap();
    gate.go();
    assert_eq!((gate.look(), handle.status().waiting), (vec![0], 1));
    drop(leaver);
    let last = handle.submit(request(2)).unwrap();
    gate.go();
    let mut seen = gate.look();
    assert_eq!(handle.status().waiting, 1);
    while seen == [0] {
        gate.go();
        seen = gate.look();
    }
    assert_eq!(seen, [2]);
    drop(gate);
    assert!(Report::of(first).await.end.is_ok());
    assert!(Report::of(last).await.end.is_ok());
}

#[tokio::test]
async fn a_slow_reader_delays_no_request_and_loses_nothing() {
    let handle = spawn(Script::default(), EngineConfig::default());
    let slow = handle.submit(request(0)).unwrap();
    assert!(Report::of(handle.submit(request(1)).unwrap()).await.end.is_ok());
    // The engine has come to its end before the slow reader reads its first event.
    handle.drain(Duration::from_hours(1)).await;
    let report = Report::of(slow).await;
    assert_eq!(report.text().len(), 12);
    assert_eq!(report.steps.len(), report.end.unwrap().evaluations as usize);
}

#[tokio::test]
async fn a_stopped_sample_leaves_the_next_evaluation_and_the_request_finishes() {
    let (script, gate) = Gate::new(Script::default());
    let handle = spawn(script, EngineConfig::default());
    let stopped = handle.submit(request(0)).unwrap();
    assert_eq!(gate.look(), [0]);
    let stayer = handle.submit(request(1)).unwrap();
    gate.go();
    assert_eq!(gate.look(), [0, 1]);
    stopped.stop(0);
    gate.go();
    assert_eq!(gate.look(), [1]);
    assert_eq!(handle.status().running, 1);
    drop(gate);
    let report = Report::of(stopped).await;
    // The evaluation in flight still counts; nothing after it.
    assert_eq!(report.end.unwrap().evaluations, 2);
    assert_eq!(report.steps.len(), 2);
    assert!(Report::of(stayer).await.end.is_ok());
}
