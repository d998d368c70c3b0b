//! `unmask try` and `unmask fill` where no terminal is. If these failed, scripts would get something else than the
//! API's text, files would change outside their holes, or mistakes would pass as success.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Server, golden, unmask};
use crate::sse;

const PROMPT: &str = "import os\nimport ";

/// Text that a careless program would change: ends of lines, tabs, control characters, no end of line.
const FILE: &str = "# 世界 e\u{301}\r\ndef <fill>(self):\n\treturn \x1b[31m<fill>  \n\n\0# end";

/// Runs the program to its end, with something on its standard input.
fn run(arguments: &[&str], input: &str) -> Output {
    run_in(&mut unmask(arguments), input)
}

fn run_in(command: &mut Command, input: impl AsRef<[u8]>) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = pipes.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
    process.wait_with_output().unwrap()
}

/// The output of a command that must succeed and print nothing else.
fn printed(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && err.is_empty(), "{arguments:?}: {err}");
    out
}

/// The one line that it said on standard error, when it must fail with 1 and print nothing.
fn refusal(arguments: &[&str], input: &str) -> String {
    refused(&run(arguments, input))
}

fn refused(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty() && text.lines().count() == 1, "{output:?}");
    let line = text.strip_prefix("unmask: ").unwrap().trim_end_matches('\n').to_owned();
    assert!(!line.chars().any(char::is_control), "{line:?}");
    line
}

