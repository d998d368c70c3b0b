//! The canvases that a batch of asks shows the network, and the rows that answer it.

use std::collections::HashMap;

use super::{Ask, Context, Guidance, ModelLimits, Position, TokenId, Visibility, Want};
use crate::error::PredictError;
use crate::readout::RowContext;

/// A want and the rows of the packed canvases that answer it.
pub(super) struct Asked<'a> {
    /// The ask's number in the batch.
    pub(super) number: usize,
    pub(super) index: usize,
    pub(super) want: &'a Want,
    pub(super) context: RowContext<'a>,
    pub(super) row: u32,
    /// The same row of the guidance canvas, and its weight.
    pub(super) guide: Option<(u32, f64)>,
}

/// A canvas and the rows of it that are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shown<'a> {
    pub(super) tokens: &'a [TokenId],
    pub(super) context: Context<'a>,
}

impl<'a> Shown<'a> {
    fn of(ask: &Ask<'a>) -> Self {
        Self { tokens: ask.tokens, context: ask.context }
    }

    fn whole(tokens: &'a [TokenId]) -> Self {
        Self { tokens, context: Context::Fresh }
    }

    fn rows(&self) -> usize {
        match self.context {
            Context::Fresh => self.tokens.len(),
            Context::Frozen { active, .. } => active.len(),
        }
    }

    /// The place of a position's row among those that are computed.
    fn place(&self, position: Position) -> Option<u32> {
        match self.context {
            Context::Fresh => ((position as usize) < self.tokens.len()).then_some(position),
            Context::Frozen { active, .. } => active.binary_search(&position).ok().map(|place| place as u32),
        }
    }

    /// Returns true if the active positions ascend, are on the canvas, and leave no gap behind `as_of`.
    fn is_valid(&self) -> bool {
        let Context::Frozen { active, as_of } = self.context else { return true };
        let behind = active.partition_point(|position| (*position as usize) < as_of.len());
        let gapless =
            (as_of.len()..).zip(&active[behind..]).all(|(next, position)| next == *position as usize);
        let ascending = active.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = active.last().is_some_and(|last| (*last as usize) < self.tokens.len());
        !as_of.is_empty() && as_of.len() <= self.tokens.len() && ascending && inside && gapless
    }
}

/// The canvases of a forward pass, and the wants sorted by row.
pub(super) struct Batch<'a> {
    pub(super) canvases: Vec<Shown<'a>>,
    pub(super) asked: Vec<Asked<'a>>,
    /// The first row of each canvas.
    firsts: Vec<u32>,
}

impl<'a> Batch<'a> {
    /// Packs what the asks show. An ask without wants shows nothing.
    pub(super) fn new(asks: &'a [Ask<'a>], limits: &ModelLimits) -> Result<Self, PredictError> {
        let mut canvases = Canvases::default();
        let mut shown = Vec::new();
        for (number, ask) in asks.iter().enumerate().filter(|(_, ask)| !ask.wants.is_empty()) {
            let own = Shown::of(ask);
            if !own.is_valid() {
                let position = ask.wants.first().map_or(0, |want| want.position);
                return Err(PredictError::Unreadable { ask: number, position });
            }
            let own = canvases.number(own);
            let guide = guidance(ask).map(|guidance| canvases.number(Shown::whole(guidance.tokens)));
            shown.push((number, ask, own, guide));
        }
        let (packed, firsts) = canvases.pack();
        let mut asked = Vec::new();
        for (number, ask, own, guide) in shown {
            let firsts = (firsts[own], guide.map(|guide| firsts[guide]));
            for want in ask.wants.iter().enumerate() {
                asked.push(locate((number, ask), want, firsts, limits)?);
            }
        }
        // Equal canvases ask for the same rows; side by side, each is multiplied with the head once.
        asked.sort_by_key(|asked: &Asked<'_>| asked.row);
        let mut ordered = firsts;
        ordered.sort_unstable();
        Ok(Self { canvases: packed, asked, firsts: ordered })
    }

    /// Returns true if a canvas can compute the rows of its `as_of` in front of its active ones: they see none of these,
    /// and no other canvas of the batch refers to them.
    pub(super) fn continues(&self, shown: &Shown<'_>, limits: &ModelLimits) -> bool {
        let Context::Frozen { active, as_of } = shown.context else { return false };
        let Visibility::BlockCausal { block } = limits.visibility else { return false };
        let refers =
            |other: &&Shown<'_>| matches!(other.context, Context::Frozen { as_of: of, .. } if of == as_of);
        as_of.len() % block == 0
            && active.first().is_some_and(|first| *first as usize == as_of.len())
            && self.canvases.iter().filter(refers).count() == 1
    }

    /// Makes room for `more` rows in front of those of each canvas.
    pub(super) fn insert_rows(&mut self, more: &[usize]) {
        let mut total = 0;
        let before: Vec<u32> = more
            .iter()
            .map(|more| {
                total += *more as u32;
                total
            })
            .collect();
        let firsts = &self.firsts;
        let moved = |row: &mut u32| *row += before[firsts.partition_point(|first| first <= row) - 1];
        for asked in &mut self.asked {
            moved(&mut asked.row);
            if let Some((row, _)) = &mut asked.guide {
                moved(row);
            }
        }
    }

    /// The wants in pieces that are answered by at most `rows` rows each.
    pub(super) fn pieces(&self, rows: usize) -> impl Iterator<Item = &[Asked<'a>]> {
        // A guided want has two rows.
        let guided = self.asked.iter().any(|asked| asked.guide.is_some());
        self.asked.chunks(if guided { rows / 2 } else { rows })
    }
}

