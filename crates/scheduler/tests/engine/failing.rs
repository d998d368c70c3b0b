//! Evaluations that fail, and whom they take with them.

use std::panic::panic_any;
use std::time::Duration;

use unmask_model::error::PredictError;
use unmask_model::predictor::{Ask, MaskPredictor, ModelLimits, Read, Script, ScriptedPredictor};
use unmask_scheduler::{Engine, EngineConfig, EngineMetrics, EngineState, GenerationError, SubmitError};

use crate::fixture::{Gate, LIMITS, Report, of, request, sample, spawn};

/// Rows for one of the fixture's canvases, so that every batch is one request.
fn alone() -> EngineConfig {
    EngineConfig { max_rows: 13, ..EngineConfig::default() }
}

/// Runs request 0 into a fault at call 0 while request 1 runs beside it, then request 2 on its own;
/// returns why request 0 failed.
async fn sole_casualty(script: Script) -> GenerationError {
    let (script, gate) = Gate::new(script);
    let handle = spawn(script, alone());
    let hit = handle.submit(request(0)).unwrap();
    gate.look();
    let spared = handle.submit(request(1)).unwrap();
    drop(gate);
    let hit = Report::of(hit).await;
    assert!(hit.steps.is_empty());
    assert_eq!(Report::of(spared).await.text().len(), 12);
    assert_eq!(Report::of(handle.submit(request(2)).unwrap()).await.text().len(), 12);
    assert_eq!(handle.status().state, EngineState::Serving);
    hit.end.unwrap_err()
}

#[tokio::test]
async fn an_error_fails_its_batch_only() {
    let error = sole_casualty(Script::default().fail_at(0)).await;
    assert_eq!(error.to_string(), "the evaluation failed: scripted failure at call 0");
    let GenerationError::Predict(source) = error else { unreachable!("{error}") };
    assert!(matches!(*source, PredictError::Scripted { call: 0 }));
}

#[tokio::test]
async fn a_panic_fails_its_batch_only() {
    assert!(matches!(sole_casualty(Script::default().panic_at(0)).await, GenerationError::Panicked));
}

#[tokio::test]
async fn a_missing_read_fails_its_batch_only() {
    let wants = sample(0, 0, 12, 16).ask().unwrap().wants.len();
    let error = sole_casualty(Script::default().drop_read_at(0)).await;
    let GenerationError::Miscounted { what: "reads", expected, found } = error else {
        unreachable!("{error}")
    };
    assert_eq!((expected, found), (wants, wants - 1));
}

#[tokio::test]
async fn a_request_fails_once_however_many_of_its_samples_were_in_the_batch() {
    let handle = spawn(Script::default().fail_at(2), EngineConfig::default());
    let samples = (0..4).map(|number| sample(0, number, 12, 16)).collect();
    let report = Report::of(handle.submit(of(samples)).unwrap()).await;
    assert_eq!(report.steps.len(), 8);
    assert!(matches!(report.end, Err(GenerationError::Predict(_))));
}

/// A request that panics every time, sent again by a client that retries, must not end the server.
#[tokio::test]
async fn panics_do_not_add_up_while_the_predictor_answers_a_probe() {
    // Each is followed by a probe, which is a call, too.
    let handle = spawn(Script::default().panic_at(0).panic_at(2).panic_at(4), alone());
    for name in 0..3 {
        assert!(matches!(
            Report::of(handle.submit(request(name)).unwrap()).await.end,
            Err(GenerationError::Panicked)
        ));
    }
    assert!(Report::of(handle.submit(request(3)).unwrap()).await.end.is_ok());
}

