//! Attention within each canvas of packed rows, in candle's operations.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_transformers::utils::repeat_kv;

use crate::kernel::Heads;

/// softmax(Q·Kᵀ/√width)·V for every head, each canvas by itself. `query` is (rows, count · width), `key`
/// and `value` are (rows, shared · width); columns may be a part of a wider matrix.
pub(super) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    lengths: &[usize],
    heads: Heads,
) -> Result<Tensor> {
    let scale = 1.0 / (heads.width as f64).sqrt();
    let mut parts = Vec::with_capacity(lengths.len());
    let mut first = 0;
    for &length in lengths {
        let split = |rows: &Tensor, count: usize| {
            rows.narrow(0, first, length)?
                .reshape((1, length, count, heads.width))?
                .transpose(1, 2)?
                .contiguous()
        };
        let repeat = heads.count / heads.shared;
        let query = split(query, heads.count)?;
        let key = repeat_kv(split(key, heads.shared)?, repeat)?;
        let value = repeat_kv(split(value, heads.shared)?, repeat)?;
        let scores = (query.matmul(&key.t()?)? * scale)?.to_dtype(DType::F32)?;
        let weights = softmax_last_dim(&scores)?.to_dtype(value.dtype())?;
        let mixed = weights.matmul(&value)?.transpose(1, 2)?.contiguous()?;
        parts.push(mixed.flatten_from(2)?.squeeze(0)?);
        first += length;
    }
    Tensor::cat(&parts, D::Minus2)
}
