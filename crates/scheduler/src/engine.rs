//! The thread that owns the device: receive, choose a batch, evaluate it, report, again.

mod clock;
mod fault;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io, mem, thread};

use tokio::sync::watch;
use unmask_model::predictor::{Ask, Context, MaskPredictor, Read};

use self::fault::Broken;
use crate::batcher::{Batcher, RequestId, SampleId};
use crate::config::EngineConfig;
use crate::cost::{CostModel, Work};
use crate::error::GenerationError;
use crate::event::DenoisingEvent;
use crate::handle::EngineHandle;
use crate::inbox::{Backlog, EngineState, Inbox};
use crate::metrics::EngineMetrics;
use crate::pace::Pace;
use crate::recent::Recent;
use crate::request::Request;

/// The crate's only clock.
#[expect(clippy::disallowed_methods, reason = "the engine measures its requests")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Evaluates the requests of all handles on one thread, which owns the predictor.
///
/// [`Engine::spawn`] starts the thread and returns the first [`EngineHandle`]. Before every evaluation the engine
/// takes in what the handles have submitted, drops requests whose [`Generation`](crate::Generation) is gone, lets a
/// [`Batcher`] choose the samples, and calls the predictor once for all of them. Every accepted request ends with
/// exactly one terminal event, also if the predictor fails or panics.
///
/// ```
/// use unmask_model::diffusion::{DenoisingState, Policy, StateSpec};
/// use unmask_model::predictor::{MaskPredictor, ModelLimits, Script, ScriptedPredictor, Visibility};
/// use unmask_scheduler::{DenoiseRequest, DenoisingEvent, Engine, EngineConfig, EngineMetrics};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limits = ModelLimits { vocabulary: 100, context: 64, mask_token: 99, shift: false, visibility: Visibility::Full };
/// let predictor = ScriptedPredictor::new(limits, Script::default());
/// let handle = Engine::spawn(predictor, EngineConfig::default(), EngineMetrics::default())?;
///
/// // Two given tokens, then four to generate.
/// let given = vec![Some(1), Some(2), None, None, None, None];
/// let spec = StateSpec { given, policy: Policy::reference(8), ..StateSpec::default() };
/// let sample = DenoisingState::new(spec, &limits)?;
/// let mut events = handle.submit(DenoiseRequest { samples: vec![sample], ..DenoiseRequest::default() })?;
/// let mut committed = 0;
/// while let Some(event) = events.next().await {
///     match event {
///         DenoisingEvent::Step { edits, .. } => committed += edits.len(),
///         DenoisingEvent::Finished(timings) => assert!(timings.evaluations <= 4),
///         other => panic!("{other:?}"),
///     }
/// }
/// assert_eq!(committed, 4);
/// handle.drain(std::time::Duration::ZERO).await;
/// # Ok(())
/// # }
/// ```
pub struct Engine<P: MaskPredictor> {
    predictor: P,
    batcher: Batcher,
    requests: BTreeMap<RequestId, Request>,
    /// Requests from this one on have not been taken in yet.
    unseen: RequestId,
    config: EngineConfig,
    metrics: EngineMetrics,
    /// Samples of an evaluation that failed without naming a canvas; each is evaluated alone.
    suspects: VecDeque<SampleId>,
    /// Set when the predictor cannot be asked any more.
    broken: Option<Broken>,
    /// Time that the last evaluation took.
    last_took: Duration,
    /// Measured over predicted time of evaluations.
    pace: Pace,
    recent: Recent,
    inbox: Arc<Inbox>,
}

