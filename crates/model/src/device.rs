//! Device and precision; the one place that asks for CUDA.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::{DType, Device};

#[cfg(feature = "cuda")]
use self::cuda::{first as first_gpu, open as gpu};
use crate::checkpoint::Family;
use crate::error::LoadError;
use crate::kernel::{CpuFeatures, Numbers};

/// The device that computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA device 0 when this build has CUDA and the host a driver and a device, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
}

/// The precision of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// On CUDA, the precision that the authors run the family in: f32 for DiffuGPT, bf16 for the others.
    /// On the CPU, f32 arithmetic.
    #[default]
    Auto,
    /// f32 arithmetic. On the CPU, weights stored as BF16 stay so in memory, which changes no result.
    F32,
    /// bfloat16. On the CPU, what enters a product is rounded to it, weights once and activations as they
    /// come; sums, norms, and what blocks add to are f32.
    Bf16,
    /// 8-bit integers in the products of the blocks, with a factor for each row of activations, found
    /// anew each time, and for each column of weights; head and attention are bfloat16. CPU only.
    Int8,
    /// IEEE half precision; CUDA only.
    F16,
}

/// A device and what tensors on it are made of.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Candle's device.
    pub device: Device,
    /// Type of activations, and of weights where they are plain tensors.
    pub dtype: DType,
    /// The activation type of products on the CPU.
    pub numbers: Numbers,
    /// Instruction set of the CPU kernels.
    pub cpu: CpuFeatures,
    /// True if a canvas gets the same bits alone and in every batch. Always so on the CPU; on a GPU our
    /// kernel then multiplies in place of cuBLAS's.
    pub deterministic: bool,
}

impl Placement {
    /// Resolves the choices for a model; `deterministic` is what costs nothing.
    ///
    /// # Errors
    /// The device is not there, or cannot compute in that precision.
    pub fn new(
        choice: DeviceChoice,
        precision: Precision,
        family: &Family,
        cpu: CpuFeatures,
    ) -> Result<Self, LoadError> {
        let device = match choice {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Auto => first_gpu()?.unwrap_or(Device::Cpu),
            DeviceChoice::Cuda(ordinal) => gpu(ordinal)?,
        };
        let refused = |dtype, available| {
            let device = if device.is_cpu() { "cpu" } else { "cuda" }.to_owned();
            Err(LoadError::Dtype { dtype, device, available })
        };
        if device.is_cpu() {
            let numbers = match precision {
                Precision::Auto | Precision::F32 => Numbers::F32,
                Precision::Bf16 => Numbers::Bf16,
                Precision::Int8 => Numbers::Int8,
                Precision::F16 => return refused("f16", "auto, f32, bf16 and int8"),
            };
            return Ok(Self { device, dtype: DType::F32, numbers, cpu, deterministic: true });
        }
        let dtype = match precision {
            Precision::F32 => DType::F32,
            Precision::Auto if !family.bfloat16 => DType::F32,
            Precision::Auto | Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
            Precision::Int8 => return refused("int8", "auto, f32, bf16 and f16"),
        };
        Ok(Self { device, dtype, numbers: Numbers::F32, cpu, deterministic: false })
    }

    /// The same with the same bits in every batch, if that is asked for.
    #[must_use]
    pub fn deterministic(self, asked: bool) -> Self {
        Self { deterministic: self.deterministic || asked, ..self }
    }

    /// Returns true if our own kernel has to multiply: cuBLAS would not give the same bits in every batch.
    pub(crate) fn needs_our_product(&self) -> bool {
        self.deterministic && self.device.is_cuda()
    }

    /// The precision's name, as `--dtype` knows it.
    #[must_use]
    pub fn precision(&self) -> &'static str {
        match (self.device.is_cpu(), self.numbers, self.dtype) {
            (true, Numbers::Bf16, _) | (false, _, DType::BF16) => "bf16",
            (true, Numbers::Int8, _) => "int8",
            (false, _, DType::F16) => "f16",
            _ => "f32",
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn first_gpu() -> Result<Option<Device>, LoadError> {
    Ok(None)
}

#[cfg(not(feature = "cuda"))]
fn gpu(ordinal: usize) -> Result<Device, LoadError> {
    let reason = "this program was built without CUDA; build it with --features cuda, or use --device cpu";
    let reason = candle_core::Error::msg(reason);
    Err(LoadError::Device { device: format!("cuda:{ordinal}"), reason })
}
