//! The predictor that computes: pack, forward, read, back to plain numbers.

use std::iter;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{Ask, Guidance, MaskPredictor, ModelLimits, Read, TokenId, Want};
use crate::backbone::{Backbone, PackedRows};
use crate::checkpoint::Checkpoint;
use crate::device::Placement;
use crate::error::{LoadError, PredictError};
use crate::readout::{RowContext, Scratch, read_row};

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

    /// Where the rows behind a want lie, `first` being the first row of its canvas.
    fn locate<'a>(&self, ask: &'a Ask<'a>, want: &'a Want, first: u32) -> Option<Asked<'a>> {
        let length = ask.tokens.len();
        let valid = (want.position as usize) < length
            && (want.sampling as usize) < ask.samplings.len()
            && want.allowed.is_none_or(|set| (set as usize) < ask.allowed.len())
            && want.target.is_none_or(|token| (token as usize) < self.limits.vocabulary)
            && ask.guidance.is_none_or(|guidance| guidance.tokens.len() == length);
        let row = first + self.row_of(want.position).filter(|_| valid)?;
        let guide = guidance(ask).map(|guidance| (row + length as u32, guidance.weight));
        Some(Asked { ask, want, row, guide })
    }

    fn evaluate(&self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        let mut canvases: Vec<&[TokenId]> = Vec::new();
        let mut asked = Vec::new();
        let mut numbers = Vec::new();
        let mut first = 0;
        for (number, ask) in asks.iter().enumerate() {
            for want in ask.wants {
                let unreadable = PredictError::Unreadable { ask: number, position: want.position };
                asked.push(self.locate(ask, want, first).ok_or(unreadable)?);
                numbers.push(number);
            }
            for tokens in iter::once(ask.tokens).chain(guidance(ask).map(|guidance| guidance.tokens)) {
                first += tokens.len() as u32;
                canvases.push(tokens);
            }
        }
        let mut reads: Vec<Vec<Read>> = asks.iter().map(|ask| Vec::with_capacity(ask.wants.len())).collect();
        if asked.is_empty() {
            return Ok(reads);
        }
        let packed = PackedRows::new(canvases, &self.placement.device)?;
        let hidden = self.backbone.hidden(&packed, &mut |_, _| Ok(()))?;
        // A guided want has two rows.
        let guided = asked.iter().any(|asked| asked.guide.is_some());
        let size = if guided { HEAD_ROWS / 2 } else { HEAD_ROWS };
        for (asked, numbers) in asked.chunks(size).zip(numbers.chunks(size)) {
            let own = asked.iter().map(|asked| asked.row);
            let guides = asked.iter().filter_map(|asked| asked.guide);
            let logits = self.head(&hidden, own.chain(guides.map(|(row, _)| row)).collect())?;
            let (own, mut guides) = logits.split_at(asked.len() * self.limits.vocabulary);
            let guides: Vec<Option<&[f32]>> = asked
                .iter()
                .map(|asked| asked.guide.and_then(|_| guides.split_off(..self.limits.vocabulary)))
                .collect();
            let found: Vec<Option<Read>> = own
                .par_chunks(self.limits.vocabulary)
                .zip(guides)
                .zip(asked)
                .map_init(Buffers::default, |buffers, ((own, guide), asked)| asked.read(own, guide, buffers))
                .collect();
            for ((read, asked), &ask) in found.into_iter().zip(asked).zip(numbers) {
                let failed = PredictError::NotFinite { ask, position: asked.want.position };
                reads[ask].push(read.ok_or(failed)?);
            }
        }
        Ok(reads)
    }

    /// The logits of chosen rows, one row after another.
    fn head(&self, hidden: &Tensor, rows: Vec<u32>) -> Result<Vec<f32>, PredictError> {
        let count = rows.len();
        let index = Tensor::from_vec(rows, count, &self.placement.device)?;
        let logits = self.backbone.logits(&hidden.index_select(&index, 0)?)?;
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

/// A want and the rows of the packed canvases that answer it.
struct Asked<'a> {
    ask: &'a Ask<'a>,
    want: &'a Want,
    row: u32,
    /// The same row of the guidance canvas, and its weight.
    guide: Option<(u32, f64)>,
}

#[derive(Default)]
struct Buffers {
    scratch: Scratch,
    guided: Vec<f32>,
}

impl Asked<'_> {
    /// `guide` are the logits of the guidance canvas.
    fn read(&self, own: &[f32], guide: Option<&[f32]>, buffers: &mut Buffers) -> Option<Read> {
        let Self { ask, want, .. } = self;
        let Buffers { scratch, guided } = buffers;
        let logits = match (guide, self.guide) {
            (Some(guide), Some((_, weight))) => {
                let strength = (weight + 1.0) as f32;
                guided.clear();
                guided.extend(guide.iter().zip(own).map(|(u, c)| u + strength * (c - u)));
                guided.as_slice()
            }
            _ => own,
        };
        let context = RowContext {
            sampling: ask.samplings.get(want.sampling as usize)?,
            allowed: want.allowed.and_then(|set| ask.allowed.get(set as usize)).map(Vec::as_slice),
            counts: ask.counts,
            target: want.target,
            alternatives: ask.alternatives,
        };
        read_row(logits, &context, want.uniform, scratch)
    }
}

/// Guidance that changes something and is worth a second canvas.
fn guidance<'a>(ask: &Ask<'a>) -> Option<Guidance<'a>> {
    ask.guidance.filter(|guidance| guidance.weight != 0.0 && !ask.wants.is_empty())
}

impl MaskPredictor for CandlePredictor {
    fn limits(&self) -> ModelLimits {
        self.limits
    }

    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        self.threads.install(|| self.evaluate(asks))
    }
}
