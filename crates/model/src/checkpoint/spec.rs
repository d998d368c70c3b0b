//! The arithmetic of a network. Every family's network is a value of [`TransformerSpec`], which both
//! executors compute.

use std::fmt;

pub use super::rotation::{Rotation, Scaling};
use crate::kernel::{Heads, Routing};

/// Shapes and constants of a network.
///
/// A [`Family`](super::Family) reads one from a checkpoint's configuration, and
/// [`Backbone::load`](crate::backbone::Backbone::load) computes it with our kernels on a CPU or with candle's
/// operations on a GPU. A network that differs from these only in numbers needs no new code. The vocabulary
/// is not part of the value: the embedding's own shape decides, and may differ from the configured one.
///
/// ```
/// use unmask_model::checkpoint::{
///     Biases, FeedForward, NormKind, Positions, Projections, Rotation, Scaling, TransformerSpec, Visibility,
/// };
///
/// let spec = TransformerSpec {
///     width: 64,
///     head_count: 4,
///     kv_head_count: 2,
///     head_width: 16,
///     context: 512,
///     norm: NormKind::Rms,
///     norm_epsilon: 1e-6,
///     positions: Positions::Rotary(Rotation { theta: 10_000.0, scaling: Scaling::None, part: None }),
///     projections: Projections::Separate,
///     biases: Biases::default(),
///     head_norm: false,
///     feed_forward: vec![FeedForward::SwiGlu { width: 172 }; 3],
///     visibility: Visibility::Full,
///     ties_missing_head: true,
/// };
/// assert_eq!(
///     spec.to_string(),
///     "3 layers, width 64, 4 heads of 16 (2 for keys), feed-forward width 172",
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerSpec {
    /// Width of a hidden state.
    pub width: usize,
    /// Query heads.
    pub head_count: usize,
    /// Key and value heads.
    pub kv_head_count: usize,
    /// Width of one head; heads need not add up to the width of a hidden state.
    pub head_width: usize,
    /// Longest canvas: rows of the position table, or the configured number of positions.
    pub context: usize,
    /// The norms of hidden states.
    pub norm: NormKind,
    /// ε of the norms.
    pub norm_epsilon: f64,
    /// The use of positions.
    pub positions: Positions,
    /// The form of attention's linear layers in files, and the names of a block's parts.
    pub projections: Projections,
    /// The linear layers that have a bias.
    pub biases: Biases,
    /// True if every query and key head has an RMS norm of its own before the rotation.
    pub head_norm: bool,
    /// The feed-forward part of each block.
    pub feed_forward: Vec<FeedForward>,
    /// The positions that a position sees.
    pub visibility: Visibility,
    /// True if the embedding stands in for a head that the files do not have.
    pub ties_missing_head: bool,
}

/// The positions of a canvas that a position sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// All of them.
    #[default]
    Full,
    /// Those of its own block and of the blocks before it, counted from position 0.
    BlockCausal {
        /// Positions of a block, at least 1.
        block: usize,
    },
}

/// A norm of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm with gain and bias.
    Layer,
    /// RMSNorm with a gain.
    Rms,
}

/// The use of positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// A table of vectors, added to the embedding.
    Learned,
    /// Queries and keys are rotated, halves of a head against each other.
    Rotary(Rotation),
}

/// The form of attention's linear layers in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projections {
    /// GPT-2's: queries, keys and values in one matrix; all matrices are (in, out).
    Fused,
    /// One matrix each, (out, in).
    Separate,
    /// LLaDA2's: queries, keys and values in one matrix, one after the other, (out, in).
    Stacked,
}

/// The linear layers that have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The projection of attention's result.
    pub output: bool,
    /// The feed-forward part.
    pub feed_forward: bool,
}

/// The feed-forward part of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeedForward {
    /// down(gelu(up(x))).
    Gelu {
        /// Width inside.
        width: usize,
    },
    /// down(silu(gate(x)) · up(x)).
    SwiGlu {
        /// Width inside.
        width: usize,
    },
    /// Several of [`Self::SwiGlu`], of which each row uses a few.
    Experts(Experts),
}

/// Experts of a block. The router computes in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// Number of experts.
    pub count: usize,
    /// Width inside each.
    pub width: usize,
    /// Width inside the expert that every row uses beside those that are chosen, with weight 1.
    pub shared: Option<usize>,
    /// Whether the choice adds a bias of each expert to its score.
    pub bias: bool,
    /// Which ones a row uses, and with what weights.
    pub routing: Routing,
}

impl TransformerSpec {
    /// Number of blocks.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.feed_forward.len()
    }

    /// The shape of an attention layer.
    #[must_use]
    pub fn heads(&self) -> Heads {
        Heads { count: self.head_count, shared: self.kv_head_count, width: self.head_width }
    }

    /// The rotation of queries and keys, if there is one.
    #[must_use]
    pub fn rotation(&self) -> Option<&Rotation> {
        match &self.positions {
            Positions::Learned => None,
            Positions::Rotary(rotation) => Some(rotation),
        }
    }
}

/// The shape in words, such as `3 layers, width 64, 4 heads of 16 (2 for keys), feed-forward width 172`.
impl fmt::Display for TransformerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, head_count, kv_head_count, head_width, .. } = self;
        let layers = self.layers();
        write!(
            f,
            "{layers} layers, width {width}, {head_count} heads of {head_width} ({kv_head_count} for keys)"
        )?;
        let mut kinds: Vec<FeedForward> = Vec::new();
        for kind in &self.feed_forward {
            if !kinds.contains(kind) {
                kinds.push(*kind);
            }
        }
        kinds.iter().try_for_each(|kind| match kind {
            FeedForward::Gelu { width } | FeedForward::SwiGlu { width } => {
                write!(f, ", feed-forward width {width}")
            }
            FeedForward::Experts(Experts { count, width, shared, routing, .. }) => {
                write!(f, ", {} of {count} experts of width {width}", routing.used)?;
                shared.map_or(Ok(()), |width| write!(f, " and a shared one of width {width}"))
            }
        })
    }
}
