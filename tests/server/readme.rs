//! The README's commands, as printed, against a server that was started as the README says. If these
//! failed, the first thing a newcomer tries would not work.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::Server;
use crate::sse;

/// The embedded model's answer to the README's first command.
const KNOWN_INFILL: &str = "self";

/// A command's output, and the media type it was given.
struct Printed {
    body: String,
    media: String,
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    std::fs::read_to_string(path).unwrap()
}

/// The shell blocks that talk to a server.
fn commands(readme: &str) -> Vec<&str> {
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    blocks.filter(|block| block.starts_with("curl ")).collect()
}

/// Runs one block with the server's address in place of the printed one.
fn run(block: &str, server: &Server) -> Printed {
    let told = "curl --noproxy '*' -w '\\n%{http_code} %{content_type}' ";
    let script = block.replace("curl ", told).replace("localhost:8080", server.address());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{block}: {}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let (body, (status, media)) =
        printed.rsplit_once('\n').map(|(body, last)| (body, last.split_once(' ').unwrap())).unwrap();
    assert_eq!(status, "200", "{block}: {body}");
    Printed { body: body.to_owned(), media: media.to_owned() }
}

#[test]
fn every_command_of_the_readme_works_on_the_embedded_model() {
    let readme = readme();
    let server = Server::start_embedded();
    let commands = commands(&readme);
    let kind = |route: &str, part: &str| commands.iter().any(|c| c.contains(route) && c.contains(part));
    assert!(kind("/fill", "\"length\"") && kind("/v1/completions", "\"prompt\""), "{commands:#?}");
    assert!(kind("/fill", "\"stream\"") && kind("/v1/completions", "\"stream_states\""), "{commands:#?}");
    assert!(kind("/fill", "\"choices\"") && kind("/v1/completions", "\"echo\""), "{commands:#?}");
    assert!(kind("/v1/chat/completions", "\"messages\""), "{commands:#?}");
    for command in commands {
        let Printed { body, media } = run(command, &server);
        match (media.as_str(), command.contains("/fill")) {
            ("application/json", _) => {
                let answer: Value = serde_json::from_str(&body).unwrap();
                let choice = &answer["choices"][0];
                let text = choice["text"].as_str().or(choice["message"]["content"].as_str()).unwrap();
                let scored =
                    command.contains("\"echo\"") && !choice["logprobs"]["token_logprobs"][1].is_null();
                let generated = answer["usage"]["completion_tokens"].as_u64() > Some(0);
                assert!(!text.is_empty() && (scored || generated), "{body}");
            }
            ("text/event-stream; charset=utf-8", true) => {
                let events = sse::native(&body);
                assert_eq!(events.last().unwrap().0, "fill.done", "{body}");
            }
            ("text/event-stream; charset=utf-8", false) => {
                let stream = sse::completion(&body, 1);
                assert!(!stream.texts[0].is_empty(), "{body}");
            }
            _ => panic!("{command}: an answer of type {media}"),
        }
    }
}

#[test]
fn the_first_hole_of_the_readme_is_filled_with_what_belongs_there() {
    let readme = readme();
    let server = Server::start_embedded();
    let first = commands(&readme)[0];
    let answer: Value = serde_json::from_str(&run(first, &server).body).unwrap();
    assert_eq!(answer["choices"][0]["holes"][0]["text"], KNOWN_INFILL, "{first}");
    assert!(readme.contains(&format!("`{KNOWN_INFILL}`")), "the README says what to expect");
}
