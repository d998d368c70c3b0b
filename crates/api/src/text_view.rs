//! A canvas as text: what of it is settled, and where a text ends.

mod hole;
mod spelled;
#[cfg(test)]
mod tests;

use std::ops::Range;

use unmask_model::diffusion::{Commit, Edit};
use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::TextTokenizer;

pub use self::hole::{End, HoleText, PlacedHole};
use self::spelled::{spelled_lengths, tokens_of};
use crate::logprobs::Judged;
use crate::stop_strings::{begun_stop, first_stop};
use crate::utf8::complete_characters;

/// The text shown at open positions.
pub const MASK: &str = "▒";

/// One sample's generated tokens, as far as they are committed, and the text that they spell.
///
/// [`Self::fold`] takes the edits of an evaluation, and [`Self::text`] returns the text of a hole. That text only ever
/// grows: it ends before the first open position, before an incomplete character, and before anything that may become
/// a stop string. Streams send what it has gained.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// use unmask_api::hole::HoleSpec;
/// use unmask_api::text_view::{End, PlacedHole, Revised, TextView};
/// use unmask_model::checkpoint::{Checkpoint, embedded};
/// use unmask_model::diffusion::{Commit, Edit};
///
/// let tokenizer = Checkpoint::read(embedded::FILES.clone(), None)?.tokenizer;
/// let tokens = tokenizer.encode("import os")?;
/// let hole = PlacedHole {
///     spec: HoleSpec::default(),
///     range: 0..tokens.len(),
///     at_start: true,
///     ends_at_eos: false,
///     stops: Vec::new(),
/// };
/// let mut view = TextView::new(tokens.len(), vec![hole], Revised::Never);
/// // Tokens arrive from right to left: nothing is settled before the first one.
/// for (position, &token) in tokens.iter().enumerate().rev() {
///     assert_eq!(view.text(&view.holes()[0], &tokenizer).text, "");
///     let position = position as u32;
///     let commit = Commit { position, token, score: 0.0, logprob: 0.0, alternatives: Vec::new() };
///     view.fold(&[Edit::Commit(commit)]);
/// }
/// let text = view.text(&view.holes()[0], &tokenizer);
/// assert_eq!((text.text.as_str(), text.end, text.settled), ("import os", End::Full, true));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextView {
    holes: Vec<PlacedHole>,
    /// By position on the canvas; `None` is open or not generated.
    tokens: Vec<Option<Commit>>,
    /// The committed tokens that may still change.
    revised: Revised,
    /// The start of the block at work, as far as commits have shown.
    at_work: usize,
}

/// The committed tokens that may still change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revised {
    /// None.
    #[default]
    Never,
    /// All of them, until the sample has ended.
    Anywhere,
    /// Those of the block at work, which are so many positions of the canvas.
    InBlock(usize),
}

impl TextView {
    /// A canvas of `length` positions with nothing committed.
    #[must_use]
    pub fn new(length: usize, holes: Vec<PlacedHole>, revised: Revised) -> Self {
        Self { holes, tokens: vec![None; length], revised, at_work: 0 }
    }

    /// Positions of the canvas.
    #[must_use]
    pub fn length(&self) -> usize {
        self.tokens.len()
    }

    /// The holes, left to right.
    #[must_use]
    pub fn holes(&self) -> &[PlacedHole] {
        &self.holes
    }

    /// Takes over what an evaluation committed.
    pub fn fold(&mut self, edits: &[Edit]) {
        for edit in edits {
            let (position, content) = match edit {
                Edit::Commit(commit) => (commit.position, Some(commit.clone())),
                Edit::Remask(position) => (*position, None),
            };
            if let Some(slot) = self.tokens.get_mut(position as usize) {
                *slot = content;
            }
            if let Revised::InBlock(size) = self.revised {
                let size = size.max(1);
                self.at_work = self.at_work.max(position as usize / size * size);
            }
        }
    }

    /// The number of tokens at the start of a hole that can no longer change once they are committed.
    fn lasting(&self, hole: &PlacedHole) -> usize {
        match self.revised {
            Revised::Never => hole.range.len(),
            Revised::Anywhere => 0,
            Revised::InBlock(_) => self.at_work.clamp(hole.range.start, hole.range.end) - hole.range.start,
        }
    }

    /// The sample has ended: what is committed stays.
    pub fn close(&mut self) {
        self.revised = Revised::Never;
    }

    /// Positions to generate at which nothing is committed.
    #[must_use]
    pub fn open(&self) -> usize {
        let cells = self.generated().flat_map(|hole| &self.tokens[hole.range.clone()]);
        cells.filter(|cell| cell.is_none()).count()
    }

    /// Returns true if any token is settled, wherever its text then ends.
    #[must_use]
    pub fn begun(&self) -> bool {
        let begun = |hole: &PlacedHole| self.lasting(hole) > 0 && self.tokens[hole.range.start].is_some();
        self.generated().any(begun)
    }

    /// The holes that are generated, left to right.
    pub fn generated(&self) -> impl Iterator<Item = &PlacedHole> {
        self.holes.iter().filter(|hole| !hole.decided())
    }

    /// The index of a canvas position among all generated positions, holes joined left to right.
    #[must_use]
    pub fn generated_index(&self, position: usize) -> Option<usize> {
        let mut before = 0;
        for hole in self.generated() {
            if hole.range.contains(&position) {
                return Some(before + position - hole.range.start);
            }
            before += hole.range.len();
        }
        None
    }

