//! One sample of a request while it is generated: its text, and why the text of each hole ends.

use unmask_model::predictor::{Position, TokenId};
use unmask_model::tokenizer::TextTokenizer;

use crate::metrics::labels::Ending;
use crate::text_view::{End, HoleText, TextView};

/// The progress of a sample.
#[derive(Debug)]
pub struct Progress {
    /// Its text.
    pub view: TextView,
    /// Positions still open, after what has been reported: an evaluation may have prepared the next one already.
    pub remaining: usize,
    /// Tokens of its texts as far as they are settled.
    kept: usize,
    /// True if it has ended.
    pub done: bool,
    /// Why it ended before its schedule, if it did.
    pub early_exit: Option<Ending>,
    /// Why each hole's text ends where it does, from when that can no longer change.
    pub endings: Vec<Option<Ending>>,
    /// With drafts, the most probable tokens at the open positions.
    pub draft: Vec<(Position, TokenId)>,
    /// Evaluations so far.
    pub evaluations: u32,
    /// Evaluations it will take at most; exact for planned orders.
    pub planned: u32,
}

impl Progress {
    /// The progress of a sample that takes at most `planned` evaluations.
    pub(super) fn new(view: TextView, planned: u32) -> Self {
        Self {
            remaining: view.open(),
            kept: 0,
            done: false,
            early_exit: None,
            endings: vec![None; view.holes().len()],
            draft: Vec::new(),
            evaluations: 0,
            planned,
            view,
        }
    }

    /// Why its first hole's text, as it is now, ends where it does.
    #[must_use]
    pub fn ending(&self, text: &HoleText) -> Ending {
        match text.end {
            End::Eos => Ending::Eos,
            End::Stop => Ending::Stop,
            End::Full | End::Complete => self.early_exit.unwrap_or(Ending::Full),
        }
    }

    /// Why the texts of its holes end where they do, of all that were generated.
    pub fn all_endings(&self) -> impl Iterator<Item = Ending> {
        let holes = self.view.holes().iter().zip(&self.endings).filter(|(hole, _)| !hole.decided());
        holes.map(|(_, ending)| ending.or(self.early_exit).unwrap_or(Ending::Full))
    }

    /// Counts the tokens of its texts anew: what they have gained.
    pub(super) fn count_kept(&mut self, tokenizer: &TextTokenizer) -> usize {
        let kept = self.view.holes().iter().map(|hole| self.view.text(hole, tokenizer).tokens).sum();
        let before = std::mem::replace(&mut self.kept, kept);
        // Settled text only ever grows.
        kept.saturating_sub(before)
    }

    /// Notes which holes' texts have stopped growing since the last time.
    pub(super) fn settle(&mut self, tokenizer: &TextTokenizer) {
        // The two ends that cut a text do not concern the other holes.
        let short = self.early_exit.filter(|exit| !matches!(exit, Ending::Eos | Ending::Stop));
        for (number, hole) in self.view.holes().iter().enumerate() {
            if self.endings[number].is_some() {
                continue;
            }
            let text = self.view.text(hole, tokenizer);
            if !self.done && !text.settled {
                continue;
            }
            self.endings[number] = Some(match text.end {
                End::Eos => Ending::Eos,
                End::Stop => Ending::Stop,
                End::Full | End::Complete => short.unwrap_or(Ending::Full),
            });
        }
    }
}
