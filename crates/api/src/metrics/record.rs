//! The record of a request, as far as it is known at its end.

use std::time::Duration;

use unmask_scheduler::Timings;

use super::labels::{Ending, Outcome};
use crate::renamed::Renamed;

/// The parts that are filled in on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) status: Option<u16>,
    /// The error's code, if the request ended with one.
    pub(crate) code: Option<&'static str>,
    /// `None` at the end if the client had left.
    pub(crate) outcome: Option<Outcome>,
    /// True if the answer continues after its head.
    pub(crate) streams: bool,
    /// True if the engine accepted it.
    pub(crate) accepted: bool,
    pub(crate) prompt_tokens: usize,
    /// Positions to generate of each prompt's samples.
    pub(crate) canvases: Vec<usize>,
    pub(crate) generated_tokens: usize,
    pub(crate) returned_tokens: usize,
    pub(crate) steps: u32,
    pub(crate) first_state: Option<Duration>,
    pub(crate) first_text: Option<Duration>,
    pub(crate) timings: Option<Timings>,
    /// Why each text ended.
    pub(crate) endings: Vec<Ending>,
    /// Former names of fields that its body uses.
    pub(crate) renamed: Vec<Renamed>,
}
