//! From the tensors of a checkpoint to packed weights, or to weights that stay in the file's map.

use std::sync::Arc;

use half::bf16;

use super::layout::Layout;
use super::{Block, Linear, Rotary, Table, Trunk};
use crate::checkpoint::{Architecture, BlockTensor, ModelConfig, StoredTensor, Weights};
use crate::error::LoadError;
use crate::kernel::{
    Blocks, Columns, CpuFeatures, Format, Norm, Numbers, PackedMatrix, PanelBuffers, Rotation,
};

/// Which tensors to read, and what to make of them.
struct Loader<'a> {
    config: &'a ModelConfig,
    weights: &'a Weights,
    numbers: Numbers,
    cpu: CpuFeatures,
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
        config: &ModelConfig,
        weights: &Weights,
        numbers: Numbers,
        cpu: CpuFeatures,
    ) -> Result<Self, LoadError> {
        let buffers = Arc::new(PanelBuffers::new(rayon::current_num_threads()));
        let loader = Loader { config, weights, numbers, cpu, buffers };
        let embedding = weights.embedding(config.width)?;
        let vocabulary = embedding.shape()[0];
        let gpt2 = config.architecture == Architecture::Gpt2;
        let positions = if gpt2 {
            let stored = weights.get("wpe.weight", &[config.context, config.width])?;
            Some(Table::F32(stored.to_f32(cpu)?))
        } else {
            None
        };
        let blocks = (0..config.layers).map(|i| if gpt2 { loader.gpt2(i) } else { loader.llama(i) });
        let own_head = weights.head(vocabulary, config.width)?;
        let tied = own_head.is_none();
        let head = loader.head(own_head.as_ref().unwrap_or(&embedding))?;
        Ok(Self {
            cpu,
            tokens: if tied && head.has_columns() { None } else { Some(loader.table(&embedding)?) },
            positions,
            rotary: (!gpt2).then(|| Rotary::new(config)),
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: loader.norm(if gpt2 { "ln_f" } else { "norm" })?,
            head,
            heads: config.heads(),
            vocabulary,
            context: config.context,
            width: config.width,
            stride: Layout::Plain(config.width).padded(),
        })
    }

    /// What the blocks' products and the head's are made of.
    pub(in crate::backbone) fn numbers(&self) -> (Numbers, Numbers) {
        let block = self.blocks.first().map(|block| block.query.matrix.format().left());
        let head = self.head.format().left();
        (block.unwrap_or(head), head)
    }
}

