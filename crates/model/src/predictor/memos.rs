//! Keys and values that are kept between evaluations. Each is a pure function of the tokens that it is named by, so
//! giving one up costs time and changes nothing.

use candle_core::Result;

use super::{MemoStatus, TokenId, Visibility};
use crate::backbone::KeyValues;

/// Memos of canvases, the ones used last staying longest.
#[derive(Debug, Default)]
pub(super) struct Memos {
    entries: Vec<Entry>,
    visibility: Visibility,
    status: MemoStatus,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    tokens: Vec<TokenId>,
    kept: KeyValues,
    used: u64,
    /// Needed again by a sample that runs.
    live: bool,
}

impl Memos {
    /// No memos yet, of at most `budget` bytes together.
    pub(super) fn new(visibility: Visibility, budget: u64) -> Self {
        Self { visibility, status: MemoStatus { budget, ..MemoStatus::default() }, ..Self::default() }
    }

    pub(super) fn status(&self) -> MemoStatus {
        self.status
    }

    /// How many of the first positions of `tokens` have their keys and values here.
    pub(super) fn known(&self, tokens: &[TokenId]) -> usize {
        self.entries.iter().map(|entry| self.shared(entry, tokens)).max().unwrap_or(0)
    }

    /// The keys and values of as many first positions of `tokens` as are here.
    pub(super) fn find(&mut self, tokens: &[TokenId]) -> Result<Option<KeyValues>> {
        let lengths = self.entries.iter().map(|entry| self.shared(entry, tokens));
        let best = lengths.enumerate().filter(|(_, known)| *known > 0).max_by_key(|(_, known)| *known);
        self.clock += 1;
        let whole = best.is_some_and(|(_, known)| known == tokens.len());
        *if whole { &mut self.status.hits } else { &mut self.status.misses } += 1;
        let Some((number, known)) = best else { return Ok(None) };
        self.entries[number].used = self.clock;
        self.entries[number].kept.first(known).map(Some)
    }

    /// Keeps what was computed for `tokens`, if the budget allows; others make room for it.
    pub(super) fn insert(&mut self, tokens: &[TokenId], kept: &KeyValues) {
        if KeyValues::bytes([kept]) as u64 > self.status.budget {
            return;
        }
        self.clock += 1;
        // What the new memo begins with, it holds as well.
        let visibility = self.visibility;
        let causal = matches!(visibility, Visibility::BlockCausal { .. });
        self.entries.retain(|entry| !(causal && tokens.starts_with(&entry.tokens)) && entry.tokens != tokens);
        self.entries.push(Entry {
            tokens: tokens.to_vec(),
            kept: kept.clone(),
            used: self.clock,
            live: true,
        });
        self.count();
        while self.status.bytes > self.status.budget {
            let oldest = (0..self.entries.len())
                .min_by_key(|number| (self.entries[*number].live, self.entries[*number].used));
            let Some(oldest) = oldest else { break };
            self.entries.swap_remove(oldest);
            self.status.evictions += 1;
            self.count();
        }
    }

    /// Names the canvases that running samples will need again: others make room first. A whole canvas belongs to its
    /// sample, so where every position sees all others nothing else is kept; a beginning may be another request's, too.
    pub(super) fn mark_live(&mut self, live: &[&[TokenId]]) {
        let needed = |entry: &Entry| live.iter().any(|tokens| self.shared(entry, tokens) > 0);
        let needed: Vec<bool> = self.entries.iter().map(needed).collect();
        self.entries.iter_mut().zip(needed).for_each(|(entry, needed)| entry.live = needed);
        if self.visibility == Visibility::Full {
            self.entries.retain(|entry| entry.live);
            self.count();
        }
    }

    fn count(&mut self) {
        self.status.bytes = KeyValues::bytes(self.entries.iter().map(|entry| &entry.kept)) as u64;
    }

    /// How many first positions of `tokens` have the keys and values of an entry.
    fn shared(&self, entry: &Entry, tokens: &[TokenId]) -> usize {
        match self.visibility {
            Visibility::Full if entry.tokens == tokens => tokens.len(),
            Visibility::Full => 0,
            Visibility::BlockCausal { block } => {
                let same = entry.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
                // A block that is not whole on one side has seen less than the other's.
                if same == tokens.len() && same == entry.tokens.len() { same } else { same / block * block }
            }
        }
    }
}
