//! Opening a GPU, and what its errors mean.

use candle_core::cuda_backend::cudarc::cublas::sys::cublasStatus_t;
use candle_core::cuda_backend::cudarc::driver::result::device::get_default_mem_pool;
use candle_core::cuda_backend::cudarc::driver::result::mem_pool;
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUresult};
use candle_core::cuda_backend::{CudaError, WrapErr};
use candle_core::{CudaDevice, Device, Error};
use libloading::Library;

use crate::error::{LoadError, one_line};

const DRIVER: &str = "libcuda.so.1";
/// Libraries with which candle opens a device; the first is named after the toolkit.
const LIBRARIES: [&str; 2] = [concat!("libcublas.so.", env!("UNMASK_CUDA_MAJOR")), "libcurand.so.10"];

/// The first GPU; `None` where there is no driver, or no GPU.
pub(super) fn first() -> Result<Option<Device>, LoadError> {
    if let Err(reason) = library(DRIVER) {
        tracing::info!("computing on the CPU: {reason}");
        return Ok(None);
    }
    match open(0) {
        Err(LoadError::Device { reason, .. }) if fault(&reason) == Fault::NoDevice => {
            tracing::info!("computing on the CPU: {}", one_line(&reason));
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// A GPU by its number.
pub(crate) fn open(ordinal: usize) -> Result<Device, LoadError> {
    for name in [DRIVER].into_iter().chain(LIBRARIES) {
        library(name).map_err(|reason| LoadError::Library { name, reason })?;
    }
    let failed = |reason| LoadError::Device { device: format!("cuda:{ordinal}"), reason };
    // One stream of its own: candle's other choice is a stream for each thread, and evaluations come from
    // whichever thread of a pool is free.
    let device = Device::new_cuda_with_stream(ordinal).map_err(failed)?;
    one_stream(device.as_cuda_device().map_err(failed)?).map_err(failed)?;
    Ok(device)
}

/// Nothing between two evaluations: no events, and no memory that goes back to the driver and comes again.
fn one_stream(device: &CudaDevice) -> candle_core::Result<()> {
    // SAFETY: everything on this device is allocated, used and freed on the one stream it was opened with,
    // so the order of the stream is the order of all uses.
    #[expect(unsafe_code, reason = "events between streams are for those who have several")]
    unsafe {
        device.disable_event_tracking();
    }
    let ordinal = device.cuda_stream().context().cu_device();
    let mut all = u64::MAX;
    // SAFETY: the device is the one that the context was made for, the pool is its own, and the attribute
    // is a 64-bit number, which the driver copies.
    #[expect(unsafe_code, reason = "cudarc has no safe name for it")]
    unsafe {
        let pool = get_default_mem_pool(ordinal).w()?;
        let value = (&raw mut all).cast();
        mem_pool::set_attribute(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, value).w()?;
    }
    Ok(())
}

/// Looks for a library with the system's loader.
fn library(name: &str) -> Result<(), String> {
    // SAFETY: NVIDIA's libraries do in their initialisers what they do in every program that links them.
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    let loaded = unsafe { Library::new(name) };
    // It stays loaded for later callers.
    loaded.map(std::mem::forget).map_err(|error| one_line(&error))
}

/// The consequence of a device's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no GPU.
    NoDevice,
    /// A smaller batch may fit.
    OutOfMemory,
    /// Nothing will work any more until the process starts again.
    Lost,
    /// Any other.
    Other,
}

/// The consequence of candle's error.
pub(crate) fn fault(error: &Error) -> Fault {
    match error {
        Error::Cuda(source) => source.downcast_ref::<CudaError>().map_or(Fault::Other, fault_of_cuda),
        Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => {
            fault(inner)
        }
        _ => Fault::Other,
    }
}

fn fault_of_cuda(error: &CudaError) -> Fault {
    match error {
        CudaError::Cuda(error) | CudaError::Load { cuda: error, .. } => fault_of_driver(error.0),
        CudaError::Cublas(error) => match error.0 {
            cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => Fault::OutOfMemory,
            // What it launches fails on a device that is gone.
            cublasStatus_t::CUBLAS_STATUS_EXECUTION_FAILED => Fault::Lost,
            _ => Fault::Other,
        },
        _ => Fault::Other,
    }
}

/// Errors that the driver repeats to every later call are a lost device.
fn fault_of_driver(error: CUresult) -> Fault {
    match error {
        CUresult::CUDA_ERROR_NO_DEVICE | CUresult::CUDA_ERROR_INVALID_DEVICE => Fault::NoDevice,
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Fault::OutOfMemory,
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
        | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUresult::CUDA_ERROR_ASSERT
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_SYSTEM_NOT_READY
        | CUresult::CUDA_ERROR_UNKNOWN => Fault::Lost,
        _ => Fault::Other,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::cuda_backend::cudarc::driver::DriverError;

    use super::*;

    /// The scheduler shrinks its budget or stops by these two; everything else fails one batch.
    #[test]
    fn errors_of_the_driver_are_told_apart_however_they_are_wrapped() {
        let wrapped = |code| Error::from(CudaError::Cuda(DriverError(code))).context("while it computed");
        assert_eq!(fault(&wrapped(CUresult::CUDA_ERROR_OUT_OF_MEMORY)), Fault::OutOfMemory);
        assert_eq!(fault(&wrapped(CUresult::CUDA_ERROR_ECC_UNCORRECTABLE)), Fault::Lost);
        assert_eq!(fault(&wrapped(CUresult::CUDA_ERROR_INVALID_VALUE)), Fault::Other);
        assert_eq!(fault(&Error::Msg("anything".to_owned())), Fault::Other);
    }
}
