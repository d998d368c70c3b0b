//! The README's requests, as printed, against a server that was started as the README says. If these failed, the first
//! thing a newcomer tries would not work. `tests/pages` runs the commands of all pages and compares what they print.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::Server;

/// The embedded model's answer to the README's first command.
const KNOWN_INFILL: &str = "self";

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
fn run(block: &str, server: &Server) -> Value {
    let script = block.replace("curl ", "curl --noproxy '*' --fail-with-body ");
    let script = script.replace("localhost:8080", server.address());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{block}: {printed}");
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn every_request_of_the_readme_is_answered_by_the_embedded_model() {
    let readme = readme();
    let server = Server::start_embedded();
    let commands = commands(&readme);
    for part in ["\"length\"", "\"segments\"", "\"choices\""] {
        assert!(commands.iter().any(|command| command.contains(part)), "{part}: {commands:#?}");
    }
    for command in commands {
        let answer = run(command, &server);
        let holes = answer["choices"][0]["holes"].as_array().unwrap();
        assert!(!holes.is_empty(), "{command}: {answer}");
        assert!(holes.iter().all(|hole| !hole["text"].as_str().unwrap().is_empty()), "{command}: {answer}");
    }
}

#[test]
fn the_first_hole_of_the_readme_is_filled_with_what_belongs_there() {
    let readme = readme();
    let server = Server::start_embedded();
    let answer = run(commands(&readme)[0], &server);
    assert_eq!(answer["choices"][0]["holes"][0]["text"], KNOWN_INFILL);
    let shown = format!("\"text\": \"{KNOWN_INFILL}\"");
    assert!(readme.contains(&shown), "the README shows what to expect");
}
