//! The predictor that computes: pack, forward, read, back to plain numbers.

mod read;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use thread_local::ThreadLocal;

use self::read::Buffers;
use super::asked::{Batch, rows_of};
use super::memos::Memos;
use super::{Ask, Context, MaskPredictor, MemoStatus, ModelLimits, Position, Read, TokenId, Work};
use crate::backbone::{Backbone, KeyValues, PackedRows, Times, Workspace};
use crate::checkpoint::{Checkpoint, TransformerSpec, Weights};
use crate::device::Placement;
use crate::error::{LoadError, PredictError};
use crate::kernel::{CpuFeatures, PANEL};

/// Rows of logits computed at once; large enough to amortise reading the head's weights: 256 × 50,257 floats
/// are 51 MB.
const HEAD_ROWS: usize = 256;

/// Bytes of weights above which loading takes about a second and shows a progress bar.
const LARGE: usize = 256 << 20;

/// A loaded model and the threads that compute it.
#[derive(Debug)]
pub struct CandlePredictor {
    backbone: Backbone,
    /// For readouts in main memory.
    cpu: CpuFeatures,
    limits: ModelLimits,
    workspace: Mutex<Workspace>,
    memos: Memos,
    /// Bytes of the keys and values of a position in all layers.
    memo_bytes: u64,
    /// For readouts; they are large enough to be worth keeping.
    buffers: ThreadLocal<RefCell<Buffers>>,
    threads: Arc<rayon::ThreadPool>,
}

impl CandlePredictor {
    /// Loads the weights onto the device; `threads` CPU threads compute (0: as many as there are cores).
    ///
    /// # Errors
    /// As [`Backbone::load`]; also when the threads cannot be started.
    pub fn load(checkpoint: &Checkpoint, placement: Placement, threads: usize) -> Result<Self, LoadError> {
        let limits = limits(checkpoint);
        checkpoint.weights.watched(LARGE, || {
            Self::new(&checkpoint.config.spec, &checkpoint.weights, limits, &placement, threads)
        })
    }

    /// A network of any shape, with `weights` that need not come from files; `limits` must be those of
    /// the shape. `threads` as for [`Self::load`].
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn new(
        spec: &TransformerSpec,
        weights: &Weights,
        limits: ModelLimits,
        placement: &Placement,
        threads: usize,
    ) -> Result<Self, LoadError> {
        let threads = compute_threads(threads)?;
        let backbone = threads.install(|| Backbone::load(spec, weights, placement))?;
        let memo_bytes = backbone.memo_bytes(spec);
        Ok(Self::of(backbone, limits, threads, placement.cpu, memo_bytes))
    }

    /// Keeps up to `bytes` of keys and values between evaluations, for [`Context::Frozen`]. Without it, each such
    /// evaluation computes them again.
    #[must_use]
    pub fn with_memos(self, bytes: u64) -> Self {
        Self { memos: Memos::new(self.limits.visibility, bytes), ..self }
    }

