//! The real program over real sockets, with the tiny golden models and the embedded one.
//!
//! Nothing sleeps: a test that needs the server in a certain state asks `/health` until it is there. Where
//! it matters what an evaluation is doing, `gated` serves a scripted predictor inside the test.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod blocks;
mod borders;
mod cancelling;
mod chat;
mod choices;
mod completions;
mod connections;
mod cursors;
mod deadlines;
mod determinism;
mod draining;
mod editors;
#[cfg(feature = "embedded")]
mod embedded;
mod eval;
mod families;
mod fields;
mod fill;
mod gated;
mod harness;
mod healing;
mod healthcheck;
mod holes;
mod kv_cache;
mod lengths;
mod logs;
mod metrics;
mod models;
mod mutations;
mod names;
mod openapi;
mod overload;
mod playground;
mod policies;
#[cfg(feature = "embedded")]
mod readme;
mod refusals;
mod route_defaults;
mod scoring;
mod security;
mod security_doors;
mod security_log;
mod security_shares;
mod security_soak;
mod security_streams;
mod security_work;
mod slow_readers;
#[cfg(feature = "embedded")]
mod snapshots;
mod special_text;
mod sse;
mod starting;
mod startup;
mod states;
mod stops;
mod stream_options;
mod templates;
#[cfg(feature = "embedded")]
mod terminal;
mod transport;
mod vanishing;
