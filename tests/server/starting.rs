//! Signals at every stage of a start, also as the first process of a container, and the ways to name address and model.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::json;

use crate::harness::{DEADLINE, Server, golden, unmask};

/// A command that waits for a hub which accepts and never answers.
fn waiting(command: &str, hub: &TcpListener) -> Command {
    let mut started = unmask(&[command]);
    if command == "serve" {
        started.args(["--listen", "127.0.0.1:0", "--model"]);
    }
    started.arg("some/model").args(["--hub-endpoint", &format!("http://{}", hub.local_addr().unwrap())]);
    let home = std::env::temp_dir().join("unmask-no-such-home");
    started.env("HF_HUB_ETAG_TIMEOUT", "600").arg("--hub-home").arg(home);
    started
}

/// The same as the first process of a namespace of its own, where signals without a handler are lost.
fn as_first_process(command: &Command) -> Command {
    let mut isolated = Command::new("unshare");
    isolated.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
    isolated.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null()).stdout(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => isolated.env(name, value),
            None => isolated.env_remove(name),
        };
    }
    isolated
}

/// Starts a command and waits for a line of its log.
fn started(command: &mut Command, line: &str) -> (Child, BufReader<ChildStderr>) {
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains(line) {
        let before = text.len();
        log.read_line(&mut text).unwrap();
        assert!(text.len() > before, "ended without {line}: {text}");
    }
    (process, log)
}

fn send(signal: &str, process: u32) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The one process that another one has started.
fn child_of(process: u32) -> u32 {
    let path = format!("/proc/{process}/task/{process}/children");
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// The status of a process that must end.
fn ended(mut process: Child) -> Option<i32> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let id = process.id();
    std::thread::spawn(move || sender.send(process.wait().unwrap().code()));
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        send("KILL", id);
        panic!("the process does not end")
    })
}

#[test]
fn a_signal_ends_a_start_at_once() {
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    for (command, signal, status) in
        [("serve", "TERM", 0), ("serve", "INT", 0), ("verify", "TERM", 143), ("verify", "INT", 130)]
    {
        let (process, _log) = started(&mut waiting(command, &hub), "asking the hub");
        send(signal, process.id());
        assert_eq!(ended(process), Some(status), "{command} {signal}");
    }
}

#[test]
fn a_signal_ends_every_later_stage_of_a_start() {
    for line in ["loading weights", "measured an evaluation", "listening on"] {
        for signal in ["TERM", "INT"] {
            let mut serve = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
            serve.arg(golden("diffugpt-s"));
            let (process, _log) = started(&mut serve, line);
            send(signal, process.id());
            assert_eq!(ended(process), Some(0), "{line}, {signal}");
        }
    }
}

#[test]
fn a_signal_ends_the_start_of_a_containers_first_process() {
    let possible =
        Command::new("unshare").args(["--user", "--map-root-user", "--pid", "--fork", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        // Containers may forbid further namespaces.
        return;
    }
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    for signal in ["TERM", "INT"] {
        let mut command = as_first_process(&waiting("serve", &hub));
        let (process, _log) = started(&mut command, "asking the hub");
        send(signal, child_of(process.id()));
        assert_eq!(ended(process), Some(0), "{signal}");
    }
    // And when it serves.
    let mut serve = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
    serve.arg(golden("diffugpt-s"));
    let (process, _log) = started(&mut as_first_process(&serve), "listening on");
    send("TERM", child_of(process.id()));
    assert_eq!(ended(process), Some(0));
}

/// Without a key file there is nothing to read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_without_a_key_file_ends_nothing() {
    let server = Server::start("diffugpt-s", &[]);
    server.signal("HUP");
    server.logged("SIGHUP");
    server.ok("/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 })).await;
    let (status, _) = server.stop().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_and_address_are_taken_in_the_forms_that_people_write() {
    let model = golden("diffugpt-s").display().to_string();
    for (arguments, host) in [
        (&["serve", &model, "--listen", "localhost:0"][..], "127.0.0.1"),
        (&["serve", "--port", "0", &model], "127.0.0.1"),
        (&["serve", &model, "--host", "127.0.0.2", "--port", "0"], "127.0.0.2"),
        (&["serve", &model, "--host", "localhost", "--listen", "0.0.0.0:0"], "127.0.0.1"),
        (&["serve", &model, "--listen", ":0"], "0.0.0.0"),
        (&["--model", &model, "--listen", "LOCALHOST:0"], "127.0.0.1"),
        (
            &[
                "serve",
                &model,
                "--port",
                "0",
                "--allowed-host",
                "a.example, b.example",
                "--cors-origin",
                "https://a.example, https://b.example",
                "--trusted-proxy",
                "10.0.0.1, 10.1.0.0/16",
            ],
            "127.0.0.1",
        ),
    ] {
        let server = Server::spawn(unmask(arguments));
        assert!(server.url.starts_with(&format!("http://{host}:")), "{arguments:?}: {}", server.url);
    }
    let mut variables = unmask(&["serve"]);
    variables.env("UNMASK_MODEL", &model).env("UNMASK_LISTEN", "localhost:0");
    variables.env("UNMASK_ALLOWED_HOST", "a.example , b.example");
    // What Kubernetes sets for a service of this name.
    variables.env("UNMASK_PORT", "tcp://10.0.0.1:8080");
    let server = Server::spawn(variables);
    let request = server.http.get(format!("{}/version", server.url)).header("host", "b.example");
    assert_eq!(server.send(request).await.status, 200);
    for wrong in ["", "8080", "localhost", "example.com:80", "localhost:99999", "127.0.0.1:", ":"] {
        let output = unmask(&["serve", &model, &format!("--listen={wrong}")]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}
