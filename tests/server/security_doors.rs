//! Attacks on the way in: addresses, credentials, heads, slowness. [`crate::security`] lists all classes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use reqwest::RequestBuilder;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::json;

use crate::access::KeyFile;
use crate::completions::with;
use crate::harness::{DEADLINE, Server};
use crate::security::{assert_flat, bodies, chatty};

const COMPLETIONS: &str = "/v1/completions";

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
    assert_eq!(canary.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "a connection arrived");
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
        "/index.html",
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

/// The answer to a head that is still being sent; the answer may be cut when all of it is refused.
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

/// Connections that send one byte of a head after the other.
struct Dribblers(Vec<TcpStream>);

impl Dribblers {
    fn connect(server: &Server, count: usize) -> Self {
        Self((0..count).map(|_| TcpStream::connect(server.address()).unwrap()).collect())
    }

    /// Each sends a byte; those whose connection is closed are forgotten.
    fn send(&mut self, byte: u8) {
        // Writing to a connection that was closed fails, if not at once.
        self.0.retain_mut(|connection| connection.write_all(&[byte]).is_ok());
    }
}

const ENDLESS_HEAD: &[u8] = b"GET /live HTTP/1.1\r\nhost: localhost\r\nx: ";

/// Requests are answered while two hundred heads are incomplete, and would stay so for ten minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dribbling_clients_delay_no_request() {
    let server = Server::start("diffugpt-s", &["--header-timeout", "600"]);
    let body = json!({ "prompt": "The", "max_tokens": 8, "seed": 1 });
    let mut dribblers = Dribblers::connect(&server, 200);
    for byte in ENDLESS_HEAD {
        dribblers.send(*byte);
        server.ok(COMPLETIONS, &body).await;
    }
    assert_eq!(dribblers.0.len(), 200);
}

/// Bytes that come do not buy time: a head has to be complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dribbling_clients_are_cut_off() {
    let server = Server::start("diffugpt-s", &["--header-timeout", "1"]);
    let mut dribblers = Dribblers::connect(&server, 200);
    let start = now();
    for byte in ENDLESS_HEAD.iter().chain(std::iter::repeat(&b'x')) {
        dribblers.send(*byte);
        if dribblers.0.is_empty() {
            break;
        }
        assert!(now() - start < DEADLINE, "{} connections are still open", dribblers.0.len());
        assert_eq!(server.get("/live").await.status, 200);
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline is a moment")]
fn now() -> Instant {
    Instant::now()
}

/// A client behind no proxy that writes the header of one keeps its own address.
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
