//! The playground: one page at `/` that shows how a text comes about. It asks the same routes as everybody.
//!
//! The files beside this one are written as a page with modules; they are put together once, into a page that
//! loads nothing more. Its script and its style are allowed by their hashes, so no other script can run in it,
//! whatever a model writes.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::state::AppState;

const HTML: &str = include_str!("index.html");

const STYLE: &str = include_str!("page.css");

/// Every module stands after those that it imports from.
const MODULES: [&str; 13] = [
    include_str!("dom.js"),
    include_str!("server.js"),
    include_str!("replay.js"),
    include_str!("requests.js"),
    include_str!("snippets.js"),
    include_str!("canvas.js"),
    include_str!("timeline.js"),
    include_str!("holes.js"),
    include_str!("heat.js"),
    include_str!("examples.js"),
    include_str!("form.js"),
    include_str!("stage.js"),
    include_str!("app.js"),
];

/// The route of the page.
pub(crate) fn routes() -> Router<AppState> {
    let page = Page::assembled();
    Router::new().route("/", get(async move |headers: HeaderMap| page.answer(&headers)))
}

/// The page as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    html: Bytes,
    headers: HeaderMap,
}

impl Page {
    fn assembled() -> Self {
        // Blanks inside declarations are most of what a style has.
        let blanks = [(": ", ":"), ("; ", ";"), (", ", ","), (" { ", "{"), ("\n", "")];
        let style = blanks.into_iter().fold(dense(STYLE), |style, (long, short)| style.replace(long, short));
        let script = bundled(&MODULES);
        let html = dense(HTML).replacen("/* page.css */", &style, 1).replacen("/* modules */", &script, 1);
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            source(&script),
            source(&style),
        );
        Self::new(html, &policy)
    }

    /// A page whose contents `policy` restricts.
    pub(crate) fn new(html: String, policy: &str) -> Self {
        let tag = format!("\"{}\"", BASE64_STANDARD.encode(&Sha256::digest(&html)[..12]));
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache"),
            (header::ETAG, &tag),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        // All of it is ASCII of our own. Were the policy ever not, the page would rather not run than run without.
        let nothing = HeaderValue::from_static("default-src 'none'");
        let value = |text| HeaderValue::from_str(text).unwrap_or(nothing.clone());
        let headers = headers.into_iter().map(|(name, text)| (name, value(text))).collect();
        Self { html: html.into(), headers }
    }

    /// The page, or word that the browser has it already.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Response {
        if self.is_known(request) {
            return (StatusCode::NOT_MODIFIED, self.headers.clone()).into_response();
        }
        (self.headers.clone(), self.html.clone()).into_response()
    }

    fn is_known(&self, request: &HeaderMap) -> bool {
        let tag = self.headers[header::ETAG].as_bytes();
        let given = request.get_all(header::IF_NONE_MATCH).into_iter();
        let mut tags =
            given.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        // Proxies that compress make tags weak.
        tags.any(|given| given == b"*" || given.strip_prefix(b"W/").unwrap_or(given) == tag)
    }
}

/// Modules as one script: what they import is declared above.
fn bundled(modules: &[&str]) -> String {
    let script = dense(&modules.concat());
    let lines = script.lines().filter(|line| !line.starts_with("import "));
    lines.flat_map(|line| [line.strip_prefix("export ").unwrap_or(line), "\n"]).collect()
}

/// Without what only readers of the source need: indentation, and lines that are comments.
fn dense(text: &str) -> String {
    let marker = |line: &str| ["/* page.css */", "/* modules */"].iter().any(|marker| line.contains(marker));
    let comment =
        |line: &str| ["//", "/*", "* ", "*/"].iter().any(|start| line.starts_with(start)) && !marker(line);
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !comment(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The name of a script or style of a page in a content policy.
pub(crate) fn source(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_whole_and_loads_nothing_from_elsewhere() {
        let page = Page::assembled();
        let html = str::from_utf8(&page.html).unwrap();
        assert!(html.len() < 64_000, "{} bytes", html.len());
        let foreign =
            ["/* page.css */", "/* modules */", "src=", "http://", "https://", "@import", "import("];
        for part in foreign {
            let found = html.match_indices(part).map(|(at, _)| &html[at..html.len().min(at + 40)]);
            let found: Vec<&str> = found.filter(|found| !found.starts_with("http://www.w3.org/")).collect();
            assert!(found.is_empty(), "{found:?}");
        }
        assert!(!STYLE.contains("url("));
    }

    #[test]
    fn the_script_never_makes_markup_of_text() {
        let script = bundled(&MODULES);
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval("] {
            assert!(!script.contains(sink), "{sink}");
        }
    }

    #[test]
    fn every_import_comes_from_a_module_that_stands_before() {
        for (number, module) in MODULES.iter().enumerate() {
            for line in module.lines().filter(|line| line.starts_with("import ")) {
                let names = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).unwrap().0;
                for name in names.split(',').map(str::trim) {
                    let declared = |kind: &str| format!("export {kind} {name}");
                    let before = &MODULES[..number];
                    let kinds =
                        ["function", "async function", "async function*", "const", "class"].map(declared);
                    assert!(
                        before.iter().any(|module| kinds.iter().any(|kind| module.contains(kind))),
                        "{name}"
                    );
                }
            }
        }
    }
}
