//! The predictor that computes: pack, forward, read, back to plain numbers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{Ask, Guidance, MaskPredictor, ModelLimits, Read, TokenId, Want};
use crate::backbone::{Backbone, PackedRows, Times, Workspace};
use crate::checkpoint::{Checkpoint, ModelConfig, Weights};
use crate::device::Placement;
use crate::error::{LoadError, PredictError};
use crate::readout::{RowContext, Scratch, read_row};

/// Rows whose logits exist at the same time: 64 × 50,257 floats are 13 MB.
const HEAD_ROWS: usize = 64;

/// Bytes of weights that take long enough to load for somebody to wonder: about a second's.
const LARGE: usize = 256 << 20;

/// A loaded model and the threads that compute it.
#[derive(Debug)]
pub struct CandlePredictor {
    backbone: Backbone,
    limits: ModelLimits,
    workspace: Mutex<Workspace>,
    /// For readouts, one for each thread; they are large enough to be worth keeping.
    buffers: Vec<Mutex<Buffers>>,
    threads: rayon::ThreadPool,
}

impl CandlePredictor {
    /// Loads the weights onto the device; `threads` CPU threads compute (0: as many as there are cores).
    ///
    /// # Errors
    /// As [`Backbone::load`]; also when the threads cannot be started.
    pub fn load(checkpoint: &Checkpoint, placement: Placement, threads: usize) -> Result<Self, LoadError> {
        let limits = ModelLimits {
            vocabulary: checkpoint.tokenizer.rows(),
            context: checkpoint.config.context,
            mask_token: checkpoint.tokenizer.mask_id(),
            shift: checkpoint.profile.shift,
        };
        checkpoint.weights.watched(LARGE, || {
            Self::new(&checkpoint.config, &checkpoint.weights, limits, &placement, threads)
        })
    }

    /// A network of any shape, with `weights` that need not come from files; `limits` must be those of
    /// the shape. `threads` as for [`Self::load`].
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn new(
        config: &ModelConfig,
        weights: &Weights,
        limits: ModelLimits,
        placement: &Placement,
        threads: usize,
    ) -> Result<Self, LoadError> {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("compute-{i}"));
        let threads = pool.build().map_err(|error| LoadError::Device {
            device: "cpu threads".to_owned(),
            source: candle_core::Error::wrap(error),
        })?;
        let backbone = threads.install(|| Backbone::load(config, weights, placement))?;
        let workspace = Mutex::new(backbone.workspace(threads.current_num_threads()));
        let buffers = (0..threads.current_num_threads()).map(|_| Mutex::default()).collect();
        Ok(Self { backbone, limits, workspace, buffers, threads })
    }

    /// The logits of every row of every canvas, (rows, vocabulary) in f32, straight from the head: with
    /// the shift, row i speaks of position i + 1. For tests and inspection; a forward pass that serves
    /// never holds them.
    ///
    /// # Errors
    /// The device failed.
    pub fn all_logits(&self, canvases: &[&[u32]]) -> Result<Tensor, PredictError> {
        self.threads.install(|| {
            let packed = PackedRows::new(canvases.iter().copied());
            let rows: Vec<u32> = (0..packed.rows() as u32).collect();
            let mut workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
            self.backbone.hidden(&packed, &rows, &mut workspace, None)?;
            let mut all = Vec::with_capacity(rows.len() * self.limits.vocabulary);
            for rows in rows.chunks(HEAD_ROWS) {
                let logits = self.backbone.logits(rows, &mut workspace)?;
                (0..rows.len()).filter_map(|row| logits.row(row)).for_each(|row| all.extend_from_slice(row));
            }
            Ok(Tensor::from_vec(all, (rows.len(), self.limits.vocabulary), &Device::Cpu)?)
        })
    }

    /// The hidden states by name, each (rows, width) in f32: `embedding`, `block.0` …, `final_norm`.
    ///
    /// # Errors
    /// The device failed.
    pub fn hidden_states(&self, canvases: &[&[u32]]) -> Result<Vec<(String, Tensor)>, PredictError> {
        self.threads.install(|| {
            let packed = PackedRows::new(canvases.iter().copied());
            let rows: Vec<u32> = (0..packed.rows() as u32).collect();
            let mut workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
            let mut states = Vec::new();
            let mut keep = |name: &str, state: &Tensor| {
                states.push((name.to_owned(), state.to_dtype(DType::F32)?));
                Ok(())
            };
            self.backbone.hidden(&packed, &rows, &mut workspace, Some(&mut keep))?;
            Ok(states)
        })
    }

    /// CPU threads that compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// What the time of forward passes went into since the last call; on the CPU only.
    pub fn take_times(&mut self) -> Times {
        self.workspace.get_mut().unwrap_or_else(PoisonError::into_inner).take_times()
    }

    /// The row that speaks of `position`, if there is one.
    fn row_of(&self, position: u32) -> Option<u32> {
        if self.limits.shift { position.checked_sub(1) } else { Some(position) }
    }

    /// Which rows speak of a want, `firsts` being the first rows of its canvas and of its guidance canvas.
    fn locate<'a>(
        &self,
        (number, ask): (usize, &'a Ask<'a>),
        (index, want): (usize, &'a Want),
        firsts: (u32, Option<u32>),
    ) -> Result<Asked<'a>, PredictError> {
        let length = ask.tokens.len();
        let valid = (want.position as usize) < length
            && (want.sampling as usize) < ask.samplings.len()
            && want.allowed.is_none_or(|set| (set as usize) < ask.allowed.len())
            && want.target.is_none_or(|token| (token as usize) < self.limits.vocabulary)
            && ask.guidance.is_none_or(|guidance| guidance.tokens.len() == length);
        let place = self.row_of(want.position).filter(|_| valid);
        let place = place.ok_or(PredictError::Unreadable { ask: number, position: want.position })?;
        let guide = guidance(ask).zip(firsts.1).map(|(guidance, first)| (first + place, guidance.weight));
        Ok(Asked { number, index, ask, want, row: firsts.0 + place, guide })
    }

    fn evaluate(&self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        let mut canvases = Canvases::default();
        let mut asked = Vec::new();
        for (number, ask) in asks.iter().enumerate() {
            if ask.wants.is_empty() {
                continue;
            }
            let own = canvases.place(ask.tokens);
            let guide = guidance(ask).map(|guidance| canvases.place(guidance.tokens));
            for want in ask.wants.iter().enumerate() {
                asked.push(self.locate((number, ask), want, (own, guide))?);
            }
        }
        let mut reads: Vec<Vec<Option<Read>>> = asks.iter().map(|ask| vec![None; ask.wants.len()]).collect();
        if asked.is_empty() {
            return Ok(asks.iter().map(|_| Vec::new()).collect());
        }
        // Equal canvases ask for the same rows; side by side, each is multiplied with the head once.
        asked.sort_by_key(|asked| asked.row);
        // A guided want has two rows.
        let guided = asked.iter().any(|asked| asked.guide.is_some());
        let all = rows_of(&asked);
        let mut workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        self.backbone.hidden(&PackedRows::new(canvases.packed), &all, &mut workspace, None)?;
        for asked in asked.chunks(if guided { HEAD_ROWS / 2 } else { HEAD_ROWS }) {
            let rows = rows_of(asked);
            let places: Vec<u32> =
                rows.iter().map(|row| all.partition_point(|other| other < row) as u32).collect();
            let logits = self.backbone.logits(&places, &mut workspace)?;
            let row = |row: u32| logits.row(rows.binary_search(&row).ok()?);
            let read = |asked: &Asked<'_>| {
                let thread = rayon::current_thread_index().unwrap_or(0) % self.buffers.len();
                // A buffer that a panic has left behind is as good as any.
                let mut buffers = self.buffers[thread].lock().unwrap_or_else(PoisonError::into_inner);
                let guide = asked.guide.and_then(|(guide, _)| row(guide));
                asked.read(row(asked.row)?, guide, &mut buffers)
            };
            let found: Vec<Option<Read>> = asked.par_iter().map(read).collect();
            for (read, asked) in found.into_iter().zip(asked) {
                let failed = PredictError::NotFinite { ask: asked.number, position: asked.want.position };
                reads[asked.number][asked.index] = Some(read.ok_or(failed)?);
            }
        }
        Ok(reads.into_iter().map(|reads| reads.into_iter().flatten().collect()).collect())
    }
}

