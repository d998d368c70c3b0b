//! A hole: positions to generate, and what holds for them alone.

use unmask_model::predictor::{Sampling, TokenId};

/// A hole on its way from a request to an answer. A route makes it. Healing and the search for lengths change it. The
/// layout of the canvas and the view of its text follow it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoleSpec {
    /// Its name in answers.
    pub id: String,
    /// Positions.
    pub length: usize,
    /// Instead of the request's settings; without bans.
    pub sampling: Option<Sampling>,
    /// Instead of the request's stop strings.
    pub stops: Option<Vec<String>>,
    /// Its tokens with their log-probabilities (nats), when they are known before: nothing of it is generated.
    pub decided: Option<Vec<(TokenId, f32)>>,
    /// Bytes of the caller's own text that its tokens begin and end with; they are not part of its text.
    pub shared: (Vec<u8>, Vec<u8>),
    /// True if blanks and words that it cuts are healed.
    pub healing: bool,
    /// True if its length was found: its text ends because it is complete.
    pub found: bool,
}

impl HoleSpec {
    /// Returns true if healing may change it.
    pub(crate) fn heals(&self) -> bool {
        self.healing && self.length > 0 && self.decided.is_none()
    }
}
