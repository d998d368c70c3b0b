//! `unmask healthcheck`, as a container's probe runs it. If these failed, containers would be restarted while they
//! work, or kept while they do not.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::harness::{Server, unmask};

/// Its exit status and the one line that it printed.
fn probe(mut command: Command) -> (i32, String) {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (output.status.code().unwrap(), text)
}

/// Asks the address that the container's environment says.
fn probe_listening_on(address: &str) -> (i32, String) {
    let mut command = unmask(&["healthcheck"]);
    command.env("UNMASK_LISTEN", address);
    probe(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_healthy_until_it_is_told_to_stop() {
    let server = Server::start("diffugpt-s", &["--drain-delay", "600"]);
    let address = server.address().to_owned();
    let port = address.rsplit_once(':').unwrap().1;
    let ready = format!("http://{address}/ready says 200 OK\n");
    assert_eq!(probe_listening_on(&address), (0, ready.clone()));
    assert_eq!(probe_listening_on(&format!("0.0.0.0:{port}")), (0, ready.clone()));
    assert_eq!(probe(unmask(&["healthcheck", "--url", &server.url])), (0, ready));

    server.signal("TERM");
    server.health_until("not ready", |health| health.running.is_none()).await;
    let (code, line) = probe_listening_on(&address);
    assert!(
        code == 1 && line.contains("/ready says 503 Service Unavailable: ") && line.contains("shutting down"),
        "{line}"
    );
    let live = format!("{}/live", server.url);
    assert_eq!(probe(unmask(&["healthcheck", "--url", &live])).0, 0);
    server.signal("TERM");
    server.ended().await;
}

#[test]
fn without_a_server_the_reason_is_said() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, line) = probe_listening_on(&free);
    assert!(code == 1 && line.contains(&format!("http://{free}/ready does not answer")), "{line}");
    let (code, line) = probe(unmask(&["healthcheck", "--url", "https://127.0.0.1:1"]));
    assert!(code == 1 && line.contains("not of the form http://host:port/path"), "{line}");
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (code, line) = probe(unmask(&["healthcheck", "--timeout", "1", "--url", &url]));
    assert!(code == 1 && line.contains("did not answer within 1 s"), "{line}");
}
