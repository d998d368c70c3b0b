//! The seam between the denoising algorithm and the network: plain numbers both ways.
//!
//! The logits of one 7B canvas are length × 32,000 floats; they never cross this line. Temperature,
//! nucleus and draw happen on the predictor's side, and a few numbers per asked position come back.
//! Every ask carries its own sampling settings and random numbers, so a batch cannot apply one request's
//! settings to another.

mod candle;
#[cfg(any(test, feature = "testing"))]
mod scripted;

pub use self::candle::CandlePredictor;
#[cfg(any(test, feature = "testing"))]
pub use self::scripted::{Script, ScriptedPredictor};
use crate::error::PredictError;

/// An entry of the model's vocabulary.
pub type TokenId = u32;

/// A place on a canvas, from 0.
pub type Position = u32;

/// Reads the model's beliefs about chosen positions of several canvases in one forward pass.
pub trait MaskPredictor: Send + 'static {
    /// What a canvas for this model may hold.
    fn limits(&self) -> ModelLimits;

    /// One evaluation: for each ask, one [`Read`] per want, in order.
    ///
    /// # Errors
    /// The whole batch fails together; nothing was changed.
    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError>;
}

/// What a canvas for a model may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Rows of the embedding: token ids lie below this.
    pub vocabulary: usize,
    /// Longest canvas, in positions.
    pub context: usize,
    /// The id shown at masked positions.
    pub mask_token: TokenId,
    /// Whether the head's row i predicts position i + 1, so that position 0 cannot be predicted.
    pub shift: bool,
}

/// One canvas and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The canvas as the network sees it.
    pub tokens: &'a [TokenId],
    /// Which positions to read, ascending; position 0 only for models without shift.
    pub wants: &'a [Want],
    /// The settings that the wants refer to.
    pub samplings: &'a [Sampling],
}

/// One position to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Want {
    /// Where on the canvas.
    pub position: Position,
    /// Index into [`Ask::samplings`].
    pub sampling: u32,
    /// The uniform number in [0, 1) that draws the token.
    pub uniform: f64,
}

/// How a distribution over tokens becomes one token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most probable token, the lower id on a tie.
    pub temperature: f64,
    /// Nucleus: a token is dropped when the more probable ones already exceed this mass, so the token
    /// that crosses it stays. 1 drops nothing.
    pub top_p: f64,
    /// Ids that are never drawn.
    pub banned: Vec<TokenId>,
}

impl Default for Sampling {
    /// The model's own distribution.
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, banned: Vec::new() }
    }
}

/// What was read at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read {
    /// The token drawn.
    pub token: TokenId,
    /// Its log-probability (nats) under the distribution it was drawn from: after temperature and
    /// filters. Score orders rank by this. At temperature 0 it is the untempered one.
    pub score: f32,
    /// Its log-probability (nats) under the model itself: before temperature and filters.
    pub logprob: f32,
}
