//! The table: the status, code, field and advice that each failure becomes.

use std::time::Duration;

use axum::http::StatusCode;
use unmask_model::error::CanvasError;
use unmask_scheduler::{GenerationError, SubmitError};

use super::{ApiError, ErrorObject};
use crate::template::TemplateError;

/// One row of the table.
pub(super) struct Row {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) code: &'static str,
    pub(super) param: Option<String>,
    pub(super) retry: Retry,
}

/// Advice to a client about another attempt.
#[derive(Clone, Copy)]
pub(super) enum Retry {
    /// Nothing: the status says it.
    Unsaid,
    /// When there should be room. Told as 1 to 60 s: clients give up on longer waits.
    After(Duration),
    /// It would fail alike; the SDKs would otherwise make two.
    Never,
}

/// The code of a lack of room.
pub(super) const OVERLOADED: &str = "server_overloaded";

/// The code of a client that asks too much, which is not the server's lack of room.
pub(crate) const RATE_LIMITED: &str = "rate_limit_exceeded";

/// The code of what the drain refuses or ends.
pub(crate) const DRAINING: &str = "server_draining";

pub(super) const INVALID_KEY: &str = "invalid_api_key";

pub(super) const BODY_TIMEOUT: &str = "body_timeout";

const SOON: Retry = Retry::After(Duration::from_secs(1));

impl ApiError {
    /// The table: what each failure becomes.
    pub(super) fn row(&self) -> Row {
        let invalid = |code, param: Option<&str>| {
            let param = param.map(str::to_owned);
            Row {
                status: StatusCode::BAD_REQUEST,
                kind: "invalid_request_error",
                code,
                param,
                retry: Retry::Unsaid,
            }
        };
        let limited = |retry| Row {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "rate_limit_error",
            code: RATE_LIMITED,
            param: None,
            retry,
        };
        let server = |status, code, retry| Row { status, kind: "server_error", code, param: None, retry };
        use StatusCode as S;
        match self {
            Self::Body { code, param, .. } => invalid(code, param.as_deref()),
            Self::OutOfRange { param, .. } => invalid("out_of_range", Some(param)),
            Self::Unsupported { param, .. } => invalid("unsupported_parameter", Some(param)),
            Self::Conflict { param, .. } => invalid("conflicting_fields", Some(param)),
            Self::ContextLength { param, .. } => invalid("context_length_exceeded", Some(param)),
            Self::TooExpensive { .. } => invalid("request_too_expensive", None),
            Self::Canvas(CanvasError::TooLong { .. }) => invalid("context_length_exceeded", None),
            Self::Canvas(CanvasError::TokenOutOfVocabulary { .. }) => {
                invalid("invalid_token", Some("prompt"))
            }
            Self::Canvas(CanvasError::FirstPositionOpen) => invalid("conflicting_fields", Some("prompt")),
            Self::Canvas(CanvasError::Policy(_)) => invalid("conflicting_fields", Some("diffusion")),
            Self::Canvas(CanvasError::BlockCausalScore { .. }) => {
                invalid("conflicting_fields", Some("diffusion.score"))
            }
            Self::Template(TemplateError::Missing) => invalid("chat_template_missing", None),
            Self::Template(_) => invalid("chat_template_error", Some("messages")),
            Self::Tokenize(_) => invalid("invalid_type", Some("prompt")),
            Self::ModelNotFound { .. } => {
                Row { status: S::NOT_FOUND, ..invalid("model_not_found", Some("model")) }
            }
            Self::NotFound { .. } => Row { status: S::NOT_FOUND, ..invalid("not_found", None) },
            Self::MethodNotAllowed { .. } => {
                Row { status: S::METHOD_NOT_ALLOWED, ..invalid("method_not_allowed", None) }
            }
            Self::InvalidKey { .. } => {
                Row { status: S::UNAUTHORIZED, kind: "authentication_error", ..invalid(INVALID_KEY, None) }
            }
            Self::HostNotAllowed => {
                Row { status: S::FORBIDDEN, kind: "permission_error", ..invalid("host_not_allowed", None) }
            }
            Self::RateLimited { wait, .. } => limited(Retry::After(*wait)),
            Self::OverQuota { .. } => limited(Retry::Never),
            Self::BodyTimeout { .. } => Row { status: S::REQUEST_TIMEOUT, ..invalid(BODY_TIMEOUT, None) },
            Self::MediaType { .. } => {
                Row { status: S::UNSUPPORTED_MEDIA_TYPE, ..invalid("unsupported_media_type", None) }
            }
            Self::BodyTooLarge { .. } => {
                Row { status: S::PAYLOAD_TOO_LARGE, ..invalid("body_too_large", None) }
            }
            Self::Submit(SubmitError::NoSamples) => invalid("conflicting_fields", None),
            Self::Submit(SubmitError::QueueFull { retry_after, .. })
            | Self::Generation(
                GenerationError::QueueTimeout { retry_after, .. }
                | GenerationError::Displaced { retry_after, .. },
            ) => server(S::SERVICE_UNAVAILABLE, OVERLOADED, Retry::After(*retry_after)),
            Self::Crowded { .. } => server(S::SERVICE_UNAVAILABLE, OVERLOADED, SOON),
            Self::Submit(SubmitError::ShuttingDown) | Self::Generation(GenerationError::ShuttingDown) => {
                server(S::SERVICE_UNAVAILABLE, DRAINING, SOON)
            }
            Self::Submit(SubmitError::EngineStopped)
            | Self::Generation(GenerationError::EngineStopped)
            | Self::Stuck { .. } => {
                server(S::SERVICE_UNAVAILABLE, "engine_error", Retry::After(Duration::from_secs(10)))
            }
            Self::Timeout { .. } => server(S::GATEWAY_TIMEOUT, "request_timeout", Retry::Never),
            Self::Generation(_) | Self::Abandoned | Self::Internal => {
                server(S::INTERNAL_SERVER_ERROR, "engine_error", Retry::Never)
            }
        }
    }

    /// The error as clients see it, in a body or as a stream's last event.
    #[must_use]
    pub fn object(&self) -> ErrorObject {
        let Row { kind, code, param, .. } = self.row();
        ErrorObject { message: self.to_string(), kind, param, code: Some(code) }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.row().status
    }

    /// The exact reason, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().code
    }
}
