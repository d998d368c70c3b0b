//! Hubs that are away or out of order: the cache stands in when it is complete.

use std::time::Duration;

use unmask_model::checkpoint::hub::{HubOptions, Wanted, fetch};

use crate::server::{COMMIT, Hub};
use crate::{home, refusal};

#[test]
fn without_the_hub_a_complete_checkpoint_in_the_cache_is_used() {
    let hub = Hub::with("diffullama-gqa");
    let home = home();
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
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let online = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    // A hub without an answer, and a portal that answers in its place.
    for list in [("503 Service Unavailable", "<html>"), ("200 OK", "<html>please log in</html>")] {
        hub.state().list = Some(list);
        assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap(), online);
    }
}

/// Offline, the hub is not asked and cannot delay a start.
#[test]
fn offline_the_hub_is_not_asked() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let offline = HubOptions { offline: true, ..hub.options(home.path()) };
    let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &offline));
    assert!(message.contains("HF_HUB_OFFLINE") && message.contains("main"), "{message}");
    assert_eq!(hub.state().requests, 0);
    let online = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    let asked = hub.state().requests;
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &offline).unwrap(), online);
    assert_eq!(hub.state().requests, asked);
}

#[test]
fn a_commit_in_the_cache_needs_no_hub() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let fixed = HubOptions { revision: COMMIT.to_owned(), ..hub.options(home.path()) };
    let first = fetch("unmask/diffugpt-s", Wanted::Model, &fixed).unwrap();
    let asked = hub.state().requests;
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &fixed).unwrap(), first);
    assert_eq!(hub.state().requests, asked);
}

#[test]
fn nothing_is_written_to_a_complete_cache() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let options = hub.options(home.path());
    let online = fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap();
    let refs = home.path().join("hub/models--unmask--diffugpt-s/refs");
    let named = std::fs::metadata(refs.join("main")).unwrap().modified().unwrap();
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap(), online);
    assert_eq!(std::fs::metadata(refs.join("main")).unwrap().modified().unwrap(), named);
    // A cache that takes no name for the commit, with all files in it.
    std::fs::remove_dir_all(&refs).unwrap();
    std::fs::write(&refs, "no folder").unwrap();
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap(), online);
}

/// A hub that accepts and never answers. The kernel is one until a program accepts its connection.
#[test]
fn a_hub_that_never_answers_is_waited_for_as_long_as_was_said() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let online = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = HubOptions {
        endpoint: format!("http://{}", silent.local_addr().unwrap()),
        list_timeout: Duration::from_millis(200),
        ..hub.options(home.path())
    };
    assert_eq!(fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap(), online);
}

#[test]
fn cache_and_token_may_lie_elsewhere() {
    let hub = Hub::with("diffugpt-s");
    let elsewhere = home();
    let home = home();
    std::fs::write(elsewhere.path().join("token"), "secret\n").unwrap();
    let options = HubOptions {
        token: None,
        token_file: Some(elsewhere.path().join("token")),
        cache: Some(elsewhere.path().join("cache")),
        ..hub.options(home.path())
    };
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap();
    assert!(folder.starts_with(elsewhere.path().join("cache/models--unmask--diffugpt-s")), "{folder:?}");
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "nothing is written to the home");
    // With the cache alone elsewhere, the token is that of the home.
    std::fs::write(home.path().join("token"), "secret\n").unwrap();
    let options = HubOptions { token_file: None, ..options };
    fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap();
}
