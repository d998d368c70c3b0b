//! `unmask healthcheck`: asks a running server whether it is ready, where nothing else could: an image without a
//! shell holds no curl.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use serde_json::Value;
use tokio::time::timeout;

use crate::client;
use crate::commands::HealthcheckArgs;

/// More than any probe says.
const BODY_BYTES: usize = 64 * 1024;

/// The reason that a server is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// A text that is not the URL of a server.
    #[error("{0} is not of the form http://host:port/path")]
    Url(String),
    /// A URL with a name or password in it.
    #[error("the URL holds a user name or a password, which are not sent: leave them out")]
    Credentials,
    /// A connection that was refused or broke.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// The address.
        url: Uri,
        /// The message of the system or of the HTTP client.
        reason: String,
    },
    /// A connection without an answer.
    #[error("{url} did not answer within {seconds} s")]
    Silent {
        /// The address.
        url: Uri,
        /// Seconds waited.
        seconds: u64,
    },
    /// Another status than 200.
    #[error("{url} says {status}: {message}")]
    NotReady {
        /// The address.
        url: Uri,
        /// The status.
        status: StatusCode,
        /// The error's message, or nothing.
        message: String,
    },
}

/// Asks, and prints one line when the answer is 200.
///
/// # Errors
/// Everything else.
pub async fn healthcheck(args: &HealthcheckArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = target(args)?;
    let asking = timeout(Duration::from_secs(args.timeout), ask(&url));
    let (status, body) =
        asking.await.map_err(|_| Unhealthy::Silent { url: url.clone(), seconds: args.timeout })??;
    if status != StatusCode::OK {
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = body["error"]["message"].as_str().unwrap_or("no reason given").to_owned();
        return Err(Unhealthy::NotReady { url, status, message }.into());
    }
    writeln!(out, "{url} says {status}")?;
    Ok(())
}

/// The URL to ask: the given one, whose path is `/ready` if it has none, or that of the listen address.
fn target(args: &HealthcheckArgs) -> Result<Uri, Unhealthy> {
    let Some(given) = &args.url else {
        let authority = reachable(args.listen.0).to_string();
        let built = Uri::builder().scheme("http").authority(authority.as_str()).path_and_query("/ready");
        return built.build().map_err(|_| Unhealthy::Url(authority));
    };
    if client::holds_credentials(given) {
        return Err(Unhealthy::Credentials);
    }
    let wrong = || Unhealthy::Url(given.to_string());
    let mut parts = given.clone().into_parts();
    if given.scheme_str() != Some("http") || given.host().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    if given.path() == "/" {
        parts.path_and_query = Some(axum::http::uri::PathAndQuery::from_static("/ready"));
    }
    Uri::from_parts(parts).map_err(|_| wrong())
}

/// The address at which this machine reaches a server that listens on `address`: loopback for one that
/// listens everywhere.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(url: &Uri) -> Result<(StatusCode, Bytes), Unhealthy> {
    let failed = |reason: String| Unhealthy::Unreachable { url: url.clone(), reason };
    let request = Request::get(url).body(Full::default()).map_err(|error| failed(error.to_string()))?;
    let answer = client::send(request).await.map_err(failed)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BODY_BYTES).collect().await;
    Ok((status, body.map_err(|error| failed(error.to_string()))?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(listen: &str, url: Option<&str>) -> Option<String> {
        let args = HealthcheckArgs {
            listen: listen.parse().unwrap(),
            url: url.map(|url| url.parse().unwrap()),
            timeout: 1,
        };
        target(&args).ok().map(|url| url.to_string())
    }

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:80", "http://127.0.0.1:80/ready"),
            ("[::]:8080", "http://[::1]:8080/ready"),
            ("10.0.0.7:8080", "http://10.0.0.7:8080/ready"),
            ("[fe80::7]:1", "http://[fe80::7]:1/ready"),
        ] {
            assert_eq!(url(listen, None).as_deref(), Some(asked));
        }
    }

    #[test]
    fn a_url_wins_over_the_address_and_needs_no_path() {
        for (given, asked) in [
            ("http://unmask:8080", Some("http://unmask:8080/ready")),
            ("http://unmask/", Some("http://unmask/ready")),
            ("http://unmask/live", Some("http://unmask/live")),
            ("https://unmask/", None),
            ("http://user:secret@unmask/", None),
            ("unmask:8080", None),
            ("/ready", None),
        ] {
            assert_eq!(url("0.0.0.0:80", Some(given)).as_deref(), asked, "{given}");
        }
    }
}
