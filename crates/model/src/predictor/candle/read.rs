//! Readouts: logits of the wanted rows, a part of them at a time, and a token from each.

use rayon::prelude::*;

use super::{CandlePredictor, HEAD_ROWS};
use crate::backbone::Workspace;
use crate::kernel::CpuFeatures;
use crate::predictor::Read;
use crate::predictor::asked::{Asked, Batch, rows_of};
use crate::readout::{Scratch, read_row_before};

/// Rows of logits computed at once on a GPU, where they are written twice: 512 × 50,257 floats are 103 MB.
#[cfg(feature = "cuda")]
const GPU_HEAD_ROWS: usize = 512;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    scratch: Scratch,
    guided: Vec<f32>,
}

impl Buffers {
    /// `guide` are the logits of the guidance canvas, `ahead` those of the next row.
    fn read(
        &mut self,
        cpu: CpuFeatures,
        asked: &Asked<'_>,
        own: &[f32],
        guide: Option<&[f32]>,
        ahead: &[f32],
    ) -> Option<Read> {
        let Self { scratch, guided } = self;
        let logits = match (guide, asked.guide) {
            (Some(guide), Some((_, weight))) => {
                let strength = (weight + 1.0) as f32;
                guided.clear();
                guided.extend(guide.iter().zip(own).map(|(u, c)| u + strength * (c - u)));
                guided.as_slice()
            }
            _ => own,
        };
        read_row_before(cpu, logits, ahead, &asked.context, asked.want.uniform, scratch)
    }
}

impl CandlePredictor {
    /// The reads of a batch, in the order of what is asked; `all` are the rows that have been computed.
    pub(super) fn read(
        &self,
        batch: &Batch<'_>,
        all: &[u32],
        workspace: &mut Workspace,
    ) -> candle_core::Result<Vec<Option<Read>>> {
        #[cfg(feature = "cuda")]
        if let Some(device) = self.backbone.gpu() {
            return self.read_on_gpu(batch, all, workspace, device);
        }
        let mut found = Vec::with_capacity(batch.asked.len());
        for asked in batch.pieces(HEAD_ROWS) {
            let rows = rows_of(asked);
            let logits = self.backbone.logits(&places(&rows, all), workspace)?;
            let row = |row: u32| logits.row(rows.binary_search(&row).ok()?);
            let read = |(number, one): (usize, &Asked<'_>)| {
                // One that a panic has left behind is as good as any.
                let mut buffers = self.buffers.get_or_default().borrow_mut();
                let guide = one.guide.and_then(|(guide, _)| row(guide));
                let ahead = asked.get(number + 1).and_then(|next| row(next.row)).unwrap_or_default();
                buffers.read(self.cpu, one, row(one.row)?, guide, ahead)
            };
            found.par_extend(asked.par_iter().enumerate().map(read));
        }
        Ok(found)
    }

    /// [`Self::read`] on a GPU; the host waits for the device only at the end.
    #[cfg(feature = "cuda")]
    fn read_on_gpu(
        &self,
        batch: &Batch<'_>,
        all: &[u32],
        workspace: &Workspace,
        device: &candle_core::CudaDevice,
    ) -> candle_core::Result<Vec<Option<Read>>> {
        use crate::readout::cuda::{Place, Plan, Reading};

        let mut plan = Plan::default();
        for asked in batch.pieces(GPU_HEAD_ROWS) {
            let rows = rows_of(asked);
            let place = |row: u32| rows.partition_point(|other| *other < row) as u32;
            for asked in asked {
                let guide = asked.guide.map(|(row, weight)| (place(row), weight));
                let own = place(asked.row);
                plan.push(Place { own, guide }, &asked.context, asked.want.uniform);
            }
        }
        let mut reading = Reading::start(&plan, device)?;
        for asked in batch.pieces(GPU_HEAD_ROWS) {
            let logits = self.backbone.logits_on_device(&places(&rows_of(asked), all), workspace)?;
            reading.read(asked.len(), &logits)?;
        }
        reading.finish()
    }
}

/// The places of `rows` among `all`, which holds them; both ascend.
fn places(rows: &[u32], all: &[u32]) -> Vec<u32> {
    rows.iter().map(|row| all.partition_point(|other| other < row) as u32).collect()
}
