//! Text to canvases: a continuation, or text with a hole in it.

use std::ops::Range;

use unmask_model::diffusion::{DenoisingState, Noise, Quota, Revise, Span, StateSpec, Window};
use unmask_model::predictor::{Sampling, TokenId};

use crate::error::ApiError;
use crate::options::{Settings, out_of_range};
use crate::policy_names::EosRule;
use crate::state::{AppState, ServedModel};
use crate::text_view::{Hole, TextView};

/// What stands on one canvas, before it is a canvas.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Tokens left of the hole, BOS not included.
    pub before: Vec<TokenId>,
    /// Positions to generate.
    pub hole: usize,
    /// Tokens right of it.
    pub after: Vec<TokenId>,
    /// Whether the caller gave ids, which are then the whole canvas: no BOS is put before them.
    pub ids_given: bool,
}

/// How many positions to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As asked; refused when it does not fit.
    Exactly(usize),
    /// A default, which shrinks to what fits.
    AtMost(usize),
}

/// One sample, ready for the engine, and the view that will show it.
#[derive(Debug)]
pub struct Sample {
    /// For the engine.
    pub state: DenoisingState,
    /// For the answer.
    pub view: TextView,
}

impl Layout {
    /// The hole's size, given what stands around it. Errors name the field of the `text` when nothing
    /// fits, else the one of the `length`.
    ///
    /// # Errors
    /// Nothing fits, or less than was asked for.
    pub fn room(
        &self,
        size: Size,
        (text, length): (&'static str, &'static str),
        state: &AppState,
    ) -> Result<usize, ApiError> {
        let context = state.model.limits.context;
        let fixed = self.before.len() + self.after.len() + usize::from(self.bos(&state.model).is_some());
        let free = context.saturating_sub(fixed).min(state.limits.canvas);
        match size {
            Size::AtMost(most) if free > 0 => Ok(most.min(free)),
            Size::Exactly(asked) if asked <= free => Ok(asked),
            Size::Exactly(_) | Size::AtMost(_) => Err(ApiError::ContextLength {
                param: if free == 0 { text } else { length },
                message: format!(
                    "{fixed} tokens are given and {} more were asked for, but this model's context is \
                     {context} and a canvas holds at most {}",
                    match size {
                        Size::Exactly(asked) => asked,
                        Size::AtMost(_) => 1,
                    },
                    state.limits.canvas,
                ),
            }),
        }
    }

    /// The BOS to put at position 0: always for text, because a shifted model cannot predict position 0
    /// and the families were trained with it; never for ids, which say what they want there.
    fn bos(&self, model: &ServedModel) -> Option<TokenId> {
        model.tokenizer.bos_id().filter(|_| !self.ids_given)
    }

    /// Tokens that the caller gave.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Positions of the canvas, BOS included.
    pub fn length(&self, model: &ServedModel) -> usize {
        self.range(model).end + self.after.len()
    }

    /// Where the hole lies.
    fn range(&self, model: &ServedModel) -> Range<usize> {
        let start = self.before.len() + usize::from(self.bos(model).is_some());
        start..start + self.hole
    }

    /// A sample of this layout.
    ///
    /// # Errors
    /// The canvas cannot be denoised by this model.
    pub fn sample(&self, model: &ServedModel, settings: &Settings, sample: u32) -> Result<Sample, ApiError> {
        let mut given: Vec<Option<TokenId>> = self
            .bos(model)
            .into_iter()
            .chain(self.before.iter().copied())
            .map(Some)
            .chain(std::iter::repeat_n(None, self.hole))
            .chain(self.after.iter().copied().map(Some))
            .collect();
        // The reference's unconditional runs leave position 0 open and put id 0 there.
        let open_start = settings.reproduce && self.before.is_empty() && !self.ids_given;
        if open_start {
            given[0] = None;
        }
        let range = self.range(model);
        let eos = model.tokenizer.eos_id();
        let ends_at_eos = self.after.is_empty() && settings.eos == EosRule::Cut;
        let mut banned = if settings.reproduce { Vec::new() } else { model.tokenizer.never_drawn().to_vec() };
        // Where text follows, a document end would say that the text does not belong together.
        if settings.eos == EosRule::Ban || (!self.after.is_empty() && !settings.reproduce) {
            banned.extend(eos);
        }
        let sampling = Sampling { banned, ..settings.sampling.clone() };
        let mut early = sampling.clone();
        early.banned.extend(eos);
        let begun = (range.start + settings.min_tokens).min(range.end);
        let ends_at = eos.filter(|_| ends_at_eos);
        let spec = StateSpec {
            given,
            samplings: vec![sampling, early],
            spans: vec![
                Span { range: range.start..begun, sampling: 1, ..Span::default() },
                Span { range: begun..range.end, ends_at, ..Span::default() },
            ],
            policy: settings.policy,
            noise: Noise::Keyed { seed: settings.seed, sample },
            first_token: open_start.then_some(0),
            guidance: Some(settings.guidance),
            ..StateSpec::default()
        };
        let state = DenoisingState::new(spec, &model.limits)?;
        let revised = settings.policy.revise != Revise::None;
        let hole = Hole { id: "0".to_owned(), range, at_start: self.before.is_empty(), ends_at_eos };
        Ok(Sample { state, view: TextView::new(self.length(model), vec![hole], revised) })
    }
}

