//! Text to canvases: a continuation, or text with a hole in it.

mod sample;

use unmask_model::diffusion::ScoringState;
use unmask_model::predictor::TokenId;

pub use self::sample::Sample;
use crate::error::ApiError;
use crate::hole::HoleSpec;
use crate::request::options::Settings;
use crate::request::ranges::out_of_range;
use crate::state::{AppState, ServedModel};

/// The contents of one canvas, before its tokens are known to fit.
///
/// Routes make layouts from their prompts and holes. Healing may then cut blanks and words at the edges of holes, and
/// the search for lengths measures the same layout with holes of other lengths. A layout becomes one [`Sample`] for each
/// answer: the canvas with settings, seed and stop strings, and the view that shows it as text.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its pieces from left to right, without the document start.
    pub pieces: Vec<Piece>,
    /// True if the caller gave ids, which are then the whole canvas: no document start is put before them.
    pub ids_given: bool,
    /// Tokens of the given text that healing has given to holes.
    pub healed: usize,
    /// The fewest positions of its hole, if the length of that is to be found; those that it has are the most.
    pub shortest: Option<usize>,
}

/// A stretch of a canvas.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Tokens that the caller gave.
    Given(Vec<TokenId>),
    /// Positions to generate.
    Open(Box<HoleSpec>),
}

/// The number of positions to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The number given; refused when it does not fit.
    Exactly(usize),
    /// A default, which shrinks to what fits.
    AtMost(usize),
}

impl Size {
    /// The same as a bound, and no more than `most`.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        let (Self::Exactly(asked) | Self::AtMost(asked)) = self;
        Self::AtMost(asked.min(most))
    }

    /// Refuses more `min_tokens` than that: the rest of them could not be generated.
    ///
    /// # Errors
    /// There are more.
    pub fn check_least(self, min_tokens: usize) -> Result<(), ApiError> {
        let (Self::Exactly(most) | Self::AtMost(most)) = self;
        if min_tokens <= most {
            return Ok(());
        }
        Err(out_of_range("min_tokens", min_tokens, format!("at most the {most} positions to generate")))
    }
}

/// The number of positions that can be generated beside `given` tokens and the `bos` ones before them. Errors
/// name the field of the `text` when nothing fits, else the one of the `length`.
///
/// # Errors
/// Nothing fits, or less than was asked for.
pub fn room(
    (given, bos): (usize, usize),
    size: Size,
    (text, length): (&'static str, &'static str),
    state: &AppState,
) -> Result<usize, ApiError> {
    let context = state.model.limits.context;
    let free = context.saturating_sub(given + bos).min(state.limits.canvas);
    match size {
        Size::AtMost(most) if free > 0 => Ok(most.min(free)),
        Size::Exactly(asked) if asked <= free => Ok(asked),
        Size::Exactly(asked) | Size::AtMost(asked) => {
            let asked = if matches!(size, Size::Exactly(_)) { asked } else { 1 };
            Err(too_long(if free == 0 { text } else { length }, (given, bos), asked, state))
        }
    }
}

/// Refuses a text that the context cannot hold, before it is tokenized: that takes time and memory in proportion to
/// its length. `param` is the field it is given in.
///
/// # Errors
/// It has more bytes than the context has room for if all its tokens are of the longest kind.
pub fn check_text(param: &'static str, bytes: usize, model: &ServedModel) -> Result<(), ApiError> {
    let most = model.longest_text();
    let context = model.limits.context;
    if bytes <= most {
        return Ok(());
    }
    let message = format!(
        "the text has {bytes} bytes; this model's context of {context} tokens holds at most {most}, if all of them are \
         as long as its longest token"
    );
    Err(ApiError::ContextLength { param, message })
}

/// The error for a canvas of `given` tokens, counted as in `usage`, and the `bos` ones before them, on which `asked` more
/// do not fit.
pub fn too_long(
    param: &'static str,
    (given, bos): (usize, usize),
    asked: usize,
    state: &AppState,
) -> ApiError {
    let context = state.model.limits.context;
    let canvas = state.limits.canvas;
    let start = if bos == 0 { "" } else { " (the document start takes one position more)" };
    let mut message = format!(
        "this model's maximum context length is {context} tokens: {given} are given{start}, and {asked} more do not fit"
    );
    if canvas < context {
        message += &format!(" and at most {canvas} may be generated");
    }
    ApiError::ContextLength { param, message }
}

impl Layout {
    /// Text, positions to generate, text.
    ///
    /// # Errors
    /// As [`room`].
    pub fn around(
        before: Vec<TokenId>,
        after: Vec<TokenId>,
        ids_given: bool,
        size: Size,
        names: (&'static str, &'static str),
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let bos = usize::from(!ids_given && state.model.tokenizer.document_start().is_some());
        let length = room((before.len() + after.len(), bos), size, names, state)?;
        let hole = HoleSpec { id: "0".to_owned(), length, ..HoleSpec::default() };
        Ok(Self {
            pieces: vec![Piece::Given(before), Piece::Open(Box::new(hole)), Piece::Given(after)],
            ids_given,
            healed: 0,
            shortest: None,
        })
    }

