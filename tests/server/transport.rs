//! Refusals before the body counts as JSON: paths, methods, sizes, media types, broken texts.

use reqwest::Method;
use serde_json::json;

use crate::harness::Server;

const PATHS: [&str; 3] = ["/v1/completions", "/fill", "/v1/fill"];

/// The server still works.
async fn assert_alive(server: &Server) {
    server.ok("/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths_are_404() {
    let server = Server::start("diffugpt-s", &[]);
    for path in [
        "/index.html",
        "/v1",
        "/v1/completions/",
        "/v1/nothing",
        "/fill/..%2f",
        "/%ff",
        "//fill",
        "/v1/embeddings",
    ] {
        for method in [Method::GET, Method::POST] {
            let request = server.http.request(method, format!("{}{path}", server.url));
            server.send(request).await.refusal(404, "not_found");
        }
    }
    assert_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_are_405_and_say_what_is_allowed() {
    let server = Server::start("diffugpt-s", &[]);
    let odd = ["DELETE", "PUT", "PATCH", "TRACE", "OPTIONS", "BREW"];
    let routes = PATHS.map(|path| (path, "POST", "GET"));
    let probes = ["/", "/health", "/live", "/ready", "/metrics", "/v1/models", "/openapi.json"];
    for (path, allowed, other) in routes.into_iter().chain(probes.map(|path| (path, "GET,HEAD", "POST"))) {
        for name in odd.into_iter().chain([other]) {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            let answer = server.send(server.http.request(method, format!("{}{path}", server.url))).await;
            answer.refusal(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), allowed, "{name} {path}");
        }
    }
    assert_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_over_the_limit_are_413_however_they_are_sent() {
    let server = Server::start("diffugpt-s", &["--max-body", "4096"]);
    for path in PATHS {
        let body = |size: usize| format!("{{\"zz\":\"{}\"}}", "x".repeat(size - 9));
        let chunks = |size: usize| {
            let halves = [body(size)[..size / 2].to_owned(), body(size)[size / 2..].to_owned()];
            let halves = halves.map(Ok::<_, std::io::Error>);
            reqwest::Body::wrap_stream(futures_util::stream::iter(halves))
        };
        server.post_text(path, body(4097)).await.refusal(413, "body_too_large");
        server.post_text(path, chunks(4097)).await.refusal(413, "body_too_large");
        // The largest body that is read is refused for what it says.
        assert_eq!(server.post_text(path, body(4096)).await.status, 400);
        assert_eq!(server.post_text(path, chunks(4096)).await.status, 400);
    }
    assert_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_announced_too_large_is_refused_unread() {
    let server = Server::start("diffugpt-s", &[]);
    for length in ["2097153", "9223372036854775807"] {
        let request = format!(
            "POST /fill HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        let answer = server.raw(request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
    }
    assert_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_plain_json_bodies_are_accepted() {
    let server = Server::start("diffugpt-s", &[]);
    let good = r#"{"prompt":"a","max_tokens":1}"#;
    let types = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "text/json",
        "",
        ";",
        "application/xml; a=application/json",
    ];
    for path in PATHS {
        let post = || server.http.post(format!("{}{path}", server.url)).body(good);
        server.send(post()).await.refusal(415, "unsupported_media_type");
        for kind in types {
            let answer = server.send(post().header("content-type", kind)).await;
            answer.refusal(415, "unsupported_media_type");
        }
        for encoding in ["gzip", "br", "deflate", "zstd"] {
            let typed = post().header("content-type", "application/json");
            let answer = server.send(typed.header("content-encoding", encoding)).await;
            answer.refusal(415, "unsupported_media_type");
        }
    }
    let post = || server.http.post(format!("{}/v1/completions", server.url)).body(good);
    for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON ; x=y"] {
        assert_eq!(server.send(post().header("content-type", kind)).await.status, 200, "{kind}");
    }
    // A body that is not compressed may say so.
    let typed = post().header("content-type", "application/json");
    assert_eq!(server.send(typed.header("content-encoding", "Identity")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_are_not_json_are_refused() {
    let server = Server::start("diffugpt-s", &[]);
    let deep = |open: &str, close: &str| {
        format!(r#"{{"prompt":"a","prefix":"a","zz":{}1{}}}"#, open.repeat(100_000), close.repeat(100_000))
    };
    let texts: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b" ".to_vec(),
        b"{".to_vec(),
        b"{\"prompt\"".to_vec(),
        b"{\"prompt\":\"a\"} {}".to_vec(),
        b"{\"prompt\":\"a\",}".to_vec(),
        b"{'prompt':'a'}".to_vec(),
        b"{\"prompt\":NaN}".to_vec(),
        b"{\"prompt\":\"a\nb\"}".to_vec(),
        b"{\"prompt\":\"\xff\xfe\",\"prefix\":\"\xff\"}".to_vec(),
        b"{\"prompt\":\"\\ud800\",\"prefix\":\"\\udc00\"}".to_vec(),
        b"{\"prompt\":1e999,\"length\":1e999}".to_vec(),
        b"\xef\xbb\xbf{\"prompt\":\"a\",\"prefix\":\"a\"}".to_vec(),
        deep("[", "]").into_bytes(),
        deep(r#"{"a":"#, "}").into_bytes(),
        br#"{"prompt":"a","prompt":"b","prefix":"a","prefix":"b"}"#.to_vec(),
    ];
    for path in PATHS {
        for text in &texts {
            let answer = server.post_text(path, text.clone()).await;
            assert_eq!(answer.status, 400, "{} for {:?}", answer.body, &text[..text.len().min(40)]);
            let code = answer.json()["error"]["code"].clone();
            // /fill sees an unknown field before it gets to the depth of its value.
            assert!(code == "invalid_json" || (path != PATHS[0] && code == "unknown_parameter"), "{code}");
        }
        for text in ["null", "1", "true", "\"text\"", "[]", "[\"a\"]", &"[".repeat(100_000)] {
            server.post_text(path, text.to_owned()).await.refusal(400, "invalid_type");
        }
    }
    assert_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_is_kept_when_it_is_harmless() {
    let server = Server::start("diffugpt-s", &[]);
    let ask = async |id: &str| {
        let request = server.http.get(format!("{}/live", server.url)).header("x-request-id", id);
        server.send(request).await.header("x-request-id").to_owned()
    };
    assert_eq!(ask("My-1.id_7").await, "My-1.id_7");
    for id in ["a b", "a\"b", "<x>", &"x".repeat(129), ""] {
        let fresh = ask(id).await;
        assert!(fresh != id && fresh.len() == 32, "{id} {fresh}");
    }
}
