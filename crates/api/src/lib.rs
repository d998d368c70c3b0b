//! The HTTP server: JSON in, canvases to the engine, text out, plain or streamed.
//!
//! [`routes`] is the table of contents. A generating route decodes its body ([`body`]), checks its
//! settings ([`options`]), lays out its canvases ([`prompt`]), starts them ([`generation`]) and shows
//! them as text ([`text_view`]) in one answer or as events ([`sse`]). Every failure becomes HTTP in
//! [`error`].

pub mod access;
pub mod bench;
pub mod body;
pub mod client;
pub mod command_line;
pub mod commands;
pub mod config;
mod config_access;
mod config_hub;
mod config_terminal;
mod config_values;
pub mod deadlines;
pub mod descriptors;
pub mod error;
pub mod eval;
pub mod fair_pool;
pub mod generation;
pub mod healing;
pub mod healthcheck;
pub mod input;
pub mod kv_cache;
pub mod lengths;
pub mod load;
pub mod log;
pub mod logprobs;
pub mod messages;
pub mod metrics;
pub mod observation;
pub mod options;
pub mod output;
pub mod panics;
mod playground;
mod policy_conflicts;
pub mod policy_names;
pub mod policy_options;
pub mod prompt;
pub mod report;
pub mod route_defaults;
pub mod routes;
pub mod scoring;
pub mod seed;
pub mod server;
pub mod shelf;
pub mod shutdown;
pub mod sse;
pub mod state;
mod stop_strings;
pub mod telemetry;
pub mod template;
pub mod terminal;
pub mod text_view;
pub mod trace;
pub mod verify;

pub use crate::server::serve;
