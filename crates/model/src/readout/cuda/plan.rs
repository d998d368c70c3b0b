//! Settings and results of a GPU's readout, as the words that `row.cuh` declares.

use std::collections::HashMap;

use crate::predictor::{Read, Sampling, TokenCount, TokenId};
use crate::readout::RowContext;

/// A number that is neither a token nor a row.
const NONE: u32 = u32::MAX;
/// Words of a row, of what was read, and of an alternative.
pub(super) const ROW: usize = 32;
pub(super) const FOUND: usize = 7;
pub(super) const ALTERNATIVE: usize = 2;
/// The most tokens that `TOKEN_BITS` can number, except for the number that marks a key's end.
#[cfg(feature = "cuda")]
pub(super) const LARGEST_VOCABULARY: usize = (1 << 20) - 1;

/// The rows of an evaluation, and the lists that they share.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    rows: Vec<u32>,
    lists: Vec<u32>,
    most_alternatives: usize,
    /// Lists that are there already, by address and length.
    spans: HashMap<(usize, usize), Span>,
}

/// The rows of logits that a read takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// A row of the logits.
    pub(crate) own: u32,
    /// The row it is guided away from, and the weight.
    pub(crate) guide: Option<(u32, f64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    first: u32,
    count: u32,
}

impl Plan {
    /// Adds a row. Lists that several rows refer to are kept once, so none of them may be dropped or
    /// changed before the plan is complete.
    pub(crate) fn push(&mut self, place: Place, context: &RowContext<'_>, uniform: f64) {
        let Sampling { temperature, top_p, min_p, top_k, .. } = *context.sampling;
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = *context.sampling;
        let factor = (1.0 / temperature) as f32;
        let greedy = temperature <= 0.0 || !factor.is_finite();
        let lowest = if min_p > 0.0 { temperature * min_p.min(1.0).ln() } else { f64::NEG_INFINITY };
        let neutral = repetition_penalty == 1.0 && frequency_penalty == 0.0 && presence_penalty == 0.0;
        let counts = if neutral { &[] } else { context.counts };
        let lists = [
            self.list(counts, |&TokenCount { token, given, generated }| [token, given, generated]),
            self.biases(&context.sampling.bias),
            self.list(&context.sampling.banned, |&token| [token]),
            match context.allowed {
                Some(allowed) => self.list(allowed, |&token| [token]),
                None => Span { first: NONE, count: 0 },
            },
        ];
        let distrusted = self.list(&context.sampling.distrusted, |&token| [token]);
        let nucleus_first = context.sampling.nucleus_first;
        let penalties = [repetition_penalty, frequency_penalty, presence_penalty];
        for number in [uniform].into_iter().chain(penalties).chain([top_p, lowest]) {
            let bits = number.to_bits();
            self.rows.extend([bits as u32, (bits >> 32) as u32]);
        }
        let strength = place.guide.map_or(0.0, |(_, weight)| (weight + 1.0) as f32);
        self.rows.extend([
            (if greedy { 1.0 } else { factor }).to_bits(),
            strength.to_bits(),
            u32::from(greedy),
            place.own,
            place.guide.map_or(NONE, |(row, _)| row),
            u32::try_from(top_k).unwrap_or(u32::MAX),
            context.target.unwrap_or(NONE),
            context.alternatives as u32,
        ]);
        self.rows.extend(lists.iter().flat_map(|span| [span.first, span.count]));
        self.rows.extend([distrusted.first, distrusted.count, u32::from(nucleus_first), 0]);
        self.most_alternatives = self.most_alternatives.max(context.alternatives);
    }

    fn list<T, const N: usize>(&mut self, list: &[T], words: impl Fn(&T) -> [u32; N]) -> Span {
        if list.is_empty() {
            return Span::default();
        }
        let first = self.lists.len() as u32;
        *self.spans.entry((list.as_ptr().addr(), list.len())).or_insert_with(|| {
            self.lists.extend(list.iter().flat_map(words));
            Span { first, count: list.len() as u32 }
        })
    }

    /// Ascending by token; those of one token in the order in which they apply.
    fn biases(&mut self, biases: &[(TokenId, f32)]) -> Span {
        let address = (biases.as_ptr().addr(), biases.len());
        if let Some(span) = self.spans.get(&address) {
            return *span;
        }
        let mut sorted = biases.to_vec();
        sorted.sort_by_key(|(token, _)| *token);
        let span = Span { first: self.lists.len() as u32, count: sorted.len() as u32 };
        self.lists.extend(sorted.iter().flat_map(|(token, bias)| [*token, bias.to_bits()]));
        if !biases.is_empty() {
            self.spans.insert(address, span);
        }
        span
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() / ROW
    }

    /// All rows, one after another.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The rows of logits that some rows refer to.
    #[cfg(feature = "cuda")]
    pub(super) fn places(&self, rows: std::ops::Range<usize>) -> Vec<u32> {
        let rows = self.rows[rows.start * ROW..rows.end * ROW].chunks_exact(ROW);
        rows.flat_map(|row| [row[15], row[16]]).filter(|place| *place != NONE).collect()
    }

    /// The lists that rows refer to.
    pub(crate) fn lists(&self) -> &[u32] {
        &self.lists
    }

    /// Room for alternatives that every row has.
    pub(crate) fn most_alternatives(&self) -> usize {
        self.most_alternatives
    }

    /// The reads of each row, in order; `None` where a logit is not finite or nothing may be drawn.
    pub(crate) fn decode(&self, found: &[u32], alternatives: &[u32]) -> Vec<Option<Read>> {
        let rows = self.rows.chunks_exact(ROW);
        let found = found.chunks_exact(FOUND);
        let wide = (ALTERNATIVE * self.most_alternatives).max(1);
        let mut alternatives = alternatives.chunks_exact(wide);
        let read = |(row, found): (&[u32], &[u32])| {
            let alternatives = alternatives.next().unwrap_or_default();
            let [token, score, logprob, entropy, margin, target, confidence] = *found.as_array::<FOUND>()?;
            let wanted = row[18];
            let count = row[19] as usize;
            let pairs = alternatives.chunks_exact(ALTERNATIVE).take(count).filter(|pair| pair[0] != NONE);
            (token != NONE).then(|| Read {
                token,
                score: f32::from_bits(score),
                logprob: f32::from_bits(logprob),
                confidence: f32::from_bits(confidence),
                entropy: f32::from_bits(entropy),
                margin: f32::from_bits(margin),
                target: (wanted != NONE).then(|| f32::from_bits(target)),
                alternatives: pairs.map(|pair| (pair[0], f32::from_bits(pair[1]))).collect(),
            })
        };
        rows.zip(found).map(read).collect()
    }
}
