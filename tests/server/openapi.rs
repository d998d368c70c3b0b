//! The committed document is the one that is served.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Server, unmask};

const HINT: &str = "the routes have changed; run: unmask print-openapi > openapi/openapi.json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_committed_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/openapi.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}; {HINT}"));
    let printed = unmask(&["print-openapi"]).stdout(std::process::Stdio::piped()).output().unwrap();
    assert!(printed.status.success());
    assert!(String::from_utf8(printed.stdout).unwrap() == committed, "{HINT}");
    let served = Server::start("diffugpt-s", &[]).get("/openapi.json").await.json();
    assert!(served == serde_json::from_str::<Value>(&committed).unwrap(), "{HINT}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_path_is_there() {
    let server = Server::start("diffugpt-s", &[]);
    let document = server.get("/openapi.json").await.json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, of) in methods.as_object().unwrap() {
            let answer = match method.as_str() {
                "get" => server.get(path).await,
                _ => server.post_text(path, "{").await,
            };
            assert!(
                !of["responses"][answer.status.to_string()].is_null(),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
}

/// People copy examples first. Every request body has one, and the embedded model answers it.
#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_is_answered() {
    let server = Server::start_embedded();
    let document = server.get("/openapi.json").await.json();
    let schema = |of: &Value| match of["$ref"].as_str() {
        Some(name) => document["components"]["schemas"][name.rsplit('/').next().unwrap()].clone(),
        None => of.clone(),
    };
    let mut answered = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let Some(body) = methods.get("post").map(|post| &post["requestBody"]["content"]["application/json"])
        else {
            continue;
        };
        let example = schema(&body["schema"])["example"].clone();
        assert!(!example.is_null(), "{path} has no example");
        let answer = server.post(path, &example).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answered += 1;
    }
    assert!(answered >= 8, "{answered}");
}
