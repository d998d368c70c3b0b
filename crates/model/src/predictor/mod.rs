//! The seam between the denoising algorithm and the network: plain numbers both ways.
//!
//! The logits of one 7B canvas are length × 32,000 floats; they never cross this line. Temperature,
//! nucleus and draw happen on the predictor's side, and a few numbers per asked position come back.
//! Every ask carries its own sampling settings and random numbers, so a batch cannot apply one request's
//! settings to another.

mod asked;
mod candle;
#[cfg(any(test, feature = "testing"))]
mod oracle;
#[cfg(any(test, feature = "testing"))]
mod scripted;

pub use self::candle::CandlePredictor;
#[cfg(any(test, feature = "testing"))]
pub use self::oracle::MarkovOracle;
#[cfg(any(test, feature = "testing"))]
pub use self::scripted::{Script, ScriptedPredictor};
pub use crate::checkpoint::Visibility;
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
    /// Whether the head's row i predicts position i + 1, so that position 0 has no row of its own.
    pub shift: bool,
    /// Which positions a position sees.
    pub visibility: Visibility,
}

/// One canvas and what is wanted of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// The canvas as the network sees it.
    pub tokens: &'a [TokenId],
    /// Which positions to read, ascending. With shift, position 0 is read from the first row, which belongs to
    /// position 1.
    pub wants: &'a [Want],
    /// The settings that the wants refer to.
    pub samplings: &'a [Sampling],
    /// Sets of tokens that wants refer to, each ascending.
    pub allowed: &'a [Vec<TokenId>],
    /// Tokens already on the canvas, ascending by id, for penalties; may be empty when no sampling has
    /// any.
    pub counts: &'a [TokenCount],
    /// A second canvas whose logits the first one's are pushed away from.
    pub guidance: Option<Guidance<'a>>,
    /// How many of the most probable tokens to report with each read.
    pub alternatives: usize,
}

/// One position to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Want {
    /// Where on the canvas.
    pub position: Position,
    /// Index into [`Ask::samplings`].
    pub sampling: u32,
    /// The uniform number in [0, 1) that draws the token.
    pub uniform: f64,
    /// Index into [`Ask::allowed`]: only these tokens may be drawn.
    pub allowed: Option<u32>,
    /// A token whose own log-probability is wanted, for scoring.
    pub target: Option<TokenId>,
}

/// How often a token stands on the canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCount {
    /// The token.
    pub token: TokenId,
    /// Among the given positions.
    pub given: u32,
    /// Among the committed ones.
    pub generated: u32,
}

/// Classifier-free guidance: logits become u + (weight + 1)·(c − u), c of the canvas, u of `tokens`
/// (Nie et al. 2502.09992; the same canvas with the prompt masked).
#[derive(Clone, Copy, Debug)]
pub struct Guidance<'a> {
    /// The canvas without its condition; as long as the first one.
    pub tokens: &'a [TokenId],
    /// How strongly to guide; 0 changes nothing.
    pub weight: f64,
}

/// How a distribution over tokens becomes one token. Applied in the order of the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides positive logits and multiplies negative ones of every token on the canvas; 1 is off.
    pub repetition_penalty: f64,
    /// Subtracted from the logit of a token once per committed occurrence; 0 is off.
    pub frequency_penalty: f64,
    /// Subtracted from the logit of a token that was committed at all; 0 is off.
    pub presence_penalty: f64,
    /// Added to the logits of single tokens.
    pub bias: Vec<(TokenId, f32)>,
    /// Ids that are never drawn.
    pub banned: Vec<TokenId>,
    /// Ids, ascending, that have no part in [`Read::confidence`].
    pub distrusted: Vec<TokenId>,
    /// Divides the logits; 0 takes the most probable token, the lower id on a tie.
    pub temperature: f64,
    /// Only the k most probable tokens may be drawn, the lower id on a tie; 0 is off.
    pub top_k: usize,
    /// Whether the nucleus is found before the k most probable tokens of it are kept (Dream); otherwise after.
    pub nucleus_first: bool,
    /// Nucleus: a token is dropped when the more probable ones already exceed this mass, so the token
    /// that crosses it stays. 1 drops nothing.
    pub top_p: f64,
    /// A token is dropped when its probability is below this share of the most probable one's; 0 is off.
    pub min_p: f64,
}

impl Default for Sampling {
    /// The model's own distribution.
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            bias: Vec::new(),
            banned: Vec::new(),
            distrusted: Vec::new(),
            temperature: 1.0,
            top_k: 0,
            nucleus_first: false,
            top_p: 1.0,
            min_p: 0.0,
        }
    }
}

/// What was read at one position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// The token drawn.
    pub token: TokenId,
    /// Its log-probability (nats) under the distribution it was drawn from: after penalties, temperature
    /// and filters. At temperature 0 it is that at temperature 1.
    pub score: f32,
    /// Its log-probability (nats) under the model itself: before penalties, temperature and filters, but
    /// after guidance.
    pub logprob: f32,
    /// The same without the tokens that the sampling distrusts; −∞ if it is one of them.
    pub confidence: f32,
    /// Entropy (nats) of the distribution it was drawn from; that at temperature 1 at temperature 0.
    pub entropy: f32,
    /// Difference between the two largest probabilities of that same distribution; 1 when only one token
    /// can be drawn.
    pub margin: f32,
    /// Log-probability (nats) of the want's target under the model itself.
    pub target: Option<f32>,
    /// The most probable tokens under the model itself with their log-probabilities (nats), best first,
    /// the lower id on a tie.
    pub alternatives: Vec<(TokenId, f32)>,
}
