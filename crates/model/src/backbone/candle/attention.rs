//! Attention within each canvas of packed rows: on a GPU in our kernel, elsewhere, and for heads that are too wide for it,
//! in candle's operations.

use candle_core::{Result, Tensor, bail};
use candle_nn::ops::softmax_last_dim;
use candle_transformers::utils::repeat_kv;

use super::layers::LayerTensors;
use crate::backbone::{KeyValues, PackedRows};
use crate::checkpoint::Visibility;
use crate::kernel::Heads;

/// The canvases of packed rows.
pub(super) struct Canvases {
    canvases: Vec<Canvas>,
    /// The tiles of the canvases, with which our kernel attends on a GPU; no masks are made then.
    #[cfg(feature = "cuda")]
    tiles: Option<crate::backbone::cuda::Tiles>,
}

pub(super) struct Canvas {
    first: usize,
    rows: usize,
    /// The first rows that leave their keys and values.
    kept: usize,
    /// (rows, keys): 0 where a row sees a key and −∞ elsewhere; without it every row sees all keys.
    mask: Option<Tensor>,
    /// Keys and values of an earlier evaluation, and the place of each position among those and the rows behind them.
    remembered: Option<(LayerTensors, Tensor)>,
}

impl Canvas {
    fn is_plain(&self) -> bool {
        self.mask.is_none() && self.remembered.is_none()
    }

    /// The keys (`part` 0) or values (1) of layer `layer` to keep: those that were, and those of the first rows.
    pub(super) fn kept(&self, layer: usize, part: usize, rows: &Tensor) -> Result<Tensor> {
        let own = rows.narrow(0, self.first, self.kept)?;
        let Some((kept, _)) = &self.remembered else { return Ok(own) };
        let Some(kept) = kept.layer(layer) else { bail!("layer {layer} was not kept") };
        Tensor::cat(&[&kept[part], &own], 0)
    }
}

impl Canvases {
    /// To attend in `rows`, whose device and type what is prepared has.
    pub(super) fn new(
        packed: &PackedRows,
        visibility: Visibility,
        heads: Heads,
        rows: &Tensor,
    ) -> Result<Self> {
        let ours = in_our_kernel(rows, heads);
        let mut canvases = Vec::new();
        let mut seen: Vec<u32> = Vec::new();
        let mut first = 0;
        for canvas in &packed.canvases {
            let positions = &packed.positions[first..first + canvas.rows];
            let mut total = canvas.rows;
            let mut remembered = None;
            match &canvas.remembered {
                None => {}
                Some(KeyValues::Tensors(kept)) => {
                    total = positions.last().map_or(0, |last| *last as usize + 1).max(kept.count());
                    let mut places: Vec<u32> = (0..total as u32).collect();
                    for (row, position) in (kept.count() as u32..).zip(positions) {
                        places[*position as usize] = row;
                    }
                    remembered = Some((kept.clone(), Tensor::new(places, rows.device())?));
                }
                Some(KeyValues::Pages(_)) => bail!("the keys and values are another backbone's"),
            }
            let own = seen.len();
            seen.extend(positions.iter().map(|position| match visibility {
                Visibility::Full => total as u32,
                Visibility::BlockCausal { block } => {
                    ((*position as usize / block + 1) * block).min(total) as u32
                }
            }));
            let mask = match visibility {
                Visibility::BlockCausal { .. } if !ours => Some(mask(&seen[own..], total, rows)?),
                _ => None,
            };
            canvases.push(Canvas { first, rows: canvas.rows, kept: canvas.kept, mask, remembered });
            first += canvas.rows;
        }
        Ok(Self {
            #[cfg(feature = "cuda")]
            tiles: if ours { Some(tiles(&canvases, &seen, rows)?) } else { None },
            canvases,
        })
    }

    /// The canvases that leave keys and values.
    pub(super) fn keeping(&self) -> impl Iterator<Item = &Canvas> {
        self.canvases.iter().filter(|canvas| canvas.kept > 0)
    }

    /// The keys (`part` 0) or values (1) of all positions of a canvas, in their order; `rows` are those of all
    /// canvases in layer `layer`.
    fn all(&self, number: usize, layer: usize, part: usize, rows: &Tensor) -> Result<Tensor> {
        let Canvas { first, rows: count, remembered, .. } = &self.canvases[number];
        let own = rows.narrow(0, *first, *count)?;
        let Some((kept, places)) = remembered else { return Ok(own) };
        let Some(kept) = kept.layer(layer) else { bail!("layer {layer} was not kept") };
        Tensor::cat(&[&kept[part], &own], 0)?.index_select(places, 0)
    }

