//! Requests to the hub.
//!
//! The hub sends large files from other hosts, to which it redirects. The access token is for the hub alone, so redirects are
//! followed here: a request to another scheme, host or port goes without the token.

use std::time::{Duration, Instant};

use hf_hub::Repo;
use hf_hub::api::RepoInfo;
use ureq::http::header::{CONTENT_RANGE, ETAG, LOCATION};
use ureq::http::{HeaderMap, HeaderName, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::failure::Failure;

/// The most redirects of one request.
const REDIRECTS: usize = 10;

#[expect(clippy::disallowed_methods, reason = "a request with several redirects has one limit")]
fn now() -> Instant {
    Instant::now()
}

/// A client of one hub, cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// The hub's facts about a file.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Names the content.
    pub(super) etag: String,
    /// The commit that it belongs to.
    pub(super) commit: String,
    /// Bytes.
    pub(super) size: u64,
}

impl Client {
    /// A client that shows `token` to the hub at `endpoint`.
    ///
    /// # Errors
    /// The token cannot be sent.
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Result<Self, Failure> {
        if token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            let told = "the access token has a blank, a line break or another character that no token has: set HF_TOKEN anew";
            return Err(Failure::Answer(told.to_owned()));
        }
        let config = Agent::config_builder().max_redirects(0).http_status_as_error(false);
        Ok(Self { agent: config.build().into(), endpoint: endpoint.to_owned(), token })
    }

    /// The files of a repository at its revision, and the commit, within a time.
    ///
    /// # Errors
    /// There is no answer in time, or another than a list.
    pub(super) fn list(&self, repo: &Repo, limit: Duration) -> Result<RepoInfo, Failure> {
        let url = format!("{}/api/{}", self.endpoint, repo.api_url());
        let (_, mut response) = self.get(&url, None, Some(limit))?;
        let text = response.body_mut().read_to_string()?;
        serde_json::from_str(&text)
            .map_err(|_| Failure::Connection("the answer is no list of files".to_owned()))
    }

    /// The facts about a file.
    ///
    /// # Errors
    /// The hub refuses, or leaves out what is needed.
    pub(super) fn facts(&self, repo: &Repo, file: &str) -> Result<Facts, Failure> {
        let (heads, response) = self.get(&self.url(repo, file), Some("bytes=0-0"), None)?;
        // The hub's own answers say which file it is, the last one how long it is.
        let said = |name: HeaderName| heads.iter().rev().find_map(|head| text(head, &name));
        let missing = |name: &'static str| Failure::Header(name);
        let linked = said(HeaderName::from_static("x-linked-etag"));
        let etag = linked.or_else(|| said(ETAG)).ok_or_else(|| missing("etag"))?;
        let commit =
            said(HeaderName::from_static("x-repo-commit")).ok_or_else(|| missing("x-repo-commit"))?;
        let range = text(response.headers(), &CONTENT_RANGE).ok_or_else(|| missing("content-range"))?;
        let size = range.rsplit('/').next().and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| Failure::Answer("its header content-range has no size".to_owned()))?;
        // A weak etag names the same content, and Python's libraries call it the same.
        let etag = etag.strip_prefix("W/").unwrap_or(&etag).replace('"', "");
        Ok(Facts { etag, commit, size })
    }

    /// A file's bytes from `start` on; the whole file where the hub sends no parts, which the second value says.
    ///
    /// # Errors
    /// The hub refuses, or there is no answer.
    pub(super) fn content(&self, repo: &Repo, file: &str, start: u64) -> Result<(Body, bool), Failure> {
        let (_, response) = self.get(&self.url(repo, file), Some(&format!("bytes={start}-")), None)?;
        let whole = response.status() != StatusCode::PARTIAL_CONTENT;
        Ok((response.into_body(), whole))
    }

    fn url(&self, repo: &Repo, file: &str) -> String {
        format!("{}/{}/resolve/{}/{file}", self.endpoint, repo.url(), repo.url_revision())
    }

    /// The answer at the end of all redirects, and the heads of the hub's own answers on the way, the first one first.
    fn get(
        &self,
        url: &str,
        range: Option<&str>,
        limit: Option<Duration>,
    ) -> Result<(Vec<HeaderMap>, Response<Body>), Failure> {
        let deadline = limit.map(|limit| now() + limit);
        let start: Uri = url.parse().map_err(|_| Failure::Connection(format!("{url:?} is no address")))?;
        let mut at = start.clone();
        let mut heads = Vec::new();
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(&at);
            let own = origin(&at) == origin(&start);
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Some(range) = range {
                // A part of a compressed file is no part of the file.
                request = request.header("range", range).header("accept-encoding", "identity");
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now()));
            let response = request.config().timeout_global(left).build().call()?;
            let status = response.status();
            if own {
                heads.push(response.headers().clone());
            }
            if !status.is_redirection() {
                return if status.is_success() || is_empty_file(&response) {
                    Ok((heads, response))
                } else {
                    Err(Failure::status(status.as_u16(), response.headers()))
                };
            }
            let location = text(response.headers(), &LOCATION);
            at = location
                .and_then(|location| redirected(&at, &location))
                .ok_or_else(|| Failure::Answer("the hub redirects to nowhere".to_owned()))?;
        }
        Err(Failure::Connection(format!("the hub redirects more than {REDIRECTS} times")))
    }
}

