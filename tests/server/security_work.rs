//! The security checklist: what a request costs before it is admitted, and what it is charged.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::access::KeyFile;
use crate::completions::with;
use crate::harness::{DEADLINE, Server};
use crate::security::chatty;

const COMPLETIONS: &str = "/v1/completions";

/// The goal for a probe is 250 ms; the bound is an order of magnitude looser, because the machine is shared.
pub(crate) const PROBE: Duration = Duration::from_millis(2500);

/// Bytes of each hostile body.
const SIZE: usize = 500_000;

#[expect(clippy::disallowed_methods, reason = "a probe's time is what is tested")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// So many copies as make a body of [`SIZE`], numbered.
fn many(one: impl Fn(usize) -> String) -> String {
    let count = SIZE / one(99_999).len();
    (0..count).map(one).collect::<Vec<_>>().join(",")
}

/// Bodies that cost a multiple of what their bytes cost wherever fields, names, texts or entries are compared with
/// each other.
pub(crate) fn hostile_bodies() -> Vec<(&'static str, String)> {
    let known = r#""prompt":"a","max_tokens":1"#;
    let long_name = "x".repeat(200);
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    vec![
        (COMPLETIONS, format!("{{{known},{}}}", many(|number| format!("\"x{number}\":1")))),
        (COMPLETIONS, format!("{{{known},{}}}", many(|number| format!("\"{long_name}{number}\":null")))),
        (COMPLETIONS, format!("{{{known},\"diffusion\":{{{}}}}}", many(|number| format!("\"x{number}\":1")))),
        (COMPLETIONS, format!("{{{known},\"x\":[{}]}}", many(|_| deep.clone()))),
        (COMPLETIONS, format!("{{{known},\"tools\":[{}]}}", many(|number| number.to_string()))),
        (COMPLETIONS, format!("{{{known},\"logit_bias\":{{{}}}}}", many(|number| format!("\"{number}\":1")))),
        (COMPLETIONS, format!("{{{known},\"stop\":[{}]}}", many(|number| format!("\"{number}\"")))),
        (COMPLETIONS, format!("{{\"prompt\":[{}]}}", many(|number| number.to_string()))),
        (COMPLETIONS, json!({ "prompt": "a ".repeat(SIZE / 2) }).to_string()),
        (
            "/v1/chat/completions",
            format!("{{\"messages\":[{}]}}", many(|_| r#"{"role":"user","content":"a"}"#.to_owned())),
        ),
        ("/v1/chat/completions", {
            let text = "<|endoftext|>".repeat(SIZE / 13);
            json!({ "messages": [{ "role": "user", "content": text }] }).to_string()
        }),
        ("/fill", format!("{{\"prefix\":\"a\",{}}}", many(|number| format!("\"x{number}\":1")))),
        ("/fill", format!("{{\"segments\":[{}]}}", many(|_| "\"a\",{\"length\":1}".to_owned()))),
        ("/fill", json!({ "template": "<fill>".repeat(SIZE / 6) }).to_string()),
        ("/fill", {
            let choices: Vec<String> =
                (0..64).map(|number| format!("{number}{}", "a".repeat(1000))).collect();
            let hole = json!({ "choices": choices });
            json!({ "segments": vec![hole; 7].into_iter().flat_map(|hole| [json!("a"), hole]).collect::<Vec<_>>() })
                .to_string()
        }),
        (
            "/fill",
            json!({ "prefix": "word ".repeat(SIZE / 10), "suffix": "a".repeat(SIZE / 2), "length": 1 })
                .to_string(),
        ),
        (
            "/infill",
            format!(
                "{{\"input_prefix\":\"a\",\"n_predict\":1,\"response_fields\":[{}]}}",
                many(|number| format!("\"timings/{number}\""))
            ),
        ),
        (
            "/infill",
            format!("{{\"n_predict\":1,\"input_extra\":[{}]}}", many(|_| r#"{"text":"a"}"#.to_owned())),
        ),
        ("/tokenize", json!({ "prompt": "a ".repeat(SIZE / 2) }).to_string()),
        ("/detokenize", format!("{{\"tokens\":[{}]}}", many(|number| (number % 7).to_string()))),
    ]
}

/// Asks `/live` until `enough`: the longest time that it took.
async fn probe_until(server: &Server, enough: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !enough.load(Ordering::Relaxed) {
        let start = now();
        assert_eq!(server.get("/live").await.status, 200);
        longest = longest.max(now() - start);
    }
    longest
}

/// Bodies of 360 KB once took five seconds of a thread that serves connections, and as many of them as there are
/// threads silenced probes for twenty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_holds_up_a_probe() {
    let server = chatty(&[]);
    let done = Arc::new(AtomicBool::new(false));
    let ask = async {
        for (path, body) in hostile_bodies() {
            let start = now();
            let answers = join_all((0..4).map(|_| server.post_text(path, body.clone()))).await;
            for answer in answers {
                assert!([200, 400].contains(&answer.status), "{path} {}: {}", &body[..80], answer.body);
            }
            // Work in proportion to the square would take minutes.
            assert!(now() - start < DEADLINE / 4, "{path} {} took {:?}", &body[..80], now() - start);
        }
        done.store(true, Ordering::Relaxed);
    };
    let ((), longest) = tokio::join!(ask, probe_until(&server, &done));
    assert!(longest < PROBE, "a probe took {longest:?}");
}

/// The signal is taken by the thread of the connections, whatever the workers do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_holds_up_the_end() {
    let server = chatty(&["--drain-timeout", "1"]);
    let url = server.url.clone();
    let http = server.http.clone();
    let clients: Vec<_> = hostile_bodies()
        .into_iter()
        .map(|(path, body)| {
            let request = http.post(format!("{url}{path}")).header("content-type", "application/json");
            tokio::spawn(request.body(body).send())
        })
        .collect();
    server.health_until("a request", |health| health.evaluations > Some(0)).await;
    let start = now();
    let (status, _) = server.stop().await;
    // A second of the drain, five for connections, and an order of magnitude.
    assert!(status.success() && now() - start < DEADLINE / 2, "{:?}", now() - start);
    clients.into_iter().for_each(|client| client.abort());
}

/// The most memory that a server has had in use.
fn peak(server: &Server) -> u64 {
    server.memory("VmHWM:")
}

/// Each of these once took 290 MB and 0.7 s to be refused, and 64 of them 8.3 GB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_fit_no_context_are_refused_before_they_are_tokenized() {
    let server = Server::start("diffugpt-s", &[]);
    let text = "word ".repeat(2_000_000 / 5);
    let body = |text: &str| json!({ "prompt": text, "max_tokens": 1 });
    server.ok(COMPLETIONS, &body("a")).await;
    server.post(COMPLETIONS, &body(&text)).await.refusal(400, "context_length_exceeded");
    let idle = server.resident();
    let answers = join_all((0..64).map(|_| async { server.post(COMPLETIONS, &body(&text)).await })).await;
    for answer in answers {
        let error = answer.refusal(400, "context_length_exceeded");
        assert!(error["message"].as_str().unwrap().contains("the text has 2000000 bytes"), "{error}");
    }
    let most = peak(&server);
    assert!(most < idle + (300 << 20), "{idle} bytes became {most}");
    // Connections that are being closed still hold some.
    let start = now();
    let mut after = server.resident();
    while after > idle + (50 << 20) && now() - start < DEADLINE / 4 {
        assert_eq!(server.get("/live").await.status, 200);
        after = server.resident();
    }
    assert!(after < idle + (50 << 20), "{idle} bytes are {after} afterwards");
}

/// Bodies that are on their way once held as much memory as there were connections for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_on_their_way_hold_bounded_memory() {
    let keys = KeyFile::new("slow:slow-secret\nquick:quick-secret\n");
    let server = Server::start("diffugpt-s", &keys.flag());
    let quick = async |body: &Value| {
        let request = server.http.post(format!("{}{COMPLETIONS}", server.url)).json(body);
        server.send(request.bearer_auth("quick-secret")).await
    };
    assert_eq!(quick(&json!({ "prompt": "a", "max_tokens": 1 })).await.status, 200);
    let idle = server.resident();
    let head =
        format!("POST {COMPLETIONS} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer slow-secret\r\n");
    let head = format!("{head}content-type: application/json\r\ncontent-length: 2000000\r\n\r\n");
    let body = vec![b' '; 1_900_000];
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut connection = TcpStream::connect(server.address()).unwrap();
            connection.write_all(head.as_bytes()).unwrap();
            connection.set_nonblocking(true).unwrap();
            // As much as the server and the kernel take.
            let _ = connection.write(&body);
            connection
        })
        .collect();
    for _ in 0..20 {
        for mut connection in &slow {
            let _ = connection.write(&body[..100_000]);
        }
        // Another key's large body is not held up by them.
        let large = quick(&json!({ "prompt": "a", "max_tokens": 1, "user": "x".repeat(200_000) })).await;
        assert_eq!(large.status, 200, "{}", large.body);
    }
    let after = server.resident();
    assert!(after < idle + (96 << 20), "{idle} bytes became {after}");
}

