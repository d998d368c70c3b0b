//! Many clients that ask and are gone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::cancelling::{ONE_BY_ONE, assert_cancelled, idle, long};
use crate::harness::{DEADLINE, Server};

/// The goal is 2 s on a machine of its own; the bound only has to tell that from finishing the work, which
/// takes many minutes.
const SOON: Duration = Duration::from_secs(20);

/// Memory that the allocator may keep. A request's samples and events are about a megabyte, so that 500 of
/// them left behind would show.
const NOISE: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_that_vanish_leave_nothing_behind() {
    let server = Server::start("diffullama", &ONE_BY_ONE);
    (0..100).for_each(|number| vanish(&server, number));
    server.health_until("an idle engine", idle).await;
    let before = server.resident();
    (0..500).for_each(|number| vanish(&server, number));
    let settled = tokio::time::timeout(SOON, server.health_until("an idle engine", idle));
    settled.await.expect("a request outlives its client");
    let after = server.resident();
    assert!(after < before + NOISE, "memory grew from {before} to {after} bytes");
    assert_cancelled(&server).await;
}

/// Connects, gets as far as `number` says, and is gone: before a byte, inside the head, inside the body,
/// in the queue, inside the stream.
fn vanish(server: &Server, number: usize) {
    let body = long(number % 5 == 4).to_string();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let sent = match number % 5 {
        0 => 0,
        1 => head.len() / 2,
        2 => request.len() - body.len() / 2,
        _ => request.len(),
    };
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    connection.write_all(&request.as_bytes()[..sent]).unwrap();
    if number % 5 == 4 {
        assert!(connection.read(&mut [0; 100]).unwrap() > 0, "the head of the answer");
    }
}