/// True for the answer about the first byte of a file without bytes.
fn is_empty_file(response: &Response<Body>) -> bool {
    let range = text(response.headers(), &CONTENT_RANGE);
    response.status() == StatusCode::RANGE_NOT_SATISFIABLE
        && range.is_some_and(|range| range.ends_with("*/0"))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Scheme, host and port.
fn origin(address: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let scheme = address.scheme_str();
    let usual = if scheme == Some("https") { 443 } else { 80 };
    (scheme, address.host().map(str::to_ascii_lowercase), address.port_u16().or(Some(usual)))
}

/// The address that a redirect from `at` leads to.
fn redirected(at: &Uri, location: &str) -> Option<Uri> {
    let to: Uri = match location.strip_prefix("//") {
        Some(host) => format!("{}://{host}", at.scheme_str()?).parse().ok()?,
        None => location.parse().ok()?,
    };
    if to.authority().is_some() {
        return Some(to).filter(|to| matches!(to.scheme_str(), Some("http" | "https")));
    }
    let mut parts = at.clone().into_parts();
    parts.path_and_query = to.into_parts().path_and_query;
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_scheme_host_or_port_is_another_hub() {
        let of = |address: &'static str| {
            let address = Uri::from_static(address);
            let (scheme, host, port) = origin(&address);
            (scheme.map(str::to_owned), host, port)
        };
        let hub = of("https://hub.example/a");
        assert_eq!(hub, of("https://Hub.example:443/b"));
        for other in ["http://hub.example/a", "https://hub.example:444/a", "https://cdn.hub.example/a"] {
            assert_ne!(hub, of(other), "{other}");
        }
    }

    #[test]
    fn a_redirect_may_be_a_path_alone() {
        let at = Uri::from_static("https://hub.example/a/b?x=1");
        let to = |location: &str| redirected(&at, location).map(|to| to.to_string());
        assert_eq!(to("/c/d?y=2").as_deref(), Some("https://hub.example/c/d?y=2"));
        assert_eq!(to("http://cdn.example/c").as_deref(), Some("http://cdn.example/c"));
        assert_eq!(to("//cdn.example/c").as_deref(), Some("https://cdn.example/c"));
        for nowhere in ["", "file:///etc/passwd", "ftp://cdn.example/", "http://", "a b"] {
            assert_eq!(to(nowhere), None, "{nowhere:?}");
        }
    }
}