/// Lines of JSON as the body of a stream.
fn stream(lines: &str) -> String {
    lines.lines().map(|line| format!("data: {line}\n\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_is_continued_as_the_api_continues_it() {
    let server = Server::start_embedded();
    let settings = json!({
        "prompt": PROMPT, "max_tokens": 24, "seed": -3, "temperature": 0.7, "top_p": 0.9,
        "diffusion": { "steps": 12, "preset": "balanced" },
    });
    let answer = server.ok("/v1/completions", &settings).await;
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert!(!text.is_empty());
    let flags = "--max-tokens 24 --seed -3 --temperature 0.7 --top-p 0.9 --steps 12 --preset balanced";
    let arguments: Vec<&str> = ["try", PROMPT].into_iter().chain(flags.split(' ')).collect();
    let with = |more: &[&'static str]| [&arguments[..], more].concat();
    let here = printed(&arguments, "");
    assert_eq!(here, format!("{text}\n"));
    assert!(here.chars().all(|c| c == '\n' || !c.is_control()), "{here:?}");
    let there = [&arguments[..], &["--url", &server.url]].concat();
    assert_eq!(printed(&there, ""), here, "a server and this process agree");
    let base = format!("{}/v1", server.url);
    let there = [&arguments[..], &["--url", &base]].concat();
    assert_eq!(printed(&there, ""), here, "the base URL of OpenAI's clients");

    let lines = printed(&with(&["--json"]), "");
    let folded = sse::completion(&format!("{}data: [DONE]\n\n", stream(&lines)), 1);
    assert_eq!((folded.texts, &folded.report["seed"]), (vec![text.to_owned()], &json!(-3)));
    assert_eq!(folded.report["forward_passes"], answer["diffusion"]["forward_passes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_back_with_its_holes_filled_and_nothing_else_changed() {
    let server = Server::start_embedded();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("file.py");
    fs::write(&path, FILE).unwrap();
    let file = path.display().to_string();
    for (length, asked) in
        [(Some("3"), json!(3)), (Some("2..5"), json!({ "min": 2, "max": 5 })), (None, json!(null))]
    {
        let request = json!({ "template": FILE, "length": asked, "seed": 7 });
        let answer = server.ok("/fill", &request).await;
        let text = answer["choices"][0]["text"].as_str().unwrap();
        let length = length.map(|length| ["--length", length]);
        let options = [&["--seed", "7"][..], length.as_ref().map_or(&[], |length| &length[..])].concat();

        let filled = printed(&fill(&[&file], &options), "");
        assert_eq!(filled, text);
        let mut rest = filled.as_str();
        for given in FILE.split("<fill>") {
            let at = rest.find(given).unwrap_or_else(|| panic!("{given:?} is not in {rest:?}"));
            rest = &rest[at + given.len()..];
        }
        assert!(filled.starts_with("# 世界 e\u{301}\r\ndef ") && rest.is_empty(), "{filled:?}");
        assert_eq!(printed(&fill(&["-", "--url", &server.url], &options), FILE), filled);

        let events = sse::native(&stream_of_events(&printed(&fill(&[&file, "--json"], &options), "")));
        assert_eq!(events.last().unwrap().1["choices"][0]["text"], text);
    }
    let long = format!("{0}x = <fill>\n{0}", "    def close(self):\n        pass\n\n".repeat(500));
    let filled = printed(&["fill", "-", "--length", "2"], &long);
    let (prefix, suffix) = long.split_once("<fill>").unwrap();
    assert!(filled.starts_with(prefix) && filled.ends_with(suffix), "a file longer than the model's context");
    let other = FILE.replace("<fill>", "HERE");
    let expected = printed(&["fill", &file, "--seed", "7", "--length", "3"], "");
    let arguments = ["fill", "-", "--marker", "HERE", "-o", &file, "--seed", "7", "--length", "3"];
    assert_eq!(printed(&arguments, &other), "", "the text goes to the file");
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

fn fill<'a>(file: &[&'a str], options: &[&'a str]) -> Vec<&'a str> {
    [&["fill"], file, options].concat()
}

/// Lines of JSON as the body of a native stream, whose events have names.
fn stream_of_events(lines: &str) -> String {
    let event = |line: &str| {
        let data: Value = serde_json::from_str(line).unwrap();
        format!("event: {}\ndata: {line}\n\n", data["type"].as_str().unwrap())
    };
    lines.lines().map(event).collect()
}

#[test]
fn a_mistake_is_one_line() {
    let folder = TempDir::new().unwrap();
    let binary = folder.path().join("file.bin");
    fs::write(&binary, b"a<fill>\xff").unwrap();
    let binary = binary.display().to_string();
    for (arguments, input, part) in [
        (&["fill", "/no/such/file"][..], "", "cannot read /no/such/file: No such file"),
        (&["fill", &binary], "", "file.bin: invalid utf-8"),
        (&["fill", "-"], "no hole", "standard input: there is no hole: write <fill> where"),
        (&["fill", "-", "--marker", ""], "text", "--marker is empty"),
        (&["fill", "-", "--length", "0"], "a<fill>", "`length` is 0; it must be from 1 to"),
        (&["fill", "-", "--length", "5..2"], "a<fill>", "`length"),
        (
            &["fill", "-", "-o", "/no/such/folder/file", "--length", "1"],
            "a<fill>",
            "cannot write /no/such/folder",
        ),
        (&["try", "a", "--preset", "best"], "", "`diffusion.preset`"),
        (&["try", "a", "--model", "/no/such/folder"], "", "/no/such/folder"),
        (&["try", "a", "--url", "https://localhost:1"], "", "not of the form http://host:port"),
        (&["try", "a", "--url", "http://127.0.0.1:1"], "", "http://127.0.0.1:1/ does not answer: "),
        (
            &["try", "a", "--url", "http://ann:secret@127.0.0.1:1"],
            "",
            "--url holds a user name or a password",
        ),
        (&["fill", "-", "-o", "/tmp", "--length", "1"], "a<fill>", "cannot write /tmp: it is a folder"),
    ] {
        let line = refusal(arguments, input);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
    for arguments in [&["try"][..], &["try", "a", "--seed", "x"], &["fill", "-", "--length", "3.."]] {
        let output = run(arguments, "");
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{arguments:?}");
    }
}

#[test]
fn a_key_is_shown_to_the_server() {
    let mut command = unmask(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("UNMASK_API_KEY", "correct-horse-battery");
    let server = Server::spawn(command);
    let arguments = ["try", "import ", "--seed", "1", "--max-tokens", "4", "--url", &server.url];
    let line = refusal(&arguments, "");
    assert!(line.contains("/ says 401 Unauthorized: "), "{line}");
    let output = run_in(unmask(&arguments).env("UNMASK_API_KEY", "correct-horse-battery"), "");
    assert!(output.status.success(), "{output:?}");
}

/// Answers one request with these bytes, and closes.
fn answering(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        // The whole request is one small packet.
        let _ = connection.read(&mut [0; 65536]).unwrap();
        connection.write_all(answer.as_bytes()).unwrap();
    });
    url
}

#[test]
fn answers_that_are_hostile_or_end_too_early_are_errors() {
    let error = r#"{"error":{"message":"\u001b[2J\u001b]0;owned\u0007 no"}}"#;
    let answer = |status: &str, head: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let plain = |status: &str, body: &str| answer(status, "content-type: text/event-stream", body);
    let chunk = "data: {\"choices\":[{\"text\":\"half\"}]}\n\n";
    for (answer, part) in [
        (plain("400 Bad Request", error), "says 400 Bad Request: ␛[2J␛]0;owned␇ no"),
        (plain("503 Service Unavailable", "<html>"), "says 503 Service Unavailable: no reason given"),
        (plain("404 Not Found", "<html>"), "without a reason; --url must name an Unmask server"),
        (
            answer("302 Found", "location: https://a.example/", ""),
            "says 302 Found, and leads to https://a.example/;",
        ),
        (
            answer("200 OK", "content-type: text/html", "<html></html>"),
            "answers with text/html, not with events;",
        ),
        (plain("200 OK", &format!("data: {error}\n\n")), "␛[2J␛]0;owned␇ no"),
        (plain("200 OK", "data: \x1b[2J\n\n"), "unknown event"),
        (plain("200 OK", chunk), "broke off"),
        (plain("200 OK", chunk).replace("length: ", "length: 9"), "broke off"),
        (plain("200 OK", ""), "broke off"),
        ("hello".to_owned(), "does not answer"),
    ] {
        let line = refusal(&["try", "a", "--url", &answering(answer.clone())], "");
        assert!(line.contains(part), "{answer:?}: {line}");
    }
}

/// Standard output of a script holds answers, and the status says whether all are there.
#[test]
fn a_chat_in_a_pipe_prints_answers_alone() {
    let model = golden("llada").display().to_string();
    let chat = |input: &[u8], more: &[&str]| {
        let mut command =
            unmask(&["chat", "--model", &model, "--max-tokens", "3", "--seed", "18446744073709551615"]);
        let output = run_in(command.args(more), input);
        let lines = |bytes: &[u8]| -> Vec<String> {
            String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect()
        };
        (output.status.code(), lines(&output.stdout), lines(&output.stderr))
    };
    // A last line that would go on is asked as it is.
    let whole = chat(b"hello\n", &[]);
    assert!(whole.0 == Some(0) && !whole.1.is_empty(), "{whole:?}");
    assert_eq!(chat(b"hello\\", &[]), whole);
    // What answers a command, and what is wrong with a line, is for a person.
    let (status, answers, told) = chat(b"/seed 5\nhel\xfflo\nhello\n/clear\n", &["--json"]);
    assert_eq!(status, Some(1));
    assert!(answers.iter().all(|line| line.starts_with('{')), "{answers:?}");
    assert_eq!(told[..3], ["seed 5", "a line is not UTF-8, and is passed over", "forgotten"]);
    let reports = answers.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(reports.into_iter().any(|event| event["diffusion"]["seed"] == 5), "{answers:?}");
}
