//! The token: where it comes from, the messages when it is missing, and that it is not shown.

use unmask_model::checkpoint::hub::{HubOptions, Wanted, fetch};

use crate::server::{Fault, Hub};
use crate::{SINGLE, assert_identical, home, refusal};

#[test]
fn without_a_token_the_message_names_the_option() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
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
    let hub = Hub::with("diffugpt-s");
    let home = home();
    hub.state().faults = vec![("config.json", Fault::Status(403))];
    let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
    assert!(message.contains("config.json") && message.contains("--hub-token"), "{message}");
}

#[test]
fn the_token_of_a_login_is_used_unless_one_is_given() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    std::fs::write(home.path().join("token"), "wrong\n").unwrap();
    fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    std::fs::write(home.path().join("token"), "secret\n").unwrap();
    let options = HubOptions { token: None, ..hub.options(home.path()) };
    fetch("unmask/diffugpt-s", Wanted::Model, &options).unwrap();
}

/// The hub sends large files from hosts of others.
#[test]
fn a_redirect_to_another_host_goes_without_the_token() {
    let (hub, elsewhere) = (Hub::with("diffugpt-s"), Hub::with("diffugpt-s"));
    let home = home();
    elsewhere.state().open = true;
    hub.state().elsewhere = Some(elsewhere.options(home.path()).endpoint);
    let folder = fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())).unwrap();
    assert_identical(&folder, "diffugpt-s", &SINGLE);
    assert_eq!((elsewhere.state().tokens_seen, hub.transfers().len()), (0, 0));
    assert!(elsewhere.transfers().len() > 2 && hub.state().tokens_seen > 2);
}

#[test]
fn a_token_that_cannot_be_sent_is_at_fault_itself() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    let options = HubOptions { token: Some("sec\nret".to_owned()), ..hub.options(home.path()) };
    let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &options));
    assert!(message.contains("a line break") && !message.contains("ret:"), "{message}");
    assert_eq!(hub.state().requests, 0);
}

/// A token alone does not help there.
#[test]
fn conditions_of_a_repository_are_named() {
    let hub = Hub::with("diffugpt-s");
    let home = home();
    hub.state().headers.extend([("x-error-code", Some("GatedRepo"))]);
    hub.state().status = Some("403 Forbidden");
    let message = refusal(fetch("unmask/diffugpt-s", Wanted::Model, &hub.options(home.path())));
    assert!(message.contains("accept them on its page"), "{message}");
}

#[test]
fn the_token_is_not_shown() {
    let options = HubOptions { token: Some("secret".to_owned()), ..HubOptions::default() };
    assert!(!format!("{options:?}").contains("secret"));
}
