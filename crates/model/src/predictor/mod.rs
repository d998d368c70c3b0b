//! The interface between the denoising algorithm and the network: plain numbers both ways.
//!
//! The logits of one 7B canvas are length × 32,000 floats; they stay on the predictor's side, and so do
//! temperature, nucleus and draw. A few numbers per requested position come back. Every ask carries its own
//! sampling settings and random numbers, so a batch cannot apply one request's settings to another.

mod asked;
mod candle;
mod memos;
#[cfg(any(test, feature = "testing"))]
mod oracle;
#[cfg(any(test, feature = "testing"))]
mod scripted;
mod work;

pub use self::candle::CandlePredictor;
#[cfg(any(test, feature = "testing"))]
pub use self::oracle::MarkovOracle;
#[cfg(any(test, feature = "testing"))]
pub use self::scripted::{Script, ScriptedPredictor};
pub use self::work::Work;
pub use crate::checkpoint::Visibility;
use crate::error::PredictError;

/// An entry of the model's vocabulary.
pub type TokenId = u32;

/// A place on a canvas, from 0.
pub type Position = u32;

/// Reads the model's distributions at chosen positions of several canvases in one forward pass.
///
/// Implementations are [`CandlePredictor`], which computes a network, and for tests `MarkovOracle`, whose
/// distributions are exact, and `ScriptedPredictor`, which fails on demand. A failed call leaves the
/// predictor as it was, so the caller may try again with fewer canvases.
pub trait MaskPredictor: Send + 'static {
    /// The limits that canvases for this model must keep.
    fn limits(&self) -> ModelLimits;

    /// One evaluation: for each ask, one [`Read`] per want, in order.
    ///
    /// # Errors
    /// The whole batch fails together; nothing was changed.
    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError>;

    /// Returns what an evaluation of `ask` would compute now. With [`Context::Frozen`] it depends on which keys and
    /// values are still in memory.
    fn work(&self, ask: &Ask<'_>) -> Work {
        Work::of(ask, 0)
    }

    /// Returns the bytes that the keys and values of a canvas of `length` positions take between evaluations; 0 for a
    /// predictor that keeps none.
    fn memo_bytes(&self, length: usize) -> u64 {
        let _ = length;
        0
    }

    /// Names the canvases whose keys and values running samples will need again: the last to be given up.
    fn mark_live(&mut self, live: &[&[TokenId]]) {
        let _ = live;
    }

    /// Returns what is kept between evaluations, and how often it served.
    fn memos(&self) -> MemoStatus {
        MemoStatus::default()
    }
}

/// Keys and values that a predictor keeps between evaluations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoStatus {
    /// Bytes that may be kept.
    pub budget: u64,
    /// Bytes that are.
    pub bytes: u64,
    /// Canvases whose keys and values were found, since the start.
    pub hits: u64,
    /// Canvases whose keys and values were computed, wholly or in part.
    pub misses: u64,
    /// Canvases whose keys and values were given up for others.
    pub evictions: u64,
}

/// Limits on canvases, and the two properties of a model that decide how canvases are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Rows of the embedding: token ids lie below this.
    pub vocabulary: usize,
    /// Longest canvas, in positions.
    pub context: usize,
    /// The id shown at masked positions.
    pub mask_token: TokenId,
    /// True if the head's row i predicts position i + 1, so that position 0 has no row of its own.
    pub shift: bool,
    /// The positions that a position sees.
    pub visibility: Visibility,
}

/// One canvas and the positions to read on it: the unit that a predictor batches.
///
/// [`DenoisingState`](crate::diffusion::DenoisingState) and [`ScoringState`](crate::diffusion::ScoringState)
/// borrow their asks from themselves; an ask can also be written by hand. All slices that a [`Want`] refers
/// to by index belong to the same ask. Asks with equal `tokens` are computed once per batch. An ask without
/// wants is skipped.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use unmask_model::predictor::{Ask, MarkovOracle, MaskPredictor, Sampling, Want};
///
/// // Two symbols, 0 and 1, of which each is usually followed by the other; token 2 is the mask.
/// let mut predictor = MarkovOracle::new(&[vec![0.1, 0.9], vec![0.9, 0.1]], 8);
/// let mask = predictor.limits().mask_token;
/// let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
/// let ask = Ask {
///     tokens: &[0, mask, 0],
///     wants: &[Want { position: 1, ..Want::default() }],
///     samplings: &[greedy],
///     ..Ask::default()
/// };
/// let reads = predictor.predict(&[ask])?;
/// assert_eq!(reads[0][0].token, 1);
/// assert!(reads[0][0].confidence.exp() > 0.98);
/// # }
/// # Ok::<(), unmask_model::error::PredictError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// The canvas as the network sees it.
    pub tokens: &'a [TokenId],
    /// The rows of it that are computed.
    pub context: Context<'a>,
    /// The positions to read, ascending. With shift, position 0 is read from the first row, which belongs to
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
    /// Most probable tokens to report with each read.
    pub alternatives: usize,
}

/// The rows of a canvas that an evaluation computes.
///
/// ```
/// use unmask_model::predictor::{Ask, Context};
///
/// // A hole of two tokens (1 is the mask) in a canvas of six: only the hole and the row before it, which speaks of its
/// // first position in a model with the shift, are computed.
/// let begun_with = [7, 8, 1, 1, 9, 10];
/// let now = [7, 8, 5, 1, 9, 10];
/// let context = Context::Frozen { active: &[1, 2, 3], as_of: &begun_with };
/// let ask = Ask { tokens: &now, context, ..Ask::default() };
/// assert_eq!(unmask_model::predictor::Work::of(&ask, 6).rows, 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Context<'a> {
    /// All of them.
    #[default]
    Fresh,
    /// The rows `active`, ascending; the others give the keys and values that they had when the canvas was `as_of`.
    ///
    /// The result is a function of `tokens` at the active positions, `active` and `as_of`: keys and values of `as_of`
    /// that are not in memory any more are computed again, to the same bits. Active positions either lie on `as_of`, or
    /// continue it without a gap. With guidance, the second canvas is computed as a whole.
    ///
    /// If a position sees only its own block and those before it, and `as_of` are whole blocks of `tokens`, nothing is
    /// approximated. Otherwise `as_of` differs from `tokens` by what was committed since, which the rows that are not
    /// active do not take into account.
    Frozen {
        /// Positions whose rows are computed.
        active: &'a [Position],
        /// An earlier state of the canvas, or its beginning.
        as_of: &'a [TokenId],
    },
}

/// One position to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Want {
    /// The position on the canvas.
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

/// The occurrences of a token on the canvas.
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
    /// Strength of the guidance; 0 changes nothing.
    pub weight: f64,
}

/// The steps from logits to one token, applied in the order of the fields.
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
    /// True if the nucleus is found before the k most probable tokens are kept (Dream); otherwise after.
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

/// The answer to one [`Want`]: the token drawn at its position, and a few numbers about the distribution.
///
/// Log-probabilities and entropies are in nats. Decision rules use `score`, `confidence`, `entropy` and
/// `margin`; answers to users carry `logprob` and `alternatives`.
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
