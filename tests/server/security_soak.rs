//! The security checklist, all of it at once: every hostile client side by side at a server that is at its capacity, and
//! good clients between them. By hand or at night:
//!
//! ```sh
//! SOAK_SECONDS=600 cargo test --release --workspace --test server -- --ignored soak
//! ```

use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::access::KeyFile;
use crate::cancelling::long;
use crate::security_log::serve;
use crate::security_streams::Closed;
use crate::security_work::{PROBE, hostile_bodies, now};

const COMPLETIONS: &str = "/v1/completions";
const KEYS: &str = "good:good-secret\nbad:bad-secret\n";

/// Memory by which two moments may differ at which nothing has grown: answers that wait, and what the
/// allocator keeps of them.
const NOISE: u64 = 64 << 20;

/// A server under attack, until it is over.
struct Siege {
    url: String,
    http: reqwest::Client,
    over: AtomicBool,
    good: AtomicUsize,
}

impl Siege {
    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    async fn post(&self, key: &str, path: &str, body: String) -> reqwest::Result<reqwest::Response> {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(key);
        request.header("content-type", "application/json").body(body).send().await
    }

    /// Asks again and again; every answer is the one that it was before the siege.
    async fn good(self: Arc<Self>, body: Value, expected: Value) {
        while self.goes_on() {
            let answer = self.post("good-secret", COMPLETIONS, body.to_string()).await.unwrap();
            assert_eq!(answer.status(), 200);
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(answer["choices"], expected["choices"]);
            self.good.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn hostile_bodies(self: Arc<Self>) {
        let bodies = hostile_bodies();
        for (path, body) in bodies.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            let _ = self.post("bad-secret", path, body.clone()).await;
        }
    }

    /// Requests of 512 samples, of which a little is read.
    async fn large_requests(self: Arc<Self>) {
        while self.goes_on() {
            if let Ok(mut response) = self.post("bad-secret", COMPLETIONS, long(true).to_string()).await {
                for _ in 0..50 {
                    let _ = tokio::time::timeout(Duration::from_secs(1), response.chunk()).await;
                }
            }
        }
    }

    async fn windows_of_nothing(self: Arc<Self>) {
        while self.goes_on() {
            let mut client = Closed::connect(self.address()).await;
            let mut held = Vec::new();
            while held.len() < 40 && self.goes_on() {
                match client.get("/metrics").await {
                    Ok(response) => held.push(response),
                    Err(_) => break,
                }
            }
        }
    }

    async fn dribblers(self: Arc<Self>) {
        let mut connections = Vec::new();
        while self.goes_on() {
            let mut connection = TcpStream::connect(self.address()).unwrap();
            let _ = connection.write_all(b"GET /live HTTP/1.1\r\nx: ");
            connections.push(connection);
            connections.retain_mut(|connection| connection.write_all(b"x").is_ok());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The longest time of a probe.
    async fn probes(self: Arc<Self>) -> Duration {
        let mut longest = Duration::ZERO;
        while self.goes_on() {
            let start = now();
            let probe = self.http.get(format!("{}/live", self.url)).send().await.unwrap();
            assert_eq!(probe.status(), 200);
            longest = longest.max(now() - start);
        }
        longest
    }
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is the choice of the person who runs it")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as SOAK_SECONDS says"]
async fn soak() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(600, |seconds| seconds.parse().unwrap());
    let keys = KeyFile::new(KEYS);
    let (reader, writer) = std::io::pipe().unwrap();
    let flags =
        [&keys.flag()[..], &["--write-timeout", "5", "--max-connections", "256", "--log", "debug"]].concat();
    let server = serve("diffullama", Stdio::from(writer), &flags).await;
    let body = json!({ "prompt": "The", "max_tokens": 12, "seed": 1 });
    let siege = Arc::new(Siege {
        url: server.url.clone(),
        http: server.http.clone(),
        over: AtomicBool::new(false),
        good: AtomicUsize::new(0),
    });
    let expected = siege.post("good-secret", COMPLETIONS, body.to_string()).await.unwrap();
    let expected: Value = expected.json().await.unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..2 {
        clients.spawn(Arc::clone(&siege).good(body.clone(), expected.clone()));
        clients.spawn(Arc::clone(&siege).hostile_bodies());
        clients.spawn(Arc::clone(&siege).large_requests());
        clients.spawn(Arc::clone(&siege).windows_of_nothing());
    }
    clients.spawn(Arc::clone(&siege).dribblers());
    let probes = tokio::spawn(Arc::clone(&siege).probes());

    // A minute to fill what may be filled, or two thirds of a short run.
    let first = Duration::from_secs(60.min(seconds * 2 / 3));
    tokio::time::sleep(first).await;
    let before = server.resident();
    tokio::time::sleep(Duration::from_secs(seconds).saturating_sub(first)).await;
    let after = server.resident();
    siege.over.store(true, Ordering::Relaxed);
    let longest = probes.await.unwrap();
    clients.join_all().await;
    let good = siege.good.load(Ordering::Relaxed);
    // For who runs this by hand.
    let said =
        format!("{good} good answers, a probe took {longest:?}, memory went from {before} to {after} bytes");
    let _ = writeln!(std::io::stderr(), "{said}");
    assert!(good > 10 && longest < PROBE && after < before + before / 20 + NOISE, "{said}");
    drop(reader);
}
