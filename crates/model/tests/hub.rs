//! Fetching checkpoints from a hub, played by a server in this process.
#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "clippy exempts functions marked as tests, and not their helpers")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use unmask_model::checkpoint::hub::{HubOptions, Wanted, fetch};
use unmask_model::checkpoint::{Adapter, Checkpoint};
use unmask_model::error::LoadError;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const LATER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// What the hub does to one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Promises the whole file and closes the connection after half of it.
    Cut,
    /// Sends half of the file as if it were all.
    Short,
    Status(u16),
}

/// One request for a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Transfer {
    file: String,
    range: String,
}

#[derive(Default)]
struct State {
    /// Repository name → file name → content.
    repositories: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    commit: String,
    /// Happen to the next transfers of a file, in order.
    faults: Vec<(&'static str, Fault)>,
    /// Sent in place of the usual header of a file's answer; `None` leaves it out.
    headers: BTreeMap<&'static str, Option<&'static str>>,
    /// Sent in place of the file list.
    list: Option<(&'static str, &'static str)>,
    /// Sent in place of the status of a file's answer.
    status: Option<&'static str>,
    requests: usize,
    transfers: Vec<Transfer>,
}

struct Hub {
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
        let (shared, stopping) = (Arc::clone(&state), Arc::clone(&stop));
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
    fn with(folder: &str) -> Self {
        let hub = Self::start();
        let files = std::fs::read_dir(Path::new(GOLDEN).join(folder)).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        });
        hub.state().repositories.insert(format!("unmask/{folder}"), files.collect());
        hub
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn file<'a>(state: &'a mut State, name: &str) -> &'a mut Vec<u8> {
        let files = state.repositories.values_mut().next().unwrap();
        files.get_mut(name).unwrap()
    }

    fn remove(&self, name: &str) {
        self.state().repositories.values_mut().next().unwrap().remove(name).unwrap();
    }

    fn transfers(&self) -> Vec<Transfer> {
        std::mem::take(&mut self.state().transfers)
    }

    fn options(&self, home: &Path) -> HubOptions {
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
    if headers.get("authorization").is_none_or(|token| token != "Bearer secret") {
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
    if start >= content.len() {
        return answer(stream, "416 Range Not Satisfiable", &[], b"");
    }
    let mut fault = None;
    if range != "bytes=0-0" {
        state.transfers.push(Transfer { file: file.to_owned(), range: range.to_owned() });
        let next = state.faults.iter().position(|(name, _)| *name == file);
        fault = next.map(|next| state.faults.remove(next).1);
    }
    let etag =
        format!("\"{:x}-{file}\"", content.iter().fold(5381_u64, |h, &b| h.wrapping_mul(33) ^ u64::from(b)));
    let etag = etag.replace(".json", "").replace(".safetensors", "");
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

/// The message of a failure, which must be one line.
fn refusal(result: Result<PathBuf, LoadError>) -> String {
    let message = result.expect_err("the fetch must fail").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Compares every fetched file with its original.
fn assert_identical(fetched: &Path, golden: &str, names: &[&str]) {
    let mut found: Vec<String> = std::fs::read_dir(fetched)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, names);
    for name in names {
        let original = Path::new(GOLDEN).join(golden).join(name);
        assert_eq!(std::fs::read(fetched.join(name)).unwrap(), std::fs::read(original).unwrap(), "{name}");
    }
}

const SINGLE: [&str; 5] = [
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

#[test]
fn a_sharded_checkpoint_arrives_byte_for_byte_and_opens() {
    let (hub, home) = (Hub::with("diffullama-gqa"), home());
    let folder = fetch("unmask/diffullama-gqa", Wanted::Model, &hub.options(home.path())).unwrap();
    let names = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert!(folder.starts_with(home.path().join("hub")));
    assert_identical(&folder, "diffullama-gqa", &names);
    assert_eq!(hub.transfers().len(), names.len(), "nothing but the checkpoint is transferred");
    Checkpoint::open(&folder, None).unwrap();
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_stopped() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    hub.state().faults = vec![("model.safetensors", Fault::Cut)];
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_identical(&folder, "diffugpt-s", &SINGLE);
    let size = std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
    let ranges: Vec<String> = hub
        .transfers()
        .into_iter()
        .filter(|transfer| transfer.file == "model.safetensors")
        .map(|transfer| transfer.range)
        .collect();
    assert_eq!(ranges, ["bytes=0-".to_owned(), format!("bytes={}-", size / 2)]);
    Checkpoint::open(&folder, None).unwrap();
}

#[test]
fn a_part_of_an_earlier_process_is_continued_even_when_the_first_request_fails() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    let fail = vec![("model.safetensors", Fault::Cut), ("model.safetensors", Fault::Status(403))];
    hub.state().faults = fail;
    refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
    hub.state().faults = vec![("model.safetensors", Fault::Status(503))];
    hub.transfers();
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_identical(&folder, "diffugpt-s", &SINGLE);
    let transfers = hub.transfers();
    assert_eq!(transfers.len(), 2, "{transfers:?}");
    assert!(transfers.iter().all(|transfer| transfer.range != "bytes=0-"), "{transfers:?}");
}

#[test]
fn an_answer_that_is_too_short_is_noticed_and_asked_for_again() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    hub.state().faults = vec![("model.safetensors", Fault::Short)];
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_identical(&folder, "diffugpt-s", &SINGLE);
}

#[test]
fn a_second_fetch_transfers_no_file() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    let first = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_eq!(hub.transfers().len(), SINGLE.len());
    let requests = hub.state().requests;
    let second = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_eq!((first, hub.transfers()), (second, vec![]));
    assert_eq!(hub.state().requests, requests + 1, "only the list is asked for");
}