#[tokio::test]
async fn a_predictor_that_panics_on_a_probe_too_ends_the_engine() {
    let (script, gate) = Gate::new(Script::default().panic_at(0).panic_at(1));
    let handle = spawn(script, EngineConfig { max_running: 1, ..alone() });
    let generations = [0, 1, 2].map(|name| handle.submit(request(name)).unwrap());
    gate.look();
    drop(gate);
    handle.ended().await;
    let status = handle.status();
    assert_eq!((status.state, status.running, status.waiting), (EngineState::Failed, 0, 0));
    assert_eq!(handle.submit(request(3)).unwrap_err(), SubmitError::EngineStopped);
    let mut ends = Vec::new();
    for generation in generations {
        ends.push(Report::of(generation).await.end.unwrap_err());
    }
    assert!(
        matches!(
            ends[..],
            [GenerationError::Panicked, GenerationError::EngineStopped, GenerationError::EngineStopped]
        ),
        "{ends:?}"
    );
    handle.drain(Duration::from_hours(1)).await;
    assert_eq!(handle.status().state, EngineState::Failed);
}

/// On a GPU a batch that does not fit must not fail a request, and must not be tried again and again.
#[tokio::test]
async fn a_batch_that_does_not_fit_is_split_and_fails_no_request() {
    // Each canvas has 13 rows; four fit at once.
    let (script, gate) = Gate::new(Script::default().memory_for(52));
    let handle = spawn(script, EngineConfig { max_rows: 1000, ..EngineConfig::default() });
    let generations: Vec<_> = (0..8).map(|name| (name, handle.submit(request(name)).unwrap())).collect();
    let next = || {
        let canvases = gate.look().len();
        gate.go();
        canvases
    };
    // The first call may have come before all requests had.
    while next() <= 4 {}
    for _ in 0..20 {
        assert!(next() <= 4, "the budget is what fits");
    }
    drop(gate);
    for (name, generation) in generations {
        let alone = spawn(Script::default(), EngineConfig::default());
        let expected = Report::of(alone.submit(request(name)).unwrap()).await;
        assert_eq!(Report::of(generation).await.text(), expected.text(), "request {name}");
    }
    assert_eq!(handle.status().state, EngineState::Serving);
}

/// A request with several samples in a batch that does not fit is not at fault either.
#[tokio::test]
async fn samples_of_one_request_that_do_not_fit_together_are_evaluated_apart() {
    let handle = spawn(Script::default().memory_for(20), EngineConfig::default());
    let samples = (0..4).map(|number| sample(0, number, 12, 16)).collect();
    let report = Report::of(handle.submit(of(samples)).unwrap()).await;
    assert!(report.end.is_ok(), "{:?}", report.end);
}

#[tokio::test]
async fn a_canvas_that_does_not_fit_by_itself_fails_alone() {
    let handle = spawn(Script::default().memory_for(20), EngineConfig::default());
    let large = handle.submit(of(vec![sample(0, 0, 30, 16)])).unwrap();
    let small = handle.submit(request(1)).unwrap();
    let GenerationError::Predict(error) = Report::of(large).await.end.unwrap_err() else { unreachable!() };
    assert!(matches!(*error, PredictError::OutOfMemory { .. }), "{error}");
    assert!(Report::of(small).await.end.is_ok());
    assert_eq!(handle.status().state, EngineState::Serving);
}

/// `/live` must say so: only a new process can open the device again.
#[tokio::test]
async fn a_lost_device_ends_the_engine() {
    let (script, gate) = Gate::new(Script::default().lose_at(0));
    let handle = spawn(script, alone());
    let generations = [0, 1].map(|name| handle.submit(request(name)).unwrap());
    gate.look();
    drop(gate);
    handle.ended().await;
    assert_eq!(handle.status().state, EngineState::Failed);
    assert_eq!(handle.submit(request(2)).unwrap_err(), SubmitError::EngineStopped);
    let [first, second] = generations;
    let GenerationError::Predict(error) = Report::of(first).await.end.unwrap_err() else { unreachable!() };
    assert!(matches!(*error, PredictError::DeviceLost { .. }), "{error}");
    assert!(matches!(Report::of(second).await.end, Err(GenerationError::EngineStopped)));
}

/// Panics with a payload that panics again when the engine lets go of it.
struct Deadly;

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any("the payload panics too");
    }
}

impl MaskPredictor for Deadly {
    fn limits(&self) -> ModelLimits {
        LIMITS
    }

    fn predict(&mut self, _: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        panic_any(Bomb)
    }
}

