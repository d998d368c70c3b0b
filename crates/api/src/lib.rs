//! The HTTP server: JSON in, canvases to the engine, text out, plain or streamed.
//!
//! [`routes`] is the table of contents. A generating route decodes its body ([`body`]), checks its
//! settings ([`request`]), lays out its canvases ([`prompt`]), starts them ([`generation`]) and shows
//! them as text ([`text_view`]) in one answer or as events ([`sse`]). Every failure becomes HTTP in
//! [`error`].

pub mod access;
pub mod allocator;
pub mod bench;
pub mod body;
pub mod client;
pub mod clock;
pub mod command_line;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod error;
pub mod eval;
pub mod fair_pool;
pub mod generation;
pub mod healing;
pub mod healthcheck;
pub mod hole;
pub mod input;
pub mod lengths;
mod limits;
pub mod load;
pub mod log;
pub mod logprobs;
pub mod messages;
pub mod metrics;
mod nearest;
pub mod observation;
pub mod output;
pub mod panics;
mod playground;
pub mod policy;
pub mod prompt;
mod renamed;
pub mod report;
pub mod request;
pub mod route_defaults;
pub mod routes;
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
mod utf8;
mod values;
pub mod verify;

pub use crate::server::serve;
