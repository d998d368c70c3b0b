//! Attention within each canvas of packed rows: our kernel on the CPU, candle's operations elsewhere.

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use candle_nn::ops::softmax_last_dim;
use candle_transformers::utils::repeat_kv;

use crate::kernel::{self, Heads, Rows};

/// softmax(Q·Kᵀ/√width)·V for every head, each canvas by itself. `query` is (rows, count · width), `key`
/// and `value` are (rows, shared · width); columns may be a part of a wider matrix.
pub(super) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    lengths: &[usize],
    heads: Heads,
) -> Result<Tensor> {
    if query.device().is_cpu() {
        query.apply_op3_no_bwd(key, value, &Packed { lengths, heads })
    } else {
        dense(query, key, value, lengths, heads)
    }
}

struct Packed<'a> {
    lengths: &'a [usize],
    heads: Heads,
}

impl CustomOp3 for Packed<'_> {
    fn name(&self) -> &'static str {
        "packed attention"
    }

    fn cpu_fwd(
        &self,
        query: &CpuStorage,
        query_layout: &Layout,
        key: &CpuStorage,
        key_layout: &Layout,
        value: &CpuStorage,
        value_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernel::attention(
            rows(query, query_layout)?,
            rows(key, key_layout)?,
            rows(value, value_layout)?,
            self.lengths,
            self.heads,
        );
        let width = self.heads.count * self.heads.width;
        Ok((CpuStorage::F32(out), (self.lengths.iter().sum::<usize>(), width).into()))
    }
}

fn rows<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Rows<'a>> {
    match (storage, layout.stride()) {
        (CpuStorage::F32(values), &[stride, 1]) => Ok(Rows { values, start: layout.start_offset(), stride }),
        _ => bail!("expected rows of f32, found {layout:?}"),
    }
}

/// The same by candle's own operations, canvas after canvas.
fn dense(query: &Tensor, key: &Tensor, value: &Tensor, lengths: &[usize], heads: Heads) -> Result<Tensor> {
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_kernel_agrees_with_candles_operations() {
        let heads = Heads { count: 6, shared: 2, width: 8 };
        let lengths = [5, 1, 33];
        let fused = Tensor::randn(0_f32, 1.0, (39, 48 + 16 + 16), &Device::Cpu).unwrap();
        let (q, k, v) = (fused.narrow(1, 0, 48), fused.narrow(1, 48, 16), fused.narrow(1, 64, 16));
        let (q, k, v) = (q.unwrap(), k.unwrap(), v.unwrap());
        let ours = attention(&q, &k, &v, &lengths, heads).unwrap();
        let theirs = dense(&q, &k, &v, &lengths, heads).unwrap();
        let worst = (ours - theirs).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst < 1e-5, "{worst}");
    }
}
