//! Classes of attacks that servers like this one have had, each with the test that keeps it out. Those that
//! are tested where they belong anyway:
//!
//! | class | test |
//! | --- | --- |
//! | the product of allowed factors | `refusals::the_product_of_all_factors_is_bounded` |
//! | special tokens typed as text | `special_text`, `templates::special_strings_in_messages_become_no_special_tokens` |
//! | variables of templates | `chat::wrong_messages_are_refused_by_name` |
//! | templates that are programs | `template::jinja` and `templates::a_template_that_never_ends_…` |
//! | constrained decoding | `refusals::unsupported_fields_are_refused_unless_they_ask_for_nothing` |
//! | pickled weights | `startup::pickled_weights_are_refused_with_a_way_out` |
//! | parsers of model files | `model/tests/hostile` |
//! | keys told apart by time | `access::keys`: digests, compared in constant time |
//! | other sites' forms | `transport::only_plain_json_bodies_are_accepted` |
//! | DNS rebinding, CORS | `access::a_server_answers_to_names_of_its_machine_…`, `access::pages_of_named_origins_may_call` |
//! | series made by clients | `metrics::clients_add_no_series_and_no_text` |
//! | JSON abuse, bombs of bytes | `transport::texts_that_are_not_json_are_refused`, `…bodies_over_the_limit_are_413_…` |
//! | clients that vanish | `vanishing::five_hundred_clients_that_vanish_leave_nothing_behind` |
//! | neighbours in a batch | `determinism::an_answer_is_the_same_among_fifteen_others` |
//! | panics of the engine | `scheduler/tests/engine/failing.rs`, `gated::an_evaluation_that_does_not_end_…` |

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::access::KeyFile;
use crate::completions::with;
use crate::harness::{DEADLINE, Server, golden};

const COMPLETIONS: &str = "/v1/completions";

/// A request with a body for every route that takes one, with a text in it.
fn bodies(text: &str) -> Vec<(&'static str, Value)> {
    let messages = json!([{ "role": "user", "content": text }]);
    vec![
        (COMPLETIONS, json!({ "prompt": text, "max_tokens": 2 })),
        ("/v1/chat/completions", json!({ "messages": messages, "max_tokens": 2 })),
        ("/fill", json!({ "prefix": text, "length": 2 })),
        ("/v1/fill", json!({ "suffix": text, "length": 2 })),
        ("/v1/fim/completions", json!({ "prompt": text, "suffix": text, "max_tokens": 2 })),
        ("/infill", json!({ "input_prefix": text, "input_suffix": text, "n_predict": 2 })),
        ("/tokenize", json!({ "prompt": text })),
        ("/detokenize", json!({ "tokens": [1] })),
        ("/apply-template", json!({ "messages": messages })),
    ]
}

/// Serves with a chat template, so that every route works.
fn chatty(flags: &[&str]) -> Server {
    let template = golden("../templates/colons.jinja").display().to_string();
    Server::start("diffugpt-s", &[&["--chat-template", template.as_str()], flags].concat())
}

/// Memory may grow by what an allocator keeps, not by what was asked for.
fn assert_flat(server: &Server, before: u64) {
    let after = server.resident();
    assert!(after < before + (64 << 20), "memory grew from {before} to {after} bytes");
}

