//! Settings of a request: what a client may say, and what it means for the model at hand.

pub mod biases;
pub mod deadlines;
pub mod fields;
pub mod kv_cache;
pub mod options;
mod policy_conflicts;
pub mod policy_options;
pub mod ranges;
pub mod scoring;
pub(crate) mod shared_fields;
