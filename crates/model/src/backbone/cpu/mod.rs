//! Networks on the CPU: one sequence of our kernels over buffers that are kept.
//!
//! Networks differ in the norm, in where positions enter, and in the feed-forward part; how a block passes from one
//! kernel to the next is the same.

mod block;
mod experts;
mod footprint;
mod layout;
mod load;
mod load_block;
mod workspace;

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use self::experts::ExpertBlock;
pub use self::footprint::{Computed, Memory, Network, StoredAs};
use self::workspace::Part;
pub use self::workspace::Times;
pub(super) use self::workspace::Workspace;
use super::{KeyValues, Observe, PackedRows};
use crate::checkpoint::{BlockTensor, Visibility};
use crate::kernel::{
    Activations, CpuFeatures, Finish, HeadNorm, Heads, NewPages, Norm, PackedMatrix, Rotation, Rows, product,
};

/// Numbers of a stored row that are decoded at a time: whole blocks of every encoding.
const STRETCH: usize = 256;

/// A network whose weights are packed for the kernels.
#[derive(Debug)]
pub struct Trunk {
    cpu: CpuFeatures,
    /// The embedding; without one it is the head's columns.
    tokens: Option<Table>,
    /// GPT-2 adds a position's vector to its token's.
    positions: Option<Table>,
    /// LLaMA rotates queries and keys.
    rotary: Option<Rotary>,
    blocks: Vec<Block>,
    norm: Norm,
    head: PackedMatrix,
    heads: Heads,
    visibility: Visibility,
    /// Rows of the embedding.
    vocabulary: usize,
    /// Longest canvas.
    context: usize,
    /// Width of a hidden state, and the same in whole panels.
    width: usize,
    stride: usize,
}

/// Rows to look up.
#[derive(Debug)]
enum Table {
    F32(Vec<f32>),
    Bf16(Vec<half::bf16>),
    /// In the file's map; perhaps rounded to bfloat16, as rows are that are packed.
    Stored {
        rows: BlockTensor,
        rounded: bool,
    },
}

/// cos and sin of position × θ^(−2i/width), (context, pairs of a head) each, in whole halves of panels.
#[derive(Debug)]
struct Rotary(Rotation);

/// One block. Query, key and value heads are padded to whole panels, and so are the rows of `output`.
#[derive(Debug)]
struct Block {
    norm_1: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    /// Norms of query and key heads before the rotation.
    head_norms: Option<[HeadNorm; 2]>,
    output: Linear,
    norm_2: Norm,
    feed_forward: FeedForwardBlock,
}

/// The feed-forward part of a block.
#[derive(Debug)]
enum FeedForwardBlock {
    Dense(Dense),
    Experts(ExpertBlock),
}

/// One feed-forward network.
#[derive(Debug)]
struct Dense {
    expand: Linear,
    /// True if `expand` holds a gate as well: SwiGLU instead of GELU.
    gated: bool,
    contract: Linear,
}

/// x·W + b.
#[derive(Debug)]
struct Linear {
    matrix: PackedMatrix,
    bias: Vec<f32>,
}

impl Table {
    /// Adds row `row` to `out`.
    fn add(&self, cpu: CpuFeatures, row: usize, out: &mut [f32]) {
        let range = row * out.len()..(row + 1) * out.len();
        match self {
            Self::F32(values) => out.iter_mut().zip(&values[range]).for_each(|(out, x)| *out += x),
            Self::Bf16(values) => out.iter_mut().zip(&values[range]).for_each(|(out, x)| *out += x.to_f32()),
            Self::Stored { rows, rounded } => {
                let mut values = [0.0; STRETCH];
                for (stretch, out) in out.chunks_mut(STRETCH).enumerate() {
                    let values = &mut values[..out.len()];
                    rows.row(row).decode(cpu, stretch * STRETCH, values);
                    let round = |x: f32| if *rounded { half::bf16::from_f32(x).to_f32() } else { x };
                    out.iter_mut().zip(values).for_each(|(out, x)| *out += round(*x));
                }
            }
        }
    }
}

impl Rotary {
    /// The rows of both tables for these positions.
    fn at(&self, positions: impl Iterator<Item = u32>, out: &mut Rotation) {
        let Self(Rotation { cos, sin, width }) = self;
        out.width = *width;
        out.cos.clear();
        out.sin.clear();
        for position in positions {
            let row = position as usize * width..(position as usize + 1) * width;
            out.cos.extend_from_slice(&cos[row.clone()]);
            out.sin.extend_from_slice(&sin[row]);
        }
    }
}

impl Linear {
    /// Multiplies `rows` with the matrix. Rows of another type than the matrix takes are converted into
    /// `integers` first.
    fn apply(&self, cpu: CpuFeatures, rows: &Activations, integers: &mut Activations, finish: Finish<'_>) {
        let rows = if self.matrix.format().left() == rows.numbers() {
            rows
        } else {
            integers.convert(cpu, rows);
            integers
        };
        product(cpu, rows, &self.matrix, finish);
    }
}

