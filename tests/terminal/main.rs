//! The real program in a real terminal, which tmux plays: what a person would see. `run` beside this file starts it;
//! `cargo test` alone does not, because not every machine has tmux.
//!
//! Nothing sleeps to be right: events are handed to the program one at a time, and the pane is looked at until it
//! shows what it must.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "made for the tests of the server")]
#[path = "../server/harness.rs"]
mod harness;
mod live;
mod pane;
mod prompts;
mod released;
