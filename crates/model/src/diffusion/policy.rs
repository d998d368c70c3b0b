//! Which positions are committed next.

/// The decision rule of one request. It belongs to the request's state, so neighbours in a batch can
/// follow different rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// In which order positions are committed.
    pub order: Order,
    /// T: over how many rounds the canvas is filled, at least 1. Never clipped to the number of
    /// positions, which would change the law.
    pub steps: u32,
}

/// Where the order of commits comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The reference's random order (`generate_samples` of its `model.py`): each position's round is
    /// uniform on 1..=T and drawn at admission. Rounds without members cost nothing.
    Random,
    /// The reference's confidence order (`generate_samples` of its trainer, used by its benchmarks):
    /// after each evaluation the least certain floor(M·t/T) positions stay open.
    Confidence,
}
