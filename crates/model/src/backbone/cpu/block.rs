//! One block: attention, then the feed-forward part.

use super::workspace::{Part, Workspace};
use super::{Block, Dense, FeedForwardBlock, Linear, Trunk};
use crate::backbone::PackedRows;
use crate::kernel::{
    Activation, Activations, CpuFeatures, Finish, HeadNorm, Operands, Rotation, Rows, attention,
};

/// A projection to queries, keys or values: its weights, and what its results pass through.
struct Projected<'a> {
    linear: &'a Linear,
    norm: Option<&'a HeadNorm>,
    /// For queries and keys.
    rotation: Option<&'a Rotation>,
}

/// The buffers that a projection reads and writes.
struct Buffers<'a> {
    normed: &'a Activations,
    integers: &'a mut Activations,
    sums: &'a mut Rows,
    out: &'a mut Activations,
}

impl Projected<'_> {
    fn compute(&self, cpu: CpuFeatures, buffers: Buffers<'_>) {
        let Buffers { normed, integers, sums, out } = buffers;
        let rows = normed.rows();
        let columns = self.linear.matrix.columns();
        let bias = &self.linear.bias;
        let Some((norm, rotation)) = self.norm.zip(self.rotation) else {
            let activation = self.rotation.map_or(Activation::Linear, Activation::Rotate);
            out.shape(rows, columns);
            self.linear.apply(cpu, normed, integers, Finish::Activate { out, bias, activation });
            return;
        };
        // The norm needs whole heads, so the sums are spilled before it.
        sums.shape(rows * columns);
        self.linear.apply(cpu, normed, integers, Finish::Store { out: sums, stride: columns });
        if bias.iter().any(|bias| *bias != 0.0) {
            let rows = sums.chunks_exact_mut(columns);
            rows.for_each(|row| row.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias));
        }
        norm.apply(cpu, sums, columns, rotation, out);
    }
}

impl Trunk {
    /// The keys and values of all rows; [`Self::mix`] goes on.
    pub(super) fn project(&self, block: &Block, workspace: &mut Workspace) {
        let cpu = self.cpu;
        let stride = self.stride;
        block.norm_1.apply(cpu, &workspace.rows, stride, &mut workspace.normed);
        workspace.lap(Part::Rest);
        let key_norm = block.head_norms.as_ref().map(|[_, key]| key);
        let Workspace { normed, integers, sums, key, value, rotation, .. } = &mut *workspace;
        let rotation = self.rotary.is_some().then_some(&*rotation);
        Projected { linear: &block.key, norm: key_norm, rotation }
            .compute(cpu, Buffers { normed, integers, sums, out: key });
        Projected { linear: &block.value, norm: None, rotation: None }
            .compute(cpu, Buffers { normed, integers, sums, out: value });
        workspace.lap(Part::Product);
    }

    /// The rest of a block, for the rows `asked` alone if there are such; they are then all that is left.
    pub(super) fn mix(
        &self,
        block: &Block,
        packed: &PackedRows,
        asked: Option<&[u32]>,
        workspace: &mut Workspace,
    ) {
        let cpu = self.cpu;
        let stride = self.stride;
        let query_norm = block.head_norms.as_ref().map(|[query, _]| query);
        if let Some(asked) = asked {
            workspace.narrow(asked, stride);
            if let Some(rotary) = &self.rotary {
                let positions = asked.iter().map(|row| packed.positions[*row as usize]);
                rotary.at(positions, &mut workspace.rotation);
            }
            block.norm_1.apply(cpu, &workspace.rows, stride, &mut workspace.normed);
            workspace.lap(Part::Rest);
        }
        let Workspace { normed, integers, sums, query, rotation, .. } = &mut *workspace;
        let rotation = self.rotary.is_some().then_some(&*rotation);
        Projected { linear: &block.query, norm: query_norm, rotation }
            .compute(cpu, Buffers { normed, integers, sums, out: query });
        workspace.lap(Part::Product);
        let Workspace { query, key, value, mixed, spans, scratch, .. } = &mut *workspace;
        attention(cpu, Operands { query, key, value }, spans, self.heads, mixed, scratch);
        workspace.lap(Part::Attention);
        let Workspace { rows, mixed, integers, .. } = &mut *workspace;
        block.output.apply(cpu, mixed, integers, Finish::Add { out: rows, stride, bias: &block.output.bias });
        workspace.lap(Part::Product);
        block.norm_2.apply(cpu, &workspace.rows, stride, &mut workspace.normed);
        workspace.lap(Part::Rest);
        match &block.feed_forward {
            FeedForwardBlock::Dense(dense) => self.dense(dense, workspace),
            FeedForwardBlock::Experts(experts) => {
                experts.compute(cpu, &block.norm_2, stride, workspace);
            }
        }
        workspace.lap(Part::Product);
    }

    fn dense(&self, dense: &Dense, workspace: &mut Workspace) {
        let Workspace { rows, normed, integers, inner, .. } = workspace;
        dense.expand(self.cpu, normed, integers, inner);
        let finish = Finish::Add { out: rows, stride: self.stride, bias: &dense.contract.bias };
        dense.contract.apply(self.cpu, inner, integers, finish);
    }
}

impl Dense {
    /// The activations inside, of rows that are normed.
    pub(super) fn expand(
        &self,
        cpu: CpuFeatures,
        normed: &Activations,
        integers: &mut Activations,
        inner: &mut Activations,
    ) {
        let columns = self.expand.matrix.columns();
        let (width, activation) =
            if self.gated { (columns / 2, Activation::Swiglu) } else { (columns, Activation::Gelu) };
        inner.shape(normed.rows(), width);
        let finish = Finish::Activate { out: inner, bias: &self.expand.bias, activation };
        self.expand.apply(cpu, normed, integers, finish);
    }
}
