//! The real program: started on a free port, asked over HTTP, stopped with a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

/// Long enough for anything; reaching it is a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Every model of the golden data that is served as it is: folder, adapter, context.
pub(crate) const MODELS: [(&str, Option<&str>, u64); 5] = [
    ("diffugpt-s", None, 64),
    ("diffugpt-m", None, 64),
    ("diffullama", None, 128),
    ("diffullama-gqa", None, 128),
    ("diffullama", Some("diffullama-gsm-lora"), 128),
];

/// A folder of the golden data.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// The program, without the settings that a developer's environment may hold, computing on one thread.
pub(crate) fn unmask(arguments: &[&str]) -> Command {
    let mut command = without_settings(Command::new(env!("CARGO_BIN_EXE_unmask")));
    command.args(arguments).env("UNMASK_THREADS", "1").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A command that inherits no setting of the program.
pub(crate) fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("UNMASK_") || text.starts_with("HF_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A running server; ended when dropped.
pub(crate) struct Server {
    process: Child,
    lines: Receiver<String>,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Serves a golden model with more flags.
    pub(crate) fn start(model: &str, flags: &[&str]) -> Self {
        let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
        command.arg(golden(model)).args(flags);
        Self::spawn(command)
    }

    /// The server of a first start: no arguments, so the embedded model.
    #[cfg(feature = "embedded")]
    pub(crate) fn start_embedded() -> Self {
        let mut command = unmask(&[]);
        command.env("UNMASK_LISTEN", "127.0.0.1:0");
        Self::spawn(command)
    }

    /// Serves one of [`MODELS`].
    pub(crate) fn start_model((folder, adapter, _): (&str, Option<&str>, u64)) -> Self {
        let adapter = adapter.map(|name| golden(name).display().to_string());
        let flags: Vec<&str> = adapter.iter().flat_map(|folder| ["--adapter", folder.as_str()]).collect();
        Self::start(folder, &flags)
    }

    /// Runs a command and waits until it says where it listens.
    pub(crate) fn spawn(command: Command) -> Self {
        Self::spawn_with_log(command).0
    }

    /// The same, with what it said before.
    pub(crate) fn spawn_with_log(mut command: Command) -> (Self, String) {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = process.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Ends when the process does, or when the receiver is gone.
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
        let mut server = Self { process, lines, url: String::new(), http };
        let mut log = String::new();
        loop {
            let line = server.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("the server does not listen ({error}): {log}"));
            if let Some((_, address)) = line.split_once("listening on ") {
                server.url = address.split([' ', '"']).next().unwrap().to_owned();
                return (server, log);
            }
            log = format!("{log}\n{line}");
        }
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Sends the process a signal such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for a line of the log that contains `part`.
    pub(crate) fn logged(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("no line with {part} ({error})"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Memory that the process has in use, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// A line of the process's status that tells bytes.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The process's limit of open files.
    pub(crate) fn limits(&self) -> String {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.process.id())).unwrap();
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned()
    }

    /// A process that listens at `address`, or soon will, and whose log is not read here.
    pub(crate) async fn attach(process: Child, address: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
        let url = format!("http://{address}");
        let server = Self { process, lines: channel().1, url, http };
        // Nothing that it writes is read, so that it can only be asked.
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let ready = async {
            while server.http.get(format!("{}/ready", server.url)).send().await.is_err() {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(DEADLINE, ready).await.expect("the server does not listen");
        server
    }

    /// Waits for the process to end by itself, whatever it says.
    pub(crate) async fn exited(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.process.wait().unwrap()).await.unwrap()
    }

    /// Waits for the process to end by itself: its exit status and what it wrote to the log since it
    /// listened.
    pub(crate) async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let wait = move || {
            let mut log = Vec::new();
            loop {
                match self.lines.recv_timeout(DEADLINE) {
                    Ok(line) => log.push(line),
                    Err(RecvTimeoutError::Disconnected) => return (self.process.wait().unwrap(), log),
                    Err(RecvTimeoutError::Timeout) => panic!("the server does not end: {log:?}"),
                }
            }
        };
        tokio::task::spawn_blocking(wait).await.unwrap()
    }

    /// SIGTERM, then the end.
    pub(crate) async fn stop(self) -> (ExitStatus, Vec<String>) {
        self.signal("TERM");
        self.ended().await
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap();
        Answer { status, headers, body }
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    /// POST with a JSON body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// POST with any text as a JSON body.
    pub(crate) async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.http.post(format!("{}{path}", self.url));
        self.send(request.header("content-type", "application/json").body(body)).await
    }

    /// POST that must succeed.
    pub(crate) async fn ok(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
        answer.json()
    }

    /// POST whose answer is read event by event.
    pub(crate) async fn open(&self, path: &str, body: &Value) -> Events {
        let response = self.http.post(format!("{}{path}", self.url)).json(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Events { response, read: Vec::new() }
    }

    /// Asks `/health` until it says what is waited for, and returns that.
    pub(crate) async fn health_until(&self, what: &str, met: impl Fn(&Health) -> bool) -> Health {
        let poll = async {
            loop {
                let health = self.health().await;
                if met(&health) {
                    return health;
                }
            }
        };
        tokio::time::timeout(DEADLINE, poll).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    /// `/health`.
    pub(crate) async fn health(&self) -> Health {
        let health = self.get("/health").await.json();
        let number = |name: &str| health[name].as_u64();
        Health { running: number("running"), waiting: number("waiting"), evaluations: number("evaluations") }
    }

    /// Writes bytes to a fresh connection and reads what comes back until it is closed. The request must
    /// say `connection: close`, or be refused in a way that closes.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut connection = TcpStream::connect(self.address()).unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        connection.write_all(request).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }
}

/// The answer of `/health`; its fields are `None` while the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) running: Option<u64>,
    pub(crate) waiting: Option<u64>,
    pub(crate) evaluations: Option<u64>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A header's value, empty when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The error object of a refusal, after a look at its shape.
    pub(crate) fn refusal(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        assert!(!self.header("x-request-id").is_empty());
        let error = error_object(&self.json());
        assert_eq!(error["code"], code, "{error}");
        error
    }
}

/// The error in a body, which has exactly the four published keys.
pub(crate) fn error_object(body: &Value) -> Value {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(body), ["error"], "{body}");
    let error = &body["error"];
    let mut names = keys(error);
    names.sort();
    assert_eq!(names, ["code", "message", "param", "type"], "{body}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(error["type"].is_string() && error["code"].is_string(), "{body}");
    assert!(error["param"].is_string() || error["param"].is_null(), "{body}");
    error.clone()
}

/// A stream that is being read.
pub(crate) struct Events {
    response: reqwest::Response,
    /// Everything so far; the network may cut it inside a character.
    read: Vec<u8>,
}

impl Events {
    /// Reads on until the text so far contains `part`.
    pub(crate) async fn read_until(&mut self, part: &str) {
        while !self.read.windows(part.len()).any(|window| window == part.as_bytes()) {
            let chunk = self.response.chunk().await.unwrap();
            let chunk = chunk.unwrap_or_else(|| panic!("the stream ended without {part}"));
            self.read.extend_from_slice(&chunk);
        }
    }

    /// Reads to the end of the body, which must be a clean one.
    pub(crate) async fn rest(mut self) -> String {
        while let Some(chunk) = self.response.chunk().await.unwrap() {
            self.read.extend_from_slice(&chunk);
        }
        String::from_utf8(self.read).unwrap()
    }
}