#[tokio::test]
async fn a_dead_thread_leaves_no_caller_waiting() {
    let handle = Engine::spawn(Deadly, EngineConfig::default(), EngineMetrics::default()).unwrap();
    let report = Report::of(handle.submit(request(0)).unwrap()).await;
    assert!(matches!(report.end, Err(GenerationError::EngineStopped)));
    handle.ended().await;
    assert_eq!(handle.status().state, EngineState::Failed);
    assert_eq!(handle.submit(request(1)).unwrap_err(), SubmitError::EngineStopped);
}

#[tokio::test]
async fn every_accepted_request_ends_exactly_once() {
    let script = (0..200).step_by(7).fold(Script::default(), Script::fail_at);
    // Not where the next call, the probe, would fail.
    let panics = (3..200).step_by(11).filter(|call| (call + 1) % 7 != 0);
    let script = panics.fold(script, Script::panic_at);
    let handle =
        spawn(script, EngineConfig { max_rows: 64, max_running: 8, queue: 1000, ..EngineConfig::default() });
    let mut generations = Vec::new();
    for name in 0..200 {
        let samples =
            (0..1 + name % 3).map(|number| sample(name, number, 1 + name as usize % 40, 1 + name % 9));
        let generation = handle.submit(of(samples.collect()));
        // Every fifth reader leaves at once.
        if name % 5 != 0 {
            generations.push(generation.unwrap());
        }
    }
    let mut finished = 0;
    let mut failed = 0;
    for generation in generations {
        if Report::of(generation).await.end.is_ok() { finished += 1 } else { failed += 1 }
    }
    assert_eq!(finished + failed, 160);
    assert!(finished > 0 && failed > 0, "{finished} finished, {failed} failed");
    handle.drain(Duration::from_hours(1)).await;
    let status = handle.status();
    assert_eq!((status.state, status.running, status.waiting), (EngineState::Stopped, 0, 0));
}

/// Panics whenever a canvas starts with a certain token.
struct Poisoned(ScriptedPredictor);

impl MaskPredictor for Poisoned {
    fn limits(&self) -> ModelLimits {
        self.0.limits()
    }

    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        assert!(asks.iter().all(|ask| ask.tokens[0] != 13), "poison");
        self.0.predict(asks)
    }
}

#[tokio::test]
async fn a_request_that_makes_the_predictor_panic_fails_alone() {
    let predictor = Poisoned(ScriptedPredictor::new(LIMITS, Script::default()));
    let handle = Engine::spawn(predictor, EngineConfig::default(), EngineMetrics::default()).unwrap();
    let generations: Vec<_> = (10..20).map(|name| (name, handle.submit(request(name)).unwrap())).collect();
    for (name, generation) in generations {
        let report = Report::of(generation).await;
        assert_eq!(matches!(report.end, Err(GenerationError::Panicked)), name == 13, "request {name}");
        // The others' texts are those they have alone.
        let alone = spawn(Script::default(), EngineConfig::default());
        let expected = Report::of(alone.submit(request(name)).unwrap()).await;
        assert!(name == 13 || report.text() == expected.text(), "request {name}");
    }
    assert_eq!(handle.status().state, EngineState::Serving);
}

/// Answers like the scripted predictor, and refuses canvases that start with a certain token.
struct Picky(ScriptedPredictor);

impl MaskPredictor for Picky {
    fn limits(&self) -> ModelLimits {
        self.0.limits()
    }

    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        match asks.iter().position(|ask| ask.tokens[0] == 13) {
            Some(ask) => Err(PredictError::NotFinite { ask, position: 1 }),
            None => self.0.predict(asks),
        }
    }
}

#[tokio::test]
async fn a_canvas_that_is_named_as_the_fault_fails_alone() {
    let predictor = Picky(ScriptedPredictor::new(LIMITS, Script::default()));
    let handle = Engine::spawn(predictor, EngineConfig::default(), EngineMetrics::default()).unwrap();
    let generations: Vec<_> = (10..20).map(|name| (name, handle.submit(request(name)).unwrap())).collect();
    for (name, generation) in generations {
        let report = Report::of(generation).await;
        assert_eq!(report.end.is_err(), name == 13, "request {name}");
        assert!(name == 13 || report.text().len() == 12);
    }
}
