//! Where tests of the GPU's path run.

use unmask_model::device::DeviceChoice;

/// The GPU that UNMASK_TEST_GPU numbers, else the CPU.
#[expect(clippy::disallowed_methods, reason = "where this test runs")]
pub fn tested() -> DeviceChoice {
    let gpu = std::env::var("UNMASK_TEST_GPU").ok();
    gpu.map_or(DeviceChoice::Cpu, |number| DeviceChoice::Cuda(number.parse().unwrap()))
}