#[test]
fn a_later_commit_transfers_only_what_changed() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    let first = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    hub.transfers();
    LATER.clone_into(&mut hub.state().commit);
    Hub::file(&mut hub.state(), "config.json").push(b'\n');
    let second = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_ne!(first, second);
    let transfers: Vec<String> = hub.transfers().into_iter().map(|transfer| transfer.file).collect();
    assert_eq!(transfers, ["config.json"]);
    Checkpoint::open(&second, None).unwrap();
    let old = HubOptions { revision: COMMIT.to_owned(), ..hub.options(home.path()) };
    drop(hub);
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &old).unwrap(), first, "commits are revisions too");
}

#[test]
fn a_blob_that_was_deleted_from_the_cache_is_fetched_again() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    std::fs::remove_file(std::fs::canonicalize(folder.join("config.json")).unwrap()).unwrap();
    hub.transfers();
    fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_eq!(hub.transfers().len(), 1);
    assert_identical(&folder, "diffugpt-s", &SINGLE);
}

#[test]
fn without_the_hub_a_complete_checkpoint_in_the_cache_is_used() {
    let (hub, home) = (Hub::with("diffullama-gqa"), home());
    let options = hub.options(home.path());
    let online = fetch("unmask/diffullama-gqa", Wanted::Model, &options).unwrap();
    drop(hub);
    assert_eq!(fetch("unmask/diffullama-gqa", Wanted::Model, &options).unwrap(), online);

    std::fs::remove_file(online.join("model-00002-of-00002.safetensors")).unwrap();
    let message = refusal(fetch("unmask/diffullama-gqa", Wanted::Model, &options));
    assert!(message.contains("refused") && message.contains(&options.endpoint), "{message}");
}

#[test]
fn a_hub_that_is_out_of_order_is_replaced_by_the_cache() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    let online = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    hub.state().list = Some(("503 Service Unavailable", "<html>"));
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap(), online);
}

#[test]
fn without_a_token_the_message_names_the_option() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    for token in [None, Some("wrong".to_owned()), Some(" ".to_owned())] {
        let options = HubOptions { token, ..hub.options(home.path()) };
        let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &options));
        assert!(message.contains("HF_TOKEN") && message.contains("--hub-token"), "{message}");
        assert!(message.contains("unmask/diffugpt-s") && !message.contains("wrong"), "{message}");
    }
    assert_eq!(hub.transfers(), []);
}

#[test]
fn a_gated_file_names_the_option_too() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    hub.state().faults = vec![("config.json", Fault::Status(403))];
    let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
    assert!(message.contains("config.json") && message.contains("--hub-token"), "{message}");
}

#[test]
fn the_token_of_a_login_is_used_unless_one_is_given() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    std::fs::write(home.path().join("token"), "wrong\n").unwrap();
    fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    std::fs::write(home.path().join("token"), "secret\n").unwrap();
    let options = HubOptions { token: None, ..hub.options(home.path()) };
    fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap();
}

#[test]
fn the_token_is_not_shown() {
    let options = HubOptions { token: Some("secret".to_owned()), ..HubOptions::default() };
    assert!(!format!("{options:?}").contains("secret"));
}

#[test]
fn an_unknown_repository_or_revision_says_so() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    let options = hub.options(home.path());
    let elsewhere = HubOptions { revision: "refs/pr/7".to_owned(), ..options.clone() };
    for (name, options) in [("unmask/nothing", options), ("unmask/diffugpt-s", elsewhere)] {
        let message = refusal(fetch(name, Wanted::Model, &options));
        assert!(
            message.contains("404") && message.contains("revision") && message.contains(name),
            "{message}"
        );
    }
}

#[test]
fn a_repository_with_only_pickles_is_refused_before_any_transfer() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    hub.remove("model.safetensors");
    let files = hub.state().repositories.pop_first().unwrap().1;
    for pickle in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let mut files = files.clone();
        files.insert(pickle.to_owned(), b"\x80\x02".to_vec());
        hub.state().repositories.insert("unmask/pickled".to_owned(), files);
        let result = fetch("unmask/pickled", Wanted::Model, &hub.options(home.path()));
        assert!(matches!(result, Err(LoadError::Pickle { .. })), "{result:?}");
        assert!(refusal(result).contains("unmask/pickled/pytorch_model.bin"));
    }
    assert_eq!(hub.transfers(), []);
}

