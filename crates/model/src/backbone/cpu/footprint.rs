//! The size of a network on disk and in main memory, computed from its shape.

mod matrices;
#[cfg(test)]
mod tests;

use super::layout::Layout;
use crate::checkpoint::{FeedForward, NormKind, Positions, Projections, TransformerSpec};
use crate::kernel::{self, CpuFeatures, Format, Numbers};

/// Rows of logits that exist at a time.
const LOGIT_ROWS: usize = 256;

/// The type in which files store the matrices of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, which are 32-bit floats in memory.
    F16,
    /// bfloat16.
    Bf16,
    /// The mixture of Q4_K and Q6_K that llama.cpp calls Q4_K_M, in a GGUF file.
    Q4KM,
}

/// A network and how its files store it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its shape.
    pub spec: TransformerSpec,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// True if the head is a tensor of its own, apart from the embedding.
    pub own_head: bool,
    /// The type of its matrices in files.
    pub stored: StoredAs,
    /// True if an adapter changes all matrices of the blocks, which are then f32 when they are loaded.
    pub adapted: bool,
}

/// Main memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Memory of the process's own.
    pub own: usize,
    /// Tensors that stay in the map of their file. They need as much of the page cache.
    pub mapped: usize,
}

/// The computation of a network.
#[derive(Clone, Copy, Debug)]
pub struct Computed {
    /// The type of the numbers in products.
    pub numbers: Numbers,
    /// Instruction set.
    pub cpu: CpuFeatures,
    /// Rows of the largest evaluation.
    pub rows: usize,
    /// Threads that compute.
    pub threads: usize,
}

/// The place of a matrix in the network, which decides its type in a Q4_K_M file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The embedding of tokens, which is not multiplied with.
    Embedding,
    Head,
    /// A value or down projection: Q6_K in about half of the blocks.
    Precise {
        block: usize,
    },
    /// The router of experts, which is f32.
    Router,
    Other,
}

/// A matrix, or several of the same shape.
struct Matrix {
    count: usize,
    inputs: usize,
    outputs: usize,
    rows: Layout,
    columns: Layout,
    role: Role,
}

impl Memory {
    /// Both parts.
    #[must_use]
    pub fn total(self) -> usize {
        self.own + self.mapped
    }
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.own += other.own;
        self.mapped += other.mapped;
    }
}

