//! The endings of a request, and the record of it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::answer::Answer;
use crate::call::Route;
use crate::trace::Reader;

/// The ending of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum Ending {
    /// With an answer.
    Finished(Answer),
    /// With 503 or 429.
    Refused(Refusal),
    /// With `request_timeout`, under a deadline that the run asked for.
    Expired,
    /// By the client, as planned.
    Vanished,
    /// An ending that is an error.
    Failed(Failure),
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(_) => formatter.write_str("finished"),
            Self::Refused(Refusal { status, code, .. }) => write!(formatter, "refused: {status} {code}"),
            Self::Expired => formatter.write_str("its deadline passed"),
            Self::Vanished => formatter.write_str("the client vanished"),
            Self::Failed(failure) => failure.fmt(formatter),
        }
    }
}

/// A status that says: not now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// 503 or 429.
    pub status: u16,
    /// The error's code.
    pub code: String,
    /// Seconds of `Retry-After`, if the header was there.
    pub retry_after: Option<u64>,
}

/// The error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer ended before its last event.
    #[error("the answer ended before its last event")]
    Cut,
    /// The answer is not what the route's contract says.
    #[error("not understood: {0}")]
    Malformed(String),
    /// The client waited as long as it was told to.
    #[error("no end within the client's timeout")]
    Timeout,
    /// A status that is neither an answer nor a refusal.
    #[error("status {status}: {code}")]
    Status {
        /// The status.
        status: u16,
        /// The error's code.
        code: String,
    },
    /// An error event in a stream that had begun.
    #[error("an error in the stream: {code}")]
    Stream {
        /// The error's code.
        code: String,
    },
}

impl Failure {
    /// The name under which a failure is counted.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Connect(_) => "no connection".to_owned(),
            Self::Broken(_) => "connection broke".to_owned(),
            Self::Malformed(_) => "not understood".to_owned(),
            Self::Cut | Self::Timeout | Self::Status { .. } | Self::Stream { .. } => self.to_string(),
        }
    }
}

/// All that is written down about one request. Times count from when the request was due, which is what
/// its user would have felt, also if it was sent late.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Its number in the trace.
    pub number: usize,
    /// When it was due, from the start of the run.
    pub due_s: f64,
    /// The route of the request.
    pub route: Route,
    /// Positions that it asked for.
    pub canvas: u32,
    /// True if the answer was streamed.
    pub streamed: bool,
    /// The client's way of reading the answer.
    pub reader: Reader,
    /// The delay of sending it, in milliseconds, which the generator itself causes.
    pub late_ms: f64,
    /// Until the first denoising state, in milliseconds.
    pub first_state_ms: Option<f64>,
    /// Until the end, in milliseconds.
    pub total_ms: f64,
    /// The end.
    #[serde(flatten)]
    pub ending: Ending,
}

/// A duration in milliseconds.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
