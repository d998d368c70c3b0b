//! The limits of an engine.

/// The limits of an engine. Each should be at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Token rows per evaluation: the summed lengths of the canvases in a batch. A longer canvas is
    /// evaluated alone.
    pub max_rows: usize,
    /// Samples running at once. A request of more samples runs when nothing else does.
    pub max_running: usize,
    /// Requests that may wait: accepted and not yet running. 0 refuses everything.
    pub queue: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { max_rows: 2048, max_running: 64, queue: 128 }
    }
}