impl Loader<'_> {
    /// How a tensor is kept. What is bfloat16 already is kept so, too, for products of f32.
    fn format(&self, stored: &StoredTensor) -> Format {
        match self.numbers {
            Numbers::Bf16 => Format::Bf16,
            Numbers::Int8 => Format::Int8,
            Numbers::F32 | Numbers::Parts if stored.is_bf16() => Format::WideBf16,
            Numbers::F32 | Numbers::Parts => Format::F32,
        }
    }

    /// How a matrix of the blocks is kept. They are multiplied with many rows; the head, which takes more
    /// time to read than to multiply with the few that are asked, stays as small as its format allows.
    fn block_format(&self, stored: &StoredTensor) -> Format {
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

    fn norm(&self, name: &str) -> Result<Norm, LoadError> {
        let part =
            |part: &str| self.weights.get(&format!("{name}.{part}"), &[self.config.width])?.to_f32(self.cpu);
        let (gain, epsilon) = (part("weight")?, self.config.norm_epsilon as f32);
        Ok(match self.config.architecture {
            Architecture::Gpt2 => Norm::Layer { gain, bias: part("bias")?, epsilon },
            Architecture::Llama => Norm::Rms { gain, epsilon },
        })
    }

    fn head(&self, stored: &StoredTensor) -> Result<PackedMatrix, LoadError> {
        let rows = stored.shape()[0];
        let format = match self.format(stored) {
            Format::Int8 => Format::Bf16,
            format => format,
        };
        self.matrix(
            format,
            std::slice::from_ref(stored),
            Layout::Plain(self.config.width),
            Layout::Plain(rows),
        )
    }

    /// A matrix whose columns are the rows of one tensor, or of two with as many rows each, one after the
    /// other.
    fn matrix(
        &self,
        format: Format,
        tensors: &[StoredTensor],
        rows: Layout,
        columns: Layout,
    ) -> Result<PackedMatrix, LoadError> {
        if let Some(blocks) = Self::smaller(format, tensors).filter(|_| rows.is_plain()) {
            let parts = blocks.into_iter().cloned().collect();
            let stored = Box::new(StoredRows { parts, layout: columns });
            let (rows, columns) = (rows.padded(), columns.padded());
            return Ok(PackedMatrix::stored(self.cpu, format, rows, columns, stored, self.buffers.clone()));
        }
        let values: Vec<Vec<f32>> =
            tensors.iter().map(|tensor| tensor.to_f32(self.cpu)).collect::<Result<_, _>>()?;
        let (outputs, inputs) = (tensors[0].shape()[0], tensors[0].shape()[1]);
        Ok(pack(format, rows, columns, |k, n| match n.checked_sub(outputs) {
            None => values[0][n * inputs + k],
            Some(n) => values[1][n * inputs + k],
        }))
    }

    /// GPT-2's convolutions of width 1: `shape` is in × out, a bias follows.
    fn gpt2(&self, number: usize) -> Result<Block, LoadError> {
        let config = self.config;
        let name = |part: &str| format!("h.{number}.{part}");
        let load = |part: &str, (rows, columns): (usize, usize)| {
            let stored = self.weights.get(&name(&format!("{part}.weight")), &[rows, columns])?;
            let bias = self.weights.get(&name(&format!("{part}.bias")), &[columns])?.to_f32(self.cpu)?;
            let (format, values) = (self.block_format(&stored), stored.to_f32(self.cpu)?);
            Ok::<_, LoadError>(Convolution { format, values, bias, columns })
        };
        let (width, inner) = (config.width, config.mlp_width);
        let heads = Layout::Heads { count: config.head_count, width: config.head_width };
        let plain = Layout::Plain(width);
        let fused = load("attn.c_attn", (width, 3 * width))?;
        Ok(Block {
            norm_1: self.norm(&name("ln_1"))?,
            query: fused.linear(plain, heads, 0),
            key: fused.linear(plain, heads, width),
            value: fused.linear(plain, heads, 2 * width),
            output: load("attn.c_proj", (width, width))?.linear(heads, plain, 0),
            norm_2: self.norm(&name("ln_2"))?,
            expand: load("mlp.c_fc", (width, inner))?.linear(plain, Layout::Plain(inner), 0),
            gated: false,
            contract: load("mlp.c_proj", (inner, width))?.linear(Layout::Plain(inner), plain, 0),
        })
    }

    /// LLaMA's linear layers: out × in, no bias.
    fn llama(&self, number: usize) -> Result<Block, LoadError> {
        let config = self.config;
        let name = |part: &str| format!("layers.{number}.{part}");
        let load = |part: &str, inputs: usize, outputs: usize| {
            self.weights.get(&name(&format!("{part}.weight")), &[outputs, inputs])
        };
        let linear = |tensors: &[StoredTensor], rows: Layout, columns: Layout| {
            // Files may keep the two of a matrix in different types; the wider one serves both.
            let formats = tensors.iter().map(|stored| self.block_format(stored));
            let wider = Format::F32.fastest(self.cpu);
            let format = formats.reduce(|a, b| if a == b { a } else { wider }).unwrap_or(wider);
            let matrix = self.matrix(format, tensors, rows, columns)?;
            Ok::<_, LoadError>(Linear { matrix, bias: vec![0.0; columns.padded()] })
        };
        let (width, inner, head) = (config.width, config.mlp_width, config.head_width);
        let (count, shared) = (config.head_count, config.kv_head_count);
        let plain = Layout::Plain(width);
        let attention = |part: &str, columns: Layout, outputs: usize| {
            linear(&[load(&format!("self_attn.{part}"), width, outputs)?], plain, columns)
        };
        let heads = Layout::Heads { count, width: head };
        let expand = [load("mlp.gate_proj", width, inner)?, load("mlp.up_proj", width, inner)?];
        Ok(Block {
            norm_1: self.norm(&name("input_layernorm"))?,
            query: attention("q_proj", Layout::Turned { count, width: head }, count * head)?,
            key: attention("k_proj", Layout::Turned { count: shared, width: head }, shared * head)?,
            value: attention("v_proj", Layout::Heads { count: shared, width: head }, shared * head)?,
            output: linear(&[load("self_attn.o_proj", count * head, width)?], heads, plain)?,
            norm_2: self.norm(&name("post_attention_layernorm"))?,
            expand: linear(&expand, plain, Layout::Gated(inner))?,
            gated: true,
            contract: linear(&[load("mlp.down_proj", inner, width)?], Layout::Plain(inner), plain)?,
        })
    }
}

/// A weight of GPT-2, (in, columns), and its bias.
struct Convolution {
    format: Format,
    values: Vec<f32>,
    bias: Vec<f32>,
    columns: usize,
}

impl Convolution {
    /// The columns from `first` on that the layout names.
    fn linear(&self, rows: Layout, columns: Layout, first: usize) -> Linear {
        let bias = (0..columns.padded()).map(|n| columns.source(n).map_or(0.0, |n| self.bias[first + n]));
        let element = |k, n| self.values[k * self.columns + first + n];
        Linear { matrix: pack(self.format, rows, columns, element), bias: bias.collect() }
    }
}

fn pack(
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
    fn new(config: &ModelConfig) -> Self {
        let pairs = config.head_width / 2;
        let width = Layout::Turned { count: 1, width: config.head_width }.padded() / 2;
        let frequencies: Vec<f32> = (0..pairs)
            .map(|i| 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / config.head_width as f32))
            .collect();
        let table = |function: fn(f32) -> f32| {
            let mut out = vec![0.0; config.context * width];
            for (position, row) in out.chunks_exact_mut(width).enumerate() {
                for (out, frequency) in row.iter_mut().zip(&frequencies) {
                    *out = function(position as f32 * frequency);
                }
            }
            out
        };
        Self(Rotation { cos: table(f32::cos), sin: table(f32::sin), width })
    }
}
