//! Asks a server over plain HTTP: `unmask healthcheck`, and `--url` of `unmask try` and `unmask fill`.

use axum::http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Sends a request whose URI says where to; the answer's body is read as it comes.
///
/// # Errors
/// Nobody listens there, or the connection broke: what the system or the HTTP client says.
pub async fn send(request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    client.request(request).await.map_err(|error| format!("{:#}", anyhow::Error::new(error)))
}
