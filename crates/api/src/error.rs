//! Errors that a client receives; the only mapping from failures to HTTP.

mod response;
mod table;

use std::time::Duration;

use serde::Serialize;
use unmask_model::error::CanvasError;
use unmask_model::tokenizer::TokenizeError;
use unmask_scheduler::{GenerationError, SubmitError};
use utoipa::ToSchema;

pub use self::response::{ErrorCode, set_overload_status};
pub(crate) use self::table::{DRAINING, RATE_LIMITED};
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
    #[error("the request body is larger than {limit} bytes; send less text, or raise --max-body")]
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
    #[error("no text was settled within the {} ms that the request may take; it was ended after {} ms; allow more \
             time, or ask for fewer tokens", asked.as_millis(), elapsed.as_millis())]
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
