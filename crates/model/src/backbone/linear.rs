//! Linear layers and activations: our kernels on the CPU, candle's elsewhere.

use candle_core::{
    CpuStorage, CustomOp1, DType, InplaceOp1, InplaceOp2, Layout, Result, Shape, Tensor, bail,
};

use crate::checkpoint::{StoredTensor, Weights};
use crate::device::Placement;
use crate::error::LoadError;
use crate::kernel::{self, PackedMatrix, Storage};

/// How a weight matrix lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// GPT-2's convolutions of width 1.
    InOut,
    /// Everybody else's linear layers.
    OutIn,
}

/// x·W + b.
#[derive(Debug)]
pub(super) enum Linear {
    /// For the CPU.
    Packed { matrix: PackedMatrix, bias: Option<Vec<f32>> },
    /// (in, out) and (out), for other devices.
    Dense { matrix: Tensor, bias: Option<Tensor> },
}

impl Linear {
    /// Reads `{name}.weight`, in × out, and `{name}.bias` when `bias` is set.
    pub(super) fn load(
        weights: &Weights,
        name: &str,
        (width_in, width_out): (usize, usize),
        order: Order,
        bias: bool,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let shape = match order {
            Order::InOut => [width_in, width_out],
            Order::OutIn => [width_out, width_in],
        };
        let stored = weights.get(&format!("{name}.weight"), &shape)?;
        let bias = bias.then(|| weights.get(&format!("{name}.bias"), &[width_out])).transpose()?;
        Self::new(&stored, order, bias.as_ref(), placement)
    }

    /// The head over `embedding`'s rows: the file's own, or the embedding itself when it has none.
    pub(super) fn head(
        weights: &Weights,
        embedding: &StoredTensor,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        let own = weights.head(embedding.shape()[0], embedding.shape()[1])?;
        Self::new(own.as_ref().unwrap_or(embedding), Order::OutIn, None, placement)
    }

    /// From a matrix that was read already.
    fn new(
        stored: &StoredTensor,
        order: Order,
        bias: Option<&StoredTensor>,
        placement: &Placement,
    ) -> std::result::Result<Self, LoadError> {
        if placement.device.is_cpu() {
            let bias = bias.map(StoredTensor::to_f32).transpose()?;
            return Ok(Self::Packed { matrix: pack(stored, order, placement.storage)?, bias });
        }
        let bias = bias.map(|bias| bias.to_device(placement)).transpose()?;
        let mut matrix = stored.to_device(placement)?;
        if order == Order::OutIn {
            let turned = matrix.t().and_then(|matrix| matrix.contiguous());
            matrix = turned.map_err(|source| stored.failed(source))?;
        }
        Ok(Self::Dense { matrix, bias })
    }

    /// (rows, in) to (rows, out).
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match self {
            Self::Packed { matrix, bias } => {
                rows.apply_op1_no_bwd(&Product { matrix, bias: bias.as_deref() })
            }
            Self::Dense { matrix, bias: None } => rows.matmul(matrix),
            Self::Dense { matrix, bias: Some(bias) } => rows.matmul(matrix)?.broadcast_add(bias),
        }
    }
}

fn pack(
    stored: &StoredTensor,
    order: Order,
    storage: Option<Storage>,
) -> std::result::Result<PackedMatrix, LoadError> {
    let (first, second) = (stored.shape()[0], stored.shape()[1]);
    let exact = if stored.dtype() == DType::BF16 { Storage::Bf16 } else { Storage::F32 };
    let storage = storage.unwrap_or(exact);
    let values = stored.to_f32()?;
    Ok(match order {
        Order::InOut => PackedMatrix::pack(storage, first, second, |k, n| values[k * second + n]),
        Order::OutIn => PackedMatrix::pack(storage, second, first, |k, n| values[n * second + k]),
    })
}

struct Product<'a> {
    matrix: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
}

impl CustomOp1 for Product<'_> {
    fn name(&self) -> &'static str {
        "packed product"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = contiguous(storage, layout)?;
        let (count, depth) = layout.shape().dims2()?;
        if depth != self.matrix.depth() {
            bail!("a row of {depth} elements meets a matrix of {} rows", self.matrix.depth());
        }
        let out = self.matrix.multiply(rows, self.bias);
        Ok((CpuStorage::F32(out), (count, self.matrix.columns()).into()))
    }
}

/// The elements of a contiguous f32 tensor.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("expected a contiguous f32 tensor, found {layout:?}"),
    }
}

fn contiguous_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("expected a contiguous f32 tensor, found {layout:?}"),
    }
}

/// GELU in its tanh form, of a tensor that nobody else holds.
pub(super) fn gelu_tanh(values: Tensor) -> Result<Tensor> {
    if !values.device().is_cpu() {
        return values.gelu();
    }
    values.inplace_op1(&Gelu)?;
    Ok(values)
}

struct Gelu;

impl InplaceOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        kernel::gelu_tanh(contiguous_mut(storage, layout)?);
        Ok(())
    }
}

/// silu(gate)·up, of a gate that nobody else holds.
pub(super) fn swiglu(gate: Tensor, up: &Tensor) -> Result<Tensor> {
    if !gate.device().is_cpu() {
        return gate.silu()? * up;
    }
    gate.inplace_op2(up, &Swiglu)?;
    Ok(gate)
}

struct Swiglu;

impl InplaceOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &mut CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<()> {
        kernel::swiglu(contiguous_mut(gate, gate_layout)?, contiguous(up, up_layout)?);
        Ok(())
    }
}
