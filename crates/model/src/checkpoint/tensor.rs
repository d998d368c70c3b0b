//! A tensor of a checkpoint, in the type that it is stored in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use super::files::TensorFile;
use super::gguf::BlockTensor;
use crate::device::Placement;
use crate::error::{LoadError, one_line};
use crate::kernel::{CpuFeatures, Encoding};

/// One tensor as it is stored.
#[derive(Debug)]
pub struct StoredTensor {
    numbers: StoredNumbers,
    path: PathBuf,
    name: String,
}

#[derive(Debug)]
enum StoredNumbers {
    /// In main memory.
    Tensor(Tensor),
    /// In a safetensors file, which is read when the numbers are needed.
    File { file: Arc<TensorFile>, dtype: DType, shape: Vec<usize> },
    /// In the map of a GGUF file.
    Blocks(BlockTensor),
}

impl StoredTensor {
    /// A tensor in main memory.
    pub(super) fn in_memory(tensor: Tensor, path: &Path, name: String) -> Self {
        Self { numbers: StoredNumbers::Tensor(tensor), path: path.to_owned(), name }
    }

    /// A tensor in the map of a file.
    pub(super) fn in_blocks(tensor: BlockTensor, path: &Path, name: String) -> Self {
        Self { numbers: StoredNumbers::Blocks(tensor), path: path.to_owned(), name }
    }

    /// A tensor of a safetensors file.
    pub(super) fn in_file(file: &Arc<TensorFile>, path: &Path, name: &str) -> Result<Self, LoadError> {
        let view = file.get(name).map_err(|error| LoadError::Malformed {
            path: path.to_owned(),
            reason: format!("tensor `{name}`: {}", one_line(&error)),
        })?;
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                let path = path.to_owned();
                let name = name.to_owned();
                let found = format!("{other:?}");
                return Err(LoadError::TensorType { path, name, found, supported: "F32, F16 and BF16" });
            }
        };
        let numbers = StoredNumbers::File { file: file.clone(), dtype, shape: view.shape().to_owned() };
        Ok(Self { numbers, path: path.to_owned(), name: name.to_owned() })
    }

    /// Bytes that it takes where it is stored.
    pub(super) fn bytes(&self) -> usize {
        match &self.numbers {
            StoredNumbers::Tensor(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            StoredNumbers::File { dtype, shape, .. } => {
                shape.iter().product::<usize>() * dtype.size_in_bytes()
            }
            StoredNumbers::Blocks(tensor) => tensor.bytes().len(),
        }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match &self.numbers {
            StoredNumbers::Tensor(tensor) => tensor.dims(),
            StoredNumbers::File { shape, .. } => shape,
            StoredNumbers::Blocks(tensor) => tensor.shape(),
        }
    }

    /// Returns true if the numbers are stored as bfloat16, which holds them without loss.
    #[must_use]
    pub fn is_bf16(&self) -> bool {
        match &self.numbers {
            StoredNumbers::Tensor(tensor) => tensor.dtype() == DType::BF16,
            StoredNumbers::File { dtype, .. } => *dtype == DType::BF16,
            StoredNumbers::Blocks(tensor) => tensor.encoding() == Encoding::Bf16,
        }
    }

    /// The tensor where it is stored, when it can be read from there row by row.
    #[must_use]
    pub fn blocks(&self) -> Option<&BlockTensor> {
        match &self.numbers {
            StoredNumbers::Tensor(_) | StoredNumbers::File { .. } => None,
            StoredNumbers::Blocks(tensor) => Some(tensor),
        }
    }

    /// Some rows of a matrix, in main memory.
    ///
    /// # Errors
    /// There are no such rows.
    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> Result<Self, LoadError> {
        let part = self
            .on(CpuFeatures::portable(), &Device::Cpu)
            .and_then(|tensor| tensor.narrow(0, rows.start, rows.len())?.contiguous())
            .map_err(|source| self.failed(source))?;
        Ok(Self::in_memory(part, &self.path, self.name.clone()))
    }

    /// Refuses another shape.
    ///
    /// # Errors
    /// The shape differs; the message names both.
    pub fn expect_shape(&self, expected: &[usize]) -> Result<(), LoadError> {
        if self.shape() == expected {
            return Ok(());
        }
        Err(LoadError::TensorShape {
            path: self.path.clone(),
            name: self.name.clone(),
            expected: expected.to_owned(),
            found: self.shape().to_owned(),
        })
    }

    /// Its elements, row-major.
    ///
    /// # Errors
    /// The conversion failed.
    pub fn to_f32(&self, cpu: CpuFeatures) -> Result<Vec<f32>, LoadError> {
        if let StoredNumbers::Blocks(tensor) = &self.numbers {
            return Ok(tensor.to_f32(cpu));
        }
        let flat = self
            .on(cpu, &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1());
        flat.map_err(|source| self.failed(source))
    }

    /// The tensor on a device, in the type that is computed in there. From a file's map it goes there without
    /// a copy of ours in main memory.
    ///
    /// # Errors
    /// The device failed.
    pub fn to_device(&self, placement: &Placement) -> Result<Tensor, LoadError> {
        let moved = self.on(placement.cpu, &placement.device);
        moved.and_then(|tensor| tensor.to_dtype(placement.dtype)).map_err(|source| self.failed(source))
    }

    /// The tensor in f32.
    pub(super) fn into_f32(self) -> Result<Tensor, LoadError> {
        let tensor =
            self.on(CpuFeatures::portable(), &Device::Cpu).and_then(|tensor| tensor.to_dtype(DType::F32));
        tensor.map_err(|source| self.failed(source))
    }

    /// The tensor as it is stored, except for blocks, which become f32.
    fn on(&self, cpu: CpuFeatures, device: &Device) -> candle_core::Result<Tensor> {
        match &self.numbers {
            StoredNumbers::Tensor(tensor) => tensor.to_device(device),
            StoredNumbers::File { file, .. } => {
                let view = file.get(&self.name)?;
                if !device.is_cpu() {
                    touch(view.data());
                }
                view.load(device)
            }
            StoredNumbers::Blocks(tensor) => Tensor::from_vec(tensor.to_f32(cpu), tensor.shape(), device),
        }
    }

    /// The same tensor with other elements.
    pub(super) fn map(
        self,
        change: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self, LoadError> {
        let tensor = self
            .on(CpuFeatures::portable(), &Device::Cpu)
            .and_then(change)
            .map_err(|source| self.failed(source))?;
        Ok(Self { numbers: StoredNumbers::Tensor(tensor), ..self })
    }

    /// A failure of the tensor library while this tensor was handled.
    pub(crate) fn failed(&self, reason: candle_core::Error) -> LoadError {
        #[cfg(feature = "cuda")]
        if crate::device::cuda::fault(&reason) == crate::device::cuda::Fault::OutOfMemory {
            return LoadError::DeviceMemory { tensor: self.name.clone(), bytes: self.bytes() };
        }
        LoadError::Device { device: format!("tensor `{}`", self.name), reason }
    }
}

/// Has the pages of a map read by this thread: a driver that copies from them may let one thread in at a time,
/// and would let all others wait for the disk.
fn touch(bytes: &[u8]) {
    const PAGE: usize = 4096;
    std::hint::black_box(bytes.iter().step_by(PAGE).fold(0, |all, byte| all ^ byte));
}