/// Refuses a request whose samples together cost more than the cap: (given + generated positions) ×
/// evaluations. The bound on evaluations does not depend on the seed or the machine: what commits at
/// least one position each time takes at most one a position, and no more than T where there is a T;
/// the rest takes T. Guidance computes every canvas twice.
///
/// # Errors
/// It is over the cap.
pub fn check_cost(layouts: &[Layout], settings: &Settings, state: &AppState) -> Result<(), ApiError> {
    let canvases = if settings.guidance == 0.0 { 1 } else { 2 };
    let cost = |layout: &Layout| {
        let (rows, hole) = (layout.length(&state.model) as u64, layout.hole as u64);
        let revised = settings.policy.revise != Revise::None;
        canvases
            * rows
            * match settings.policy.quota {
                Quota::Kept(steps) | Quota::Times(steps) => u64::from(steps),
                Quota::Labels(steps) if revised => u64::from(steps),
                Quota::Labels(steps) if settings.policy.window == Window::All => u64::from(steps).min(hole),
                _ => hole,
            }
    };
    let total = layouts.iter().map(cost).sum::<u64>() * settings.samples as u64;
    if total <= state.limits.cost {
        return Ok(());
    }
    let formula = format!(
        "{} canvases × {} samples, each (given + generated positions) × evaluations",
        layouts.len(),
        settings.samples
    );
    Err(ApiError::TooExpensive { cost: total, limit: state.limits.cost, formula })
}

/// The size a caller asked for.
///
/// # Errors
/// Below 1 or above the canvas limit.
pub fn size(param: &str, given: Option<i64>, default: usize, state: &AppState) -> Result<Size, ApiError> {
    let most = state.limits.canvas;
    match given {
        None => Ok(Size::AtMost(default)),
        Some(count) => match usize::try_from(count) {
            Ok(count) if (1..=most).contains(&count) => Ok(Size::Exactly(count)),
            _ => Err(out_of_range(param, count, format!("from 1 to {most}"))),
        },
    }
}

/// Shortens the text around a hole to `room` tokens, keeping what is nearest to the hole: two thirds of
/// the room for the left side, and what one side does not need goes to the other. Returns whether
/// anything was left out.
pub fn keep_nearest(before: &mut Vec<TokenId>, after: &mut Vec<TokenId>, room: usize) -> bool {
    if before.len() + after.len() <= room {
        return false;
    }
    let left = (room * 2 / 3).max(room.saturating_sub(after.len())).min(before.len());
    before.drain(..before.len() - left);
    after.truncate(room - left);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearest_to_the_hole_is_kept() {
        let run = |left: u32, right: u32, room: usize| {
            let (mut before, mut after) = ((0..left).collect(), (100..100 + right).collect());
            let cut = keep_nearest(&mut before, &mut after, room);
            (cut, before, after)
        };
        assert_eq!(run(3, 2, 5), (false, vec![0, 1, 2], vec![100, 101]));
        assert_eq!(run(9, 9, 6), (true, vec![5, 6, 7, 8], vec![100, 101]));
        // The left side has no use for two thirds.
        assert_eq!(run(1, 9, 6), (true, vec![0], vec![100, 101, 102, 103, 104]));
        assert_eq!(run(9, 1, 6), (true, vec![4, 5, 6, 7, 8], vec![100]));
        assert_eq!(run(9, 9, 0), (true, vec![], vec![]));
    }
}
