//! The tokens that compete for a position, and their logits.

use super::RowContext;
use crate::kernel::{self, CpuFeatures};
use crate::predictor::{Sampling, TokenCount, TokenId};

/// Buffers for logits that differ from the model's.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    penalised: Vec<f32>,
    ids: Vec<TokenId>,
    gathered: Vec<f32>,
}

/// The competing tokens, ascending.
pub(super) struct Candidates<'a> {
    /// Their logits after penalties and bias.
    pub(super) logits: &'a [f32],
    /// Places among them that may not be drawn.
    pub(super) banned: &'a [TokenId],
    /// True if `logits` differs from the model's row.
    pub(super) edited: bool,
    /// Their ids; `None` when they are the vocabulary.
    ids: Option<&'a [TokenId]>,
}

impl<'a> Candidates<'a> {
    /// The model's own row wherever nothing changes it: a copy only for penalties, a list only for an
    /// allowed set. `None` when a penalty leaves a logit that is no number.
    pub(super) fn new(
        cpu: CpuFeatures,
        logits: &'a [f32],
        context: &RowContext<'a>,
        buffers: &'a mut Buffers,
    ) -> Option<Self> {
        let Buffers { penalised, ids, gathered } = buffers;
        let banned = context.sampling.banned.as_slice();
        let edited = changes(context);
        let logits = if edited {
            penalised.clear();
            penalised.extend_from_slice(logits);
            penalise(penalised, context.sampling, context.counts);
            kernel::wide_sum(cpu, penalised).is_finite().then_some(penalised.as_slice())?
        } else {
            logits
        };
        let Some(allowed) = context.allowed else {
            return Some(Self { logits, banned, edited, ids: None });
        };
        let may = |token: &TokenId| (*token as usize) < logits.len() && !banned.contains(token);
        ids.clear();
        ids.extend(allowed.iter().copied().filter(may));
        gathered.clear();
        gathered.extend(ids.iter().map(|&token| logits[token as usize]));
        Some(Self { logits: gathered, banned: &[], edited: true, ids: Some(ids) })
    }

    /// The token at a place.
    pub(super) fn token(&self, place: usize) -> TokenId {
        self.ids.map_or(place as TokenId, |ids| ids[place])
    }

    /// The largest logit of those that may be drawn; `None` when there are none. `highest` is the largest
    /// one when nothing was edited.
    pub(super) fn largest(&self, cpu: CpuFeatures, highest: f32) -> Option<f32> {
        let highest = if self.edited { kernel::largest(cpu, self.logits) } else { highest };
        let logit = |token: &TokenId| self.logits.get(*token as usize).copied();
        if !self.logits.is_empty() && self.banned.iter().all(|token| logit(token) != Some(highest)) {
            return Some(highest);
        }
        // Between the banned ones.
        let mut banned: Vec<usize> = self.banned.iter().map(|&token| token as usize).collect();
        banned.sort_unstable();
        banned.retain(|&place| place < self.logits.len());
        let starts = std::iter::once(0).chain(banned.iter().map(|place| place + 1));
        let ends = banned.iter().copied().chain([self.logits.len()]);
        let stretches = starts.zip(ends).filter(|(start, end)| start < end);
        stretches.map(|(start, end)| kernel::largest(cpu, &self.logits[start..end])).reduce(f32::max)
    }
}

/// Returns true if any logit changes.
fn changes(context: &RowContext<'_>) -> bool {
    let Sampling { repetition_penalty, frequency_penalty, presence_penalty, bias, .. } = context.sampling;
    let penalties = *repetition_penalty != 1.0 || *frequency_penalty != 0.0 || *presence_penalty != 0.0;
    !bias.is_empty() || (penalties && !context.counts.is_empty())
}

fn penalise(logits: &mut [f32], sampling: &Sampling, counts: &[TokenCount]) {
    for &TokenCount { token, given, generated } in counts {
        let Some(logit) = logits.get_mut(token as usize) else { continue };
        let mut value = f64::from(*logit);
        if given > 0 || generated > 0 {
            let factor = sampling.repetition_penalty;
            value = if value > 0.0 { value / factor } else { value * factor };
        }
        value -= sampling.frequency_penalty * f64::from(generated);
        if generated > 0 {
            value -= sampling.presence_penalty;
        }
        *logit = finite(value);
    }
    for &(token, bias) in &sampling.bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = finite(f64::from(*logit) + f64::from(bias));
        }
    }
}

/// The nearest finite f32: however strong a penalty, the token stays one among others.
fn finite(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}
