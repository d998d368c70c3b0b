//! Reasons for refusing a request, and for the failure of an accepted one.

use std::sync::Arc;
use std::time::Duration;

use unmask_model::error::PredictError;

/// A request that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many requests wait already.
    #[error("the queue is full: {waiting} requests wait and {limit} may")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// Requests that may wait.
        limit: usize,
        /// When the accepted work of this client should be done, at the speed measured lately.
        retry_after: Duration,
    },
    /// The engine drains: it finishes what it has and takes nothing new.
    #[error("the server is shutting down and accepts no new requests")]
    ShuttingDown,
    /// The engine's thread has ended.
    #[error("the engine has stopped and accepts no requests")]
    EngineStopped,
    /// A request without samples.
    #[error("the request has 0 samples; at least 1 is needed")]
    NoSamples,
}

/// The reason that an accepted request did not finish.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GenerationError {
    /// The predictor reported an error for a batch that this request was part of.
    #[error("the evaluation failed: {0}")]
    Predict(#[source] Arc<PredictError>),
    /// The predictor answered a batch that this request was part of with the wrong number of answers.
    #[error("the evaluation failed: {expected} {what} were asked for and {found} came back")]
    Miscounted {
        /// The thing counted: `canvases` or `reads`.
        what: &'static str,
        /// The number asked for.
        expected: usize,
        /// The number that came back.
        found: usize,
    },
    /// The predictor panicked on a batch that this request was part of.
    #[error("the evaluation failed: the predictor panicked")]
    Panicked,
    /// The request waited too long for its first evaluation.
    #[error("the request waited {} s for its turn; the server is overloaded", waited.as_secs())]
    QueueTimeout {
        /// Time it waited.
        waited: Duration,
        /// When the accepted work of this client should be done, at the speed measured lately.
        retry_after: Duration,
    },
    /// A client with fewer requests in the full queue took this one's place.
    #[error(
        "the queue is full: {limit} requests may wait, and one of another client, which has fewer there, took this \
         one's place"
    )]
    Displaced {
        /// Requests that may wait.
        limit: usize,
        /// When the accepted work of this client should be done, at the speed measured lately.
        retry_after: Duration,
    },
    /// The grace period of a drain was over.
    #[error("the server shut down before the request finished")]
    ShuttingDown,
    /// The engine's thread ended.
    #[error("the engine stopped before the request finished")]
    EngineStopped,
}
