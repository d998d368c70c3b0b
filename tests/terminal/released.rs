//! A server that hands on an answer event by event, when the test lets it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::Value;

use crate::harness::{DEADLINE, Server};

/// A server that answers one request. Once it is dropped, nothing holds its events back any more.
pub(crate) struct Released {
    pub(crate) url: String,
    permits: Sender<()>,
    events: Receiver<Vec<String>>,
}

impl Released {
    /// Asks the real server what the program asks, and hands on what that says.
    pub(crate) fn from(server: &Server) -> Self {
        let address = server.address().to_owned();
        Self::start(move |path, body| {
            // HTTP/1.0 has no chunks: the body is what comes until the end.
            let request = format!(
                "POST {path} HTTP/1.0\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut connection = TcpStream::connect(&address).unwrap();
            connection.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).unwrap();
            answer.split_once("\r\n\r\n").unwrap().1.to_owned()
        })
    }

    /// Answers with these events.
    pub(crate) fn saying(events: &[Value]) -> Self {
        let answer: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        Self::start(move |_, _| answer)
    }

    fn start(answer: impl FnOnce(&str, &str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (permits, permitted) = channel::<()>();
        let (sender, events) = channel();
        thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let (path, body) = read(&connection);
            let answer = answer(&path, &body);
            let events: Vec<String> = answer.split_inclusive("\n\n").map(str::to_owned).collect();
            let _ = sender.send(events.clone());
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            // The program may be gone, as a test wants it to be.
            let _ = connection.write_all(head.as_bytes());
            for event in events {
                let _ = permitted.recv();
                let _ = connection.write_all(event.as_bytes());
            }
        });
        Self { url, permits, events }
    }

    /// Waits for the request: the data of the events that answer it.
    pub(crate) fn events(&self) -> Vec<String> {
        let events = self.events.recv_timeout(DEADLINE).unwrap();
        let data =
            |event: &String| event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
        events.iter().map(data).collect()
    }

    /// Hands on one event, if there is one left.
    pub(crate) fn permit(&self) {
        let _ = self.permits.send(());
    }
}

/// The path and the body of a request.
fn read(connection: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(connection);
    let mut first = String::new();
    let mut length = 0;
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (first.split(' ').nth(1).unwrap().to_owned(), String::from_utf8(body).unwrap())
}