/// A million samples would fill the memory before any of them is computed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sample_bombs_are_refused_before_anything_is_allocated() {
    let server = chatty(&[]);
    server.ok(COMPLETIONS, &json!({ "prompt": "a", "n": 8 })).await;
    let before = server.resident();
    for (path, body) in bodies("a").into_iter().filter(|(path, _)| path.contains("/v1/") || *path == "/fill")
    {
        for n in ["9", "1000000", "9223372036854775808", "-1", "1.5", "\"1\""] {
            let text = with(&body, json!({ "n": 0 })).to_string().replace("\"n\":0", &format!("\"n\":{n}"));
            let answer = server.post_text(path, text).await;
            assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("n")), "{path} {n}");
        }
    }
    assert_flat(&server, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_nothing_are_texts() {
    let server = chatty(&[]);
    for text in ["", " ", "\n\t", "\u{feff}", "\0", "\u{200b}", "\u{10ffff}"] {
        for (path, body) in bodies(text) {
            let answer = server.post(path, &body).await;
            // A file of nothing around a hole is no request, which the fill routes say.
            let nothing = text.is_empty() && path.ends_with("fill") && answer.status == 400;
            assert!(answer.status == 200 || nothing, "{path} {text:?}: {}", answer.body);
        }
    }
    server.post(COMPLETIONS, &json!({ "prompt": [] })).await.refusal(400, "out_of_range");
}

/// The fields of a request's schema that hold numbers, by path.
fn numeric_fields(document: &Value, schema: &Value, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/schemas/")) {
        found.extend(numeric_fields(document, &document["components"]["schemas"][name], prefix));
    }
    for part in ["oneOf", "anyOf", "allOf"] {
        for schema in schema[part].as_array().into_iter().flatten() {
            found.extend(numeric_fields(document, schema, prefix));
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let kinds = field["type"].to_string();
        if kinds.contains("integer") || kinds.contains("number") {
            found.push(path);
        } else if prefix.is_empty() {
            found.extend(numeric_fields(document, field, &format!("{path}.")));
        }
    }
    found
}

/// A negative number was once an index; a large one once wrapped around.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_numbers_in_any_field_are_never_the_servers_fault() {
    let server = chatty(&["--max-cost", "4000"]);
    let document = server.get("/openapi.json").await.json();
    let mut fields = 0;
    for (path, body) in bodies("a") {
        let schema = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
        for field in numeric_fields(&document, schema, "") {
            fields += 1;
            for value in [
                "-1",
                "0",
                "-0.0",
                "2147483648",
                "9223372036854775807",
                "9223372036854775808",
                "18446744073709551616",
                "1e308",
                "-1e308",
                "5e-324",
                "\"NaN\"",
                "[1]",
            ] {
                let (outer, inner) = field.split_once('.').unwrap_or((&field, ""));
                let given =
                    if inner.is_empty() { value.to_owned() } else { format!("{{\"{inner}\":{value}}}") };
                let mut rest = body.clone();
                rest.as_object_mut().unwrap().remove(outer);
                let rest = rest.to_string();
                let comma = if rest == "{}" { "" } else { "," };
                let text = format!("{}{comma}\"{outer}\":{given}}}", &rest[..rest.len() - 1]);
                let answer = server.post_text(path, text).await;
                assert!([200, 400].contains(&answer.status), "{path} {field} {value}: {}", answer.body);
            }
        }
    }
    assert!(fields > 100, "the document names {fields} numeric fields");
    server.ok(COMPLETIONS, &json!({ "prompt": "a", "max_tokens": 1 })).await;
}

