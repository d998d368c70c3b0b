//! Downloads: every file arrives once and byte for byte, also after transfers that broke off.

use unmask_model::checkpoint::families::DIFFULLAMA;
use unmask_model::checkpoint::hub::{HubOptions, Wanted, fetch};
use unmask_model::checkpoint::{Adapter, Checkpoint};

use crate::server::{COMMIT, Fault, Hub, LATER};
use crate::{SINGLE, assert_identical, home, refusal};

#[test]
fn a_sharded_checkpoint_arrives_byte_for_byte_and_opens() {
    let hub = Hub::with("diffullama-gqa");
    let home = home();
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
    let hub = Hub::with("diffugpt-s");
    let home = home();
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
fn a_part_of_an_earlier_process_is_continued_after_a_failed_request() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
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
    let hub = Hub::with("diffugpt-s");
    let home = home();
    hub.state().faults = vec![("model.safetensors", Fault::Short)];
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_identical(&folder, "diffugpt-s", &SINGLE);
}

#[test]
fn a_second_fetch_transfers_no_file() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let first = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_eq!(hub.transfers().len(), SINGLE.len());
    let requests = hub.state().requests;
    let second = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_eq!((first, hub.transfers()), (second, vec![]));
    assert_eq!(hub.state().requests, requests + 1, "only the list is asked for");
}

#[test]
fn a_later_commit_transfers_only_what_changed() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
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
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    std::fs::remove_file(std::fs::canonicalize(folder.join("config.json")).unwrap()).unwrap();
    hub.transfers();
    fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_eq!(hub.transfers().len(), 1);
    assert_identical(&folder, "diffugpt-s", &SINGLE);
}

#[test]
fn an_adapter_arrives_byte_for_byte_and_opens() {
    let hub = Hub::with("diffullama-gsm-lora");
    let home = home();
    let options = hub.options(home.path());
    let folder = fetch("unmask/diffullama-gsm-lora", Wanted::Adapter, &options).unwrap();
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    assert_identical(&folder, "diffullama-gsm-lora", &names);
    Adapter::open(&folder, &DIFFULLAMA).unwrap();
}

/// A mask, and settings for each kind of request: `python -m adapt` writes them beside an adapter.
#[test]
fn what_stands_beside_an_adapter_or_a_vocabulary_arrives_too() {
    for (folder, kind, names) in [
        ("diffullama-gsm-lora", Wanted::Adapter, &["tokenizer_config.json", "generation_config.json"][..]),
        ("dream", Wanted::Model, &["generation_config.json"]),
    ] {
        let hub = Hub::with(folder);
        let home = home();
        let added = names.iter().map(|name| ((*name).to_owned(), b"{}".to_vec()));
        hub.state().repositories.values_mut().next().unwrap().extend(added);
        let fetched = fetch(&format!("unmask/{folder}"), kind, &hub.options(home.path())).unwrap();
        names.iter().for_each(|name| assert_eq!(std::fs::read(fetched.join(name)).unwrap(), b"{}"));
    }
}

/// Servers between call compressed content weakly the same.
#[test]
fn a_weak_name_of_the_content_is_its_name() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    hub.state().headers.extend([("etag", Some("W/\"abc\""))]);
    // Both files have the same content, and so the same name.
    let files = [
        ("adapter_config.json".to_owned(), b"{}".to_vec()),
        ("adapter_model.safetensors".to_owned(), b"{}".to_vec()),
    ];
    hub.state().repositories.insert("unmask/diffugpt-s".to_owned(), files.into());
    let folder = fetch("unmask/diffugpt-s", Wanted::Adapter, &hub.options(home.path())).unwrap();
    assert_eq!(std::fs::read(folder.join("adapter_model.safetensors")).unwrap(), b"{}");
    let content = std::fs::canonicalize(folder.join("adapter_config.json")).unwrap();
    assert!(content.ends_with("blobs/abc"), "{}", content.display());
}

#[test]
fn a_file_without_bytes_arrives() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    Hub::file(&mut hub.state(), "special_tokens_map.json").clear();
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_eq!(std::fs::read(folder.join("special_tokens_map.json")).unwrap(), b"");
}

/// Other programs leave commits of which they needed a part.
#[test]
fn a_commit_of_which_the_cache_holds_a_part_is_completed() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let options = HubOptions { revision: COMMIT.to_owned(), ..hub.options(home.path()) };
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    let optional = folder.join("tokenizer_config.json");
    std::fs::remove_file(&optional).unwrap();
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap(), folder);
    assert!(optional.exists());
    // Now it is known to be whole.
    let asked = hub.state().requests;
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap(), folder);
    assert_eq!(hub.state().requests, asked);
}

#[test]
fn a_file_that_was_cut_short_in_the_cache_is_fetched_again_on_demand() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let options = HubOptions { check: true, ..hub.options(home.path()) };
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap();
    let weights = std::fs::canonicalize(folder.join("model.safetensors")).unwrap();
    std::fs::OpenOptions::new().write(true).open(&weights).unwrap().set_len(1000).unwrap();
    hub.transfers();
    fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap();
    assert_identical(&folder, "diffugpt-s", &SINGLE);
    assert_eq!(hub.transfers().len(), 1);
    fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap();
    assert_eq!(hub.transfers(), []);
}

/// Some repositories hold `vocab.json` and `merges.txt` in place of `tokenizer.json`.
#[test]
fn the_parts_of_a_tokenizer_are_fetched_where_there_is_no_whole_one() {
    let hub = Hub::with("dream");
    let home = home();
    let folder = fetch("unmask/dream", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_eq!(Checkpoint::open(&folder, None).unwrap().tokenizer.mask_id(), 604);
}
