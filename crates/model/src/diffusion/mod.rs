//! The denoising algorithm, over integers and floats: no tensors, no files, no clock.
//!
//! A [`DenoisingState`] is everything one sample remembers between two evaluations of the network. It
//! says which positions it wants read ([`DenoisingState::ask`]) and turns the answers into edits
//! ([`DenoisingState::act`]); who evaluates, when, and beside whom, is not its business.

mod blocks;
mod cache;
mod canvas;
mod course;
mod noise;
mod policy;
mod sample;
mod schedule;
mod scoring;
mod spec;
mod state;

pub use cache::{Extent, KvCache, Refresh};
pub use canvas::{Canvas, Cell};
pub use noise::{Noise, RecordedDraws};
pub use policy::{LOOKAHEAD, Order, Policy, Quota, Revise, Score, ScoreKind, Window};
pub use schedule::{balanced_evaluations, draw_round, dream_quota, positions_kept_open};
pub use scoring::{ScoreMode, ScoreSpec, ScoringState, SequenceScore};
pub use spec::{Commit, EarlyExit, Edit, Span, StateSpec};
pub use state::DenoisingState;
