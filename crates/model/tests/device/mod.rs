//! Devices that tests run on.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use unmask_model::device::DeviceChoice;
use unmask_model::kernel::CpuFeatures;

/// The GPU that UNMASK_TEST_GPU numbers, else the CPU.
#[expect(clippy::disallowed_methods, reason = "where this test runs")]
pub fn tested() -> DeviceChoice {
    let gpu = std::env::var("UNMASK_TEST_GPU").ok();
    gpu.map_or(DeviceChoice::Cpu, |number| DeviceChoice::Cuda(number.parse().unwrap()))
}

/// The instruction set that UNMASK_CPU names, else the highest of this processor.
#[expect(clippy::disallowed_methods, reason = "an argument of this test")]
pub fn cpu() -> CpuFeatures {
    std::env::var("UNMASK_CPU").map_or_else(|_| CpuFeatures::detect(), |name| name.parse().unwrap())
}
