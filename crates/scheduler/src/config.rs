//! The limits of an engine.

use std::time::Duration;

use crate::cost::CostModel;
use crate::pace::RowTarget;

/// The limits of an engine. Each should be at least 1.
///
/// ```
/// use unmask_scheduler::EngineConfig;
///
/// let config = EngineConfig { max_running: 16, ..EngineConfig::default() };
/// assert_eq!((config.max_rows, config.queue), (2048, 128));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EngineConfig {
    /// Token rows per evaluation: the summed lengths of the canvases in a batch. A longer canvas is
    /// evaluated alone.
    pub max_rows: usize,
    /// Derives `max_rows` anew whenever the machine turns out faster or slower than measured; `None` keeps it
    /// fixed.
    pub row_target: Option<RowTarget>,
    /// Samples running at once, shared by client. The samples of a request enter one by one.
    pub max_running: usize,
    /// Requests that may wait: accepted and not yet running, shared by client. 0 refuses everything.
    pub queue: usize,
    /// The longest time that a request may wait; it then fails with
    /// [`GenerationError::QueueTimeout`](crate::GenerationError::QueueTimeout).
    pub max_wait: Duration,
    /// Predicted time of evaluations, by which the device is shared.
    pub cost: CostModel,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_rows: 2048,
            row_target: None,
            max_running: 64,
            queue: 128,
            max_wait: Duration::from_secs(30),
            cost: CostModel::default(),
        }
    }
}
