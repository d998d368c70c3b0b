//! Attention within each canvas of packed rows: on a GPU in our kernel, elsewhere, and for heads that are too
//! wide for it, in candle's operations.

use candle_core::{Result, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_transformers::utils::repeat_kv;

use crate::kernel::Heads;

/// The canvases of packed rows.
pub(super) struct Canvases<'a> {
    /// Rows of each.
    lengths: &'a [usize],
    /// The canvases divided into tiles for our kernel, on a GPU.
    #[cfg(feature = "cuda")]
    tiles: Option<crate::backbone::cuda::Tiles>,
}

impl<'a> Canvases<'a> {
    #[cfg_attr(
        not(feature = "cuda"),
        expect(unused_variables, clippy::unnecessary_wraps, reason = "what is prepared is for a GPU")
    )]
    /// To attend in `rows`, whose device and type what is prepared has.
    pub(super) fn new(lengths: &'a [usize], rows: &Tensor) -> Result<Self> {
        Ok(Self {
            lengths,
            #[cfg(feature = "cuda")]
            tiles: match rows.device() {
                candle_core::Device::Cuda(device) => {
                    Some(crate::backbone::cuda::Tiles::new(lengths, rows.dtype(), device)?)
                }
                _ => None,
            },
        })
    }
}

/// softmax(Q·Kᵀ/√width)·V for every head, each canvas by itself; candle's operations take neighbours of the same
/// length together. `query` is (rows, count · width), `key` and `value` are (rows, shared · width); columns may be a
/// part of a wider matrix.
pub(super) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    canvases: &Canvases<'_>,
    heads: Heads,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(tiles) = &canvases.tiles
        && heads.width <= crate::backbone::cuda::LARGEST_HEAD
    {
        return crate::backbone::cuda::attention([query, key, value], tiles, heads);
    }
    // On the queries, which are smaller than the scores.
    let query = (query * (1.0 / (heads.width as f64).sqrt()))?;
    let mut parts = Vec::new();
    let mut first = 0;
    for equal in canvases.lengths.chunk_by(|a, b| a == b) {
        let canvases = equal.len();
        let length = equal[0];
        let split = |rows: &Tensor, count: usize| {
            rows.narrow(0, first, canvases * length)?
                .reshape((canvases, length, count, heads.width))?
                .transpose(1, 2)?
                .contiguous()
        };
        let repeat = heads.count / heads.shared;
        let key = repeat_kv(split(key, heads.shared)?, repeat)?;
        let value = repeat_kv(split(value, heads.shared)?, repeat)?;
        let scores = split(&query, heads.count)?.matmul(&key.t()?)?;
        // Exponentials and their sums are f32 whatever the scores are.
        let mixed = softmax_last_dim(&scores)?.matmul(&value)?.transpose(1, 2)?;
        parts.push(mixed.reshape((canvases * length, heads.count * heads.width))?);
        first += canvases * length;
    }
    if parts.len() == 1 { Ok(parts.remove(0)) } else { Tensor::cat(&parts, 0) }
}