/// Parts of a file that cannot matter around a hole are left out, and the answer is that of a shorter file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_around_a_hole_are_cut_to_what_can_matter() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let before = "def f(x):\n    return x\n".repeat(2_000);
        let after = "\nprint(f(2))\n".repeat(2_000);
        let long = |times: usize| {
            json!({ "prefix": before.repeat(times), "suffix": after.repeat(times),
                                          "length": 4, "seed": 1, "include": "holes" })
        };
        let short = server.ok("/fill", &long(1)).await;
        let long = server.ok("/fill", &long(10)).await;
        assert_eq!(
            short["choices"][0]["holes"][0]["text"], long["choices"][0]["holes"][0]["text"],
            "{model}"
        );
        assert_eq!(long["truncated"], true);
        let infill = |times: usize| {
            json!({ "input_prefix": before.repeat(times), "n_predict": 4, "seed": 1,
                                            "input_suffix": after.repeat(times) })
        };
        let short = server.ok("/infill", &infill(1)).await;
        let long = server.ok("/infill", &infill(10)).await;
        assert_eq!(short["content"], long["content"], "{model}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokenizing_is_bounded_and_charged() {
    let server = chatty(&["--tokens-per-minute", "50000"]);
    let text = |bytes: usize| "a ".repeat(bytes / 2);
    for body in [
        json!({ "prompt": text(600_000) }),
        json!({ "content": text(600_000) }),
        json!({ "messages": [{ "role": "user", "content": text(300_000) }, { "role": "user", "content": text(300_000) }] }),
    ] {
        server.post("/tokenize", &body).await.refusal(400, "out_of_range");
    }
    // One of 100,000 bytes costs 25,000 tokens.
    let server = chatty(&["--tokens-per-minute", "50000"]);
    for status in [200, 200, 429] {
        assert_eq!(server.post("/tokenize", &json!({ "prompt": text(100_000) })).await.status, status);
    }
    // So does one that is refused since it is too long, when it comes to completions.
    let server = chatty(&["--tokens-per-minute", "50000"]);
    let mut left = String::new();
    for _ in 0..2 {
        let refused = server.post(COMPLETIONS, &json!({ "prompt": text(100_000) })).await;
        refused.refusal(400, "context_length_exceeded");
        left = refused.header("x-ratelimit-remaining-tokens").to_owned();
    }
    assert!(left.parse::<u64>().unwrap() < 20_000, "{left}");
}

