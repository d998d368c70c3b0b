//! From the tensors of a checkpoint to packed weights, or to weights that stay in the file's map.

use std::sync::Arc;

use half::bf16;

use super::layout::Layout;
use super::workspace::between;
use super::{Rotary, Table, Trunk};
use crate::checkpoint::{
    self, BlockNames, BlockTensor, NormKind, Positions, StoredTensor, TransformerSpec, Weights,
};
use crate::error::LoadError;
use crate::kernel::{
    Blocks, Columns, CpuFeatures, Format, LINE_BYTES, Norm, Numbers, PackedMatrix, PanelBuffers, Rotation,
};

/// The source of the tensors and the types that they are loaded as.
pub(super) struct Loader<'a> {
    pub(super) spec: &'a TransformerSpec,
    pub(super) weights: &'a Weights,
    numbers: Numbers,
    pub(super) cpu: CpuFeatures,
    /// For matrices that are packed as they are needed.
    buffers: Arc<PanelBuffers>,
}

/// The columns of a matrix in the rows of one tensor, or of two with as many rows each.
#[derive(Debug)]
struct StoredRows {
    parts: Vec<BlockTensor>,
    layout: Layout,
}

impl Columns for StoredRows {
    fn column(&self, n: usize) -> Option<Blocks<'_>> {
        let row = self.layout.source(n)?;
        let rows = self.parts[0].shape()[0];
        Some(self.parts[row / rows].row(row % rows))
    }
}

impl Trunk {
    /// Reads and packs the weights. `numbers` is what products of the blocks are made of; those of the
    /// head are never integers.
    pub(in crate::backbone) fn load(
        spec: &TransformerSpec,
        weights: &Weights,
        numbers: Numbers,
        cpu: CpuFeatures,
    ) -> Result<Self, LoadError> {
        let buffers = Arc::new(PanelBuffers::default());
        let loader = Loader { spec, weights, numbers, cpu, buffers };
        let embedding = weights.embedding(spec.width)?;
        let vocabulary = embedding.shape()[0];
        let positions = match spec.positions {
            Positions::Learned => {
                let stored = weights.get("wpe.weight", &[spec.context, spec.width])?;
                Some(Table::F32(stored.to_f32(cpu)?))
            }
            Positions::Rotary(_) => None,
        };
        let blocks = (0..spec.layers()).map(|number| loader.block(number));
        let own_head = weights.head(vocabulary, spec.width)?;
        let tied = own_head.is_none();
        let head = loader.head(own_head.as_ref().unwrap_or(&embedding))?;
        Ok(Self {
            cpu,
            tokens: if tied && head.has_columns() { None } else { Some(loader.table(&embedding)?) },
            positions,
            rotary: spec.rotation().map(|rotation| Rotary::new(rotation, spec)),
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: loader.norm(BlockNames::of(spec).last)?,
            head,
            heads: spec.heads(),
            visibility: spec.visibility,
            vocabulary,
            context: spec.context,
            width: spec.width,
            stride: Layout::Plain(spec.width).padded(),
        })
    }

    /// The activation types of the blocks' products and of the head's.
    pub(in crate::backbone) fn numbers(&self) -> (Numbers, Numbers) {
        let block = self.blocks.first().map(|block| block.query.matrix.format().left());
        let head = self.head.format().left();
        (block.unwrap_or(head), head)
    }

    /// Bytes that the keys and values of one position take in all layers.
    pub(in crate::backbone) fn memo_bytes(&self) -> u64 {
        let lines = between(self.numbers().0).lines(self.heads.width) * self.heads.shared;
        (2 * self.blocks.len() * lines * LINE_BYTES) as u64
    }
}