/// The rows that speak of some wants, and their guides, ascending.
pub(super) fn rows_of(asked: &[Asked<'_>]) -> Vec<u32> {
    let guides = asked.iter().filter_map(|asked| asked.guide).map(|(row, _)| row);
    let mut rows: Vec<u32> = asked.iter().map(|asked| asked.row).chain(guides).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Finds the rows that answer a want. `firsts` are the first rows of its canvas and of its guidance canvas.
fn locate<'a>(
    (number, ask): (usize, &'a Ask<'a>),
    (index, want): (usize, &'a Want),
    firsts: (u32, Option<u32>),
    limits: &ModelLimits,
) -> Result<Asked<'a>, PredictError> {
    let length = ask.tokens.len();
    let sampling = ask.samplings.get(want.sampling as usize);
    let allowed = want.allowed.map(|set| ask.allowed.get(set as usize));
    let valid = (want.position as usize) < length
        && allowed.is_none_or(|set| set.is_some())
        && want.target.is_none_or(|token| (token as usize) < limits.vocabulary)
        && ask.guidance.is_none_or(|guidance| guidance.tokens.len() == length);
    // The first row speaks of position 0 as well, as in Dream's sampler.
    let row = if limits.shift { want.position.saturating_sub(1) } else { want.position };
    let place = Shown::of(ask).place(row);
    let Some((sampling, place)) = sampling.filter(|_| valid).zip(place) else {
        return Err(PredictError::Unreadable { ask: number, position: want.position });
    };
    let guide = guidance(ask).zip(firsts.1).map(|(guidance, first)| (first + row, guidance.weight));
    let context = RowContext {
        sampling,
        allowed: allowed.flatten().map(Vec::as_slice),
        counts: ask.counts,
        target: want.target,
        alternatives: ask.alternatives,
    };
    Ok(Asked { number, index, want, context, row: firsts.0 + place, guide })
}

/// Guidance that changes something and is worth a second canvas.
fn guidance<'a>(ask: &Ask<'a>) -> Option<Guidance<'a>> {
    ask.guidance.filter(|guidance| guidance.weight != 0.0 && !ask.wants.is_empty())
}

/// Canvases, each once, however many asks show it: the samples of one prompt begin with the same one.
#[derive(Default)]
struct Canvases<'a> {
    distinct: Vec<Shown<'a>>,
    numbers: HashMap<Shown<'a>, usize>,
}

impl<'a> Canvases<'a> {
    fn number(&mut self, shown: Shown<'a>) -> usize {
        *self.numbers.entry(shown).or_insert_with(|| {
            self.distinct.push(shown);
            self.distinct.len() - 1
        })
    }

    /// The canvases in the order in which they are packed, and by number the first row of each. Those of
    /// one length are neighbours: attention takes them together on a device.
    fn pack(self) -> (Vec<Shown<'a>>, Vec<u32>) {
        let mut order: Vec<usize> = (0..self.distinct.len()).collect();
        order.sort_by_key(|&number| self.distinct[number].rows());
        let mut firsts = vec![0; order.len()];
        let mut rows = 0;
        for &number in &order {
            firsts[number] = rows;
            rows += self.distinct[number].rows() as u32;
        }
        (order.into_iter().map(|number| self.distinct[number]).collect(), firsts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight answers to one prompt would otherwise compute the same first evaluation eight times.
    #[test]
    fn a_canvas_of_several_asks_is_packed_once_beside_those_of_its_length() {
        let mut canvases = Canvases::default();
        let shown = [&[1, 2, 3][..], &[9], &[1, 2, 3], &[1, 2], &[9], &[3, 2, 1], &[8]];
        let numbers = shown.map(|tokens| canvases.number(Shown::whole(tokens)));
        let (packed, firsts) = canvases.pack();
        let packed: Vec<&[TokenId]> = packed.into_iter().map(|shown| shown.tokens).collect();
        assert_eq!(packed, [&[9][..], &[8], &[1, 2], &[1, 2, 3], &[3, 2, 1]]);
        assert_eq!(numbers.map(|number| firsts[number]), [4, 0, 4, 2, 0, 7, 1]);
    }
}
