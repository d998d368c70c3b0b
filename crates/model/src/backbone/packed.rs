//! The rows of an evaluation: canvases of any lengths, one after another.

use std::collections::HashSet;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::candle::LayerTensors;
use crate::kernel::Pages;
use crate::predictor::{Position, TokenId};

/// Keys and values of the first positions of a canvas in every layer, as an executor keeps them.
#[derive(Clone, Debug)]
pub enum KeyValues {
    /// Of our kernels.
    Pages(Pages),
    /// Of candle's operations.
    Tensors(LayerTensors),
}

impl KeyValues {
    /// Positions.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Pages(pages) => pages.count(),
            Self::Tensors(tensors) => tensors.count(),
        }
    }

    /// Those of the first `count` positions.
    ///
    /// # Errors
    /// The device failed.
    pub fn first(&self, count: usize) -> Result<Self> {
        Ok(match self {
            Self::Pages(pages) => Self::Pages(pages.first(count)),
            Self::Tensors(tensors) => Self::Tensors(tensors.first(count)?),
        })
    }

    /// Bytes of memory that all of `kept` take; what several share counts once.
    pub fn bytes<'a>(kept: impl IntoIterator<Item = &'a Self>) -> usize {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        for kept in kept {
            match kept {
                Self::Tensors(tensors) => bytes += tensors.bytes(),
                Self::Pages(pages) => {
                    let new = pages.pages().iter().filter(|page| seen.insert(Arc::as_ptr(page)));
                    bytes += new.map(|page| page.bytes()).sum::<usize>();
                }
            }
        }
        bytes
    }
}

/// Several canvases of any lengths, one after another.
#[derive(Debug, Default)]
pub struct PackedRows {
    /// Token ids, (rows).
    pub(super) ids: Vec<TokenId>,
    /// Position of each row on its own canvas, (rows).
    pub(super) positions: Vec<Position>,
    /// The canvases, in order.
    pub(super) canvases: Vec<CanvasRows>,
}

/// The rows of one canvas.
#[derive(Debug)]
pub struct CanvasRows {
    /// Their number.
    pub rows: usize,
    /// Keys and values of other positions.
    pub remembered: Option<KeyValues>,
    /// How many of the first rows leave their keys and values; they continue the remembered ones.
    pub kept: usize,
}

impl PackedRows {
    /// Packs whole canvases, none of them empty.
    pub fn new<'a>(canvases: impl IntoIterator<Item = &'a [TokenId]>) -> Self {
        let mut packed = Self::default();
        for canvas in canvases {
            packed.push(canvas, 0..canvas.len() as Position, None);
        }
        packed
    }

    /// Adds the rows `positions` (ascending) of a canvas, not none; `remembered` are the keys and values of its other
    /// positions, without a gap.
    pub fn push(
        &mut self,
        tokens: &[TokenId],
        positions: impl IntoIterator<Item = Position>,
        remembered: Option<KeyValues>,
    ) {
        let first = self.positions.len();
        self.positions.extend(positions);
        self.ids.extend(self.positions[first..].iter().map(|position| tokens[*position as usize]));
        self.canvases.push(CanvasRows { rows: self.positions.len() - first, remembered, kept: 0 });
    }

    /// Keeps the keys and values of the first `count` rows of the canvas that was added last.
    pub fn keep(&mut self, count: usize) {
        if let Some(canvas) = self.canvases.last_mut() {
            canvas.kept = count;
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Token ids and positions on a device, (rows) each.
    pub(super) fn on(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        Ok((Tensor::new(self.ids.as_slice(), device)?, Tensor::new(self.positions.as_slice(), device)?))
    }
}
