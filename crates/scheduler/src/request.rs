//! An accepted request on its way through the engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use unmask_model::diffusion::{DenoisingState, Edit, ScoringState};
use unmask_model::predictor::{Ask, Read, TokenId};

use crate::batcher::{ClientId, Member};
use crate::cost::{CostModel, Work};
use crate::event::{DenoisingEvent, Timings};
use crate::handle::DenoiseRequest;

pub(crate) struct Request {
    /// The samples, followed by the texts.
    pub(crate) tasks: Vec<Task>,
    pub(crate) client: ClientId,
    /// The time at which it ends with the tokens committed by then.
    pub(crate) deadline: Option<Instant>,
    /// The time at which one evaluation commits all open positions.
    pub(crate) finish_by: Option<Instant>,
    events: mpsc::Sender<DenoisingEvent>,
    submitted: Instant,
    started: Option<Instant>,
    batch_peak: usize,
    rows: u64,
    reads: u64,
    /// Predicted device time of all that each sample may still take.
    left: Vec<Duration>,
    /// Samples whose reader has seen enough.
    stops: Arc<[AtomicBool]>,
}

impl Request {
    /// A request, the receiving end of its events, and the flags that stop its samples.
    pub(crate) fn new(
        request: DenoiseRequest,
        cost: &CostModel,
        now: Instant,
    ) -> (Self, mpsc::Receiver<DenoisingEvent>, Arc<[AtomicBool]>) {
        let DenoiseRequest { samples, texts, client, deadline, finish_by } = request;
        let samples = samples.into_iter().map(|sample| Task::Denoise(Box::new(sample)));
        let tasks: Vec<Task> =
            samples.chain(texts.into_iter().map(|text| Task::Score(Box::new(text)))).collect();
        // Each evaluation has its overhead.
        let overhead = cost.time(Work::default());
        let time = |task: &Task| match task.evaluations_left() {
            0 => Duration::ZERO,
            left => cost.time(task.work_left()).saturating_add(overhead.saturating_mul(left - 1)),
        };
        let left = tasks.iter().map(time).collect();
        // Room for every step, every score and the terminal event: the engine never waits, and nothing is lost.
        let (events, receiver) = mpsc::channel(tasks.iter().map(Task::events).sum::<usize>() + 1);
        let stops: Arc<[AtomicBool]> = tasks.iter().map(|_| AtomicBool::new(false)).collect();
        let flags = Arc::clone(&stops);
        let request = Self {
            tasks,
            client,
            deadline,
            finish_by,
            events,
            submitted: now,
            started: None,
            batch_peak: 0,
            rows: 0,
            reads: 0,
            left,
            stops,
        };
        (request, receiver, flags)
    }