impl Network {
    /// Numbers in all tensors.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let matrices: usize =
            self.matrices().iter().map(|matrix| matrix.count * matrix.inputs * matrix.outputs).sum();
        matrices + self.positions() + self.vectors()
    }

    /// Bytes of all tensors on disk.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        let matrices = self.matrices();
        let matrices: usize = matrices.iter().map(|matrix| self.stored_matrix(matrix)).sum();
        let others = self.positions() + self.vectors();
        let each = if matches!(self.stored, StoredAs::F16 | StoredAs::Bf16) { 2 } else { 4 };
        matrices + each * others
    }

    /// Main memory that the network takes when it is computed on the CPU.
    #[must_use]
    pub fn memory(&self, computed: Computed) -> Memory {
        let Memory { own, mapped } = self.weights(computed);
        Memory { own: own + self.workspace(computed), mapped }
    }

    /// The part of [`Self::memory`] that the weights take.
    #[must_use]
    pub fn weights(&self, computed: Computed) -> Memory {
        let mut memory = Memory { own: 4 * (self.positions() + self.vectors()), mapped: 0 };
        for matrix in &self.matrices() {
            memory += self.loaded(matrix, computed);
        }
        if matches!(self.spec.positions, Positions::Rotary(_)) {
            memory.own += 4 * self.spec.context * kernel::padded(self.spec.head_width);
        }
        memory
    }

    fn stored_matrix(&self, matrix: &Matrix) -> usize {
        let numbers = matrix.count * matrix.inputs * matrix.outputs;
        match self.stored {
            StoredAs::F32 => 4 * numbers,
            StoredAs::F16 | StoredAs::Bf16 => 2 * numbers,
            StoredAs::Q4KM => {
                let (numbers_of_block, bytes) = self.block(matrix);
                numbers / numbers_of_block * bytes
            }
        }
    }

    /// Numbers and bytes of the blocks in which a Q4_K_M file stores a matrix. Rows that are no multiple of 256 fall
    /// back to blocks of 32.
    fn block(&self, matrix: &Matrix) -> (usize, usize) {
        let layers = self.spec.layers();
        let precise = match matrix.role {
            Role::Router => return (1, 4),
            Role::Head => true,
            Role::Embedding => !self.own_head,
            Role::Precise { block } => {
                let eighth = layers / 8;
                block < eighth || block >= 7 * layers / 8 || (block - eighth) % 3 == 2
            }
            Role::Other => false,
        };
        match (matrix.inputs.is_multiple_of(256), precise) {
            (true, false) => (256, 144),
            (true, true) => (256, 210),
            (false, false) => (32, 22),
            (false, true) => (32, 34),
        }
    }

    /// The memory of a matrix once it is loaded.
    fn loaded(&self, matrix: &Matrix, computed: Computed) -> Memory {
        let tied = matrix.role == Role::Embedding && !self.own_head;
        let is_head = matrix.role == Role::Head || tied;
        let in_blocks = !is_head && matrix.role != Role::Embedding;
        let stored = if self.adapted && in_blocks { StoredAs::F32 } else { self.stored };
        let format = match (computed.numbers, stored) {
            _ if matrix.role == Role::Router => Format::F32,
            (Numbers::Bf16, _) => Format::Bf16,
            (Numbers::Int8, _) if in_blocks => Format::Int8,
            (Numbers::Int8, _) => Format::Bf16,
            (Numbers::F32 | Numbers::Parts, StoredAs::Bf16) => Format::WideBf16,
            (Numbers::F32 | Numbers::Parts, _) => Format::F32,
        };
        let format =
            if in_blocks && matrix.role != Role::Router { format.fastest(computed.cpu) } else { format };
        let rows = matrix.rows.padded();
        let columns = matrix.columns.padded();
        let factors = if format == Format::Int8 { 8 * columns } else { 0 };
        let stays = stored == StoredAs::Q4KM && matrix.rows.is_plain() && matrix.role != Role::Router;
        // A linear layer has a bias, which may be zero.
        let bias = if in_blocks { 4 * columns } else { 0 };
        let own = matrix.count * (factors + bias);
        match matrix.role {
            _ if stays => Memory { own, mapped: self.stored_matrix(matrix) },
            Role::Embedding if !tied => {
                let each = if format == Format::F32 { 4 } else { 2 };
                Memory { own: each * matrix.inputs * matrix.outputs, mapped: 0 }
            }
            _ => Memory { own: own + matrix.count * format.bytes(rows * columns), mapped: 0 },
        }
    }

    /// Numbers in the table of positions.
    fn positions(&self) -> usize {
        match self.spec.positions {
            Positions::Learned => self.spec.context * self.spec.width,
            Positions::Rotary(_) => 0,
        }
    }

    /// Numbers in norms and biases.
    fn vectors(&self) -> usize {
        let TransformerSpec { width, head_count, kv_head_count, head_width, biases, norm, .. } = self.spec;
        let norm = if norm == NormKind::Layer { 2 * width } else { width };
        let queries = (head_count + 2 * kv_head_count) * head_width;
        let each = |kind: &FeedForward| {
            let inner = match kind {
                FeedForward::Gelu { width } => *width,
                FeedForward::SwiGlu { width } => 2 * width,
                FeedForward::Experts(_) => 0,
            };
            let if_set = |set: bool, numbers: usize| if set { numbers } else { 0 };
            2 * norm
                + if_set(biases.qkv, queries)
                + if_set(biases.output, width)
                + if_set(biases.feed_forward, inner + width)
                + if_set(self.spec.head_norm, 2 * head_width)
        };
        norm + self.spec.feed_forward.iter().map(each).sum::<usize>()
    }

    /// Buffers of evaluations.
    fn workspace(&self, Computed { numbers, cpu, rows, threads }: Computed) -> usize {
        let TransformerSpec { width, head_count, kv_head_count, head_width, .. } = self.spec;
        let stride = kernel::padded(width);
        let head = kernel::padded(head_width);
        let wide = head_count * head;
        let shared = kv_head_count * head;
        let inner = self.spec.feed_forward.iter().map(|kind| match kind {
            FeedForward::Gelu { width } | FeedForward::SwiGlu { width } => kernel::padded(*width),
            FeedForward::Experts(experts) => kernel::padded(experts.width.max(experts.shared.unwrap_or(0))),
        });
        let inner = inner.max().unwrap_or(0);
        let in_parts = numbers == Numbers::F32 && Format::F32.fastest(cpu) == Format::F32Parts;
        let [entering, between, last] = match numbers {
            Numbers::Int8 => [1, 2, 2],
            Numbers::Bf16 => [2, 2, 2],
            _ if in_parts => [6, 6, 4],
            _ => [4, 4, 4],
        };
        let integers = if numbers == Numbers::Int8 { inner.max(wide) } else { 0 };
        let sums = if self.spec.head_norm { 4 * wide } else { 0 };
        let row = 8 * stride + entering * stride + between * (2 * wide + 2 * shared + inner);
        let row = row + integers + sums + 4 * head + last * stride;
        let vocabulary = kernel::padded(self.vocabulary);
        let fused = if self.spec.projections == Projections::Fused { 0 } else { head };
        let read = rows.min(LOGIT_ROWS) * (4 * vocabulary + last * stride);
        rows * (row + fused) + read + threads * 8 * vocabulary
    }
}