impl Loader<'_> {
    /// The format of a tensor. Tensors stored as bfloat16 stay bfloat16 for products of f32.
    fn format(&self, stored: &StoredTensor) -> Format {
        match self.numbers {
            Numbers::Bf16 => Format::Bf16,
            Numbers::Int8 => Format::Int8,
            Numbers::F32 | Numbers::Parts if stored.is_bf16() => Format::WideBf16,
            Numbers::F32 | Numbers::Parts => Format::F32,
        }
    }

    /// The format of a block's matrix. The blocks' matrices are multiplied with many rows. The head takes
    /// more time to read than to multiply with the few rows asked for, so it keeps the smallest form of its
    /// format.
    pub(super) fn block_format(&self, stored: &StoredTensor) -> Format {
        self.format(stored).fastest(self.cpu)
    }

    /// Tensors that take less memory where they are than in a format.
    fn smaller(format: Format, tensors: &[StoredTensor]) -> Option<Vec<&BlockTensor>> {
        let blocks: Vec<_> = tensors.iter().map(StoredTensor::blocks).collect::<Option<_>>()?;
        let stored: usize = blocks.iter().map(|tensor| tensor.bytes().len()).sum();
        let numbers: usize = tensors.iter().map(|tensor| tensor.shape().iter().product::<usize>()).sum();
        (stored < format.bytes(numbers).min(Format::F32.bytes(numbers))).then_some(blocks)
    }

    /// The embedding, in half the memory where that is exact or bfloat16 was asked for.
    fn table(&self, stored: &StoredTensor) -> Result<Table, LoadError> {
        let format = self.format(stored);
        if let Some(blocks) = Self::smaller(format, std::slice::from_ref(stored)) {
            return Ok(Table::Stored { rows: blocks[0].clone(), rounded: format != Format::F32 });
        }
        let values = stored.to_f32(self.cpu)?;
        Ok(match format {
            Format::F32 => Table::F32(values),
            _ => Table::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        })
    }

    pub(super) fn norm(&self, name: &str) -> Result<Norm, LoadError> {
        let part =
            |part: &str| self.weights.get(&format!("{name}.{part}"), &[self.spec.width])?.to_f32(self.cpu);
        let gain = part("weight")?;
        let epsilon = self.spec.norm_epsilon as f32;
        Ok(match self.spec.norm {
            NormKind::Layer => Norm::Layer { gain, bias: part("bias")?, epsilon },
            NormKind::Rms => Norm::Rms { gain, epsilon },
        })
    }

    fn head(&self, stored: &StoredTensor) -> Result<PackedMatrix, LoadError> {
        let rows = stored.shape()[0];
        let format = match self.format(stored) {
            Format::Int8 => Format::Bf16,
            format => format,
        };
        self.matrix(format, std::slice::from_ref(stored), Layout::Plain(self.spec.width), Layout::Plain(rows))
    }

    /// A matrix whose columns are the rows of one tensor, or of two with as many rows each, one after the
    /// other.
    pub(super) fn matrix(
        &self,
        format: Format,
        tensors: &[StoredTensor],
        rows: Layout,
        columns: Layout,
    ) -> Result<PackedMatrix, LoadError> {
        if let Some(blocks) = Self::smaller(format, tensors).filter(|_| rows.is_plain()) {
            let parts = blocks.into_iter().cloned().collect();
            let stored = Box::new(StoredRows { parts, layout: columns });
            let rows = rows.padded();
            let columns = columns.padded();
            return Ok(PackedMatrix::stored(self.cpu, format, rows, columns, stored, self.buffers.clone()));
        }
        let values: Vec<Vec<f32>> =
            tensors.iter().map(|tensor| tensor.to_f32(self.cpu)).collect::<Result<_, _>>()?;
        let outputs = tensors[0].shape()[0];
        let inputs = tensors[0].shape()[1];
        Ok(pack(format, rows, columns, |k, n| match n.checked_sub(outputs) {
            None => values[0][n * inputs + k],
            Some(n) => values[1][n * inputs + k],
        }))
    }
}

pub(super) fn pack(
    format: Format,
    rows: Layout,
    columns: Layout,
    element: impl Fn(usize, usize) -> f32 + Sync,
) -> PackedMatrix {
    PackedMatrix::pack(format, rows.padded(), columns.padded(), |k, n| {
        rows.source(k).zip(columns.source(n)).map_or(0.0, |(k, n)| element(k, n))
    })
}

impl Rotary {
    /// Angles are f32 products and only their cosine and sine are rounded, as in the reference.
    fn new(rotation: &checkpoint::Rotation, spec: &TransformerSpec) -> Self {
        let width = Layout::Heads { count: 1, width: spec.head_width }.padded() / 2;
        let (frequencies, factor) = rotation.frequencies(spec.head_width);
        let table = |function: fn(f32) -> f32| {
            // Pairs that are not rotated turn by nothing.
            let mut out = vec![function(0.0); spec.context * width];
            for (position, row) in out.chunks_exact_mut(width).enumerate() {
                for (out, frequency) in row.iter_mut().zip(&frequencies) {
                    *out = factor * function(position as f32 * frequency);
                }
            }
            out
        };
        Self(Rotation { cos: table(f32::cos), sin: table(f32::sin), width })
    }
}
