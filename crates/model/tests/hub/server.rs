//! The hub: a server in this process that lists and sends files, with faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use unmask_model::checkpoint::hub::HubOptions;

use crate::GOLDEN;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const LATER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A fault of the hub in one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Promises the whole file and closes the connection after half of it.
    Cut,
    /// Sends half of the file as if it were all.
    Short,
    /// Sends half of the file and then nothing more, until the hub ends.
    Stall,
    Status(u16),
}

/// One request for a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) file: String,
    pub(crate) range: String,
}

#[derive(Default)]
pub(crate) struct State {
    /// Repository name → file name → content.
    pub(crate) repositories: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(crate) commit: String,
    /// Happen to the next transfers of a file, in order.
    pub(crate) faults: Vec<(&'static str, Fault)>,
    /// Sent in place of the usual header of a file's answer; `None` leaves it out.
    pub(crate) headers: BTreeMap<&'static str, Option<&'static str>>,
    /// Sent in place of the file list.
    pub(crate) list: Option<(&'static str, &'static str)>,
    /// Sent in place of the status of a file's answer.
    pub(crate) status: Option<&'static str>,
    /// The address that files are sent from instead; this hub then only says which they are.
    pub(crate) elsewhere: Option<String>,
    /// True for such an address: no token is asked for, and none may come.
    pub(crate) open: bool,
    pub(crate) tokens_seen: usize,
    pub(crate) requests: usize,
    transfers: Vec<Transfer>,
    stalled: Vec<TcpStream>,
}

pub(crate) struct Hub {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { commit: COMMIT.to_owned(), ..State::default() }));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let shared = Arc::clone(&state);
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                // A client that went away is its own affair.
                let _ = serve(stream.unwrap(), &mut shared.lock().unwrap());
            }
        });
        Self { address, state, stop, thread: Some(thread) }
    }

    /// A hub with one golden folder's files under `unmask/{folder}`.
    pub(crate) fn with(folder: &str) -> Self {
        let hub = Self::start();
        let files = std::fs::read_dir(Path::new(GOLDEN).join(folder)).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        });
        hub.state().repositories.insert(format!("unmask/{folder}"), files.collect());
        hub
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn file<'a>(state: &'a mut State, name: &str) -> &'a mut Vec<u8> {
        let files = state.repositories.values_mut().next().unwrap();
        files.get_mut(name).unwrap()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.state().repositories.values_mut().next().unwrap().remove(name).unwrap();
    }

    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        std::mem::take(&mut self.state().transfers)
    }

    pub(crate) fn options(&self, home: &Path) -> HubOptions {
        HubOptions {
            endpoint: format!("http://{}", self.address),
            token: Some("secret".to_owned()),
            home: Some(home.to_owned()),
            ..HubOptions::default()
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        // Wakes the thread from its wait for a client.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads one request and answers it; every connection serves one request.
fn serve(mut stream: TcpStream, state: &mut State) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    state.requests += 1;
    state.tokens_seen += usize::from(headers.contains_key("authorization"));
    if !state.open && headers.get("authorization").is_none_or(|token| token != "Bearer secret") {
        return answer(&mut stream, "401 Unauthorized", &[], b"{\"error\":\"who are you?\"}");
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return answer_list(&mut stream, state, rest);
    }
    let (repository, rest) = path.trim_start_matches('/').split_once("/resolve/").unwrap_or_default();
    let (commit, file) = rest.split_once('/').unwrap_or_default();
    match state.repositories.get(repository).and_then(|files| files.get(file)) {
        Some(content) if commit == state.commit => {
            let content = content.clone();
            answer_file(&mut stream, state, file, &headers["range"], &content)
        }
        _ => answer(&mut stream, "404 Not Found", &[], b""),
    }
}

fn answer_list(stream: &mut TcpStream, state: &State, rest: &str) -> std::io::Result<()> {
    if let Some((status, body)) = state.list {
        return answer(stream, status, &[], body.as_bytes());
    }
    let (repository, revision) = rest.split_once("/revision/").unwrap_or_default();
    match state.repositories.get(repository).filter(|_| revision == "main" || revision == state.commit) {
        Some(files) => {
            let names: Vec<String> = files.keys().map(|name| format!("{{\"rfilename\":{name:?}}}")).collect();
            let body = format!("{{\"sha\":{:?},\"siblings\":[{}]}}", state.commit, names.join(","));
            answer(stream, "200 OK", &[], body.as_bytes())
        }
        None => answer(stream, "404 Not Found", &[], b"{\"error\":\"Repository not found\"}"),
    }
}

fn answer_file(
    stream: &mut TcpStream,
    state: &mut State,
    file: &str,
    range: &str,
    content: &[u8],
) -> std::io::Result<()> {
    let (start, end) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(content.len(), |last: usize| last + 1).min(content.len());
    let etag =
        format!("\"{:x}-{file}\"", content.iter().fold(5381_u64, |h, &b| h.wrapping_mul(33) ^ u64::from(b)));
    let etag = etag.replace(".json", "").replace(".safetensors", "");
    if start >= content.len() {
        let range = format!("bytes */{}", content.len());
        let headers = [("x-repo-commit", state.commit.as_str()), ("etag", &etag), ("content-range", &range)];
        return answer(stream, "416 Range Not Satisfiable", &headers, b"no such part");
    }
    if let Some(elsewhere) = &state.elsewhere {
        let location = format!("{elsewhere}/unmask/diffugpt-s/resolve/{}/{file}", state.commit);
        let headers =
            [("x-repo-commit", state.commit.as_str()), ("x-linked-etag", &etag), ("location", &location)];
        return answer(stream, "302 Found", &headers, b"");
    }
    let mut fault = None;
    if range != "bytes=0-0" {
        state.transfers.push(Transfer { file: file.to_owned(), range: range.to_owned() });
        let next = state.faults.iter().position(|(name, _)| *name == file);
        fault = next.map(|next| state.faults.remove(next).1);
    }
    let content_range = format!("bytes {start}-{}/{}", end - 1, content.len());
    let usual = [
        ("x-repo-commit", state.commit.as_str()),
        ("etag", &etag),
        ("content-range", &content_range),
        ("accept-ranges", "bytes"),
    ];
    let mut headers: BTreeMap<&str, &str> = usual.into_iter().collect();
    for (name, value) in &state.headers {
        match value {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
    let headers: Vec<(&str, &str)> = headers.into_iter().collect();
    let body = &content[start..end];
    let half = &body[..body.len() / 2];
    match fault {
        Some(Fault::Status(status)) => answer(stream, &format!("{status} Fault"), &[], b""),
        Some(Fault::Short) => answer(stream, "206 Partial Content", &headers, half),
        Some(Fault::Stall) => {
            write_head(stream, "206 Partial Content", &headers, body.len())?;
            stream.write_all(half)?;
            state.stalled.push(stream.try_clone()?);
            Ok(())
        }
        Some(Fault::Cut) => {
            write_head(stream, "206 Partial Content", &headers, body.len())?;
            stream.write_all(half)
        }
        None => answer(stream, state.status.unwrap_or("206 Partial Content"), &headers, body),
    }
}

fn answer(
    stream: &mut TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<()> {
    write_head(stream, status, headers, body.len())?;
    stream.write_all(body)
}

fn write_head(
    stream: &mut TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    length: usize,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes())
}
