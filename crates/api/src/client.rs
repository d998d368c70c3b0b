//! Asks a server over plain HTTP: `unmask healthcheck`, and `--url` of `unmask try` and `unmask fill`.

use axum::http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Returns true if a URL holds a user name or a password, which [`send`] does not send.
#[must_use]
pub fn holds_credentials(url: &Uri) -> bool {
    url.authority().is_some_and(|authority| authority.as_str().contains('@'))
}

/// Sends a request to the server that its URI names; the answer's body is read as it comes.
///
/// # Errors
/// The connection is refused or breaks: the message of the system or of the HTTP client.
pub async fn send(request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    client.request(request).await.map_err(|error| format!("{:#}", anyhow::Error::new(error)))
}