impl<P: MaskPredictor> Engine<P> {
    /// Starts the thread `unmask-engine`, which owns the predictor until it ends.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn spawn(predictor: P, config: EngineConfig, metrics: EngineMetrics) -> io::Result<EngineHandle> {
        metrics.cost(&config.cost);
        let inbox = Arc::new(Inbox::default());
        let (ended, watch) = watch::channel(());
        let memory = predictor.memos().budget;
        let engine = Self {
            predictor,
            batcher: Batcher::new(config.max_rows, config.max_running).with_memory(memory),
            requests: BTreeMap::new(),
            unseen: RequestId(0),
            config,
            metrics,
            suspects: VecDeque::new(),
            broken: None,
            last_took: Duration::ZERO,
            pace: Pace::default(),
            recent: Recent::default(),
            inbox: Arc::clone(&inbox),
        };
        thread::Builder::new().name("unmask-engine".into()).spawn(move || {
            engine.run();
            // Closes the watch after the predictor and its device memory are gone, also on a panic.
            drop(ended);
        })?;
        Ok(EngineHandle::new(inbox, config, watch))
    }

    fn run(mut self) {
        while self.receive() {
            self.drop_cancelled();
            self.stop_samples();
            self.enforce_times(now());
            let batch = self.next_batch();
            if batch.is_empty() {
                continue;
            }
            match self.evaluate(&batch) {
                Ok((answers, works)) => self.advance(&batch, &answers, &works),
                Err(error) => self.fail(&batch, &error),
            }
            if self.requests.is_empty() {
                self.predictor.mark_live(&[]);
                self.metrics.memos(&self.predictor.memos());
            }
            if let Some(broken) = self.broken {
                tracing::error!("{}", broken.reason());
                return self.stop(EngineState::Failed, &GenerationError::EngineStopped);
            }
        }
        self.stop(EngineState::Stopped, &GenerationError::ShuttingDown);
    }

    /// Takes in what has arrived; waits only when there is nothing to do. False means the end.
    fn receive(&mut self) -> bool {
        let inbox = Arc::clone(&self.inbox);
        let mut contents = inbox.lock();
        while contents.arrivals.is_empty() && self.requests.is_empty() {
            if contents.orphaned || contents.status.state == EngineState::Draining {
                return false;
            }
            contents = inbox.wait(contents);
        }
        if contents.abort {
            return false;
        }
        let arrivals = mem::take(&mut contents.arrivals);
        let displaced = mem::take(&mut contents.displaced);
        drop(contents);
        let accepted: Vec<RequestId> = arrivals.iter().map(|(id, _)| *id).collect();
        arrivals.into_iter().for_each(|(id, request)| self.accept(id, request));
        for id in displaced {
            self.metrics.displaced();
            self.batcher.cancel(id);
            self.requests.remove(&id);
        }
        accepted.into_iter().for_each(|id| self.finish_if_complete(id));
        true
    }

    fn accept(&mut self, id: RequestId, request: Request) {
        self.unseen = RequestId(id.0 + 1);
        let members = request.members(
            |ask| price(&self.config.cost, self.predictor.work(ask)),
            |length| self.predictor.memo_bytes(length),
        );
        self.batcher.add(id, request.client, members);
        self.requests.insert(id, request);
    }

    fn drop_cancelled(&mut self) {
        let batcher = &mut self.batcher;
        self.requests.retain(|id, request| {
            let cancelled = request.is_cancelled();
            if cancelled {
                batcher.cancel(*id);
            }
            !cancelled
        });
        self.publish();
    }

    /// Ends the samples that their readers have stopped.
    fn stop_samples(&mut self) {
        let mut touched = Vec::new();
        for (id, request) in &mut self.requests {
            for sample in request.stop_samples() {
                self.batcher.retire(SampleId { request: *id, sample });
                touched.push(*id);
            }
        }
        touched.into_iter().for_each(|id| self.finish_if_complete(id));
    }

    /// The next batch; samples that must be evaluated alone come first.
    fn next_batch(&mut self) -> Vec<SampleId> {
        while let Some(suspect) = self.suspects.pop_front() {
            if self.ask(suspect).is_some() {
                return vec![suspect];
            }
        }
        self.reprice();
        self.batcher.next_batch()
    }

    /// Prices the running samples with kept keys and values by what they would compute now, and names to the predictor
    /// those that they need.
    fn reprice(&mut self) {
        let Self { requests, predictor, batcher, config, .. } = self;
        let mut live = Vec::new();
        let mut prices = Vec::new();
        for sample in batcher.running() {
            let Some(ask) = ask_of(requests, sample) else { continue };
            if let Context::Frozen { as_of, .. } = ask.context {
                live.push(as_of);
                prices.push((sample, price(&config.cost, predictor.work(&ask))));
            }
        }
        predictor.mark_live(&live);
        prices.into_iter().for_each(|(sample, (rows, price))| batcher.reprice(sample, rows, price));
    }

    fn ask(&self, id: SampleId) -> Option<Ask<'_>> {
        ask_of(&self.requests, id)
    }

    /// One forward pass for the samples of `batch`: the reads of each, as many as it asked for.
    fn evaluate(&mut self, batch: &[SampleId]) -> Result<(Vec<Vec<Read>>, Vec<Work>), GenerationError> {
        let start = now();
        self.begin(batch, start);
        let asks: Vec<Ask<'_>> = batch.iter().filter_map(|id| ask_of(&self.requests, *id)).collect();
        let works: Vec<Work> = asks.iter().map(|ask| self.predictor.work(ask)).collect();
        let mut total = Work::default();
        works.iter().for_each(|work| total += *work);
        // A failed call changes nothing of the predictor, by its contract, so it can be called again.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.predictor.predict(&asks)));
        self.inbox.lock().status.evaluating_since = None;
        let Ok(outcome) = outcome else { return Err(GenerationError::Panicked) };
        let answers = outcome.map_err(|error| GenerationError::Predict(Arc::new(error)))?;
        count("canvases", asks.len(), answers.len())?;
        for (ask, reads) in asks.iter().zip(&answers) {
            count("reads", ask.wants.len(), reads.len())?;
        }
        let took = now().saturating_duration_since(start);
        self.metrics.evaluated(asks.len(), total.rows, self.config.max_rows, took);
        drop(asks);
        self.metrics.memos(&self.predictor.memos());
        self.learn(total, took);
        Ok((answers, works))
    }

    /// Notes in requests, status and metrics that an evaluation starts.
    fn begin(&mut self, batch: &[SampleId], now: Instant) {
        for sample in batch {
            let request = self.requests.get_mut(&sample.request);
            if let Some(waited) = request.and_then(|request| request.start(batch.len(), now)) {
                self.metrics.started(waited);
            }
        }
        self.publish();
        let backlog = self.backlog();
        let mut contents = self.inbox.lock();
        contents.status.evaluations += 1;
        contents.status.evaluating_since = Some(now);
        contents.status.backlog = backlog.total();
        contents.backlog = backlog;
    }

    fn advance(&mut self, batch: &[SampleId], answers: &[Vec<Read>], works: &[Work]) {
        for ((id, reads), work) in batch.iter().zip(answers).zip(works) {
            let Some(request) = self.requests.get_mut(&id.request) else { continue };
            let time = self.config.cost.time(*work);
            let (committed, done) = request.advance(id.sample, reads, (work.rows, time));
            self.metrics.committed(committed);
            if done {
                self.batcher.retire(*id);
                self.finish_if_complete(id.request);
            }
        }
    }

    fn finish_if_complete(&mut self, id: RequestId) {
        if self.requests.get(&id).is_some_and(Request::is_complete) {
            self.end(id, |request| {
                request.post_scores();
                DenoisingEvent::Finished(request.timings(now()))
            });
        }
    }

    /// Removes a request and updates the status before sending the terminal event.
    fn end(&mut self, id: RequestId, last: impl FnOnce(&Request) -> DenoisingEvent) {
        if let Some(request) = self.requests.remove(&id) {
            self.batcher.cancel(id);
            self.publish();
            request.post(last(&request));
        }
    }

    /// Refuses everything from here on and fails what is left.
    fn stop(&mut self, state: EngineState, error: &GenerationError) {
        let arrivals = {
            let mut contents = self.inbox.lock();
            contents.status.state = state;
            mem::take(&mut contents.arrivals)
        };
        for (id, request) in arrivals {
            self.accept(id, request);
        }
        while let Some(&id) = self.requests.keys().next() {
            self.end(id, |_| DenoisingEvent::Failed(error.clone()));
        }
    }

    /// Updates what the handles see.
    fn publish(&self) {
        let mut contents = self.inbox.lock();
        contents.queue.retain(|id| id >= self.unseen || self.batcher.is_waiting(id));
        contents.status.running = self.requests.len() - self.batcher.waiting();
        contents.status.waiting = contents.queue.len();
        if self.requests.is_empty() {
            contents.status.backlog = Duration::ZERO;
            contents.backlog = Backlog::default();
        }
        self.metrics.status(&contents.status);
    }
}

impl<P: MaskPredictor> fmt::Debug for Engine<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("requests", &self.requests.len()).finish_non_exhaustive()
    }
}

/// The pending ask of a sample.
fn ask_of(requests: &BTreeMap<RequestId, Request>, id: SampleId) -> Option<Ask<'_>> {
    requests.get(&id.request)?.tasks.get(id.sample as usize)?.ask()
}

/// Rows of a batch, and nanoseconds of device time.
fn price(cost: &CostModel, work: Work) -> (usize, u64) {
    let rows = usize::try_from(work.rows).unwrap_or(usize::MAX);
    (rows, u64::try_from(cost.time(work).as_nanos()).unwrap_or(u64::MAX).max(1))
}

fn count(what: &'static str, expected: usize, found: usize) -> Result<(), GenerationError> {
    if expected == found { Ok(()) } else { Err(GenerationError::Miscounted { what, expected, found }) }
}