    /// The samples that still need evaluations, as the batcher sees them. `price` gives rows and device time of an
    /// evaluation, `memo` the bytes that are kept for a canvas of a length.
    pub(crate) fn members(
        &self,
        price: impl Fn(&Ask<'_>) -> (usize, u64),
        memo: impl Fn(usize) -> u64,
    ) -> Vec<Member> {
        let mut first: HashMap<(&[TokenId], Option<&[TokenId]>), u32> = HashMap::new();
        let mut members = Vec::with_capacity(self.tasks.len());
        for (sample, task) in (0..).zip(&self.tasks) {
            let Some(ask) = task.ask() else { continue };
            let (rows, price) = price(&ask);
            let memo = if task.keeps() { memo(task.length()) } else { 0 };
            let canvas = (ask.tokens, ask.guidance.map(|guide| guide.tokens));
            let twin_of = *first.entry(canvas).or_insert(sample);
            members.push(Member { sample, rows, price, memo, twin_of });
        }
        members
    }

    /// The sending end of its events.
    pub(crate) fn events(&self) -> mpsc::Sender<DenoisingEvent> {
        self.events.clone()
    }

    /// Predicted device time of all that is left to do.
    pub(crate) fn time_left(&self) -> Duration {
        let open = self.left.iter().zip(&self.tasks).filter(|(_, task)| task.ask().is_some());
        open.map(|(left, _)| *left).fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Returns true if every sample and every text is complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.tasks.iter().all(|task| task.ask().is_none())
    }

    /// Time waited for the first evaluation; `None` once that has begun.
    pub(crate) fn waited(&self, now: Instant) -> Option<Duration> {
        self.started.is_none().then(|| now.saturating_duration_since(self.submitted))
    }

    /// Ends the samples whose reader has seen enough, and names them. Before its first evaluation a request
    /// has shown nothing, so nothing of it is stopped.
    pub(crate) fn stop_samples(&mut self) -> Vec<u32> {
        if self.started.is_none() {
            return Vec::new();
        }
        let stops = Arc::clone(&self.stops);
        let stopped =
            self.open_samples().filter(|(number, _)| stops[*number as usize].load(Ordering::Relaxed));
        stopped
            .map(|(number, sample)| {
                sample.stop();
                number
            })
            .collect()
    }

    /// Makes the next evaluation of every open sample its last one, and names them; once.
    pub(crate) fn finish_next(&mut self) -> Vec<u32> {
        self.finish_by = None;
        let open = self.open_samples();
        open.map(|(number, sample)| {
            sample.finish_next();
            number
        })
        .collect()
    }

    /// The samples that still need evaluations, with their numbers.
    fn open_samples(&mut self) -> impl Iterator<Item = (u32, &mut DenoisingState)> {
        (0..).zip(&mut self.tasks).filter_map(|(number, task)| match task {
            Task::Denoise(sample) if sample.ask().is_some() => Some((number, &mut **sample)),
            _ => None,
        })
    }

    /// Returns true if the reader has dropped the events.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// Notes that an evaluation of `canvases` canvases, some of them this request's, starts. Returns the
    /// time in the queue when it is the first.
    pub(crate) fn start(&mut self, canvases: usize, now: Instant) -> Option<Duration> {
        let waited = self.waited(now);
        self.started.get_or_insert(now);
        self.batch_peak = self.batch_peak.max(canvases);
        waited
    }

    /// Takes the answers for one task, which took `rows` rows and a predicted time, and reports a sample's step: how many
    /// positions it committed, and whether that task is complete.
    pub(crate) fn advance(
        &mut self,
        sample: u32,
        reads: &[Read],
        (rows, time): (u64, Duration),
    ) -> (usize, bool) {
        let Some(task) = self.tasks.get_mut(sample as usize) else { return (0, true) };
        self.rows += rows;
        self.reads += reads.len() as u64;
        if let Some(left) = self.left.get_mut(sample as usize) {
            *left = left.saturating_sub(time);
        }
        let state = match task {
            Task::Denoise(state) => state,
            Task::Score(text) => {
                text.act(reads);
                return (0, text.ask().is_none());
            }
        };
        let round = state.round();
        let edits = state.act(reads);
        let committed = edits.iter().filter(|edit| matches!(edit, Edit::Commit(_))).count();
        let evaluation = state.evaluations();
        let remaining = state.canvas().masked();
        let done = state.ask().is_none();
        let early_exit = state.early_exit();
        let draft = state.draft().to_vec();
        self.post(DenoisingEvent::Step {
            sample,
            evaluation,
            round,
            edits,
            remaining,
            draft,
            done,
            early_exit,
        });
        (committed, done)
    }

    /// Reports every text's score.
    pub(crate) fn post_scores(&self) {
        let texts =
            self.tasks.iter().filter_map(|task| if let Task::Score(text) = task { Some(text) } else { None });
        for (text, state) in (0..).zip(texts) {
            self.post(DenoisingEvent::Scored { text, score: state.score() });
        }
    }

    /// Times and amounts of work until `now`.
    pub(crate) fn timings(&self, now: Instant) -> Timings {
        Timings {
            queued: self.started.unwrap_or(now).duration_since(self.submitted),
            denoising: self.started.map_or(Duration::ZERO, |started| now.duration_since(started)),
            evaluations: self.tasks.iter().map(Task::evaluations).sum(),
            rows: self.rows,
            reads: self.reads,
            batch_peak: self.batch_peak,
        }
    }

    /// Sends `event` unless the reader has left.
    pub(crate) fn post(&self, event: DenoisingEvent) {
        // The channel holds everything a request can report, so this fails only for a reader that left,
        // which the engine notices before the next evaluation.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            tracing::error!("a request made more evaluations than it announced; an event was lost");
        }
    }
}

/// A canvas that is denoised or a text that is scored: both ask, and both take answers.
pub(crate) enum Task {
    Denoise(Box<DenoisingState>),
    Score(Box<ScoringState>),
}

impl Task {
    /// The reads of the next evaluation; `None` when the task is done.
    pub(crate) fn ask(&self) -> Option<Ask<'_>> {
        match self {
            Self::Denoise(sample) => sample.ask(),
            Self::Score(text) => text.ask(),
        }
    }

    /// Evaluations used so far.
    pub(crate) fn evaluations(&self) -> u32 {
        match self {
            Self::Denoise(sample) => sample.evaluations(),
            Self::Score(text) => text.evaluations(),
        }
    }

    /// The most evaluations that it can still use.
    pub(crate) fn evaluations_left(&self) -> u32 {
        match self {
            Self::Denoise(sample) => sample.evaluations_left(),
            Self::Score(text) => text.evaluations_left(),
        }
    }

    /// The most events that it will report.
    pub(crate) fn events(&self) -> usize {
        match self {
            Self::Denoise(sample) => sample.evaluations_left() as usize,
            Self::Score(_) => 1,
        }
    }

    /// The work that it may still compute.
    pub(crate) fn work_left(&self) -> Work {
        match self {
            Self::Denoise(sample) => sample.work_left(),
            Self::Score(text) => {
                let each = text.ask().map_or(Work::default(), |ask| Work::of(&ask, 0));
                each.times(text.evaluations_left())
            }
        }
    }

    /// Returns true if keys and values are kept between its evaluations.
    pub(crate) fn keeps(&self) -> bool {
        matches!(self, Self::Denoise(sample) if sample.keeps())
    }

    /// Positions of its canvas.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Denoise(sample) => sample.canvas().tokens().len(),
            Self::Score(text) => text.ask().map_or(0, |ask| ask.tokens.len()),
        }
    }
}
