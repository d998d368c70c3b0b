//! Device and precision; the one place that asks for CUDA.

use candle_core::{DType, Device};

use crate::checkpoint::Family;
use crate::error::LoadError;
use crate::kernel::Storage;

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA device 0 when this build has CUDA and the host a device, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
}

/// In which precision to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// On CUDA, the precision that the reference runs the family in: f32 for DiffuGPT, bf16 for
    /// DiffuLLaMA. On the CPU, f32 arithmetic.
    #[default]
    Auto,
    /// f32 arithmetic. On the CPU, weights stored as BF16 stay so in memory, which changes no result.
    F32,
    /// bfloat16. On the CPU the weights are rounded to it and the arithmetic stays in f32.
    Bf16,
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
    /// Storage of packed weights on the CPU; `None` keeps what is exact for each tensor.
    pub storage: Option<Storage>,
}

impl Placement {
    /// Resolves the choices for a model.
    ///
    /// # Errors
    /// The device is not there, or cannot compute in that precision.
    pub fn new(choice: DeviceChoice, precision: Precision, family: Family) -> Result<Self, LoadError> {
        let device = match choice {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Auto => Device::cuda_if_available(0).unwrap_or(Device::Cpu),
            DeviceChoice::Cuda(ordinal) => Device::new_cuda(ordinal)
                .map_err(|source| LoadError::Device { device: format!("cuda:{ordinal}"), source })?,
        };
        if device.is_cpu() {
            let storage = match precision {
                Precision::Auto | Precision::F32 => None,
                Precision::Bf16 => Some(Storage::Bf16),
                Precision::F16 => {
                    let device = "cpu".to_owned();
                    return Err(LoadError::Dtype { dtype: "f16", device, available: "auto, f32 and bf16" });
                }
            };
            return Ok(Self { device, dtype: DType::F32, storage });
        }
        let dtype = match (precision, family) {
            (Precision::F32, _) | (Precision::Auto, Family::DiffuGpt) => DType::F32,
            (Precision::Bf16, _) | (Precision::Auto, Family::DiffuLlama) => DType::BF16,
            (Precision::F16, _) => DType::F16,
        };
        Ok(Self { device, dtype, storage: None })
    }
}