impl Trunk {
    /// The normed hidden states of the rows `asked` (ascending), kept in the workspace for
    /// [`Self::logits`]; other rows do not pass the last block. Returns the keys and values of the canvases that keep
    /// some.
    pub(super) fn hidden(
        &self,
        packed: &PackedRows,
        asked: &[u32],
        workspace: &mut Workspace,
        mut observe: Option<Observe<'_>>,
    ) -> Result<Vec<KeyValues>> {
        let observed = observe.is_some();
        let mut see = |name: &str, rows: &[f32], (stride, width): (usize, usize)| -> Result<()> {
            let Some(observe) = &mut observe else { return Ok(()) };
            let values = rows.chunks_exact(stride).flat_map(|row| &row[..width]).copied().collect::<Vec<_>>();
            observe(name, &Tensor::from_vec(values, (rows.len() / stride, width), &Device::Cpu)?)
        };
        let shape = (self.stride, self.width);
        self.begin(packed, workspace)?;
        see("embedding", &workspace.rows, shape)?;
        let mut kept = new_pages(packed, workspace);
        for (i, block) in self.blocks.iter().enumerate() {
            let last = i + 1 == self.blocks.len();
            workspace.layer(i);
            self.project(block, workspace);
            let rows = [&workspace.key, &workspace.value];
            kept.iter_mut().for_each(|pages| pages.push(self.cpu, rows, self.heads));
            workspace.lap(Part::Attention);
            // Behind the last keys and values nothing else may be wanted.
            if last && asked.is_empty() {
                break;
            }
            let fewer = last && asked.len() < packed.ids.len();
            self.mix(block, packed, fewer.then_some(asked), workspace);
            if observed && let FeedForwardBlock::Experts(experts) = &block.feed_forward {
                let weights = experts.weights(workspace.rows.len() / self.stride, &workspace.groups);
                see(&format!("router.{i}"), &weights, (experts.experts.len(), experts.experts.len()))?;
            }
            see(&format!("block.{i}"), &workspace.rows, shape)?;
        }
        self.norm.apply(self.cpu, &workspace.rows, self.stride, &mut workspace.last);
        if observed {
            let rows = &mut workspace.rows;
            let mut normed = vec![0.0; self.width];
            for row in rows.chunks_exact_mut(self.stride) {
                self.norm.apply_row(self.cpu, &row[..self.width], &mut normed);
                row[..self.width].copy_from_slice(&normed);
            }
            see("final_norm", rows, shape)?;
        }
        workspace.lap(Part::Rest);
        Ok(kept.into_iter().map(NewPages::finish).map(KeyValues::Pages).collect())
    }

    /// Embeds the rows, and notes where they lie and what they see.
    fn begin(&self, packed: &PackedRows, workspace: &mut Workspace) -> Result<()> {
        workspace.start();
        self.embed(packed, &mut workspace.rows)?;
        workspace.place(packed, self.visibility)?;
        if let Some(rotary) = &self.rotary {
            rotary.at(packed.positions.iter().copied(), &mut workspace.rotation);
        }
        Ok(())
    }

    /// The logits of some rows of [`Self::hidden`], by their place among those asked.
    pub(super) fn logits<'a>(&self, places: &[u32], workspace: &'a mut Workspace) -> &'a [f32] {
        workspace.start();
        let Workspace { last, some, logits, .. } = &mut *workspace;
        some.gather(last, places);
        let stride = self.head.columns();
        logits.shape(places.len() * stride);
        product(self.cpu, some, &self.head, Finish::Store { out: logits, stride });
        workspace.lap(Part::Head);
        &workspace.logits
    }

    /// Logits from one row of [`Self::logits`] to the next, and how many of them are tokens'.
    pub(super) fn logits_shape(&self) -> (usize, usize) {
        (self.head.columns(), self.vocabulary)
    }

    fn embed(&self, packed: &PackedRows, rows: &mut Rows) -> Result<()> {
        let PackedRows { ids, positions, .. } = packed;
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocabulary) {
            bail!("token {id} is not below {}, the rows of the embedding", self.vocabulary);
        }
        if let Some(position) = positions.iter().find(|position| **position as usize >= self.context) {
            bail!("position {position} is not below {}, the longest canvas", self.context);
        }
        rows.shape(ids.len() * self.stride);
        let places = ids.par_iter().zip(positions);
        rows.par_chunks_exact_mut(self.stride).zip(places).for_each(|(row, (id, position))| {
            row.fill(0.0);
            let row = &mut row[..self.width];
            match &self.tokens {
                Some(tokens) => tokens.add(self.cpu, *id as usize, row),
                None => self.head.add_column(*id as usize, row),
            }
            if let Some(positions) = &self.positions {
                positions.add(self.cpu, *position as usize, row);
            }
        });
        Ok(())
    }
}

/// Room for the keys and values of the canvases that keep some.
fn new_pages(packed: &PackedRows, workspace: &Workspace) -> Vec<NewPages> {
    let canvases = packed.canvases.iter().zip(&workspace.spans).filter(|(canvas, _)| canvas.kept > 0);
    let pages = canvases.map(|(canvas, span)| {
        let base = span.remembered.as_ref().map(|kept| kept.pages.clone()).unwrap_or_default();
        NewPages::new(base, span.keys.start..span.keys.start + canvas.kept)
    });
    pages.collect()
}
