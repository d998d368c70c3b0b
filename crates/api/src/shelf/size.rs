//! The size of known models: memory by precision, and the refusal of those that do not fit.

use anyhow::bail;
use unmask_model::backbone::{Computed, Memory, Network};
use unmask_model::kernel::{CpuFeatures, Numbers};

use super::known::KnownModel;
use super::machine::{available_memory, evaluation_rows};
use crate::values::DtypeArg;

/// Memory of the program beside its model.
const PROGRAM: usize = 16_000_000;

/// Precisions of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// bfloat16.
    Bf16,
    /// 8-bit integers in the products of the blocks.
    Int8,
}

impl Dtype {
    /// The precision that `--dtype` asks for on a CPU.
    #[must_use]
    pub fn of(arg: DtypeArg) -> Self {
        match arg {
            DtypeArg::Auto | DtypeArg::F32 | DtypeArg::F16 => Self::F32,
            DtypeArg::Bf16 => Self::Bf16,
            DtypeArg::Int8 => Self::Int8,
        }
    }

    fn numbers(self) -> Numbers {
        match self {
            Self::F32 => Numbers::F32,
            Self::Bf16 => Numbers::Bf16,
            Self::Int8 => Numbers::Int8,
        }
    }
}

/// The memory that a server takes for a network on this machine's CPU, with `cpu` as its instruction set, after
/// evaluations of `rows` rows.
#[must_use]
pub fn memory(network: &Network, dtype: Dtype, cpu: CpuFeatures, rows: usize) -> Memory {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = network.memory(Computed { numbers: dtype.numbers(), cpu, rows, threads });
    Memory { own: memory.own + PROGRAM, ..memory }
}

/// Refuses to download a known model whose memory this machine does not have.
///
/// # Errors
/// It does not fit.
pub(crate) fn refuse_if_too_large(model: &KnownModel, dtype: Dtype, cpu: CpuFeatures) -> anyhow::Result<()> {
    let network = model.network();
    let needed = |dtype| memory(&network, dtype, cpu, evaluation_rows(model.context)).total();
    let Some(available) = available_memory() else { return Ok(()) };
    if needed(dtype) <= available {
        return Ok(());
    }
    let smaller = [("bf16", Dtype::Bf16), ("int8", Dtype::Int8)];
    let smaller = smaller.into_iter().find(|(_, smaller)| needed(*smaller) <= available);
    let advice = match smaller {
        Some((name, smaller)) => format!("--dtype {name} takes {}", gigabytes(needed(smaller))),
        None => "`unmask models` lists those that fit".to_owned(),
    };
    bail!(
        "{} ({}) takes {} of memory and {} are available: {advice}; --force downloads it all the same",
        model.name,
        model.hub,
        gigabytes(needed(dtype)),
        gigabytes(available)
    );
}

/// Bytes as gigabytes or megabytes.
pub(crate) fn gigabytes(bytes: usize) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
        1_000_000_000..10_000_000_000 => format!("{:.1} GB", bytes as f64 / 1e9),
        _ => format!("{:.0} GB", bytes as f64 / 1e9),
    }
}

/// A number of parameters.
pub(crate) fn millions(parameters: usize) -> String {
    match parameters {
        0..1_000_000_000 => format!("{} M", (parameters as f64 / 1e6).round()),
        _ => format!("{:.1} B", parameters as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        let read = [950_000, 4_063_000_000, 16_031_162_368, 140_000_000_000].map(gigabytes);
        assert_eq!(read, ["1 MB", "4.1 GB", "16 GB", "140 GB"]);
        assert_eq!([124_439_808, 7_615_616_512].map(millions), ["124 M", "7.6 B"]);
    }
}
