//! Access: keys, quotas, names, origins.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cancelling::long;
use crate::completions::with;
use crate::gated::Gated;
use crate::harness::{Answer, Server, golden, unmask};
use crate::startup::assert_last_line;

const COMPLETIONS: &str = "/v1/completions";

/// A key file in a folder of its own.
pub(crate) struct KeyFile {
    path: PathBuf,
    _folder: TempDir,
}

impl KeyFile {
    pub(crate) fn new(lines: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = Self { path: folder.path().join("keys"), _folder: folder };
        file.write(lines);
        file
    }

    fn write(&self, lines: &str) {
        fs::write(&self.path, lines).unwrap();
    }

    /// The flag and its value.
    pub(crate) fn flag(&self) -> [&str; 2] {
        ["--api-key-file", self.path.to_str().unwrap()]
    }
}

/// Asks with a key.
async fn ask(server: &Server, key: &str, body: &Value) -> Answer {
    let request = server.http.post(format!("{}{COMPLETIONS}", server.url)).json(body);
    server.send(request.bearer_auth(key)).await
}

fn short() -> Value {
    json!({ "prompt": "a", "max_tokens": 1 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_but_the_probes_asks_for_a_key() {
    let keys = KeyFile::new("ann:ann-secret\n");
    for more in [&[][..], &["--metrics-auth"]] {
        let server = Server::start("diffugpt-s", &[&keys.flag()[..], more].concat());
        let with_key = server.http.get(format!("{}/openapi.json", server.url)).bearer_auth("ann-secret");
        let document = server.send(with_key).await.json();
        let open = |path: &str| match path {
            "/live" | "/ready" | "/health" => true,
            "/metrics" => more.is_empty(),
            _ => false,
        };
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let request = || server.http.request(method.clone(), format!("{}{path}", server.url));
                let without = server.send(request()).await;
                assert_eq!(without.status == 401, !open(path), "{method} {path}: {}", without.body);
                for right in
                    [request().bearer_auth("ann-secret"), request().header("x-api-key", "ann-secret")]
                {
                    assert_ne!(server.send(right).await.status, 401, "{method} {path}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_watches_the_server_can_have_an_address_of_its_own() {
    let keys = KeyFile::new("ann:ann-secret\n");
    let server =
        Server::start("diffugpt-s", &[&keys.flag()[..], &["--metrics-listen", "127.0.0.1:0"]].concat());
    let line = server.logged("probes and metrics at ");
    let admin = line.rsplit(' ').next().unwrap();
    let ask = async |url: &str, path: &str| server.send(server.http.get(format!("{url}{path}"))).await.status;
    for path in ["/live", "/ready", "/health"] {
        assert_eq!((ask(&server.url, path).await, ask(admin, path).await), (200, 200), "{path}");
    }
    assert_eq!((ask(&server.url, "/metrics").await, ask(admin, "/metrics").await), (401, 200));
    // There is nothing else, with a key or without.
    for path in ["/v1/models", COMPLETIONS, "/version"] {
        let request = server.http.get(format!("{admin}{path}")).bearer_auth("ann-secret");
        server.send(request).await.refusal(404, "not_found");
    }
    server.signal("TERM");
    assert_eq!(server.ended().await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_how_to_send_a_key_and_the_log_says_whose_it_was() {
    let keys = KeyFile::new("ann:ann-secret\nbob.2:bob-secret\n");
    let flags = [&keys.flag()[..], &["--log-format", "json", "--log", "debug"]].concat();
    let server = Server::start("diffugpt-s", &flags);
    let none = server.post(COMPLETIONS, &short()).await;
    let error = none.refusal(401, "invalid_api_key");
    assert_eq!((&error["type"], none.header("www-authenticate")), (&json!("authentication_error"), "Bearer"));
    assert!(error["message"].as_str().unwrap().contains("Authorization: Bearer"));
    let wrong = ask(&server, "nobodys-secret", &short()).await;
    assert!(!wrong.refusal(401, "invalid_api_key").to_string().contains("secret"));
    assert_eq!(ask(&server, "bob-secret", &short()).await.status, 200);
    let (_, log) = server.stop().await;
    let ended = |status: u16| {
        let lines = log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["status"] == status).map(|line| line["key"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((ended(200), ended(401)), (vec![json!("bob.2")], vec![Value::Null, Value::Null]));
    assert!(!log.iter().any(|line| line.contains("secret")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_can_come_from_the_environment() {
    let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
    command.arg(golden("diffugpt-s")).env("UNMASK_API_KEY", "variable-secret");
    let server = Server::spawn(command);
    assert_eq!(server.post(COMPLETIONS, &short()).await.status, 401);
    assert_eq!(ask(&server, "variable-secret", &short()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_again_on_a_hangup_and_bad_ones_change_nothing() {
    let keys = KeyFile::new("ann:first\n");
    let server = Server::start("diffugpt-s", &keys.flag());
    let status = async |key: &str| ask(&server, key, &short()).await.status;
    keys.write("ann:second\n# gone: first\n");
    server.signal("HUP");
    server.logged("keys read again");
    assert_eq!((status("first").await, status("second").await), (401, 200));
    for bad in ["ann:third\nnonsense-secret\n", ""] {
        keys.write(bad);
        server.signal("HUP");
        let line = server.logged("the old keys stay");
        assert!(!line.contains("secret"), "{line}");
        assert_eq!((status("second").await, status("third").await), (200, 401));
    }
    fs::remove_file(&keys.path).unwrap();
    server.signal("HUP");
    server.logged("the old keys stay");
    assert_eq!(status("second").await, 200);
}

#[test]
fn a_server_that_would_be_open_by_mistake_does_not_start() {
    let refused = |flags: &[&str], variable: Option<&str>, names: &[&str]| {
        let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
        command.arg(golden("diffugpt-s")).args(flags);
        if let Some(value) = variable {
            command.env("UNMASK_API_KEY", value);
        }
        assert_last_line(command, names);
    };
    refused(&["--require-api-key"], None, &["--require-api-key", "--api-key-file"]);
    refused(&["--require-api-key"], Some(""), &["UNMASK_API_KEY"]);
    refused(&[], Some("two words"), &["UNMASK_API_KEY", "visible ASCII"]);
    refused(&["--api-key-file", "/no/such/file"], None, &["/no/such/file"]);
    for (lines, names) in [("", ["keys", "name:key"]), ("ann:good\nbad", ["keys, line 2", "name:key"])] {
        refused(&KeyFile::new(lines).flag(), None, &names);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_door_to_the_network_is_said_aloud() {
    let mut command = unmask(&["serve", "--listen", "0.0.0.0:0", "--model"]);
    command.arg(golden("diffugpt-s"));
    let (server, before) = Server::spawn_with_log(command);
    assert!(before.contains("every client that reaches") && before.contains("--api-key-file"), "{before}");
    // Nor is there any name that it should have.
    let request = server.http.get(format!("{}/version", server.url)).header("host", "models.example");
    assert_eq!(server.send(request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_so_many_requests_a_minute() {
    let keys = KeyFile::new("ann:ann-key requests=2\nbob:bob-key\nann:ann-new requests=2\n");
    let server = Server::start("diffugpt-s", &[&keys.flag()[..], &["--requests-per-minute", "5"]].concat());
    let remaining = |answer: &Answer| answer.header("x-ratelimit-remaining-requests").to_owned();
    for left in ["1", "0"] {
        let answer = ask(&server, "ann-key", &short()).await;
        assert_eq!((answer.status, remaining(&answer).as_str()), (200, left));
        assert_eq!(answer.header("x-ratelimit-limit-requests"), "2");
    }
    // Another key of the same name is the same client.
    for key in ["ann-key", "ann-new"] {
        let refused = ask(&server, key, &short()).await;
        assert_eq!(refused.refusal(429, "rate_limit_exceeded")["type"], "rate_limit_error");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
        assert!(refused.header("retry-after-ms").parse::<u64>().unwrap().div_ceil(1000) == wait);
        assert!(refused.header("x-ratelimit-reset-requests").ends_with('s'));
    }
    // What has no body costs nothing, and the others have what is theirs.
    let models = server.http.get(format!("{}/v1/models", server.url)).bearer_auth("ann-key");
    assert_eq!(server.send(models).await.status, 200);
    let other = ask(&server, "bob-key", &short()).await;
    assert_eq!((other.status, remaining(&other).as_str()), (200, "4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_so_many_tokens_a_minute() {
    let flags = [
        "--tokens-per-minute",
        "60",
        "--max-queued-requests",
        "1",
        "--max-running",
        "1",
        "--max-batch-tokens",
        "128",
    ];
    let server = Server::start("diffugpt-s", &flags);
    let remaining = |answer: &Answer| answer.header("x-ratelimit-remaining-tokens").parse::<u64>().unwrap();
    // Three given and ten to be generated, twice.
    let body = json!({ "prompt": [5, 6, 7], "max_tokens": 10, "n": 2 });
    let first = server.post(COMPLETIONS, &body).await;
    let left = remaining(&first);
    assert!(first.status == 200 && (34..60).contains(&left), "{left}");
    let second = server.post(COMPLETIONS, &body).await;
    assert!(second.status == 200 && remaining(&second) < left);
    // What is refused for what it says costs none.
    let wrong = server.post(COMPLETIONS, &with(&body, json!({ "max_tokens": 2000 }))).await;
    assert!(wrong.status == 400 && remaining(&wrong) >= remaining(&second));
    for stream in [false, true] {
        let refused = server.post(COMPLETIONS, &with(&body, json!({ "stream": stream }))).await;
        let error = refused.refusal(429, "rate_limit_exceeded");
        assert!(error["message"].as_str().unwrap().contains("60 tokens a minute"), "{error}");
        assert!(!refused.header("retry-after").is_empty());
    }
    // Waiting would not help here, so the SDKs are told not to.
    let never = server.post(COMPLETIONS, &with(&body, json!({ "n": 8 }))).await;
    let error = never.refusal(429, "rate_limit_exceeded");
    assert!(error["message"].as_str().unwrap().contains("104 tokens"), "{error}");
    assert_eq!((never.header("retry-after"), never.header("x-should-retry")), ("", "false"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engine_has_no_room_for_costs_no_tokens() {
    let flags = [
        "--tokens-per-minute",
        "4294967295",
        "--max-queued-requests",
        "1",
        "--max-running",
        "1",
        "--max-batch-tokens",
        "128",
    ];
    let server = Server::start("diffullama", &flags);
    let mut running = server.open(COMPLETIONS, &long(true)).await;
    running.read_until(r#""type":"step""#).await;
    let waiting = server.http.post(format!("{}{COMPLETIONS}", server.url)).json(&short()).send();
    let waiting = tokio::spawn(waiting);
    server.health_until("a request in the queue", |health| health.waiting == Some(1)).await;
    // A bucket this large is full again within a millisecond; a refused request must not have emptied it.
    let huge = json!({ "prompt": vec!["The"; 32], "n": 8, "max_tokens": 120 });
    let refused = server.post(COMPLETIONS, &huge).await;
    refused.refusal(503, "server_overloaded");
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), "4294967295");
    drop(running);
    waiting.await.unwrap().unwrap();
}

/// The number of evaluations, of a hundred, of a request with one sample, beside one with thirty-two.
async fn evaluations_beside_a_crowd(keys: &KeyFile, key: &str) -> usize {
    let server =
        Gated::start(&[&keys.flag()[..], &["--max-batch-tokens", "42"]].concat(), Duration::MAX).await;
    let post = |key: &str, prompts: Vec<[u32; 1]>, n: u64| {
        // A document end that is drawn by chance would end a text after fewer evaluations.
        let body = json!({ "prompt": prompts, "max_tokens": 40, "n": n, "ignore_eos": true,
            "diffusion": { "preset": "exact" } });
        tokio::spawn(
            server.http.post(format!("{}{COMPLETIONS}", server.url)).bearer_auth(key).json(&body).send(),
        )
    };
    let crowd = post("ann-key", vec![[5]; 4], 8);
    server.begun();
    let single = post(key, vec![[9]], 1);
    let waiting = async || {
        let health = server.http.get(format!("{}/health", server.url)).send().await.unwrap();
        health.json::<Value>().await.unwrap()["waiting"].clone()
    };
    while waiting().await != 1 {}
    let mut count = 0;
    for _ in 0..100 {
        server.permit();
        count += server.begun().iter().filter(|canvas| canvas[0] == 9).count();
    }
    crowd.abort();
    single.abort();
    count
}

/// Otherwise a key that asks for more would get more, and the others would wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_share_the_engine_alike_however_much_each_asks() {
    let keys = KeyFile::new("ann:ann-key\nbob:bob-key\n");
    let other = evaluations_beside_a_crowd(&keys, "bob-key").await;
    let same = evaluations_beside_a_crowd(&keys, "ann-key").await;
    assert!(other > 30 && same < 6, "{other} of 100 with a key of its own, {same} with the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_named_origins_may_call() {
    let flags = ["--cors-origin", "https://app.example,http://localhost:3000"];
    let server = Server::start("diffugpt-s", &flags);
    let url = format!("{}{COMPLETIONS}", server.url);
    for (origin, allowed) in [
        ("https://app.example", true),
        ("http://localhost:3000", true),
        ("https://evil.example", false),
        ("https://app.example.evil.example", false),
        ("http://app.example", false),
        ("null", false),
    ] {
        let preflight = server.http.request(Method::OPTIONS, &url).header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "POST");
        let preflight = server
            .send(preflight.header("access-control-request-headers", "authorization,content-type"))
            .await;
        let post = server.send(server.http.post(&url).header("origin", origin).json(&short())).await;
        let refused = server.send(server.http.post(&url).header("origin", origin)).await;
        assert_eq!((preflight.status, post.status, refused.status), (200, 200, 415));
        for answer in [&preflight, &post, &refused] {
            let told = answer.header("access-control-allow-origin");
            assert_eq!(told, if allowed { origin } else { "" });
            assert_eq!(answer.header("access-control-allow-credentials"), "");
        }
        assert_eq!(preflight.header("access-control-allow-headers"), "authorization,content-type");
    }
    for bad in ["*", "https://app.example/", "app.example"] {
        let mut command = unmask(&["serve", "--cors-origin", bad]);
        assert_eq!(command.output().unwrap().status.code(), Some(2), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_answers_to_names_of_its_machine_and_those_it_was_given() {
    let keys = KeyFile::new("ann:ann-key\n");
    for (flags, given, foreign) in [
        (&[][..], 403, 403),
        (&["--allowed-host", "models.example,10.1.2.3"], 200, 403),
        // A page cannot know a key.
        (&keys.flag(), 200, 200),
    ] {
        let server = Server::start("diffugpt-s", flags);
        let status = async |host: &str| {
            let request = server.http.get(format!("{}/version", server.url)).bearer_auth("ann-key");
            let answer = server.send(request.header("host", host)).await;
            if answer.status != 200 {
                let error = answer.refusal(403, "host_not_allowed");
                assert!(!error.to_string().contains(host), "{error}");
            }
            answer.status
        };
        assert_eq!(status("localhost:1234").await, 200);
        assert_eq!(status("models.example").await, given);
        assert_eq!(status("10.1.2.3:80").await, given);
        assert_eq!(status("evil.example").await, foreign);
    }
}
