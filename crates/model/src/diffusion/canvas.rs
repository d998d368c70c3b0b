//! The canvas: one token and one cell state per position.

use crate::error::CanvasError;
use crate::predictor::{ModelLimits, Position, TokenId};

/// The state of a position. "Masked" is a state of its own and never a comparison with the mask id: in two of
/// the three released models that id is an ordinary word, and a prompt may contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Given by the caller; never changes.
    Fixed,
    /// To be generated; the network is shown the mask token here.
    Masked,
    /// Generated; holds the token that a past evaluation drew.
    Committed,
}

/// The sequence being denoised (x_t of the paper): one token and one [`Cell`] for every position.
///
/// Given positions never change. A masked position shows the network the mask token until a token is
/// committed there; remasking opens it again. Only a [`DenoisingState`](super::DenoisingState) commits and
/// remasks.
///
/// ```
/// use unmask_model::diffusion::{Canvas, Cell};
/// use unmask_model::predictor::{ModelLimits, Visibility};
///
/// let limits = ModelLimits { vocabulary: 100, context: 8, mask_token: 99, shift: false, visibility: Visibility::Full };
/// let canvas = Canvas::new([Some(7), None, None, Some(8)], &limits)?;
/// assert_eq!(canvas.tokens(), [7, 99, 99, 8]);
/// assert_eq!(canvas.cells()[1], Cell::Masked);
/// assert_eq!(canvas.open_positions().collect::<Vec<_>>(), [1, 2]);
/// assert!(Canvas::new([Some(100)], &limits).is_err(), "no row of the embedding");
/// # Ok::<(), unmask_model::error::CanvasError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    tokens: Vec<TokenId>,
    cells: Vec<Cell>,
    mask: TokenId,
    masked: usize,
}

impl Canvas {
    /// Builds a canvas from one entry per position: a token the caller gives, or `None` for a position
    /// to generate.
    ///
    /// # Errors
    /// The canvas must fit the model's context, and every given token must be a row of the embedding.
    pub fn new(
        given: impl IntoIterator<Item = Option<TokenId>>,
        limits: &ModelLimits,
    ) -> Result<Self, CanvasError> {
        let mut tokens = Vec::new();
        let mut cells = Vec::new();
        for entry in given {
            tokens.push(entry.unwrap_or(limits.mask_token));
            cells.push(if entry.is_some() { Cell::Fixed } else { Cell::Masked });
        }
        if tokens.len() > limits.context {
            return Err(CanvasError::TooLong { length: tokens.len(), limit: limits.context });
        }
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= limits.vocabulary) {
            return Err(CanvasError::TokenOutOfVocabulary { id, rows: limits.vocabulary });
        }
        let masked = cells.iter().filter(|cell| **cell == Cell::Masked).count();
        Ok(Self { tokens, cells, mask: limits.mask_token, masked })
    }

    /// The ids the network is shown: the mask token wherever a cell is masked.
    #[must_use]
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The state of every position.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The number of masked positions.
    #[must_use]
    pub fn masked(&self) -> usize {
        self.masked
    }

    /// The masked positions, ascending.
    pub fn open_positions(&self) -> impl Iterator<Item = Position> + '_ {
        (0..).zip(&self.cells).filter(|(_, cell)| **cell == Cell::Masked).map(|(position, _)| position)
    }

    /// Returns true if `position` is masked.
    #[must_use]
    pub fn is_open(&self, position: Position) -> bool {
        self.cells.get(position as usize) == Some(&Cell::Masked)
    }

    /// Replaces the mask at an open position; a position that is not open is left as it is.
    pub(super) fn commit(&mut self, position: Position, token: TokenId) {
        if self.is_open(position) {
            self.tokens[position as usize] = token;
            self.cells[position as usize] = Cell::Committed;
            self.masked -= 1;
        }
    }

    /// Puts another token at a committed position; any other is left as it is.
    pub(super) fn replace(&mut self, position: Position, token: TokenId) {
        if self.cells.get(position as usize) == Some(&Cell::Committed) {
            self.tokens[position as usize] = token;
        }
    }

    /// Puts the mask back at a committed position; any other is left as it is.
    pub(super) fn remask(&mut self, position: Position) {
        if self.cells.get(position as usize) == Some(&Cell::Committed) {
            self.tokens[position as usize] = self.mask;
            self.cells[position as usize] = Cell::Masked;
            self.masked += 1;
        }
    }

    /// The id that stands for a masked position.
    #[must_use]
    pub fn mask_token(&self) -> TokenId {
        self.mask
    }
}
