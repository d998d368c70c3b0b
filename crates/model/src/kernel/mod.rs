//! CPU arithmetic whose result for a row depends on that row alone.
//!
//! Thresholds and rankings are discontinuous: one changed bit can flip one commit and, with it, all
//! later context. So every output element here is one chain of operations in a fixed order (a product
//! sums over ascending k in a single accumulator; other sums go through a fixed number of lanes),
//! whatever the number of rows, their place in the batch, and the number of threads. Blocking and
//! threading only decide *when* an element is computed.
//!
//! The matrix tiles (`tile/`) are written in the instructions of each processor and once in plain Rust;
//! all else is plain Rust or sixteen numbers at a time (`lanes`), compiled for wider registers as well.
//! [`CpuFeatures`] names the instruction set and is an argument of every kernel. Instruction sets round
//! differently, so results agree bit for bit on one machine, not across machines.
//!
//! `README.md` in this folder draws the layouts and the loops of the product, and names them in BLIS's words.

mod attention;
mod blocks;
mod convert;
mod cpu_features;
mod elementwise;
mod encode;
mod experts;
mod head_norm;
mod lanes;
mod line;
mod matrix;
mod norm;
mod product;
mod rows;
mod stored;
mod tile;

pub use attention::{Heads, NewPages, Operands, PAGE, Page, Pages, Remembered, Scratch, Span, attention};
pub use blocks::{Blocks, Encoding};
pub use cpu_features::{CpuFeatures, UnavailableCpu};
pub use elementwise::{exponential_sum, exponentials, largest, largest_finite, wide_sum};
pub use experts::{ExpertGroups, ExpertScore, Routing};
pub use head_norm::HeadNorm;
pub use line::{Activations, LINE_BYTES, Numbers, PANEL, Rows, padded};
pub use matrix::{Format, PackedMatrix};
pub use norm::Norm;
pub use product::{Activation, Finish, Rotation, product};
pub use rows::{Mass, between, keep_from, mass_above, position, weighted_distance};
pub use stored::{Columns, PanelBuffers};
