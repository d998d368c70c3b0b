//! Errors that a client receives; the only mapping from failures to HTTP.

mod response;

use std::time::Duration;

use axum::http::StatusCode;
use serde::Serialize;
use unmask_model::error::CanvasError;
use unmask_model::tokenizer::TokenizeError;
use unmask_scheduler::{GenerationError, SubmitError};
use utoipa::ToSchema;

pub use self::response::{ErrorCode, set_overload_status};
use crate::template::TemplateError;

/// The body of every error, in OpenAI's published shape: all four keys are always there.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorObject,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorObject {
    /// One sentence that says what was given and what is allowed.
    #[schema(example = "`temperature` is 3; it must be from 0 to 2")]
    pub message: String,
    /// The class of the error.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    pub kind: &'static str,
    /// The field that is wrong, when it is one field.
    pub param: Option<String>,
    /// The exact reason, for programs.
    #[schema(example = "out_of_range")]
    pub code: Option<&'static str>,
}

/// Every error of a request, and its form in HTTP.
///
/// A handler returns the error, and axum turns it into a response: [`Self::status`] is the status, [`Self::object`] the
/// body in OpenAI's shape. Headers such as `retry-after` follow from the same table. An error after the head of a stream
/// becomes the stream's last event.
///
/// ```
/// use unmask_api::error::ApiError;
///
/// let error = ApiError::OutOfRange {
///     param: "temperature".to_owned(),
///     given: "3".to_owned(),
///     allowed: "from 0 to 2".to_owned(),
/// };
/// assert_eq!(error.status(), 400);
/// assert_eq!(error.code(), "out_of_range");
/// assert_eq!(error.object().message, "`temperature` is 3; it must be from 0 to 2");
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The body is not JSON, or not of the right shape.
    #[error("{message}")]
    Body {
        /// `invalid_json`, `invalid_type`, `missing_field`, `unknown_parameter`, `unsupported_content_type` or
        /// `invalid_token`.
        code: &'static str,
        /// The field, when it is known.
        param: Option<String>,
        /// The fault.
        message: String,
    },
    /// A value outside its range.
    #[error("`{param}` is {given}; it must be {allowed}")]
    OutOfRange {
        /// The field.
        param: String,
        /// The value.
        given: String,
        /// The accepted values.
        allowed: String,
    },
    /// A field that is known and does nothing here, with a value that asks for something.
    #[error("`{param}` is not supported; leave it out or give {neutral}")]
    Unsupported {
        /// The field.
        param: String,
        /// Values that are accepted.
        neutral: String,
    },
    /// Fields that cannot be given together, or must be.
    #[error("{message}")]
    Conflict {
        /// One of them.
        param: String,
        /// The fault.
        message: String,
    },
    /// The prompt leaves no room.
    #[error("{message}")]
    ContextLength {
        /// The field to shorten.
        param: &'static str,
        /// The numbers.
        message: String,
    },
    /// (prompt + canvas) × evaluations × samples is over the cap.
    #[error("the request costs {cost} token-passes ({formula}); at most {limit} are allowed")]
    TooExpensive {
        /// The request's cost.
        cost: u64,
        /// The largest cost.
        limit: u64,
        /// The terms of the cost.
        formula: String,
    },
    /// Another model than the one served.
    #[error("model `{asked}` is not served here; this server has `{served}`")]
    ModelNotFound {
        /// The model asked for.
        asked: String,
        /// The model served.
        served: String,
    },
    /// No such path.
    #[error("there is nothing at {path}; {instead}")]
    NotFound {
        /// The path.
        path: String,
        /// The resource to use instead.
        instead: String,
    },
    /// A path with other methods.
    #[error("{method} is not allowed at {path}; the Allow header lists what is")]
    MethodNotAllowed {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// A request without a key, or with an unknown one.
    #[error("{}; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
            if *given { "this API key is not known here" } else { "an API key is needed here" })]
    InvalidKey {
        /// True if there was one.
        given: bool,
    },
    /// A `Host` that is no name of this server.
    #[error("host not allowed; add it with --allowed-host")]
    HostNotAllowed,
    /// The client has asked for too much in a minute.
    #[error("the limit of {limit} {what} a minute is used up; there is room again in {} ms", wait.as_millis())]
    RateLimited {
        /// `requests` or `tokens`.
        what: &'static str,
        /// Requests per minute.
        limit: u32,
        /// Until there is room for this request.
        wait: Duration,
    },
    /// The client asks for more at once than it may in a minute.
    #[error("the request needs {needed} {what}; the limit is {limit} a minute")]
    OverQuota {
        /// `requests` or `tokens`.
        what: &'static str,
        /// Tokens that the request needs.
        needed: u64,
        /// Tokens per minute.
        limit: u32,
    },
    /// Every place of a connection is taken.
    #[error("all {limit} connections of this server are in use; try again later")]
    Crowded {
        /// Connections at a time.
        limit: usize,
    },
    /// The body did not come.
    #[error("the request body did not arrive within {} s", limit.as_secs())]
    BodyTimeout {
        /// The longest time.
        limit: Duration,
    },
    /// Not `application/json`, or an encoded body.
    #[error("{message}")]
    MediaType {
        /// The fault.
        message: &'static str,
    },
    /// A body over the limit.
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// A canvas that cannot be denoised.
    #[error(transparent)]
    Canvas(#[from] CanvasError),
    /// Messages that do not become a prompt.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A text that cannot be tokenized.
    #[error(transparent)]
    Tokenize(#[from] TokenizeError),
    /// The engine did not take the request.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engine took the request and did not finish it.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The deadline passed before any text was settled.
    #[error("no text was settled within the {} ms that the request may take; it was ended after {} ms",
            asked.as_millis(), elapsed.as_millis())]
    Timeout {
        /// From its arrival to its deadline.
        asked: Duration,
        /// From its arrival to its end, which comes between two evaluations.
        elapsed: Duration,
    },
    /// An evaluation does not come to its end.
    #[error("one evaluation has taken {} s so far; the process should be restarted", since.as_secs())]
    Stuck {
        /// Time that it has taken.
        since: Duration,
    },
    /// Its client has left, so the answer is not read.
    #[error("the client has disconnected")]
    Abandoned,
    /// A bug in a handler.
    #[error("internal error; see the server log for this request id")]
    Internal,
}

/// A client's text, fit to be repeated in an answer: it may be anything, of any length.
#[must_use]
pub fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// One row of the table below.
struct Row {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    param: Option<String>,
    retry: Retry,
}

/// Advice to a client about another attempt.
#[derive(Clone, Copy)]
enum Retry {
    /// Nothing: the status says it.
    Unsaid,
    /// When there should be room. Told as 1 to 60 s: clients give up on longer waits.
    After(Duration),
    /// It would fail alike; the SDKs would otherwise make two.
    Never,
}

/// The code of a lack of room.
const OVERLOADED: &str = "server_overloaded";

/// The code of a client that asks too much, which is not the server's lack of room.
pub(crate) const RATE_LIMITED: &str = "rate_limit_exceeded";

/// The code of what the drain refuses or ends.
pub(crate) const DRAINING: &str = "server_draining";

const INVALID_KEY: &str = "invalid_api_key";

const BODY_TIMEOUT: &str = "body_timeout";

const SOON: Retry = Retry::After(Duration::from_secs(1));

impl ApiError {
    /// The table: what each failure becomes.
    fn row(&self) -> Row {
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
