//! The security checklist: logs and outputs that cannot be written.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::completions::with;
use crate::harness::{Server, golden, unmask};
use crate::metrics::scrape_until;
use crate::security::bodies;

/// A sink for standard error, and what keeps it as it is.
fn sinks() -> Vec<(&'static str, Stdio, Option<std::io::PipeReader>)> {
    let closed = std::io::pipe().unwrap();
    let stalled = std::io::pipe().unwrap();
    drop(closed.0);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    vec![
        ("full", full.into(), None),
        ("closed", closed.1.into(), None),
        ("stalled", stalled.1.into(), Some(stalled.0)),
    ]
}

/// Serves on an address that need not be read from the log.
pub(crate) async fn serve(model: &str, stderr: Stdio, flags: &[&str]) -> Server {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = free.to_string();
    let mut command = unmask(&["serve", "--listen", &address, "--model"]);
    command.arg(golden(model)).args(flags).stderr(stderr);
    Server::attach(command.spawn().unwrap(), &address).await
}

/// A log that could not be written once lost answers, probes and signals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_api_works_when_the_log_cannot_be_written() {
    let template = golden("../templates/colons.jinja").display().to_string();
    // Every request is many lines.
    let flags = ["--chat-template", &template, "--log", "trace", "--drain-timeout", "1"];
    for (name, stderr, reader) in sinks() {
        let server = serve("diffugpt-s", stderr, &flags).await;
        for round in 0..2 {
            for (path, body) in bodies("a") {
                let body = with(&body, serde_json::json!({}));
                let plain = server.ok(path, &body).await;
                if plain["choices"].is_array() {
                    let body = with(&body, serde_json::json!({ "stream": true }));
                    let streamed = server.post(path, &body).await;
                    assert!(streamed.status == 200 && streamed.body.contains("data: "), "{name} {path}");
                }
            }
            for path in ["/live", "/ready", "/metrics", "/v1/models", "/version", "/openapi.json", "/"] {
                assert_eq!(server.get(path).await.status, 200, "{name} {path}");
            }
            if round == 0 {
                // More than a pipe and the log's own memory hold.
                for _ in 0..600 {
                    assert_eq!(server.get("/version").await.status, 200, "{name}");
                }
            }
        }
        scrape_until(&server, name, |scrape| scrape.sum("unmask_log_lines_lost_total", &[]) > 0.0).await;
        server.signal("TERM");
        let status = server.exited().await;
        assert!(status.success(), "{name}: {status}");
        drop(reader);
    }
}

/// Runs a command whose standard output, or error, nothing reads: its exit status and what it says elsewhere.
fn unread(mut command: Command, error: bool) -> (bool, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let command = match error {
        true => command.stdout(Stdio::piped()).stderr(writer),
        false => command.stdout(writer).stderr(Stdio::piped()),
    };
    let output = command.output().unwrap();
    let said = if error { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// `print-openapi | head` once printed "Broken pipe", and `verify 2>&1 | head` a panic.
#[test]
fn commands_survive_a_reader_that_has_left() {
    let model = golden("diffugpt-s").display().to_string();
    let commands: [&[&str]; 4] = [
        &["print-openapi"],
        &["verify", &model, "--log", "warn"],
        &["try", "--model", &model, "--max-tokens", "2", "--seed", "1", "The"],
        &["try", "--model", &model, "--max-tokens", "2", "--seed", "1", "--json", "The"],
    ];
    for arguments in commands {
        let (success, said) = unread(unmask(arguments), false);
        assert!(success && said.is_empty(), "{arguments:?}: {said}");
        let (success, said) = unread(unmask(arguments), true);
        assert!(success && !said.is_empty(), "{arguments:?}: {said}");
    }
    // A failure stays one.
    assert!(!unread(unmask(&["verify", "/nothing"]), true).0);
    assert!(!unread(unmask(&["healthcheck", "--listen", "127.0.0.1:1"]), true).0);
}

/// The text of an endless file once filled the memory.
#[test]
fn endless_files_are_refused() {
    let zero = || OpenOptions::new().read(true).open("/dev/zero").unwrap();
    let model = golden("diffugpt-s").display().to_string();
    let mut from_stdin = unmask(&["fill", "-", "--model", &model]);
    from_stdin.stdin(zero());
    let from_file = unmask(&["fill", "/dev/zero", "--model", &model]);
    let keys =
        unmask(&["serve", "--listen", "127.0.0.1:0", "--api-key-file", "/dev/zero", "--model", &model]);
    let template =
        unmask(&["serve", "--listen", "127.0.0.1:0", "--chat-template", "/dev/zero", "--model", &model]);
    for mut command in [from_stdin, from_file, keys, template] {
        let output = command.stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let last = said.trim_end().lines().last().unwrap_or_default();
        assert!(!output.status.success() && last.contains("it is longer than"), "{command:?}: {said}");
    }
}

/// The library panics on merges that are longer than their tokens; its message once came before ours.
#[test]
fn a_damaged_tokenizer_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for entry in golden("diffugpt-s").read_dir().unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join("tokenizer.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    spec["model"]["continuing_subword_prefix"] = "longer than any token of the vocabulary".into();
    std::fs::write(&path, spec.to_string()).unwrap();
    for command in ["serve", "verify"] {
        let mut process = unmask(&[command]);
        if command == "serve" {
            process.args(["--listen", "127.0.0.1:0", "--model"]);
        }
        let output = process.arg(folder.path()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !said.contains("panic"), "{command}: {said}");
        assert!(said.contains("tokenizer.json") && said.trim_end().lines().count() == 1, "{command}: {said}");
    }
}
