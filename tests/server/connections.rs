//! Connections: how slow a client may be, how many there may be, and both versions of HTTP.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::gated::Gated;
use crate::harness::{DEADLINE, Server};

const GET: &[u8] = b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n";
const POST: &str = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";

fn connect(server: &Server) -> TcpStream {
    let connection = TcpStream::connect(server.address()).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    connection
}

/// Everything until the server closes.
fn read_to_end(mut connection: TcpStream) -> String {
    let mut read = Vec::new();
    // What was not read of a request makes the end a reset.
    if let Err(error) = connection.read_to_end(&mut read) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    String::from_utf8(read).unwrap()
}

/// Without this, clients that send nothing would fill the server with connections.
#[test]
fn a_head_that_does_not_come_closes_the_connection() {
    let server = Server::start("diffugpt-s", &["--header-timeout", "1", "--idle-timeout", "600"]);
    for sent in ["", "G", "GET /live HTTP/1.1\r\nhost: loc"] {
        let mut connection = connect(&server);
        connection.write_all(sent.as_bytes()).unwrap();
        assert_eq!(read_to_end(connection), "");
    }
    // Nor is there more time for a second one, once it has begun.
    let mut connection = connect(&server);
    connection.write_all(GET).unwrap();
    connection.read_exact(&mut [0; 15]).unwrap();
    connection.write_all(b"GET /li").unwrap();
    read_to_end(connection);
}

#[test]
fn a_connection_that_lies_idle_is_closed() {
    let server = Server::start("diffugpt-s", &["--header-timeout", "600", "--idle-timeout", "1"]);
    let mut connection = connect(&server);
    connection.write_all(GET).unwrap();
    assert_eq!(read_to_end(connection).matches("HTTP/1.1 200 OK").count(), 1);
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let server = Server::start("diffugpt-s", &["--body-timeout", "1"]);
    for more in ["content-length: 100\r\n\r\n{\"prompt\":", "transfer-encoding: chunked\r\n\r\n2\r\n{\"\r\n"]
    {
        let mut connection = connect(&server);
        connection.write_all(format!("{POST}{more}").as_bytes()).unwrap();
        let answer = read_to_end(connection);
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

/// The times above are the client's; the server may take longer than any of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_may_take_longer_than_a_client() {
    let flags = ["--header-timeout", "1", "--idle-timeout", "1", "--body-timeout", "1"];
    let server = Gated::start(&flags, Duration::MAX).await;
    for stream in [false, true] {
        let body = json!({ "prompt": "a", "max_tokens": 1, "stream": stream });
        let client =
            tokio::spawn(server.http.post(format!("{}/v1/completions", server.url)).json(&body).send());
        server.begun();
        server.pass(Duration::from_secs(3)).await;
        server.permit();
        let response = client.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.text().await.unwrap().contains("finish_reason"));
    }
}

/// The connection that has been idle for longest makes room, so newcomers need not wait.
#[test]
fn an_idle_connection_makes_room_for_a_new_one() {
    let server = Server::start("diffugpt-s", &["--max-connections", "2"]);
    let ask = |connection: &mut TcpStream| {
        connection.write_all(GET).unwrap();
        let mut status = [0; 15];
        connection.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
    };
    let [mut first, mut second, mut third] = std::array::from_fn(|_| {
        let mut connection = connect(&server);
        ask(&mut connection);
        connection
    });
    // What is left of the answer, and the end.
    let rest = |connection: &mut TcpStream| {
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).map(|_| rest)
    };
    assert!(rest(&mut first).is_ok_and(|rest| rest.ends_with(b"}")));
    // The others are as they were.
    for connection in [&mut second, &mut third] {
        connection.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let both = String::from_utf8(rest(connection).unwrap()).unwrap();
        assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 1, "{both}");
    }
}

/// Sends a request over a connection that begins with HTTP/2: the status and the body.
async fn over_http2(server: &Server, request: Request<Body>) -> (StatusCode, Value) {
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let status = response.status();
    let body = Body::new(response.into_body());
    assert!(!body.is_end_stream() || status != StatusCode::OK);
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    connection.abort();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_to_those_who_begin_with_it() {
    let server = Server::start("diffugpt-s", &[]);
    let body = json!({ "prompt": "a", "max_tokens": 4, "seed": 1 });
    let request = |url: &str| {
        let request =
            Request::post(format!("{url}/v1/completions")).header("content-type", "application/json");
        request.body(Body::from(body.to_string())).unwrap()
    };
    let (status, answer) = over_http2(&server, request(&server.url)).await;
    assert_eq!(status, 200);
    assert_eq!(answer["choices"], server.ok("/v1/completions", &body).await["choices"]);
    // The name is checked there too.
    let (status, answer) = over_http2(&server, request("http://evil.example")).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (403, &json!("host_not_allowed")));
    let mut large = request(&server.url);
    large.headers_mut().insert("x-large", "x".repeat(17 * 1024).parse().unwrap());
    assert_eq!(over_http2(&server, large).await.0, 431);
}
