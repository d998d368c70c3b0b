//! The tensors of one block, packed.

use super::experts::ExpertBlock;
use super::layout::Layout;
use super::load::{Loader, pack};
use super::{Block, Dense, FeedForwardBlock, Linear};
use crate::checkpoint::{BlockNames, Experts, FeedForward, Projections, Rotation, StoredTensor};
use crate::error::LoadError;
use crate::kernel::{Format, HeadNorm};

impl Loader<'_> {
    /// Block `number`.
    pub(super) fn block(&self, number: usize) -> Result<Block, LoadError> {
        let spec = self.spec;
        let names = BlockNames::of(self.spec);
        let name = |part: &str| format!("{}{number}.{part}", names.blocks);
        let [query, key, value] = match spec.projections {
            Projections::Fused => self.fused(&name("attn.c_attn"))?,
            Projections::Separate => self.separate(&name("self_attn"))?,
            Projections::Stacked => self.stacked(&name("self_attn.qkv_proj"))?,
        };
        let width = spec.width;
        let heads = self.heads();
        let wide = spec.head_count * spec.head_width;
        let output = Shape { rows: heads, columns: Layout::Plain(width), size: (wide, width) };
        let head_norms = if spec.head_norm {
            Some([self.head_norm(&name("self_attn.q_norm"))?, self.head_norm(&name("self_attn.k_norm"))?])
        } else {
            None
        };
        Ok(Block {
            norm_1: self.norm(&name(names.norm_1))?,
            query,
            key,
            value,
            head_norms,
            output: self.linear(&[&name(names.output)], output, spec.biases.output)?,
            norm_2: self.norm(&name(names.norm_2))?,
            feed_forward: self.feed_forward(&name("mlp"), spec.feed_forward[number])?,
        })
    }

    /// The columns of query heads.
    fn heads(&self) -> Layout {
        Layout::Heads { count: self.spec.head_count, width: self.spec.head_width }
    }

    /// Queries, keys and values of one matrix, in this order.
    fn fused(&self, name: &str) -> Result<[Linear; 3], LoadError> {
        let width = self.spec.width;
        let fused = self.convolution(name, (width, 3 * width))?;
        let plain = Layout::Plain(width);
        let heads = self.heads();
        Ok([0, width, 2 * width].map(|first| fused.linear(plain, heads, first)))
    }

    /// Queries, keys and values of a matrix each.
    fn separate(&self, name: &str) -> Result<[Linear; 3], LoadError> {
        let linear = |(part, shape): (&str, Shape)| {
            self.linear(&[&format!("{name}.{part}")], shape, self.spec.biases.qkv)
        };
        let [query, key, value] = self.projected();
        Ok([linear(("q_proj", query))?, linear(("k_proj", key))?, linear(("v_proj", value))?])
    }

    /// Queries, keys and values of one matrix, (out, in), in this order; without biases.
    fn stacked(&self, name: &str) -> Result<[Linear; 3], LoadError> {
        let shapes = self.projected();
        let outputs = shapes.map(|shape| shape.size.1);
        let size = [outputs.iter().sum(), self.spec.width];
        let stored = self.weights.get(&format!("{name}.weight"), &size)?;
        let format = self.block_format(&stored);
        let mut first = 0;
        let mut linear = |Shape { rows, columns, size }: Shape| {
            let part = stored.rows(first..first + size.1)?;
            first += size.1;
            let matrix = self.matrix(format, &[part], rows, columns)?;
            Ok(Linear { matrix, bias: vec![0.0; columns.padded()] })
        };
        let [query, key, value] = shapes;
        Ok([linear(query)?, linear(key)?, linear(value)?])
    }

    /// Where rows and columns of queries, keys and values go.
    fn projected(&self) -> [Shape; 3] {
        let (spec, width) = (self.spec, self.spec.head_width);
        let (count, shared) = (spec.head_count, spec.kv_head_count);
        let shape = |columns: Layout, count: usize| {
            let size = (spec.width, count * width);
            Shape { rows: Layout::Plain(spec.width), columns, size }
        };
        [
            shape(self.turned(count), count),
            shape(self.turned(shared), shared),
            shape(Layout::Heads { count: shared, width }, shared),
        ]
    }

    /// The columns of heads that are rotated.
    fn turned(&self, count: usize) -> Layout {
        let width = self.spec.head_width;
        let turned = self.spec.rotation().map_or(width, |rotation: &Rotation| rotation.width(width));
        Layout::Turned { count, width, turned }
    }

    /// The norm of every head, its gain in the order of turned heads.
    fn head_norm(&self, name: &str) -> Result<HeadNorm, LoadError> {
        let width = self.spec.head_width;
        let gain = self.weights.get(&format!("{name}.weight"), &[width])?.to_f32(self.cpu)?;
        let layout = self.turned(1);
        let gain = (0..layout.padded()).map(|place| layout.source(place).map_or(0.0, |column| gain[column]));
        Ok(HeadNorm { gain: gain.collect(), width, epsilon: self.spec.norm_epsilon as f32 })
    }

    fn feed_forward(&self, name: &str, kind: FeedForward) -> Result<FeedForwardBlock, LoadError> {
        Ok(match kind {
            FeedForward::Gelu { width } => {
                let plain = Layout::Plain(self.spec.width);
                let inner = Layout::Plain(width);
                let size = (self.spec.width, width);
                let bias = self.spec.biases.feed_forward;
                let up = Shape { rows: plain, columns: inner, size };
                let down = Shape { rows: inner, columns: plain, size: (size.1, size.0) };
                FeedForwardBlock::Dense(Dense {
                    expand: self.linear(&[&format!("{name}.c_fc")], up, bias)?,
                    gated: false,
                    contract: self.linear(&[&format!("{name}.c_proj")], down, bias)?,
                })
            }
            FeedForward::SwiGlu { width } => FeedForwardBlock::Dense(self.gated(name, width)?),
            FeedForward::Experts(experts) => FeedForwardBlock::Experts(self.experts(name, experts)?),
        })
    }

    fn gated(&self, name: &str, width: usize) -> Result<Dense, LoadError> {
        let part = |part: &str| format!("{name}.{part}");
        let bias = self.spec.biases.feed_forward;
        let plain = Layout::Plain(self.spec.width);
        let size = (self.spec.width, width);
        let up = Shape { rows: plain, columns: Layout::Gated(width), size };
        let down = Shape { rows: Layout::Plain(width), columns: plain, size: (size.1, size.0) };
        Ok(Dense {
            expand: self.linear(&[&part("gate_proj"), &part("up_proj")], up, bias)?,
            gated: true,
            contract: self.linear(&[&part("down_proj")], down, bias)?,
        })
    }

    fn experts(&self, name: &str, experts: Experts) -> Result<ExpertBlock, LoadError> {
        let width = self.spec.width;
        let router = self.weights.get(&format!("{name}.gate.weight"), &[experts.count, width])?;
        let values = router.to_f32(self.cpu)?;
        let plain = Layout::Plain(width);
        let columns = Layout::Plain(experts.count);
        let each = |number| self.gated(&format!("{name}.experts.{number}"), experts.width);
        let shared = experts.shared.map(|width| self.gated(&format!("{name}.shared_experts"), width));
        let bias =
            || self.weights.get(&format!("{name}.gate.expert_bias"), &[experts.count])?.to_f32(self.cpu);
        Ok(ExpertBlock {
            router: pack(Format::F32, plain, columns, |k, n| values[n * width + k]),
            experts: (0..experts.count).map(each).collect::<Result<_, _>>()?,
            shared: shared.transpose()?,
            bias: if experts.bias { bias()? } else { Vec::new() },
            routing: experts.routing,
        })
    }

    /// A linear layer of one tensor, or of two with as many outputs each, one after the other.
    fn linear(&self, names: &[&str], shape: Shape, bias: bool) -> Result<Linear, LoadError> {
        let (inputs, outputs) = shape.size;
        if self.spec.projections == Projections::Fused {
            return Ok(self.convolution(names[0], shape.size)?.linear(shape.rows, shape.columns, 0));
        }
        let load = |name: &&str| self.weights.get(&format!("{name}.weight"), &[outputs, inputs]);
        let tensors: Vec<StoredTensor> = names.iter().map(load).collect::<Result<_, _>>()?;
        // Files may keep the two of a matrix in different types; the wider one serves both.
        let formats = tensors.iter().map(|stored| self.block_format(stored));
        let wider = Format::F32.fastest(self.cpu);
        let format = formats.reduce(|a, b| if a == b { a } else { wider }).unwrap_or(wider);
        let matrix = self.matrix(format, &tensors, shape.rows, shape.columns)?;
        let mut values = Vec::new();
        for name in names.iter().filter(|_| bias) {
            values.extend(self.weights.get(&format!("{name}.bias"), &[outputs])?.to_f32(self.cpu)?);
        }
        let value = |place| shape.columns.source(place).and_then(|column| values.get(column)).copied();
        let bias = (0..shape.columns.padded()).map(|place| value(place).unwrap_or(0.0)).collect();
        Ok(Linear { matrix, bias })
    }

    /// GPT-2's convolutions of width 1: (in, out), a bias follows.
    fn convolution(&self, name: &str, (rows, columns): (usize, usize)) -> Result<Convolution, LoadError> {
        let stored = self.weights.get(&format!("{name}.weight"), &[rows, columns])?;
        let bias = self.weights.get(&format!("{name}.bias"), &[columns])?.to_f32(self.cpu)?;
        let format = self.block_format(&stored);
        let values = stored.to_f32(self.cpu)?;
        Ok(Convolution { format, values, bias, columns })
    }
}

/// The order of a matrix's rows and columns, and the number of inputs and outputs of each of its tensors.
#[derive(Clone, Copy)]
struct Shape {
    rows: Layout,
    columns: Layout,
    size: (usize, usize),
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
