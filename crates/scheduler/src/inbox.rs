//! What the handles and the engine's thread share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::request::Request;

/// Whether an engine takes and runs requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineState {
    /// Takes requests.
    #[default]
    Serving,
    /// Finishes what it has and takes nothing new.
    Draining,
    /// Ended by a predictor that can not be trusted any more, or died.
    Failed,
    /// Ended in order.
    Stopped,
}

/// What an engine is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    /// Requests that run.
    pub running: usize,
    /// Requests that are accepted and do not run yet.
    pub waiting: usize,
    /// Forward passes begun so far, however many canvases shared each.
    pub evaluations: u64,
    /// Since when the evaluation under way runs, if one does.
    pub evaluating_since: Option<Instant>,
    /// When everything accepted should be done: the work left, at the speed measured lately.
    pub backlog: Duration,
    /// Whether it takes and runs requests.
    pub state: EngineState,
}

/// A short-lived lock around a few plain values, and a bell for the engine when it is idle.
#[derive(Default)]
pub(crate) struct Inbox {
    contents: Mutex<Contents>,
    bell: Condvar,
}

#[derive(Default)]
pub(crate) struct Contents {
    /// Accepted since the engine last looked; counted in `status.waiting`, which bounds it.
    pub(crate) arrivals: Vec<Request>,
    pub(crate) status: EngineStatus,
    /// The grace period is over: fail what is left.
    pub(crate) abort: bool,
    /// The last handle is gone: nothing new can come.
    pub(crate) orphaned: bool,
}

impl Inbox {
    /// The contents. A panic elsewhere leaves no half-made change behind, so poison is ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the contents and wakes the engine.
    pub(crate) fn tell<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        let answer = change(&mut self.lock());
        self.bell.notify_one();
        answer
    }

    /// Waits until somebody tells something.
    pub(crate) fn wait<'a>(&self, contents: MutexGuard<'a, Contents>) -> MutexGuard<'a, Contents> {
        self.bell.wait(contents).unwrap_or_else(PoisonError::into_inner)
    }
}