    /// The text of a hole. While positions are open, only what can no longer change: the tokens left of
    /// the first open one, without a character that is not complete and without an ending that may turn
    /// out to be the start of a stop string.
    #[must_use]
    pub fn text(&self, hole: &PlacedHole, tokenizer: &TextTokenizer) -> HoleText {
        let stops = &hole.stops;
        let cells = &self.tokens[hole.range.clone()];
        let shown = &cells[..self.lasting(hole)];
        let settled: Vec<TokenId> =
            shown.iter().map_while(|cell| cell.as_ref().map(|commit| commit.token)).collect();
        let ends = if hole.ends_at_eos { tokenizer.ends() } else { &[] };
        let cut = settled.iter().position(|token| ends.contains(token));
        let tokens = &settled[..cut.unwrap_or(settled.len())];
        let finished = cut.is_some() || settled.len() == cells.len();
        let spelled = tokenizer.bytes(tokens, hole.at_start);
        let (left, right) = &hole.spec.shared;
        let bytes = spelled.strip_prefix(&left[..]).unwrap_or(&[]);
        let whole = finished && cut.is_none();
        let bytes = bytes.strip_suffix(&right[..]).filter(|_| whole).unwrap_or(bytes);
        let mut text = String::from_utf8_lossy(&bytes[..complete_characters(bytes)]).into_owned();
        // At the end of a text such bytes are left out. More may follow them, so that they wait before it as well.
        text.truncate(text.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
        if let Some(at) = first_stop(&text, stops) {
            text.truncate(at);
            // Of a text without anything, the token that spells what was cut is no part.
            let spelled = if text.is_empty() { 0 } else { left.len() + text.len() };
            let tokens = tokens_of(tokens, spelled, tokenizer, hole.at_start);
            return HoleText { text, tokens, end: End::Stop, settled: true };
        }
        if !finished {
            text.truncate(text.len() - begun_stop(&text, stops));
        }
        let end = match cut {
            Some(_) => End::Eos,
            None if hole.spec.found && finished => End::Complete,
            None => End::Full,
        };
        HoleText { text, tokens: tokens.len(), end, settled: finished }
    }

    /// The text of a hole with everything that is committed in its place and [`MASK`] at open positions. It ends
    /// where a document end or a stop string is seen, whatever comes before them.
    #[must_use]
    pub fn draft(&self, hole: &PlacedHole, tokenizer: &TextTokenizer) -> String {
        let ends = if hole.ends_at_eos { tokenizer.ends() } else { &[] };
        let mut bytes = Vec::new();
        for (number, cell) in self.tokens[hole.range.clone()].iter().enumerate() {
            match cell.as_ref().map(|commit| commit.token) {
                Some(token) if ends.contains(&token) => break,
                Some(token) => bytes.extend(tokenizer.bytes(&[token], hole.at_start && number == 0)),
                None => bytes.extend(MASK.as_bytes()),
            }
        }
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(at) = first_stop(&text, &hole.stops) {
            text.truncate(at);
        }
        text
    }

    /// The text of a token at a position of the canvas, without the bytes that it shares with the text around its hole.
    #[must_use]
    pub fn own_text(&self, position: usize, token: TokenId, tokenizer: &TextTokenizer) -> String {
        let hole = self.generated().find(|hole| hole.range.contains(&position));
        let Some(hole) =
            hole.filter(|hole| !(hole.spec.shared.0.is_empty() && hole.spec.shared.1.is_empty()))
        else {
            return tokenizer.display(token);
        };
        let (left, right) = hole.shared_at(position);
        let spelled = tokenizer.bytes(&[token], false);
        let own = spelled.strip_prefix(&left[..]).unwrap_or(&spelled);
        String::from_utf8_lossy(own.strip_suffix(&right[..]).unwrap_or(own)).into_owned()
    }

    /// Returns true if the settled text of every hole already holds a stop string.
    #[must_use]
    pub fn stopped(&self, tokenizer: &TextTokenizer) -> bool {
        self.generated().all(|hole| !hole.stops.is_empty() && self.text(hole, tokenizer).end == End::Stop)
    }

    /// The log-probabilities (nats) of the first `tokens` tokens of a hole, added up.
    #[must_use]
    pub fn logprob(&self, hole: &PlacedHole, tokens: usize) -> f64 {
        let cells = self.tokens[hole.range.clone()].iter().take(tokens).flatten();
        cells.map(|commit| f64::from(commit.logprob)).sum()
    }

    /// The tokens of a hole that lie in `range`, as far as they are committed.
    pub fn judged<'a>(
        &'a self,
        hole: &'a PlacedHole,
        range: Range<usize>,
    ) -> impl Iterator<Item = Judged> + 'a {
        let cells = self.tokens[hole.range.clone()].iter().enumerate().take(range.end).skip(range.start);
        cells.map_while(|(place, cell)| {
            let Commit { token, logprob, alternatives, .. } = cell.as_ref()?;
            let logprob = Some(f64::from(*logprob));
            let alternatives = alternatives.clone();
            Some(Judged {
                token: *token,
                logprob,
                alternatives,
                shared: hole.shared_at(hole.range.start + place),
            })
        })
    }

    /// The number of a hole's tokens that are spelled in full by the first `length` bytes of its text.
    #[must_use]
    pub fn spelled(&self, hole: &PlacedHole, length: usize, tokenizer: &TextTokenizer) -> usize {
        let cells = self.tokens[hole.range.clone()].iter();
        let tokens: Vec<TokenId> = cells.map_while(|cell| cell.as_ref().map(|commit| commit.token)).collect();
        // The tokens spell what the text shares with the texts around it as well.
        let (left, right) = &hole.spec.shared;
        let own = |(place, spelled): (usize, usize)| {
            let right = if place + 1 == hole.range.len() { right.len() } else { 0 };
            spelled.saturating_sub(left.len() + right)
        };
        let spelled = spelled_lengths(&tokens, tokenizer, hole.at_start).enumerate();
        spelled.map(own).take_while(|own| *own <= length).count()
    }
}