    /// The same of all canvases, one after another.
    #[cfg(feature = "cuda")]
    fn of_all(&self, layer: usize, part: usize, rows: &Tensor) -> Result<Tensor> {
        if self.canvases.iter().all(|canvas| canvas.remembered.is_none()) {
            return Ok(rows.clone());
        }
        let parts: Result<Vec<Tensor>> =
            (0..self.canvases.len()).map(|number| self.all(number, layer, part, rows)).collect();
        Tensor::cat(&parts?, 0)
    }
}

/// Returns true if our kernel attends in rows such as these.
fn in_our_kernel(rows: &Tensor, heads: Heads) -> bool {
    #[cfg(feature = "cuda")]
    return rows.device().is_cuda() && heads.width <= crate::backbone::cuda::LARGEST_HEAD;
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (rows, heads);
        false
    }
}

/// The canvases as our kernel takes them; `seen` is the number of keys that each row sees.
#[cfg(feature = "cuda")]
fn tiles(canvases: &[Canvas], seen: &[u32], rows: &Tensor) -> Result<crate::backbone::cuda::Tiles> {
    use crate::backbone::cuda::{Extent, Tiles};

    let extent = |canvas: &Canvas| {
        let remembered = canvas.remembered.as_ref();
        Extent { rows: canvas.rows, keys: remembered.map_or(canvas.rows, |(_, places)| places.elem_count()) }
    };
    let extents: Vec<Extent> = canvases.iter().map(extent).collect();
    Tiles::new(&extents, seen, rows.dtype(), rows.device().as_cuda_device()?)
}

/// The mask of rows that see the first `seen` of `total` keys.
fn mask(seen: &[u32], total: usize, like: &Tensor) -> Result<Tensor> {
    let row = |seen: &u32| {
        let seen = *seen as usize;
        (0..total).map(move |key| if key < seen { 0.0 } else { f32::NEG_INFINITY })
    };
    let mask: Vec<f32> = seen.iter().flat_map(row).collect();
    Tensor::from_vec(mask, (seen.len(), total), like.device())?.to_dtype(like.dtype())
}

/// softmax(Q·Kᵀ/√width)·V for every head, each canvas by itself; candle's operations take neighbours of the same
/// length together. Queries are (rows, count · width), keys and values (rows, shared · width) of layer `layer`; columns
/// may be a part of a wider matrix.
pub(super) fn attention(
    [query, key, value]: &[Tensor; 3],
    canvases: &Canvases,
    layer: usize,
    heads: Heads,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(tiles) = &canvases.tiles {
        let key = canvases.of_all(layer, 0, key)?;
        let value = canvases.of_all(layer, 1, value)?;
        return crate::backbone::cuda::attention([query, &key, &value], tiles, heads);
    }
    // On the queries, which are smaller than the scores.
    let query = (query * (1.0 / (heads.width as f64).sqrt()))?;
    let mut parts = Vec::new();
    let mut number = 0;
    let alike = |a: &Canvas, b: &Canvas| a.is_plain() && b.is_plain() && a.rows == b.rows;
    for equal in canvases.canvases.chunk_by(alike) {
        let Canvas { first, rows, mask, .. } = &equal[0];
        let together = equal.len();
        let split = |part: &Tensor, count: usize| {
            let length = part.dim(0)? / together;
            part.reshape((together, length, count, heads.width))?.transpose(1, 2)?.contiguous()
        };
        let side = |part: usize, tensor: &Tensor| match equal {
            [_] => canvases.all(number, layer, part, tensor),
            _ => tensor.narrow(0, *first, together * rows),
        };
        let repeat = heads.count / heads.shared;
        let key = repeat_kv(split(&side(0, key)?, heads.shared)?, repeat)?;
        let value = repeat_kv(split(&side(1, value)?, heads.shared)?, repeat)?;
        let query = split(&query.narrow(0, *first, together * rows)?, heads.count)?;
        let mut scores = query.matmul(&key.t()?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        // Exponentials and their sums are f32 whatever the scores are.
        let mixed = softmax_last_dim(&scores)?.matmul(&value)?.transpose(1, 2)?;
        parts.push(mixed.reshape((together * rows, heads.count * heads.width))?);
        number += together;
    }
    if parts.len() == 1 { Ok(parts.remove(0)) } else { Tensor::cat(&parts, 0) }
}
