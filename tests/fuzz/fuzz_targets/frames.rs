//! Any frames from a client of HTTP/2, over a socket: whatever they are, the connection ends and others are answered.
//! Five bytes make a frame: its type, its flags, its stream, and the length of the payload that follows them.
#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use unmask_api::server::Listeners;
use unmask_fuzz::application;

/// Longer than anything takes that ends by itself.
const PATIENCE: Duration = Duration::from_secs(10);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static SERVER: LazyLock<(Runtime, SocketAddr)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let flags =
        ["--header-timeout", "1", "--idle-timeout", "1", "--write-timeout", "1", "--max-connections", "16"];
    let address = runtime.block_on(async {
        let public = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = public.local_addr().expect("an address");
        let state = application(&flags);
        tokio::spawn(unmask_api::serve(Listeners { public, admin: None }, state, std::future::pending()));
        address
    });
    (runtime, address)
});

fn connect() -> TcpStream {
    let stream = TcpStream::connect(SERVER.1).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// The input as frames that are whole, whatever they hold.
fn frames(mut input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [kind, flags, stream, high, low, rest @ ..] = input {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (payload, next) = rest.split_at(length);
        bytes.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
        bytes.extend_from_slice(&[*kind, *flags, 0, 0, 0, *stream]);
        bytes.extend_from_slice(payload);
        input = next;
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    let mut client = connect();
    // The server may end the connection at any byte.
    let _ = client.write_all(PREFACE).and_then(|()| client.write_all(&frames(input)));
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = client.read_to_end(&mut answer) {
        assert!(
            ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
            "the connection does not end"
        );
    }
    let mut other = connect();
    other
        .write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    other.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
});
