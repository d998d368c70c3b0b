//! The choice of the positions that are committed next: four closed enums, and their valid combinations (`check`).

mod check;

/// The decision rule of one request: where, in which order and how many positions are committed, and whether
/// commits are taken back.
///
/// Every published rule is a choice of each of the four. A policy belongs to the request's own state, so
/// neighbours in a batch can follow different ones. [`Self::check`] rejects invalid combinations and numbers
/// out of range; [`DenoisingState::new`](super::DenoisingState::new) calls it.
///
/// ```
/// use unmask_model::diffusion::{Order, Policy, Quota, Revise, Score, ScoreKind, Window};
///
/// // Fast-dLLM: every position whose most probable token has probability 0.9, in blocks of 32.
/// let mut policy = Policy {
///     window: Window::Block(32),
///     order: Order::Score(Score { kind: ScoreKind::Model, temperature: 0.0 }),
///     quota: Quota::Threshold(0.9),
///     revise: Revise::None,
/// };
/// assert!(policy.check().is_ok());
///
/// // A threshold needs an order by confidence.
/// policy.order = Order::Permutation;
/// assert_eq!(policy.check().unwrap_err().to_string(), "these values of `order` and `quota` do not go together");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// The region in which positions are committed.
    pub window: Window,
    /// In which order positions are considered.
    pub order: Order,
    /// The number of positions committed by one evaluation.
    pub quota: Quota,
    /// Remasking of committed tokens.
    pub revise: Revise,
}

/// The region in which positions are committed, counted over the positions to generate, left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Anywhere.
    All,
    /// In the leftmost block of this many positions that is not full (semi-autoregressive). For a network whose
    /// attention is causal between blocks it is these blocks, which are counted from the beginning of the canvas.
    Block(usize),
    /// Among this many open positions from the left.
    Sliding(usize),
    /// At the first open position.
    LeftToRight,
}

/// In which order positions are considered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Every position has a round of its own, uniform on 1..=T (`generate_samples` of the reference's
    /// `model.py`). Drawn at admission; rounds without members cost nothing.
    IndependentRounds,
    /// A uniformly random order, drawn at admission.
    Permutation,
    /// Rounds in which neighbours are far apart: every stretch of T neighbours has each round once, in
    /// random order.
    Stratified,
    /// By what the network says at every evaluation.
    Score(Score),
}

/// The ranking of positions, best first; the lower position on a tie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The quantity.
    pub kind: ScoreKind,
    /// τ: positions are drawn without replacement in proportion to exp(quantity/τ), with probabilities in
    /// place of their logarithms; 0 takes the best.
    pub temperature: f64,
}

/// The quantity that a position is ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreKind {
    /// Log-probability of the drawn token, after temperature and filters (the reference's confidence
    /// order; Dream's maskgit-plus).
    Drawn,
    /// Log-probability of the drawn token under the model itself (LLaDA, Fast-dLLM).
    Model,
    /// Difference of the two largest probabilities (2502.06768).
    Margin,
    /// Negative entropy.
    Entropy,
    /// The position itself: from left to right (SDAR's `sequential`).
    Position,
}

/// The number of positions committed by one evaluation; at least one unless the variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quota {
    /// Those whose round it is, of T (for [`Order::IndependentRounds`] and [`Order::Stratified`]). Blocks share the
    /// rounds evenly.
    OwnRound(u32),
    /// k.
    Count(usize),
    /// Even parts that fill each window in N evaluations; they differ by at most one, the larger ones first.
    /// Blocks share the evaluations evenly.
    Evaluations(u32),
    /// [`Self::Evaluations`] with N = ⌈TM/(T + M)⌉ for M positions: to first order the error of T
    /// independent rounds in fewer evaluations.
    Balanced(u32),
    /// Dream's schedule over T steps: ⌊n·(1 − s/t)⌋ of the n open positions, possibly none, all at the
    /// last step; times from 1 to 0.001. Blocks share the steps evenly.
    DreamSchedule(u32),
    /// The reference's confidence order over T evaluations (`generate_samples` of its trainer): all
    /// positions that were open at the start are ranked, closed ones too, and the lowest ⌊M·t/T⌋ stay
    /// open. May commit none.
    ReferenceTopK(u32),
    /// All whose drawn token has at least this probability under the order's distribution (Fast-dLLM). It
    /// is meant for temperature 0: what is drawn unlikely is drawn again, so that sampling with it
    /// collapses towards the most probable text.
    Threshold(f64),
    /// The most with (n + 1)·(1 − c_n) < f, c_n the n-th largest probability (Fast-dLLM, 2505.22618).
    Factor(f64),
    /// The longest prefix of the order with ΣH − max H ≤ γ nats (2505.24857): the bound on what drawing
    /// them independently costs.
    Entropy(f64),
    /// In each block of B positions, in S evaluations: in evaluation i (from 0) all whose drawn token has a larger
    /// probability than the threshold, if those are at least c = ⌊B/S⌋ (and one more for i < B mod S); else, and
    /// without a threshold, the c best (SDAR, LLaDA2).
    PerBlock {
        /// S.
        steps: u32,
        /// A probability.
        threshold: Option<f64>,
    },
}

/// Changes of committed tokens. ReMDM's rules (2503.00307) take them back: at each of the T steps of
/// [`Quota::OwnRound`] a committed token becomes a mask again with probability σ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Revise {
    /// Never.
    None,
    /// Each evaluation reads the committed positions of the block at work as well, and one takes the token drawn there
    /// if its probability is larger than the threshold (LLaDA2.1). Once the block is full, evaluations go on
    /// as long as they change something.
    Edit {
        /// A probability; 1 changes nothing.
        threshold: f64,
        /// Most evaluations of a full block.
        post: u32,
        /// True if a document end ends the sample as soon as all before it is committed; otherwise the block
        /// that holds it is finished first.
        early_stop: bool,
    },
    /// σ = min(η, σ_max).
    Cap(f64),
    /// σ = η·σ_max.
    Rescale(f64),
    /// Up to 90 % committed as without revision, then σ = η at that level, then the rest: the times
    /// are those of the authors' script (0.55 and 0.05).
    Loop(f64),
}

/// Positions of a random order that [`Quota::Entropy`] reads ahead.
pub const LOOKAHEAD: usize = 64;

impl Policy {
    /// The reference's sampler over T rounds.
    #[must_use]
    pub fn reference(steps: u32) -> Self {
        Self {
            window: Window::All,
            order: Order::IndependentRounds,
            quota: Quota::OwnRound(steps),
            revise: Revise::None,
        }
    }

    /// The reference's confidence order over T evaluations.
    #[must_use]
    pub fn confidence(steps: u32) -> Self {
        let order = Order::Score(Score { kind: ScoreKind::Drawn, temperature: 0.0 });
        Self { window: Window::All, order, quota: Quota::ReferenceTopK(steps), revise: Revise::None }
    }
}
