//! The values of labels: closed sets, so that no client can add a time series.

use std::fmt::{self, Write};

use axum::http::StatusCode;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::error::{DRAINING, RATE_LIMITED};

/// The operation of a generating route, in the GenAI conventions' words and one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `/v1/completions`.
    TextCompletion,
    /// `/v1/chat/completions`.
    Chat,
    /// `/fill`, `/v1/fim/completions` and `/infill`.
    Fill,
}

impl Operation {
    /// The operation of a route; `None` for one that generates nothing.
    #[must_use]
    pub fn of(route: &str) -> Option<Self> {
        match route {
            "/v1/completions" => Some(Self::TextCompletion),
            "/v1/chat/completions" => Some(Self::Chat),
            "/fill" | "/v1/fill" | "/v1/fim/completions" | "/infill" => Some(Self::Fill),
            _ => None,
        }
    }

    /// The label's text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TextCompletion => "text_completion",
            Self::Chat => "chat",
            Self::Fill => "fill",
        }
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Success.
    Ok,
    /// The request was wrong.
    ClientError,
    /// There was no room for it, or the server was stopping.
    Overloaded,
    /// The client went away, or did not read.
    Cancelled,
    /// The server was stopping and had no more time for it.
    Drained,
    /// Its deadline passed, with a part of the text or none.
    Timeout,
    /// The server is at fault.
    Error,
}

impl Outcome {
    /// The outcome of an error; `accepted` is true if the engine had taken the request.
    #[must_use]
    pub fn of(status: StatusCode, code: &str, accepted: bool) -> Self {
        match status {
            _ if accepted && code == DRAINING => Self::Drained,
            StatusCode::GATEWAY_TIMEOUT => Self::Timeout,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
                if !["engine_error", RATE_LIMITED].contains(&code) =>
            {
                Self::Overloaded
            }
            status if status.is_client_error() => Self::ClientError,
            _ => Self::Error,
        }
    }

    /// The label's text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::Overloaded => "overloaded",
            Self::Cancelled => "cancelled",
            Self::Drained => "drained",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Every position has its token.
    Full,
    /// At a document end.
    Eos,
    /// Before a stop string.
    Stop,
    /// The time budget was nearly used up: one evaluation committed what was open.
    TimeBudget,
    /// The deadline passed: what was settled by then is the text.
    Timeout,
}

impl Ending {
    /// The label's text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::TimeBudget => "time_budget",
            Self::Timeout => "timeout",
        }
    }
}

macro_rules! label_values {
    ($($label:ty),*) => {$(
        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                encoder.write_str(self.name())
            }
        }
    )*};
}

label_values!(Operation, Outcome, Ending);