/// xorshift64: the same requests in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// A request that is valid, with about half of the settings set.
fn valid(dice: &mut Dice) -> Value {
    let settings = [
        ("temperature", vec![json!(0), json!(0.3), json!(2)]),
        ("top_p", vec![json!(0), json!(0.5), json!(1)]),
        ("top_k", vec![json!(-1), json!(1), json!(40)]),
        ("min_p", vec![json!(0), json!(0.2), json!(1)]),
        ("frequency_penalty", vec![json!(-2), json!(2)]),
        ("presence_penalty", vec![json!(-2), json!(2)]),
        ("repetition_penalty", vec![json!(0.5), json!(2)]),
        ("logit_bias", vec![json!({ "5": 100 }), json!({ "5": -100, "6": 3.5 })]),
        ("min_tokens", vec![json!(0), json!(3), json!(9)]),
        ("ignore_eos", vec![json!(true), json!(false)]),
        ("seed", vec![json!(-1), json!(7), json!(i64::MAX)]),
        ("stop", vec![json!("e"), json!(["xx", "\n", "a"])]),
        ("n", vec![json!(1), json!(3)]),
        ("max_tokens", vec![json!(1), json!(9), json!(20)]),
        ("suffix", vec![json!(""), json!(" end")]),
        ("stream", vec![json!(true), json!(false)]),
        ("timeout_ms", vec![json!(100_000)]),
    ];
    let rules = [
        ("steps", vec![json!(1), json!(3), json!(64)]),
        ("guidance", vec![json!(-1), json!(0), json!(1.5)]),
        ("reproduce", vec![json!(true), json!(false)]),
        ("time_budget_ms", vec![json!(1), json!(50_000)]),
    ];
    let presets = [
        "reference",
        "exact",
        "balanced",
        "budget",
        "confidence",
        "dream",
        "llada",
        "threshold",
        "factor",
        "remdm",
        "greedy",
    ];
    let prompts = [json!("The cat"), json!(""), json!(["a", "b c"]), json!([5, 6, 7])];
    let mut body = json!({ "prompt": prompts[dice.below(4)], "diffusion": {} });
    for (name, values) in settings.iter().filter(|_| dice.below(2) == 0).collect::<Vec<_>>() {
        body[name] = values[dice.below(values.len())].clone();
    }
    for (name, values) in rules.iter().filter(|_| dice.below(3) == 0).collect::<Vec<_>>() {
        body["diffusion"][name] = values[dice.below(values.len())].clone();
    }
    if dice.below(2) == 0 {
        body["diffusion"]["preset"] = json!(presets[dice.below(presets.len())]);
    }
    if body["stream"] == true && dice.below(2) == 0 {
        body["diffusion"]["stream_states"] = json!("delta");
    }
    body
}

/// Twice, an engine elsewhere died of a combination that nobody had tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_combination_of_settings_is_answered() {
    let server = chatty(&[]);
    let mut dice = Dice(0xfeed);
    for _ in 0..1500 {
        let body = valid(&mut dice);
        let answer = server.post(COMPLETIONS, &body).await;
        // Some rules do not go together with some settings, and say so.
        let refused = answer.status == 400 && answer.json()["error"]["code"] == "conflicting_fields";
        assert!(answer.status == 200 || refused, "{body}: {}", answer.body);
        assert!(!answer.body.contains("engine_error"), "{body}: {}", answer.body);
    }
    assert_eq!(server.get("/live").await.status, 200);
}

