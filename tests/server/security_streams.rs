//! The security checklist: connections and streams that are held.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::cancelling::{ONE_BY_ONE, assert_cancelled, idle, long};
use crate::gated::Gated;
use crate::harness::{DEADLINE, Server, unmask};
use crate::metrics::scrape_until;

/// A connection over HTTP/2 whose client takes no byte of any answer.
pub(crate) struct Closed {
    sender: SendRequest<Body>,
    connection: JoinHandle<()>,
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Closed {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        http.initial_stream_window_size(0);
        let (sender, connection) = http.handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async {
            let _ = connection.await;
        });
        Self { sender, connection }
    }

    pub(crate) async fn get(&mut self, path: &str) -> hyper::Result<Response<Incoming>> {
        let request = Request::get(format!("http://localhost{path}")).body(Body::empty()).unwrap();
        self.sender.send_request(request).await
    }
}

/// Such streams once held their connections' places, and whole answers, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_window_is_reset() {
    let server = Server::start("diffugpt-s", &["--write-timeout", "1"]);
    let mut client = Closed::connect(server.address()).await;
    let mut held = Vec::new();
    for path in ["/live", "/metrics", "/version"] {
        held.push(client.get(path).await.unwrap());
    }
    for response in held {
        assert_eq!(response.status(), 200);
        let body = to_bytes(Body::new(response.into_body()), usize::MAX);
        let read = tokio::time::timeout(DEADLINE, body).await.unwrap();
        assert!(read.is_err(), "a reset: {read:?}");
    }
    scrape_until(&server, "stalled streams", |scrape| scrape.sum("unmask_stream_stalled_total", &[]) == 3.0)
        .await;
    // The connection itself is well.
    assert_eq!(client.get("/live").await.unwrap().status(), 200);
}

/// Eleven hundred connections with one such stream each once kept every probe out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_streams_keep_no_client_out() {
    let server = Server::start("diffugpt-s", &["--max-connections", "8"]);
    let mut clients = Vec::new();
    for _ in 0..80 {
        let mut client = Closed::connect(server.address()).await;
        // The head comes, if the connection is not closed for the next one's sake.
        let held = client.get("/live").await;
        clients.push((client, held));
        assert_eq!(server.get("/live").await.status, 200);
    }
    server.ok("/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 })).await;
}

/// Answers hold bounded memory, over all connections: 6,000 of `/metrics` would be 300 MB and more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read_hold_bounded_memory() {
    let server = Server::start("diffugpt-s", &[]);
    server.ok("/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 })).await;
    assert_eq!(server.get("/metrics").await.status, 200);
    let before = server.resident();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = Closed::connect(server.address()).await;
        let mut held = Vec::new();
        for _ in 0..60 {
            match client.get("/metrics").await {
                Ok(response) => held.push(response),
                // It made room.
                Err(_) => break,
            }
        }
        clients.push((client, held));
    }
    assert_eq!(server.get("/live").await.status, 200);
    let after = server.resident();
    assert!(after < before + (192 << 20), "memory grew from {before} to {after} bytes");
}

/// While all connections are being answered, probes have places of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn probes_are_answered_when_all_connections_are_busy() {
    let server = Gated::start(&["--max-connections", "2"], Duration::MAX).await;
    let body = json!({ "prompt": "a", "max_tokens": 1 });
    let post = || {
        // A client of its own opens a connection of its own.
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
        http.post(format!("{}/v1/completions", server.url)).json(&body).send()
    };
    let busy = [tokio::spawn(post()), tokio::spawn(post())];
    server.begun();
    let working = async |count: u64| {
        let health = server.http.get(format!("{}/health", server.url)).send().await.unwrap();
        let health: serde_json::Value = health.json().await.unwrap();
        health["running"].as_u64().unwrap() + health["waiting"].as_u64().unwrap() == count
    };
    while !working(2).await {}
    let refused = post().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["connection"]),
        (503, &"close".parse().unwrap())
    );
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.unwrap().contains("server_overloaded"));
    assert_eq!(server.live().await, 200);
    (0..10).for_each(|_| server.permit());
    for answer in busy {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
}

fn request(body: &str, version: &str) -> String {
    let head = format!(
        "POST /v1/completions HTTP/{version}\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    );
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

/// A client that has sent all it will may still read. One that has left is told from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_side_gets_its_answer() {
    let server = Server::start("diffullama", &ONE_BY_ONE);
    let body =
        json!({ "prompt": vec!["The"; 8], "max_tokens": 120, "seed": 1, "diffusion": { "steps": 512 } });
    let expected = server.ok("/v1/completions", &body).await;
    for version in ["1.0", "1.1"] {
        let mut connection = TcpStream::connect(server.address()).unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        connection.write_all(request(&body.to_string(), version).as_bytes()).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let last = answer.rsplit("HTTP/1.").next().unwrap();
        let (head, text) = last.split_once("\r\n\r\n").unwrap();
        assert!(head[2..].starts_with("200 OK"), "{answer}");
        assert_eq!(answer.matches("100 Continue").count(), usize::from(version == "1.1"), "{answer}");
        let found: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(found["choices"], expected["choices"]);
    }
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.write_all(request(&long(false).to_string(), "1.1").as_bytes()).unwrap();
    server.health_until("its request", |health| health.running == Some(1)).await;
    drop(connection);
    server.health_until("an idle engine", idle).await;
    assert_cancelled(&server).await;
}

/// Connections that there is no descriptor for once were logged once a second, while probes were dead.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_as_many_as_there_are_descriptors() {
    let spawn = |limits: &str| {
        let program = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]).arg(program.get_program());
        shell.args(program.get_args()).arg(crate::harness::golden("diffugpt-s"));
        shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Server::spawn_with_log(shell)
    };
    // The soft limit is raised, and nothing is said.
    let (server, log) = spawn("ulimit -Sn 200");
    assert!(!log.contains("open files"), "{log}");
    assert!(server.limits().contains("1152"), "{}", server.limits());
    // The hard one is kept to.
    let (server, log) = spawn("ulimit -n 200");
    assert!(log.contains("is too low for --max-connections"), "{log}");
    let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    assert_eq!(server.get("/live").await.status, 200);
    server.ok("/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 })).await;
    drop(idle);
    let (_, log) = server.stop().await;
    assert!(!log.iter().any(|line| line.contains("accept error")), "{log:?}");
}
