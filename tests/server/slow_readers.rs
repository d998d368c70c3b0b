//! Clients that ask and do not read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::cancelling::{ONE_BY_ONE, assert_cancelled, long};
use crate::harness::{DEADLINE, Server};
use crate::metrics::{Scrape, scrape_until};

/// A connection that takes a few kilobytes before it is full, on both sides: the kernel sizes the sender's
/// buffer by the segments that the receiver takes.
fn narrow(address: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.into()
}

/// Without this, clients that stop reading would fill the server with connections and the engine with unread
/// texts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_cancelled_and_disconnected() {
    let server = Server::start("diffullama", &[&ONE_BY_ONE[..], &["--write-timeout", "1"]].concat());
    let body = long(true).to_string();
    let mut connection = narrow(server.address());
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    connection.write_all(request.as_bytes()).unwrap();

    // The others are served meanwhile and do not wait for this one.
    let stalled = |scrape: &Scrape| scrape.sum("unmask_stream_stalled_total", &[]) == 1.0;
    let scrape = scrape_until(&server, "a stalled connection", stalled).await;
    assert_cancelled(&server).await;
    let of_it = [("route", "/v1/completions"), ("outcome", "cancelled"), ("code_class", "2xx")];
    assert_eq!(
        scrape_until(&server, "its end", |scrape| scrape.sum("unmask_requests_total", &of_it) == 1.0)
            .await
            .sum("unmask_disconnects_total", &[]),
        1.0
    );
    assert_eq!(scrape.sum("unmask_finish_total", &[]), 0.0);

    // It finds its connection cut, not ended as if that were all.
    let mut read = Vec::new();
    let end = connection.read_to_end(&mut read);
    assert!(end.is_err() || !read.ends_with(b"0\r\n\r\n"), "{end:?}");
    assert!(!read.windows(6).any(|window| window == b"[DONE]"));
}
