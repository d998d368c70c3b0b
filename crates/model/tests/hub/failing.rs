//! Names, lists and answers that are refused, in one line that says which.

use std::time::Duration;

use unmask_model::checkpoint::hub::{HubOptions, Wanted, fetch};
use unmask_model::error::LoadError;

use crate::server::{Fault, Hub, LATER};
use crate::{SINGLE, assert_identical, home, refusal};

#[test]
fn an_unknown_repository_or_revision_says_so() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
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
    let hub = Hub::with("diffugpt-s");
    let home = home();
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
fn a_repository_that_holds_something_else_is_told_what_to_do_with_it() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    for (file, part) in [
        ("model-q4.gguf", "model-q4.gguf, and give the file as --model"),
        ("adapter_config.json", "--adapter"),
    ] {
        let files = [(file.to_owned(), b"x".to_vec())].into();
        hub.state().repositories.insert("unmask/other".to_owned(), files);
        let message = refusal(fetch("unmask/other", Wanted::Model, &hub.options(home.path())));
        assert!(message.contains(part), "{message}");
    }
    let files =
        ["adapter_config.json", "adapter_model.bin"].map(|name| (name.to_owned(), b"{}".to_vec())).into();
    hub.state().repositories.insert("unmask/pickled".to_owned(), files);
    let result = fetch("unmask/pickled", Wanted::Adapter, &hub.options(home.path()));
    assert!(matches!(result, Err(LoadError::AdapterPickle { .. })), "{result:?}");
}

#[test]
fn a_file_that_is_needed_and_not_listed_is_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let hub = Hub::with("diffugpt-s");
        let home = home();
        // Of which a tokenizer could be made.
        hub.remove("vocab.json");
        hub.remove(name);
        let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
        assert!(message.contains(name), "{message}");
    }
    let hub = Hub::with("diffullama-gqa");
    let home = home();
    hub.remove("model-00002-of-00002.safetensors");
    let message = refusal(fetch("unmask/diffullama-gqa", Wanted::Model, &hub.options(home.path())));
    assert!(message.contains("model-00002-of-00002.safetensors"), "{message}");
}

#[test]
fn names_of_another_form_are_refused_before_anything_is_asked() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
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
        let hub = Hub::with("diffugpt-s");
        let home = home();
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
        let hub = Hub::with("diffugpt-s");
        let home = home();
        hub.state().headers.extend([header]);
        let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
        assert!(message.contains("config.json"), "{message}");
        assert_eq!(hub.transfers(), [], "{header:?}");
    }
}

#[test]
fn a_mirror_that_sends_no_parts_of_files_is_told_from_others() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    hub.state().headers.extend([("content-range", None)]);
    hub.state().status = Some("200 OK");
    let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
    for part in ["content-range", "Range", "HF_ENDPOINT", "hf download"] {
        assert!(message.to_lowercase().contains(&part.to_lowercase()), "{message}");
    }
}

/// Bytes that had arrived are kept, and the connection that stands still is not waited for.
#[test]
fn a_transfer_that_stands_still_is_given_up_and_can_be_taken_up_later() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    hub.state().faults.push(("model.safetensors", Fault::Stall));
    let options = HubOptions { download_timeout: Duration::from_millis(300), ..hub.options(home.path()) };
    let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &options));
    assert!(
        message.contains("model.safetensors") && message.contains("HF_HUB_DOWNLOAD_TIMEOUT"),
        "{message}"
    );
    let weights = |hub: &Hub| -> Vec<String> {
        let transfers = hub.transfers().into_iter().filter(|transfer| transfer.file == "model.safetensors");
        transfers.map(|transfer| transfer.range).collect()
    };
    assert_eq!(weights(&hub), ["bytes=0-"]);
    // The connection ends with the hub, and with it the thread that reads from it and holds the lock.
    drop(hub);
    let hub = Hub::with("diffugpt-s");
    let again = || fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path()));
    let folder = std::iter::repeat_with(again).find_map(Result::ok).unwrap();
    assert_identical(&folder, "diffugpt-s", &SINGLE);
    let size = std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
    assert_eq!(weights(&hub), [format!("bytes={}-", size / 2)]);
}

#[test]
fn a_redirect_to_nowhere_is_refused() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
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
        let hub = Hub::with("diffullama-gqa");
        let home = home();
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
