//! State shared by all handlers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::http::StatusCode;
use unmask_model::checkpoint::Profile;
use unmask_model::predictor::{ModelLimits, Visibility};
use unmask_model::tokenizer::TextTokenizer;
use unmask_scheduler::{CostModel, EngineHandle};

use crate::access::Access;
use crate::config::{Patience, ServeArgs};
use crate::fair_pool::FairPool;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::policy::KvCacheName;
use crate::route_defaults::RouteDefaults;
use crate::template::ChatTemplate;

/// Shared by all handlers; cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState {
    /// The model that is served.
    pub model: Arc<ServedModel>,
    /// The engine that denoises.
    pub engine: EngineHandle,
    /// Samples that are denoised at the same time.
    pub slots: usize,
    /// Requests that may wait, and for how long.
    pub queue: (usize, Duration),
    /// Limits on connections.
    pub patience: Patience,
    /// The rules of access.
    pub access: Arc<Access>,
    /// The time of evaluations on this device.
    pub cost: CostModel,
    /// Runs the decoding of large bodies and the tokenizing of texts.
    pub pool: FairPool,
    /// Large bodies that are on their way or wait to be decoded.
    pub bodies: FairPool,
    /// Limits of a request.
    pub limits: Limits,
    /// Set when the server is about to stop: not ready, but still answering.
    pub draining: Arc<AtomicBool>,
    /// The longest time of an evaluation before the process counts as stuck.
    pub watchdog: Duration,
    /// The status of a request that the engine has no room for.
    pub overload_status: StatusCode,
    /// True if there is a page at `/`.
    pub playground: bool,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The keys and values that requests keep where they say nothing, if a flag says so.
fn cache_by_default(model: &ServedModel, args: &ServeArgs) -> Option<KvCacheName> {
    let given = args.engine.kv_cache?;
    if model.block().is_some() {
        tracing::warn!(
            "--kv-cache has no effect: this model computes finished blocks once and exactly, and approximates nothing"
        );
        return None;
    }
    Some(given)
}

impl AppState {
    /// The state of a server with these settings, which has answered nothing yet.
    #[must_use]
    pub fn new(
        model: ServedModel,
        (engine, cost): (EngineHandle, CostModel),
        access: Arc<Access>,
        metrics: Metrics,
        args: &ServeArgs,
    ) -> Self {
        Self {
            limits: Limits {
                kv_cache: cache_by_default(&model, args),
                ..args.limits.limits(model.limits.context)
            },
            model: Arc::new(model),
            engine,
            slots: args.engine.max_running,
            queue: (args.engine.max_queued_requests, Duration::from_secs(args.engine.max_queue_time)),
            patience: args.server.patience(),
            access,
            cost,
            pool: FairPool::of_machine(),
            bodies: room_for_bodies(),
            draining: Arc::default(),
            watchdog: Duration::from_secs(args.server.watchdog),
            overload_status: args.server.overload_status.into(),
            playground: !args.server.no_playground,
            metrics: Arc::new(metrics),
        }
    }
}

/// Everything about the model that is text or numbers.
#[derive(Debug)]
pub struct ServedModel {
    /// Its name in requests and answers.
    pub id: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Names the build, the weights and where they are computed.
    pub fingerprint: String,
    /// Text to tokens and back.
    pub tokenizer: TextTokenizer,
    /// Special tokens and defaults of the model.
    pub profile: Profile,
    /// Bytes of keys and values that are kept between evaluations at most, and those of one position.
    pub kv_cache: (u64, u64),
    /// The settings that serve it best, by kind of request.
    pub defaults: RouteDefaults,
    /// The way from messages to a prompt, if there is one.
    pub chat_template: Option<ChatTemplate>,
    /// Limits on canvases.
    pub limits: ModelLimits,
    /// Numbers in the model.
    pub parameters: usize,
}

/// Bytes of large bodies that are held at a time, and of those of one client.
const BODIES: (usize, usize) = (32 << 20, 16 << 20);

/// Room for large bodies.
#[must_use]
pub(crate) fn room_for_bodies() -> FairPool {
    let (room, share) = BODIES;
    FairPool::new(room, share)
}

impl ServedModel {
    /// Positions of a block, where the network's attention is causal between blocks.
    #[must_use]
    pub fn block(&self) -> Option<usize> {
        match self.limits.visibility {
            Visibility::Full => None,
            Visibility::BlockCausal { block } => Some(block),
        }
    }

    /// Bytes of the longest text that the context can hold. A longer one is refused, or cut, before it is tokenized.
    #[must_use]
    pub fn longest_text(&self) -> usize {
        self.limits.context.saturating_mul(self.tokenizer.longest_token())
    }
}