#[test]
fn a_file_that_is_needed_and_not_listed_is_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let (hub, home) = (Hub::with("diffugpt-s"), home());
        hub.remove(name);
        let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
        assert!(message.contains(name), "{message}");
    }
    let (hub, home) = (Hub::with("diffullama-gqa"), home());
    hub.remove("model-00002-of-00002.safetensors");
    let message = refusal(fetch("unmask/diffullama-gqa", Wanted::Model, &hub.options(home.path())));
    assert!(message.contains("model-00002-of-00002.safetensors"), "{message}");
}

#[test]
fn an_adapter_arrives_byte_for_byte_and_opens() {
    let (hub, home) = (Hub::with("diffullama-gsm-lora"), home());
    let options = hub.options(home.path());
    let folder = fetch("unmask/diffullama-gsm-lora", Wanted::Adapter, &options).unwrap();
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    assert_identical(&folder, "diffullama-gsm-lora", &names);
    Adapter::open(&folder).unwrap();
}

#[test]
fn names_of_another_form_are_refused_before_anything_is_asked() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    let options = hub.options(home.path());
    let odd = [
        "", "gpt2", "/", "a/", "/b", "a/b/c", "../b", "a/..", "a/b..c", "a b/c", "a/b?x", "a/b\nc", "./b",
        "a/ü",
    ];
    for name in odd {
        let message = refusal(fetch(name, Wanted::Model, &options));
        assert!(message.contains("owner/name"), "{message}");
    }
    for revision in ["", "..", "../main", "a/../b", "/main", "main?", "a b"] {
        let options = HubOptions { revision: revision.to_owned(), ..options.clone() };
        assert!(refusal(fetch("unmask/diffugpt-s", Wanted::Model, &options)).contains("revision"));
    }
    assert_eq!(hub.state().requests, 0);
}

#[test]
fn odd_file_lists_are_refused() {
    let lists = [
        ("200 OK", "<html>please log in</html>"),
        ("200 OK", "[]"),
        ("200 OK", "{}"),
        ("200 OK", "{\"sha\":7,\"siblings\":[]}"),
        ("200 OK", "{\"sha\":\"../../..\",\"siblings\":[]}"),
        ("200 OK", "{\"sha\":\"\",\"siblings\":[]}"),
        ("200 OK", "{\"sha\":\"abc\",\"siblings\":[{\"rfilename\":\"../config.json\"}]}"),
        ("204 No Content", ""),
        ("302 Found", ""),
        ("418 I'm a teapot", ""),
    ];
    for list in lists {
        let (hub, home) = (Hub::with("diffugpt-s"), home());
        hub.state().list = Some(list);
        let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
        assert!(message.contains("unmask/diffugpt-s"), "{message}");
        assert_eq!(hub.transfers(), []);
    }
}

#[test]
fn odd_answers_for_a_file_are_refused() {
    let headers: [(&str, Option<&str>); 9] = [
        ("etag", None),
        ("etag", Some("../../../../escaped")),
        ("etag", Some("\"/tmp/escaped\"")),
        ("etag", Some("\"\"")),
        ("x-repo-commit", None),
        ("x-repo-commit", Some("../../../..")),
        ("x-repo-commit", Some(LATER)),
        ("content-range", None),
        ("content-range", Some("bytes 0-0/many")),
    ];
    for header in headers {
        let (hub, home) = (Hub::with("diffugpt-s"), home());
        hub.state().headers.extend([header]);
        let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
        assert!(message.contains("config.json"), "{message}");
        assert_eq!(hub.transfers(), [], "{header:?}");
    }
}

#[test]
fn a_redirect_to_nowhere_is_refused() {
    let (hub, home) = (Hub::with("diffugpt-s"), home());
    hub.state().status = Some("302 Found");
    let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
    assert!(message.contains("config.json"), "{message}");
}

#[test]
fn an_index_that_reaches_outside_its_folder_is_refused() {
    for index in [
        r#"{"weight_map":{"a":"../evil.safetensors"}}"#,
        r#"{"weight_map":{"a":"/etc/passwd"}}"#,
        r#"{"weight_map":{"a":7}}"#,
        r#"{"weight_map":{}}"#,
        "no json",
    ] {
        let (hub, home) = (Hub::with("diffullama-gqa"), home());
        *Hub::file(&mut hub.state(), "model.safetensors.index.json") = index.as_bytes().to_vec();
        let message = refusal(fetch("unmask/diffullama-gqa", Wanted::Model, &hub.options(home.path())));
        assert!(message.contains("model.safetensors.index.json"), "{message}");
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    let home = home();
    for endpoint in ["", "nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:1\n"] {
        let options = HubOptions {
            endpoint: endpoint.to_owned(),
            home: Some(home.path().to_owned()),
            ..HubOptions::default()
        };
        let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &options));
        assert!(message.contains("HF_ENDPOINT"), "{message}");
    }
}
