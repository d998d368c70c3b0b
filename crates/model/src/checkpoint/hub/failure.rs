//! Failures of requests to the hub.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::HeaderMap;

use crate::error::one_line;

/// Why a request failed, by what can be done about it. Displays as the reason in an error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The hub said no with this status.
    #[error("HTTP {0}, {advice}", advice = advice(*.0))]
    Status(u16),
    /// The hub said no because of the repository's conditions.
    #[error(
        "HTTP {0}, the repository has conditions: accept them on its page, with the account whose token HF_TOKEN or \
         --hub-token is"
    )]
    Gated(u16),
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
    /// Another process brings the same content.
    #[error("another process is fetching this file and holds {}: wait for it", .0.display())]
    Locked(PathBuf),
    /// An answer without a header that is needed.
    #[error(
        "the answer lacks the header {0}: this mirror does not send parts of files (Range), or leaves out what the hub says \
         of them; use another one (HF_ENDPOINT), or fetch the files with `hf download` and name their folder"
    )]
    Header(&'static str),
    /// An answer that makes no sense.
    #[error("{0}")]
    Answer(String),
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "the hub refuses access: set HF_TOKEN or --hub-token to a token that may read the repository, and \
             check its name"
        }
        404 => "not found: check the repository's name and the revision",
        408 | 429 | 500.. => "the hub is busy or out of order: try again later",
        _ => "an unexpected answer: check the hub's address (HF_ENDPOINT)",
    }
}

impl Failure {
    /// The failure of an answer with this status.
    pub(super) fn status(status: u16, headers: &HeaderMap) -> Self {
        match headers.get("x-error-code").map(|code| code.as_bytes()) {
            Some(b"GatedRepo") => Self::Gated(status),
            _ => Self::Status(status),
        }
    }

    /// The failure of an answer that broke off.
    pub(super) fn broken(error: io::Error) -> Self {
        Self::Connection(one_line(&error))
    }

    /// Returns true if a retry may succeed, and the cache may be used instead.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Connection(_) | Self::Status(408 | 429 | 500..))
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Connection(one_line(&error))
    }
}

/// The failure of a file in the cache.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Cache(one_line(&error))
    }
}
