//! Failures of requests to the hub.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hf_hub::api::sync::ApiError;

use crate::error::one_line;

/// hf-hub unwraps what it reads from some answers (a redirect to nowhere, for one).
pub(super) fn guarded<T>(request: impl FnOnce() -> Result<T, ApiError>) -> Result<T, Failure> {
    let unreadable = |_| Failure::Answer("the answer cannot be understood".to_owned());
    Ok(catch_unwind(AssertUnwindSafe(request)).map_err(unreadable)??)
}

/// Why a request failed, by what can be done about it. Displays as the reason in an error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The hub said no with this status.
    #[error("{}", explain(*.0))]
    Status(u16),
    /// No answer, or one that broke off.
    #[error("{0}: check the network and the hub's address (HF_ENDPOINT)")]
    Connection(String),
    /// No byte for so long.
    #[error(
        "no byte arrived for {} s (HF_HUB_DOWNLOAD_TIMEOUT): check the network, and start again; what has arrived is kept", .0.as_secs()
    )]
    Stalled(Duration),
    /// A file or folder on this side.
    #[error("{0}: check the cache's folder (HF_HOME)")]
    Cache(String),
    /// An answer that makes no sense.
    #[error("{0}")]
    Answer(String),
}

fn explain(status: u16) -> String {
    let advice = match status {
        401 | 403 => {
            "the hub refuses access: set HF_TOKEN or --hub-token to a token that may read the repository, and \
             check its name"
        }
        404 => "not found: check the repository's name and the revision",
        408 | 429 | 500.. => "the hub is busy or out of order: try again later",
        _ => "an unexpected answer: check the hub's address (HF_ENDPOINT)",
    };
    format!("HTTP {status}, {advice}")
}

impl Failure {
    /// Returns true if a retry may succeed, and the cache may be used instead.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Connection(_) | Self::Status(408 | 429 | 500..))
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            // The crate that defines this error is hf-hub's; its text is all there is of it here.
            ApiError::RequestError(error) => {
                let text = one_line(&error);
                let status = text.strip_prefix("http status: ").and_then(|status| status.parse().ok());
                status.map_or(Self::Connection(text), Self::Status)
            }
            ApiError::IoError(error) => match error.kind() {
                std::io::ErrorKind::PermissionDenied
                | std::io::ErrorKind::StorageFull
                | std::io::ErrorKind::ReadOnlyFilesystem
                | std::io::ErrorKind::NotADirectory
                | std::io::ErrorKind::AlreadyExists
                | std::io::ErrorKind::NotFound => Self::Cache(one_line(&error)),
                _ => Self::Connection(one_line(&error)),
            },
            ApiError::LockAcquisition(path) => {
                Self::Cache(format!("another process is fetching this file and holds {}", path.display()))
            }
            ApiError::MissingHeader(name) => Self::Answer(format!(
                "the answer lacks the header {name}: this mirror does not send parts of files (Range), or leaves \
                     out what the hub says of them; use another one (HF_ENDPOINT), or fetch the files with \
                     `hf download` and name their folder"
            )),
            error => Self::Answer(one_line(&error)),
        }
    }
}
