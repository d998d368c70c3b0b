//! Step-level batching of concurrent denoising and scoring requests on one device thread.
//!
//! An [`Engine`] is one thread that owns the [`MaskPredictor`](unmask_model::predictor::MaskPredictor).
//! Before every evaluation it decides anew who takes part, so requests join and leave between any two
//! evaluations. [`EngineHandle::submit`] hands a request over without blocking and returns a
//! [`Generation`]: the stream of its events, which ends with exactly one terminal event. Dropping the
//! stream cancels the request.
//!
//! Every queue and channel here is bounded, and the engine never waits for a reader.

mod batcher;
mod config;
mod cost;
mod engine;
mod error;
mod event;
mod handle;
mod inbox;
mod metrics;
mod pace;
mod probe;
mod recent;
mod request;

pub use batcher::{Batcher, ClientId, Member, RequestId, SampleId};
pub use config::EngineConfig;
pub use cost::{CostModel, Work};
pub use engine::Engine;
pub use error::{GenerationError, SubmitError};
pub use event::{DenoisingEvent, Timings};
pub use handle::{DenoiseRequest, EngineHandle, Generation};
pub use inbox::{EngineState, EngineStatus};
pub use metrics::EngineMetrics;
pub use pace::RowTarget;
