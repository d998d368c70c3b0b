//! Hubs that are away or out of order: the cache stands in when it is complete.

use unmask_model::checkpoint::hub::{Wanted, fetch};

use crate::server::Hub;
use crate::{home, refusal};

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
