//! The sites whose pages may call the server from a browser: none, unless they are named.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, Uri};
use tower_http::cors::{AllowHeaders, CorsLayer};

/// A page's origin, of `--cors-origin`, as browsers write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = "it must be an origin such as https://app.example or http://localhost:3000";
        let uri: Uri = text.parse().map_err(|_| problem)?;
        let (scheme, authority) =
            (uri.scheme_str().unwrap_or(""), uri.authority().map_or("", |host| host.as_str()));
        let same = text == format!("{scheme}://{authority}");
        if !same || authority.contains(['@', '*']) || text.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(problem);
        }
        text.parse().map(Self).map_err(|_| problem)
    }
}

/// Headers of answers that pages may read.
const EXPOSED: [&str; 18] = [
    "openai-processing-ms",
    "retry-after",
    "retry-after-ms",
    "x-engine-ms",
    "x-deprecated-params",
    "x-ignored-params",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-served-model",
    "x-should-retry",
    "x-unmask-warning",
    "www-authenticate",
    "allow",
];

/// Lets pages of `origins` call, with whatever headers their SDK sends, without cookies.
pub(super) fn layer(origins: &[Origin]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins.iter().map(|origin| origin.0.clone()).collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(Duration::from_secs(600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_origins_can_be_named() {
        for good in ["https://app.example", "http://localhost:3000", "http://[::1]:5173"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "*",
            "null",
            "",
            "app.example",
            "https://app.example/",
            "https://*.example",
            "https://App.example",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