/// The tokens that a request is charged, as a limit below them tells.
async fn charge(server: &Server, path: &str, body: &Value) -> u64 {
    let error = server.post(path, body).await.refusal(429, "rate_limit_exceeded");
    let message = error["message"].as_str().unwrap();
    let (_, rest) = message.split_once("the request needs ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// Choices were once charged by their own tokens alone: 1,042 for 134,000 rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_canvas_that_is_computed_is_charged() {
    let server = chatty(&["--tokens-per-minute", "1"]);
    let body = json!({ "prompt": [5, 6, 7], "max_tokens": 10 });
    let completions = async |fields: Value| charge(&server, COMPLETIONS, &with(&body, fields)).await;
    assert_eq!(completions(json!({})).await, 13);
    assert_eq!(completions(json!({ "n": 4 })).await, 4 * 13);
    assert_eq!(completions(json!({ "prompt": [[5, 6, 7], [5]] })).await, 13 + 11);
    assert_eq!(completions(json!({ "diffusion": { "guidance": 1.5 } })).await, 2 * 13);
    assert_eq!(completions(json!({ "echo": true, "logprobs": 0, "max_tokens": 0 })).await, 3 + 3);
    let fill = async |fields: Value| {
        charge(&server, "/fill", &with(&json!({ "prefix": "The cat", "suffix": " dog" }), fields)).await
    };
    let around = fill(json!({ "length": 1 })).await - 1;
    // The evaluation that compares seven lengths, on canvases with the document start.
    let lengths = json!({ "length": { "min": 1, "max": 7 } });
    assert_eq!(fill(lengths).await, 7 * (around + 1) + (1..=7).sum::<u64>());
    // Two alternatives of a token each, on canvases with the document start.
    let choices = json!({ "segments": ["The cat", { "choices": ["a", "b"] }, " dog"] });
    assert_eq!(charge(&server, "/fill", &choices).await, 2 * (around + 1 + 1));
}

/// The sum of all texts' tokens was once made anew for every event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_in_every_chunk_is_a_running_sum() {
    let server = chatty(&[]);
    let body = json!({ "prompt": vec!["The"; 64], "n": 8, "max_tokens": 4, "seed": 3, "stop": ["e"] });
    let plain = server.ok(COMPLETIONS, &body).await;
    let options = json!({ "stream": true, "stream_options": { "continuous_usage_stats": true } });
    let text = server.post(COMPLETIONS, &with(&body, options)).await.body;
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let used = |data: &str| serde_json::from_str::<Value>(data).unwrap()["usage"].clone();
    let counts: Vec<u64> = data.map(|data| used(data)["completion_tokens"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted() && counts.len() >= 512);
    assert_eq!(json!(counts.last()), plain["usage"]["completion_tokens"]);
}