    /// [`Self::load`] with candle's operations, even on the CPU, so that the path of a GPU is tested without
    /// one.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn in_candle(checkpoint: &Checkpoint, placement: &Placement) -> Result<Self, LoadError> {
        let backbone = Backbone::in_candle(&checkpoint.config.spec, &checkpoint.weights, placement)?;
        let memo_bytes = backbone.memo_bytes(&checkpoint.config.spec);
        Ok(Self::of(backbone, limits(checkpoint), compute_threads(1)?, placement.cpu, memo_bytes))
    }

    fn of(
        backbone: Backbone,
        limits: ModelLimits,
        threads: rayon::ThreadPool,
        cpu: CpuFeatures,
        memo_bytes: u64,
    ) -> Self {
        let workspace = Mutex::new(backbone.workspace());
        let buffers = ThreadLocal::new();
        let memos = Memos::new(limits.visibility, 0);
        let threads = Arc::new(threads);
        Self { backbone, cpu, limits, workspace, memos, memo_bytes, buffers, threads }
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

    /// The time spent in the parts of forward passes since the last call; zero on a GPU.
    pub fn take_times(&mut self) -> Times {
        self.workspace.get_mut().unwrap_or_else(PoisonError::into_inner).take_times()
    }

    fn evaluate(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        let mut batch = Batch::new(asks, &self.limits)?;
        let mut reads: Vec<Vec<Option<Read>>> = asks.iter().map(|ask| vec![None; ask.wants.len()]).collect();
        if batch.asked.is_empty() {
            return Ok(asks.iter().map(|_| Vec::new()).collect());
        }
        let found = self.remember(&batch)?;
        let mut packed = PackedRows::default();
        let mut kept_here = Vec::new();
        let mut more = vec![0; batch.canvases.len()];
        for (shown, more) in batch.canvases.iter().zip(&mut more) {
            let Context::Frozen { active, as_of } = shown.context else {
                packed.push(shown.tokens, 0..shown.tokens.len() as Position, None);
                continue;
            };
            let kept = found.get(as_of).cloned().flatten();
            let known = kept.as_ref().map_or(0, KeyValues::count);
            let rest = known as Position..as_of.len() as Position;
            packed.push(shown.tokens, rest.chain(active.iter().copied()), kept);
            if known < as_of.len() {
                *more = as_of.len() - known;
                packed.keep(*more);
                kept_here.push(as_of);
            }
        }
        batch.insert_rows(&more);
        let all = rows_of(&batch.asked);
        let mut workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        let made = self.backbone.hidden(&packed, &all, &mut workspace, None)?;
        kept_here.into_iter().zip(&made).for_each(|(as_of, made)| self.memos.insert(as_of, made));
        let found = self.read(&batch, &all, &mut workspace)?;
        for (read, asked) in found.into_iter().zip(&batch.asked) {
            let failed = PredictError::NotFinite { ask: asked.number, position: asked.want.position };
            reads[asked.number][asked.index] = Some(read.ok_or(failed)?);
        }
        Ok(reads.into_iter().map(|reads| reads.into_iter().flatten().collect()).collect())
    }

    /// The keys and values that the canvases of a batch refer to. Those that are not in memory are computed, in one pass
    /// for all of them, except where [`Batch::continues`] says that the canvas computes them itself; what is there of them
    /// is then returned.
    fn remember<'a>(
        &mut self,
        batch: &Batch<'a>,
    ) -> Result<HashMap<&'a [TokenId], Option<KeyValues>>, PredictError> {
        let mut found: HashMap<&[TokenId], Option<KeyValues>> = HashMap::new();
        let mut missing: Vec<&[TokenId]> = Vec::new();
        let mut packed = PackedRows::default();
        for shown in &batch.canvases {
            let Context::Frozen { as_of, .. } = shown.context else { continue };
            if found.contains_key(as_of) || missing.contains(&as_of) {
                continue;
            }
            let base = self.memos.find(as_of)?;
            let known = base.as_ref().map_or(0, KeyValues::count);
            if known == as_of.len() || batch.continues(shown, &self.limits) {
                found.insert(as_of, base);
                continue;
            }
            packed.push(as_of, known as Position..as_of.len() as Position, base);
            packed.keep(as_of.len() - known);
            missing.push(as_of);
        }
        if !missing.is_empty() {
            let mut workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
            let made = self.backbone.hidden(&packed, &[], &mut workspace, None)?;
            for (as_of, kept) in missing.into_iter().zip(made) {
                self.memos.insert(as_of, &kept);
                found.insert(as_of, Some(kept));
            }
        }
        Ok(found)
    }
}

fn limits(checkpoint: &Checkpoint) -> ModelLimits {
    ModelLimits {
        vocabulary: checkpoint.tokenizer.rows(),
        context: checkpoint.config.spec.context,
        mask_token: checkpoint.tokenizer.mask_id(),
        shift: checkpoint.profile.shift,
        visibility: checkpoint.config.spec.visibility,
    }
}

/// A pool of `count` threads; 0 means one for each core.
fn compute_threads(count: usize) -> Result<rayon::ThreadPool, LoadError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("compute-{i}"));
    pool.build().map_err(|error| LoadError::Device {
        device: "cpu threads".to_owned(),
        reason: candle_core::Error::wrap(error),
    })
}

impl MaskPredictor for CandlePredictor {
    fn limits(&self) -> ModelLimits {
        self.limits
    }

    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        let threads = Arc::clone(&self.threads);
        threads.install(|| self.evaluate(asks))
    }

    fn work(&self, ask: &Ask<'_>) -> Work {
        let known = match ask.context {
            Context::Fresh => 0,
            Context::Frozen { as_of, .. } => self.memos.known(as_of),
        };
        Work::of(ask, known)
    }

    fn memo_bytes(&self, length: usize) -> u64 {
        // Pages end with whole panels.
        self.memo_bytes * length.next_multiple_of(PANEL) as u64
    }

    fn mark_live(&mut self, live: &[&[TokenId]]) {
        self.memos.mark_live(live);
    }

    fn memos(&self) -> MemoStatus {
        self.memos.status()
    }
}
