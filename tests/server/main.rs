//! The real program over real sockets, with the tiny golden models.
//!
//! Nothing sleeps: a test that needs the server in a certain state asks `/health` until it is there.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cancelling;
mod completions;
mod determinism;
mod draining;
mod fields;
mod fill;
mod harness;
mod mutations;
mod openapi;
mod overload;
mod policies;
mod refusals;
mod special_text;
mod sse;
mod startup;
mod stops;
mod transport;