/// The process has no business with addresses in requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_in_requests_are_not_visited() {
    let server = chatty(&[]);
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let url = format!("http://{}/x.png", canary.local_addr().unwrap());
    for address in [url.as_str(), "file:///etc/passwd"] {
        let image = json!([{ "type": "image_url", "image_url": { "url": address } }]);
        let body = json!({ "messages": [{ "role": "user", "content": image }] });
        for path in ["/v1/chat/completions", "/tokenize", "/apply-template"] {
            server.post(path, &body).await.refusal(400, "unsupported_content_type");
        }
        for (path, body) in bodies(address) {
            for more in [json!({}), json!({ "model": address }), json!({ "chat_template": address })] {
                assert!(server.post(path, &with(&body, more)).await.status < 500, "{path}");
            }
        }
    }
    assert_eq!(canary.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody called");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_lead_to_no_files() {
    let server = Server::start("diffugpt-s", &[]);
    for path in [
        "/..%2f..%2fetc%2fpasswd",
        "/static/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/....//etc/passwd",
        "/v1/models/../../etc/passwd",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/diffugpt-s/../config.json",
        "/v1/models/%00",
        "//etc/passwd",
    ] {
        // A client would tidy the path before it sends it.
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = server.raw(request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert!(!answer.contains("root:") && !answer.contains("n_embd"), "{path}: {answer}");
    }
    let refused = server.post(COMPLETIONS, &json!({ "prompt": "a", "model": "../../etc/passwd" })).await;
    refused.refusal(404, "model_not_found");
}

/// A check of the address as text can be led past; here what is not known to be open is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_of_writing_an_address_leads_past_the_keys() {
    let keys = KeyFile::new("ann:ann-secret\n");
    let server = Server::start("diffugpt-s", &keys.flag());
    let body = json!({ "prompt": "a", "max_tokens": 1 }).to_string();
    let targets = [
        COMPLETIONS,
        "//v1/completions",
        "/v1//completions",
        "/v1/./completions",
        "/v1/../v1/completions",
        "/live/../v1/completions",
        "/health/../fill",
        "/%76%31/completions",
        "/v1%2fcompletions",
        "/v1/completions/",
        "/V1/completions",
        "/v1/completions?x=/live",
        "/v1/completions;/live",
        "/v1/completions%00",
        "/live/",
        "/live%20",
        "/live/v1/completions",
        "/",
        "/fill",
        "/nothing",
        "http://evil.example/v1/completions",
        "http://localhost/live/../fill",
        "*",
    ];
    let methods = ["POST", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "BREW"];
    let more = [
        "host: localhost\r\n",
        "host: localhost/live\r\n",
        "host: localhost?/live\r\n",
        "host: localhost\r\nx-forwarded-host: localhost\r\nx-forwarded-for: 127.0.0.1\r\n",
        "host: localhost\r\nx-original-url: /live\r\nx-rewrite-url: /live\r\n",
        "host: localhost\r\nx-http-method-override: GET\r\n",
    ];
    let mut refused = 0;
    for target in targets {
        for (method, more) in
            methods.map(|method| (method, more[0])).into_iter().chain(more.map(|more| ("POST", more)))
        {
            let request = format!(
                "{method} {target} HTTP/1.1\r\n{more}connection: close\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = server.raw(request.as_bytes());
            // What is no address at all is refused before anybody asks where it leads.
            let none = answer.starts_with("HTTP/1.1 400 ") && !answer.contains("choices");
            assert!(answer.starts_with("HTTP/1.1 401 ") || none, "{method} {target} {more}: {answer}");
            refused += usize::from(!none);
        }
    }
    assert!(refused > 200, "{refused}");
    for open in ["/live", "/live?x=1"] {
        assert_eq!(server.get(open).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_credentials_are_no_credentials() {
    let keys = KeyFile::new("ann:ann-secret\n");
    let server = Server::start("diffugpt-s", &keys.flag());
    let bytes = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap();
    let long = [b"Bearer ".to_vec(), vec![b'x'; 8000]].concat();
    for value in [
        bytes(b""),
        bytes(b"Bearer"),
        bytes(b"Bearer "),
        bytes(b"ann-secret"),
        bytes(b"Basic YW5uOmFubi1zZWNyZXQ="),
        bytes(b"Bearer ann:ann-secret"),
        bytes(b"Bearer ann-secret2"),
        bytes(b"Bearer ann-secre"),
        bytes(b"Bearer ANN-SECRET"),
        bytes(b"Bearer ann-secret, Bearer ann-secret"),
        bytes(b"Bearer ' OR '1'='1"),
        bytes(b"Bearer \"ann-secret\""),
        bytes(b"Bearer \xff\xfe"),
        bytes(b"Bearer \xc3\xa4nn-secret"),
        bytes(&long),
    ] {
        for name in ["authorization", "x-api-key", "proxy-authorization", "cookie"] {
            let own = HeaderName::from_static(name);
            if name == "x-api-key" && value == "ann-secret" {
                continue;
            }
            let request = server.http.get(format!("{}/version", server.url)).header(own, value.clone());
            server.send(request).await.refusal(401, "invalid_api_key");
        }
    }
    // 64 KiB do not get so far.
    let head =
        format!("GET /version HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}", "x".repeat(65536));
    assert!(refusal_of_a_head(&server, head.as_bytes()).starts_with("HTTP/1.1 431 "));
}

/// What comes back while a head is still being sent, which may be cut when all of it is refused.
fn refusal_of_a_head(server: &Server, head: &[u8]) -> String {
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = connection.write_all(head);
    let _ = connection.write_all(b"\r\n\r\n");
    let mut answer = Vec::new();
    // The rest of what was sent is not read, so the end is a reset, which may overtake the answer.
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_of_headers_are_431() {
    let server = Server::start("diffugpt-s", &[]);
    let start = "GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let many = |count: usize| (0..count).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let head = |more: &str| format!("{start}{more}\r\n");
    assert!(server.raw(head(&many(62)).as_bytes()).starts_with("HTTP/1.1 200 "));
    assert!(server.raw(head(&many(63)).as_bytes()).starts_with("HTTP/1.1 431 "));
    assert!(
        server.raw(head(&format!("x: {}\r\n", "x".repeat(15_000))).as_bytes()).starts_with("HTTP/1.1 200 ")
    );
    let before = server.resident();
    for _ in 0..50 {
        let large = format!("{start}x: {}", "x".repeat(1 << 20));
        let answer = refusal_of_a_head(&server, large.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert_flat(&server, before);
    assert_eq!(server.get("/live").await.status, 200);
}

/// The goal is that 200 clients that send a byte now and then do not double what a request takes. Here a
/// request may take twenty times as long, and half a second more: two shared cores and a test beside it tell
/// that apart from waiting for the dribblers, which is what would happen without the timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dribbling_clients_hold_nobody_up() {
    let server = Server::start("diffugpt-s", &["--header-timeout", "3"]);
    let body = json!({ "prompt": "The", "max_tokens": 8, "seed": 1 });
    let ask = async || {
        let start = now();
        server.ok(COMPLETIONS, &body).await;
        now() - start
    };
    ask().await;
    let alone = ask().await.max(ask().await);
    let mut dribblers: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let (start, mut slowest) = (now(), Duration::ZERO);
    let head = b"GET /live HTTP/1.1\r\nhost: localhost\r\nx: ";
    for byte in head.iter().chain(std::iter::repeat(&b'x')) {
        slowest = slowest.max(ask().await);
        // Writing to a connection that was closed fails, if not at once.
        dribblers.retain_mut(|connection| connection.write_all(&[*byte]).is_ok());
        if dribblers.is_empty() {
            break;
        }
        assert!(now() - start < DEADLINE, "{} connections are still open", dribblers.len());
    }
    assert!(slowest < alone * 20 + Duration::from_millis(500), "{slowest:?} instead of {alone:?}");
}

#[expect(clippy::disallowed_methods, reason = "the test is about time")]
fn now() -> Instant {
    Instant::now()
}

/// What users write is theirs: it comes back in answers and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_appear_in_no_log_metric_or_error() {
    let server = chatty(&["--log", "debug", "--max-canvas", "20"]);
    let canary = "zanarybird";
    for (path, body) in bodies(canary) {
        for wrong in [
            json!({}),
            json!({ "max_tokens": canary, "length": canary, "n_predict": canary, "tokens": [canary] }),
            json!({ "stream": true }),
            json!({ "temperature": canary, "with_pieces": canary }),
            json!({ "stop": [canary, 5], "content": 5 }),
            json!({ "stop": canary.repeat(30), "prefix": [canary], "input_prefix": [canary] }),
            json!({ "diffusion": canary }),
            json!({ "diffusion": { "order": canary } }),
            json!({ "messages": canary, "prompt": { "a": canary } }),
            json!({ "messages": [{ "role": canary, "content": canary }], "suffix": { "a": canary } }),
            json!({ "max_tokens": 999, "length": 999, "n_predict": 0, "user": canary }),
            json!({ "prompt": canary.repeat(500), "prefix": canary.repeat(500), "truncate": false }),
        ] {
            let answer = server.post(path, &with(&body, wrong.clone())).await;
            assert!(answer.status == 200 || !answer.body.contains(canary), "{path} {wrong}: {}", answer.body);
        }
        let cut = format!("{}\"", &body.to_string()[..body.to_string().len() - 1]);
        let answer = server.post_text(path, cut).await;
        assert!(answer.status == 400 && !answer.body.contains(canary), "{path}: {}", answer.body);
    }
    for path in ["/metrics", "/props", "/v1/models", "/health", "/openapi.json", "/tokenizer_info"] {
        assert!(!server.get(path).await.body.contains(canary), "{path}");
    }
    let (_, log) = server.stop().await;
    assert!(!log.iter().any(|line| line.contains(canary)), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_client_names_can_write_lines_of_its_own() {
    let server = Server::start("diffugpt-s", &["--log", "debug"]);
    let forged = "x\r\nINFO forged: y\u{1b}[31m\u{7}";
    for body in [
        json!({ "prompt": "a", "model": forged }),
        json!({ "prompt": "a", "max_tokens": 1, forged: 1 }),
        json!({ "prompt": "a", "diffusion": { forged: 1 } }),
        json!({ "prompt": "a", "logit_bias": { forged: 1 } }),
    ] {
        let answer = server.post(COMPLETIONS, &body).await;
        let control = |text: &str| text.contains(['\u{1b}', '\u{7}', '\r', '\n']);
        assert!(!control(&answer.body), "{}", answer.body);
        for (name, value) in &answer.headers {
            assert!(!control(value.to_str().unwrap()), "{name}: {value:?}");
        }
    }
    server.post("/fill", &json!({ "prefix": "a", forged: 1 })).await.refusal(400, "unknown_parameter");
    for id in [&b"a\tb"[..], b"a\x80b", b"a;b=c"] {
        let id = HeaderValue::from_bytes(id).unwrap();
        let request = server.http.get(format!("{}/version", server.url)).header("x-request-id", id);
        assert_eq!(server.send(request).await.header("x-request-id").len(), 32);
    }
    let method = Method::from_bytes(b"A'B").unwrap();
    server.send(server.http.request(method, &server.url)).await.refusal(404, "not_found");
    let (_, log) = server.stop().await;
    assert!(!log.iter().any(|line| line.contains('\u{1b}') || line.starts_with("INFO forged")), "{log:?}");
}

/// Somebody behind no proxy who writes the header of one stays who they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_not_evaded_by_claiming_another_address() {
    let limit = ["--requests-per-minute", "1"];
    let body = json!({ "prompt": "a", "max_tokens": 1 });
    let post = |server: &Server| -> RequestBuilder {
        server.http.post(format!("{}{COMPLETIONS}", server.url)).json(&body)
    };
    let server = Server::start("diffugpt-s", &limit);
    assert_eq!(server.send(post(&server)).await.status, 200);
    for claim in ["1.2.3.4", "127.0.0.1", "::1", "1.2.3.4, 5.6.7.8"] {
        let claimed =
            post(&server).header("x-forwarded-for", claim).header("forwarded", format!("for={claim}"));
        let claimed = claimed.header("x-real-ip", claim).header("x-client-ip", claim);
        server.send(claimed).await.refusal(429, "rate_limit_exceeded");
    }
    // Behind a proxy, the address is the one that the proxy saw, not those that the client wrote before.
    let server = Server::start("diffugpt-s", &[&limit[..], &["--trusted-proxy", "127.0.0.0/8,::1"]].concat());
    for (passed, status) in
        [("1.2.3.4", 200), ("5.6.7.8", 200), ("9.9.9.9, 5.6.7.8", 429), ("1.2.3.4, 127.0.0.1", 429)]
    {
        let answer = server.send(post(&server).header("x-forwarded-for", passed)).await;
        assert_eq!(answer.status, status, "{passed}: {}", answer.body);
    }
}
