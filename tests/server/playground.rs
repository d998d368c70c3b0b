//! The page at `/`: who gets it, and what it may do. What it does is tested in a browser (`tests/playground`).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{HOST, IF_NONE_MATCH};
use sha2::{Digest, Sha256};

use crate::access::KeyFile;
use crate::harness::{Server, unmask};

/// The text between two strings.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_may_run_its_own_script_and_nothing_else() {
    let server = Server::start("diffugpt-s", &[]);
    let page = server.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(
        (page.header("x-content-type-options"), page.header("referrer-policy")),
        ("nosniff", "no-referrer")
    );
    let policy: Vec<&str> = page.header("content-security-policy").split("; ").collect();
    let source = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let style = source(between(&page.body, "<style>", "</style>"));
    let script = source(between(&page.body, "<script type=\"module\">", "</script>"));
    let expected = [
        "default-src 'none'",
        &format!("script-src {script}"),
        &format!("style-src {style}"),
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ];
    assert_eq!(policy, expected);
    // One script and one style, and no attribute that either would have to be allowed for.
    assert_eq!((page.body.matches("<script").count(), page.body.matches("<style").count()), (1, 1));
    let markup = page.body.split("<script").next().unwrap();
    let active = |word: &&str| (word.starts_with("on") && word.contains("=\"")) || word.starts_with("style=");
    assert_eq!(markup.split_whitespace().find(active), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_asks_whether_the_page_is_still_the_same() {
    let server = Server::start("diffugpt-s", &[]);
    let page = server.get("/").await;
    let tag = page.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 10, "{tag}");
    assert_eq!(page.header("cache-control"), "no-cache");
    let ask = async |known: &str| {
        server.send(server.http.get(format!("{}/", server.url)).header(IF_NONE_MATCH, known)).await
    };
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let same = ask(&known).await;
        assert_eq!(
            (same.status, same.body.as_str(), same.header("etag")),
            (304, "", tag.as_str()),
            "{known}"
        );
    }
    for unknown in ["\"other\"", "", "\""] {
        assert_eq!(ask(unknown).await.body, page.body, "{unknown}");
    }
    let head = server.send(server.http.head(format!("{}/", server.url))).await;
    assert_eq!((head.status, head.body.as_str(), head.header("etag")), (200, "", tag.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_needs_no_key_and_opens_no_other_path() {
    let keys = KeyFile::new("ann:ann-secret\n");
    let flags = [&keys.flag()[..], &["--metrics-listen", "127.0.0.1:0"]].concat();
    let server = Server::start("diffugpt-s", &flags);
    let line = server.logged("probes and metrics at ");
    let page = server.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for path in ["//", "/?x=1/v1/models/../", "/index.html", "/page.css", "/v1/models", "/%2F"] {
        let answer = server.get(path).await;
        let open = path.starts_with("/?");
        assert_eq!(answer.status, if open { 200 } else { 401 }, "{path}: {}", answer.body);
    }
    server.post_text("/", "{}").await.refusal(405, "method_not_allowed");
    let admin = line.rsplit(' ').next().unwrap();
    server.send(server.http.get(format!("{admin}/"))).await.refusal(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_name_of_the_server_does_not_get_the_page() {
    let server = Server::start("diffugpt-s", &[]);
    let foreign = server.http.get(format!("{}/", server.url)).header(HOST, "evil.example");
    assert_eq!(server.send(foreign).await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_can_be_left_out() {
    let server = Server::start("diffugpt-s", &["--no-playground"]);
    server.get("/").await.refusal(404, "not_found");
    let keys = KeyFile::new("ann:ann-secret\n");
    let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
    command.arg(crate::harness::golden("diffugpt-s")).args(keys.flag()).env("UNMASK_NO_PLAYGROUND", "1");
    Server::spawn(command).get("/").await.refusal(401, "invalid_api_key");
}
