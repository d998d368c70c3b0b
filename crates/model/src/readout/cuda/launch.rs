//! Runs the kernel over rows of logits that lie on the device.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, Result, Storage, Tensor, bail};

use super::plan::{ALTERNATIVE, FOUND, LARGEST_VOCABULARY, Plan, ROW};
use crate::predictor::Read;

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/readout.ptx"));
/// Threads of a block, equal to those of `block.cuh`.
const THREADS: u32 = 512;

/// A plan on its way: everything it needs is on the device, and so is what it finds.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    plan: &'a Plan,
    device: CudaDevice,
    rows: CudaSlice<u32>,
    lists: CudaSlice<u32>,
    found: CudaSlice<u32>,
    alternatives: CudaSlice<u32>,
    /// Rows read so far.
    read: usize,
}

impl<'a> Reading<'a> {
    /// Uploads the plan.
    pub(crate) fn start(plan: &'a Plan, device: &CudaDevice) -> Result<Self> {
        // The driver takes no empty buffers.
        let lists = if plan.lists().is_empty() { &[0] } else { plan.lists() };
        let alternatives = (ALTERNATIVE * plan.most_alternatives() * plan.len()).max(1);
        Ok(Self {
            plan,
            device: device.clone(),
            rows: device.clone_htod(plan.rows())?,
            lists: device.clone_htod(lists)?,
            found: device.alloc_zeros(FOUND * plan.len())?,
            alternatives: device.alloc_zeros(alternatives)?,
            read: 0,
        })
    }

    /// Reads the next `count` rows of the plan from `logits`, (rows, vocabulary) in f32, which their places
    /// refer to. Returns before it is done.
    pub(crate) fn read(&mut self, count: usize, logits: &Tensor) -> Result<()> {
        let (held, vocabulary) = logits.dims2()?;
        let end = self.read + count;
        if vocabulary > LARGEST_VOCABULARY || end > self.plan.len() || !logits.is_contiguous() {
            bail!("{count} rows of {vocabulary} logits cannot be read");
        }
        let named = self.plan.places(self.read..end);
        if named.into_iter().any(|row| row as usize >= held) {
            bail!("a place lies outside of {held} rows of logits");
        }
        let (storage, layout) = logits.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("the logits are not on the device") };
        let logits = storage.as_cuda_slice::<f32>()?.slice(layout.start_offset()..);
        let most = self.plan.most_alternatives();
        let rows = self.rows.slice(self.read * ROW..);
        let mut found = self.found.slice_mut(self.read * FOUND..);
        let mut alternatives = self.alternatives.slice_mut(self.read * most * ALTERNATIVE..);
        let kernel = self.device.get_or_load_custom_func("read_rows", "unmask-readout", PTX)?;
        let room = count * vocabulary;
        let vocabulary = vocabulary as u32;
        let most = most as u32;
        let mut launch = kernel.builder();
        let grid =
            LaunchConfig { grid_dim: (count as u32, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are those of `read_rows`, in its order. Block b reads row b of `rows`, the
        // stretches of `lists` that the plan wrote there, and rows of `logits` that were checked above; it
        // writes row b of `work`, all of it before it reads any, of `found` and `alternatives`, which have room
        // for `count` of them. Tokens outside the vocabulary are skipped in the kernel. The device has one
        // stream, so that buffers are freed after the kernel that uses them.
        #[expect(unsafe_code, reason = "launches a kernel, which fills what is allocated")]
        unsafe {
            let mut work = self.device.alloc::<f32>(room)?;
            launch.arg(&rows).arg(&self.lists).arg(&logits).arg(&vocabulary).arg(&mut work);
            launch.arg(&mut found).arg(&mut alternatives).arg(&most).launch(grid).w()?;
        }
        self.read = end;
        Ok(())
    }

    /// Waits for the device, and brings home what was read.
    pub(crate) fn finish(self) -> Result<Vec<Option<Read>>> {
        let found = self.device.clone_dtoh(&self.found)?;
        let alternatives = match self.plan.most_alternatives() {
            0 => Vec::new(),
            _ => self.device.clone_dtoh(&self.alternatives)?,
        };
        self.device.cuda_stream().synchronize().w()?;
        Ok(self.plan.decode(&found, &alternatives))
    }
}