/// The rows that speak of some wants, and their guides, ascending.
fn rows_of(asked: &[Asked<'_>]) -> Vec<u32> {
    let guides = asked.iter().filter_map(|asked| asked.guide).map(|(row, _)| row);
    let mut rows: Vec<u32> = asked.iter().map(|asked| asked.row).chain(guides).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// The canvases of a forward pass, each once, however many asks show it: the samples of one prompt begin
/// with the same one.
#[derive(Default)]
struct Canvases<'a> {
    packed: Vec<&'a [TokenId]>,
    firsts: HashMap<&'a [TokenId], u32>,
    rows: u32,
}

impl<'a> Canvases<'a> {
    /// The first row of a canvas.
    fn place(&mut self, tokens: &'a [TokenId]) -> u32 {
        *self.firsts.entry(tokens).or_insert_with(|| {
            let first = self.rows;
            self.rows += tokens.len() as u32;
            self.packed.push(tokens);
            first
        })
    }
}

/// A want and the rows of the packed canvases that answer it.
struct Asked<'a> {
    /// Which ask, and which of its wants.
    number: usize,
    index: usize,
    ask: &'a Ask<'a>,
    want: &'a Want,
    row: u32,
    /// The same row of the guidance canvas, and its weight.
    guide: Option<(u32, f64)>,
}

#[derive(Debug, Default)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight answers to one prompt would otherwise compute the same first evaluation eight times.
    #[test]
    fn a_canvas_shown_by_several_asks_is_packed_once() {
        let mut canvases = Canvases::default();
        let firsts: Vec<u32> =
            [&[1, 2, 3][..], &[9], &[1, 2, 3], &[1, 2], &[9]].map(|tokens| canvases.place(tokens)).to_vec();
        assert_eq!(firsts, [0, 3, 0, 4, 3]);
        assert_eq!((canvases.packed.len(), canvases.rows), (3, 6));
    }
}
