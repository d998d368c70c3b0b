//! Small requests, an engine to run them, and a hand on its evaluations.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, SyncSender};

use unmask_model::diffusion::{DenoisingState, EarlyExit, Edit, Noise, Policy, SequenceScore, StateSpec};
use unmask_model::predictor::{ModelLimits, Sampling, Script, ScriptedPredictor, TokenId, Visibility};
use unmask_scheduler::{
    DenoiseRequest, DenoisingEvent, Engine, EngineConfig, EngineHandle, EngineMetrics, Generation,
    GenerationError, Timings,
};

pub(crate) const LIMITS: ModelLimits = ModelLimits {
    vocabulary: 1000,
    context: 512,
    mask_token: 999,
    shift: true,
    visibility: Visibility::Full,
};

/// A canvas of `masked` open positions after one given token, which tells the tests whose canvas it is.
pub(crate) fn sample(name: TokenId, number: u32, masked: usize, steps: u32) -> DenoisingState {
    let mut given = vec![None; masked + 1];
    given[0] = Some(name);
    let spec = StateSpec {
        given,
        samplings: vec![Sampling::default()],
        spans: Vec::new(),
        policy: Policy::reference(steps),
        noise: Noise::Keyed { seed: u64::from(name), sample: number },
        ..StateSpec::default()
    };
    DenoisingState::new(spec, &LIMITS).unwrap()
}

/// A request of these samples, without anything about time or clients.
pub(crate) fn of(samples: Vec<DenoisingState>) -> DenoiseRequest {
    DenoiseRequest { samples, ..DenoiseRequest::default() }
}

/// One sample of 12 open positions: 13 rows.
pub(crate) fn request(name: TokenId) -> DenoiseRequest {
    of(vec![sample(name, 0, 12, 16)])
}

pub(crate) fn spawn(script: Script, config: EngineConfig) -> EngineHandle {
    Engine::spawn(ScriptedPredictor::new(LIMITS, script), config, EngineMetrics::default()).unwrap()
}

/// The test's end of the predictor's gate. Dropping it lets every later evaluation through.
pub(crate) struct Gate {
    seen: Receiver<Vec<Vec<TokenId>>>,
    permits: SyncSender<()>,
}

impl Gate {
    pub(crate) fn new(script: Script) -> (Script, Self) {
        let (seen_sender, seen) = mpsc::sync_channel(1);
        let (permits, permits_receiver) = mpsc::sync_channel(1);
        (script.gate(seen_sender, permits_receiver), Self { seen, permits })
    }

    /// Waits until an evaluation has begun and tells whose canvases take part.
    pub(crate) fn look(&self) -> Vec<TokenId> {
        self.seen.recv().unwrap().iter().map(|tokens| tokens[0]).collect()
    }

    /// Lets the evaluation that was looked at end.
    pub(crate) fn go(&self) {
        self.permits.send(()).unwrap();
    }
}

/// Everything that one request reported.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) steps: Vec<Step>,
    /// The scores, text by text.
    pub(crate) scores: Vec<SequenceScore>,
    pub(crate) end: Result<Timings, GenerationError>,
    /// True if the request ended at its deadline.
    pub(crate) expired: bool,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) sample: u32,
    pub(crate) evaluation: u32,
    pub(crate) round: u32,
    pub(crate) edits: Vec<Edit>,
    pub(crate) remaining: usize,
    pub(crate) early_exit: Option<EarlyExit>,
}

impl Report {
    /// Reads a request to its end: steps, exactly one terminal event, nothing after it.
    pub(crate) async fn of(mut generation: Generation) -> Self {
        let mut steps = Vec::new();
        let mut scores = Vec::new();
        let mut expired = false;
        let end = loop {
            match generation.next().await.unwrap() {
                DenoisingEvent::Step { sample, evaluation, round, edits, remaining, early_exit, .. } => {
                    steps.push(Step { sample, evaluation, round, edits, remaining, early_exit });
                }
                DenoisingEvent::Scored { text, score } => {
                    assert_eq!(text as usize, scores.len());
                    scores.push(score);
                }
                DenoisingEvent::Finished(timings) => break Ok(timings),
                DenoisingEvent::Failed(error) => break Err(error),
                DenoisingEvent::Expired(timings) => {
                    expired = true;
                    break Ok(timings);
                }
            }
        };
        assert!(generation.next().await.is_none());
        assert!(generation.next().await.is_none());
        Self { steps, scores, end, expired }
    }

    /// The tokens committed, by sample and position; none twice.
    pub(crate) fn text(&self) -> BTreeMap<(u32, u32), TokenId> {
        let mut text = BTreeMap::new();
        for step in &self.steps {
            for edit in &step.edits {
                let Edit::Commit(commit) = edit else { panic!("nothing is taken back here") };
                assert_eq!(text.insert((step.sample, commit.position), commit.token), None);
            }
        }
        text
    }
}
