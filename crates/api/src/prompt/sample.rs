//! From a layout to a sample: the canvas with its settings, and the view that shows it.

use unmask_model::diffusion::{Commit, DenoisingState, Edit, Noise, Revise, Span, StateSpec, Window};
use unmask_model::predictor::{Position, Sampling, TokenId};

use super::{Layout, Piece, unseen_suffix};
use crate::error::ApiError;
use crate::hole::HoleSpec;
use crate::policy::EosRule;
use crate::request::options::{Settings, StreamStates};
use crate::state::ServedModel;
use crate::text_view::{PlacedHole, Revised, TextView};

/// One sample, ready for the engine, and the view that will show it.
#[derive(Debug)]
pub struct Sample {
    /// For the engine.
    pub state: DenoisingState,
    /// For the answer.
    pub view: TextView,
}

impl Layout {
    /// A sample of this layout.
    ///
    /// # Errors
    /// The canvas cannot be denoised by this model.
    pub fn sample(&self, model: &ServedModel, settings: &Settings, sample: u32) -> Result<Sample, ApiError> {
        let mut canvas =
            Drawing { given: self.bos(model).into_iter().map(Some).collect(), ..Drawing::default() };
        let first = canvas.given.len();
        // Whatever follows a hole, a document end in it would say that the two do not belong together.
        let filled = self.pieces.iter().rposition(|piece| piece.length() > 0);
        for (number, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Given(tokens) => canvas.given.extend(tokens.iter().copied().map(Some)),
                Piece::Open(hole) => canvas.open(hole, first, filled == Some(number), model, settings),
            }
        }
        let Drawing { mut given, samplings, spans, allowed, holes, known } = canvas;
        // The reference's unconditional runs leave position 0 open and put id 0 there.
        let starts = holes.first().is_some_and(|hole| hole.at_start && !hole.range.is_empty());
        let open_start = settings.reproduce && starts && first > 0;
        if open_start {
            given[0] = None;
        }
        let (length, mut spans) = (given.len(), spans);
        if let Some(block) = model.block() {
            self.check_order(block)?;
            // The network has seen whole blocks only.
            let open = given.iter().any(Option::is_none);
            let whole = if open {
                length.next_multiple_of(block).min(model.limits.context.max(length))
            } else {
                length
            };
            given.resize(whole, None);
            spans.iter_mut().filter(|span| span.range.end == length).for_each(|span| span.range.end = whole);
        }
        let length = given.len();
        let spec = StateSpec {
            given,
            samplings,
            spans,
            allowed,
            policy: settings.policy,
            noise: Noise::Keyed { seed: settings.seed.bits, sample },
            first_token: open_start.then_some(0),
            reads_first: model.profile.family.shift && !model.profile.family.document_start,
            redraw_masks: settings.reproduce && model.profile.family.redraws_masks,
            finish_block: settings.reproduce,
            guidance: Some(settings.guidance),
            alternatives: settings.logprobs.unwrap_or(0),
            drafts: settings.states == StreamStates::Draft,
            kv_cache: settings.kv_cache.on(length),
        };
        let state = DenoisingState::new(spec, &model.limits)?;
        let revised = match (settings.policy.revise, model.block(), settings.policy.window) {
            (Revise::None, ..) => Revised::Never,
            (Revise::Edit { .. }, Some(_), Window::Block(size)) => Revised::InBlock(size),
            _ => Revised::Anywhere,
        };
        let mut view = TextView::new(length, holes, revised);
        view.fold(&known);
        Ok(Sample { state, view })
    }

    /// Refuses text after positions to generate, which a network cannot see whose attention is causal between blocks.
    ///
    /// # Errors
    /// There is such text.
    fn check_order(&self, block: usize) -> Result<(), ApiError> {
        let mut pieces = self.pieces.iter().skip_while(|piece| !matches!(piece, Piece::Open(_)));
        if pieces.any(|piece| piece.given(1).is_some()) {
            Err(unseen_suffix("suffix", block))
        } else {
            Ok(())
        }
    }
}

/// A canvas while it is laid out.
#[derive(Default)]
struct Drawing {
    given: Vec<Option<TokenId>>,
    samplings: Vec<Sampling>,
    spans: Vec<Span>,
    allowed: Vec<Vec<TokenId>>,
    holes: Vec<PlacedHole>,
    /// The tokens in holes that are known from the start.
    known: Vec<Edit>,
}

impl Drawing {
    /// Adds a hole; `first` is where text begins, `last` says that nothing follows.
    fn open(&mut self, spec: &HoleSpec, first: usize, last: bool, model: &ServedModel, settings: &Settings) {
        let range = self.given.len()..self.given.len() + spec.length;
        let decided = spec.decided.is_some();
        let hole = PlacedHole {
            range: range.clone(),
            at_start: range.start == first,
            ends_at_eos: last && matches!(settings.eos, EosRule::Cut | EosRule::Distrust) && !decided,
            stops: if decided { Vec::new() } else { spec.stops.as_ref().unwrap_or(&settings.stops).clone() },
            spec: spec.clone(),
        };
        if let Some(tokens) = &spec.decided {
            let commit = |(at, (token, logprob)): (usize, &(TokenId, f32))| {
                let position = (range.start + at) as Position;
                let token = *token;
                let logprob = *logprob;
                Edit::Commit(Commit { position, token, score: logprob, logprob, alternatives: Vec::new() })
            };
            self.known.extend(tokens.iter().enumerate().map(commit));
            self.given.extend(tokens.iter().map(|(token, _)| Some(*token)));
        } else {
            let ends_at = if hole.ends_at_eos { model.tokenizer.ends() } else { &[] };
            let begun = (range.start + settings.min_tokens).min(range.end);
            let sampling = self.samplings.len() as u32;
            self.samplings.extend(samplings(spec, last, model, settings));
            let (left, right) = &spec.shared;
            let alone = spec.length == 1;
            let ends = [
                (&left[..], if alone { &right[..] } else { &[] }, range.start),
                (&[], if alone { &[] } else { &right[..] }, range.end.max(1) - 1),
            ];
            for (start, end, at) in ends {
                if start.len() + end.len() > 0 {
                    let allowed = Some(self.allowed.len() as u32);
                    self.allowed.push(model.tokenizer.spelled_like(start, end));
                    self.spans.push(Span { range: at..at + 1, sampling, allowed, ..Span::default() });
                }
            }
            let early = Span { range: range.start..begun, sampling: sampling + 1, ..Span::default() };
            let rest =
                Span { range: begun..range.end, sampling, ends_at: ends_at.to_vec(), ..Span::default() };
            self.spans.extend([early, rest]);
            self.given.resize(range.end, None);
        }
        self.holes.push(hole);
    }
}

/// The settings of a hole's tokens, and of those before `min_tokens`.
fn samplings(hole: &HoleSpec, last: bool, model: &ServedModel, settings: &Settings) -> [Sampling; 2] {
    let ends = model.tokenizer.ends();
    let mut banned = if settings.reproduce { Vec::new() } else { model.tokenizer.never_drawn().to_vec() };
    if settings.eos == EosRule::Ban || (!last && !settings.reproduce) {
        banned.extend(ends);
    }
    let distrusted = if settings.eos == EosRule::Distrust { ends.to_vec() } else { Vec::new() };
    let sampling =
        Sampling { banned, distrusted, ..hole.sampling.as_ref().unwrap_or(&settings.sampling).clone() };
    let mut early = sampling.clone();
    early.banned.extend(ends);
    [sampling, early]
}