    /// The same with blanks and words healed that its holes cut, if `healing`.
    #[must_use]
    pub fn healing(mut self, healing: bool) -> Self {
        for piece in &mut self.pieces {
            if let Piece::Open(hole) = piece {
                hole.healing = healing;
            }
        }
        self
    }

    /// The same with a hole of a length to be found, from `least` to what it has.
    #[must_use]
    pub fn at_least(self, least: usize) -> Self {
        Self { shortest: Some(least.max(1)), ..self }
    }

    /// Gives all its holes this length.
    pub(crate) fn resize(&mut self, length: usize) {
        for piece in &mut self.pieces {
            if let Piece::Open(hole) = piece {
                hole.found = length < hole.length;
                hole.length = length;
            }
        }
    }

    /// The BOS to put at position 0: for text, if the family begins texts with one; never for ids, which say what they
    /// want there.
    pub fn bos(&self, model: &ServedModel) -> Option<TokenId> {
        model.tokenizer.document_start().filter(|_| !self.ids_given)
    }

    /// Tokens that the caller gave.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        let given = |piece: &Piece| piece.given(0).map_or(0, <[_]>::len);
        self.pieces.iter().map(given).sum::<usize>() + self.healed
    }

    /// Positions to generate.
    #[must_use]
    pub fn open(&self) -> usize {
        let open = |piece: &Piece| match piece {
            Piece::Open(hole) if hole.decided.is_none() => hole.length,
            _ => 0,
        };
        self.pieces.iter().map(open).sum()
    }

    /// Positions of the canvas, BOS included.
    pub fn length(&self, model: &ServedModel) -> usize {
        usize::from(self.bos(model).is_some()) + self.pieces.iter().map(Piece::length).sum::<usize>()
    }

    /// Positions that are charged for each evaluation of this canvas: those given and those to be generated.
    #[must_use]
    pub fn charged(&self) -> usize {
        self.pieces.iter().map(Piece::length).sum()
    }
}

/// The error for text after a hole. `param` is the field it is given in.
pub fn unseen_suffix(param: &str, block: usize) -> ApiError {
    let message = format!(
        "text or another hole stands after a hole, and this model's attention is causal between blocks of {block} positions: a hole sees \
         nothing of what follows it. Leave out what stands after the hole, or use a model with full attention"
    );
    ApiError::Conflict { param: param.to_owned(), message }
}

impl Piece {
    /// Its tokens, if they were given and are at least `least`.
    pub(crate) fn given(&self, least: usize) -> Option<&[TokenId]> {
        match self {
            Self::Given(tokens) if tokens.len() >= least => Some(tokens),
            _ => None,
        }
    }

    /// Positions that it takes.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Given(tokens) => tokens.len(),
            Self::Open(hole) => hole.length,
        }
    }
}

/// Refuses a request whose samples together cost more than the cap: (given + generated positions) ×
/// evaluations. The bound on evaluations does not depend on the seed or the machine: what commits at
/// least one position each time takes at most one a position, and no more than T where there is a T;
/// the rest takes T. Guidance computes every canvas twice. The evaluations of scored texts are known.
///
/// # Errors
/// It is over the cap.
pub fn check_cost(
    layouts: &[Layout],
    texts: &[ScoringState],
    settings: &Settings,
    state: &AppState,
) -> Result<(), ApiError> {
    let canvases = if settings.guidance == 0.0 { 1 } else { 2 };
    let cost = |layout: &Layout| {
        let rows = layout.length(&state.model) as u64;
        canvases * rows * settings.policy.most_evaluations(layout.open() as u64)
    };
    let scored: u64 =
        texts.iter().map(|text| text.length() as u64 * u64::from(text.evaluations_left())).sum();
    let total = layouts.iter().map(cost).sum::<u64>() * settings.samples as u64 + scored;
    if total <= state.limits.cost {
        return Ok(());
    }
    let mut formula = format!(
        "{} canvases × {} samples, each (given + generated positions) × evaluations",
        layouts.len(),
        settings.samples
    );
    if scored > 0 {
        formula += &format!(", and {scored} for scoring");
    }
    Err(ApiError::TooExpensive { cost: total, limit: state.limits.cost, formula })
}

/// The size a caller asked for; some clients write -1 for the default.
///
/// # Errors
/// Below 1 or above the canvas limit.
pub fn size(param: &str, given: Option<i64>, default: usize, state: &AppState) -> Result<Size, ApiError> {
    let most = state.limits.canvas;
    match given {
        None | Some(-1) => Ok(Size::AtMost(default)),
        Some(count) => match usize::try_from(count) {
            Ok(count) if (1..=most).contains(&count) => Ok(Size::Exactly(count)),
            _ => Err(out_of_range(param, count, format!("from 1 to {most}"))),
        },
    }
}
