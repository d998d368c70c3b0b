//! The predictor that computes: pack, forward, read, back to plain numbers.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{Ask, MaskPredictor, ModelLimits, Read, Want};
use crate::backbone::{Backbone, PackedRows};
use crate::checkpoint::Checkpoint;
use crate::device::Placement;
use crate::error::{LoadError, PredictError};
use crate::readout::{Scratch, read_row};

/// Rows whose logits exist at the same time: 64 × 50,257 floats are 13 MB.
const HEAD_ROWS: usize = 64;

/// A loaded model and the threads that compute it.
#[derive(Debug)]
pub struct CandlePredictor {
    backbone: Backbone,
    limits: ModelLimits,
    placement: Placement,
    threads: rayon::ThreadPool,
}

impl CandlePredictor {
    /// Loads the weights onto the device; `threads` CPU threads compute (0: as many as there are cores).
    ///
    /// # Errors
    /// As [`Backbone::load`]; also when the threads cannot be started.
    pub fn load(checkpoint: &Checkpoint, placement: Placement, threads: usize) -> Result<Self, LoadError> {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("compute-{i}"));
        let threads = pool.build().map_err(|error| LoadError::Device {
            device: "cpu threads".to_owned(),
            source: candle_core::Error::wrap(error),
        })?;
        let backbone =
            threads.install(|| Backbone::load(&checkpoint.config, &checkpoint.weights, &placement))?;
        let limits = ModelLimits {
            vocabulary: checkpoint.tokenizer.rows(),
            context: checkpoint.config.context,
            mask_token: checkpoint.tokenizer.mask_id(),
            shift: checkpoint.profile.shift,
        };
        Ok(Self { backbone, limits, placement, threads })
    }

    /// The logits of every row of every canvas, (rows, vocabulary) in f32, straight from the head: with
    /// the shift, row i speaks of position i + 1. For tests and inspection; a forward pass that serves
    /// never holds them.
    ///
    /// # Errors
    /// The device failed.
    pub fn all_logits(&self, canvases: &[&[u32]]) -> Result<Tensor, PredictError> {
        self.threads.install(|| {
            let packed = PackedRows::new(canvases.iter().copied(), &self.placement.device)?;
            let hidden = self.backbone.hidden(&packed, &mut |_, _| Ok(()))?;
            Ok(self.backbone.logits(&hidden)?.to_dtype(DType::F32)?)
        })
    }

    /// The hidden states by name, each (rows, width) in f32: `embedding`, `block.0` …, `final_norm`.
    ///
    /// # Errors
    /// The device failed.
    pub fn hidden_states(&self, canvases: &[&[u32]]) -> Result<Vec<(String, Tensor)>, PredictError> {
        self.threads.install(|| {
            let packed = PackedRows::new(canvases.iter().copied(), &self.placement.device)?;
            let mut states = Vec::new();
            self.backbone.hidden(&packed, &mut |name, state| {
                states.push((name.to_owned(), state.to_dtype(DType::F32)?));
                Ok(())
            })?;
            Ok(states)
        })
    }

    /// The row that speaks of `position`, if there is one.
    fn row_of(&self, position: u32) -> Option<u32> {
        if self.limits.shift { position.checked_sub(1) } else { Some(position) }
    }

    fn evaluate(&self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        let mut rows = Vec::new();
        let mut wants: Vec<(usize, &Want)> = Vec::new();
        let mut first = 0;
        for (ask_number, ask) in asks.iter().enumerate() {
            for want in ask.wants {
                let row = self.row_of(want.position).filter(|_| (want.position as usize) < ask.tokens.len());
                let Some(row) = row.filter(|_| (want.sampling as usize) < ask.samplings.len()) else {
                    return Err(PredictError::Unreadable { ask: ask_number, position: want.position });
                };
                rows.push(first + row);
                wants.push((ask_number, want));
            }
            first += ask.tokens.len() as u32;
        }
        let mut reads: Vec<Vec<Read>> = asks.iter().map(|ask| Vec::with_capacity(ask.wants.len())).collect();
        if rows.is_empty() {
            return Ok(reads);
        }
        let packed = PackedRows::new(asks.iter().map(|ask| ask.tokens), &self.placement.device)?;
        let hidden = self.backbone.hidden(&packed, &mut |_, _| Ok(()))?;
        for (rows, wants) in rows.chunks(HEAD_ROWS).zip(wants.chunks(HEAD_ROWS)) {
            let index = Tensor::from_slice(rows, rows.len(), &self.placement.device)?;
            let logits = self.backbone.logits(&hidden.index_select(&index, 0)?)?.to_dtype(DType::F32)?;
            let logits = logits.flatten_all()?.to_vec1::<f32>()?;
            let found: Vec<Option<Read>> = logits
                .par_chunks(self.limits.vocabulary)
                .zip(wants)
                .map_init(Scratch::default, |scratch, (logits, (ask, want))| {
                    read_row(logits, &asks[*ask].samplings[want.sampling as usize], want.uniform, scratch)
                })
                .collect();
            for (read, (ask, want)) in found.into_iter().zip(wants) {
                let failed = PredictError::NotFinite { ask: *ask, position: want.position };
                reads[*ask].push(read.ok_or(failed)?);
            }
        }
        Ok(reads)
    }
}

impl MaskPredictor for CandlePredictor {
    fn limits(&self) -> ModelLimits {
        self.limits
    }

    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        self.threads.install(|| self.evaluate(asks))
    }
}
