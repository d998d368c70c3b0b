//! The buffers of a forward pass, and where its time went.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use candle_core::{Result, bail};
use thread_local::ThreadLocal;

use super::experts::Groups;
use crate::backbone::{KeyValues, PackedRows};
use crate::checkpoint::Visibility;
use crate::kernel::{Activations, Numbers, Remembered, Rotation, Rows, Scratch, Span};

/// Memory of one engine's forward passes: taken when an evaluation is larger than all before, and kept.
#[derive(Debug)]
pub struct Workspace {
    /// Hidden states, (rows, width in whole panels).
    pub(super) rows: Rows,
    /// The other place for hidden states when some are dropped.
    spare: Rows,
    pub(super) normed: Activations,
    pub(super) query: Activations,
    pub(super) key: Activations,
    pub(super) value: Activations,
    pub(super) mixed: Activations,
    pub(super) inner: Activations,
    /// Sums of a product that are finished row by row.
    pub(super) sums: Rows,
    pub(super) groups: Groups,
    /// Whatever enters a product as integers.
    pub(super) integers: Activations,
    /// The rows for the head, and those that are multiplied with it at a time.
    pub(super) last: Activations,
    pub(super) some: Activations,
    pub(super) logits: Rows,
    pub(super) rotation: Rotation,
    pub(super) spans: Vec<Span>,
    pub(super) scratch: ThreadLocal<RefCell<Scratch>>,
    times: Times,
    since: Instant,
}

/// Time spent in the parts of an evaluation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Products with the weights of the blocks, and what is done to their results.
    pub product: Duration,
    /// Attention.
    pub attention: Duration,
    /// Products with the head.
    pub head: Duration,
    /// Embedding, norms, moving rows.
    pub rest: Duration,
}

#[derive(Clone, Copy)]
pub(super) enum Part {
    Product,
    Attention,
    Head,
    Rest,
}

/// The numbers between products of `numbers`: attention and activations have no integers.
pub(super) fn between(numbers: Numbers) -> Numbers {
    if numbers == Numbers::Int8 { Numbers::Bf16 } else { numbers }
}

#[expect(clippy::disallowed_methods, reason = "measures what it says; nothing depends on it")]
fn now() -> Instant {
    Instant::now()
}

impl Workspace {
    /// For products of `numbers` and a head of `head`.
    pub(in crate::backbone) fn new(numbers: Numbers, head: Numbers) -> Self {
        let empty = || Activations::new(between(numbers));
        Self {
            rows: Rows::default(),
            spare: Rows::default(),
            normed: Activations::new(numbers),
            query: empty(),
            key: empty(),
            value: empty(),
            mixed: empty(),
            inner: empty(),
            sums: Rows::default(),
            groups: Groups::new(numbers),
            integers: Activations::new(Numbers::Int8),
            last: Activations::new(head),
            some: Activations::new(head),
            logits: Rows::default(),
            rotation: Rotation::default(),
            spans: Vec::new(),
            scratch: ThreadLocal::new(),
            times: Times::default(),
            since: now(),
        }
    }

    /// The time spent since the last call.
    pub(in crate::backbone) fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    pub(super) fn start(&mut self) {
        self.since = now();
    }

    /// Books the time since the last lap.
    pub(super) fn lap(&mut self, part: Part) {
        let now = now();
        let times = &mut self.times;
        let part = match part {
            Part::Product => &mut times.product,
            Part::Attention => &mut times.attention,
            Part::Head => &mut times.head,
            Part::Rest => &mut times.rest,
        };
        *part += now - self.since;
        self.since = now;
    }

    /// Notes where the canvases lie, and what each of their rows sees.
    pub(super) fn place(&mut self, packed: &PackedRows, visibility: Visibility) -> Result<()> {
        self.spans.clear();
        let mut first = 0;
        for canvas in &packed.canvases {
            let rows = first..first + canvas.rows;
            let positions = &packed.positions[rows.clone()];
            let remembered = match &canvas.remembered {
                None => None,
                Some(KeyValues::Pages(pages)) => {
                    Some(Remembered { pages: pages.clone(), layer: 0, positions: positions.to_vec() })
                }
                Some(KeyValues::Tensors(_)) => bail!("the keys and values are another backbone's"),
            };
            let mut span = Span { queries: rows.clone(), keys: rows, remembered, visible: Vec::new() };
            if let Visibility::BlockCausal { block } = visibility {
                let total = span.count();
                let seen = |position: &u32| ((*position as usize / block + 1) * block).min(total) as u32;
                span.visible = positions.iter().map(seen).collect();
            }
            first += canvas.rows;
            self.spans.push(span);
        }
        Ok(())
    }

    /// Passes on to a layer of what is remembered.
    pub(super) fn layer(&mut self, layer: usize) {
        self.spans.iter_mut().filter_map(|span| span.remembered.as_mut()).for_each(|kept| kept.layer = layer);
    }

    /// Keeps the hidden states of the rows `asked` (ascending) alone.
    pub(super) fn narrow(&mut self, asked: &[u32], stride: usize) {
        self.spare.shape(asked.len() * stride);
        for (to, &row) in self.spare.chunks_exact_mut(stride).zip(asked) {
            to.copy_from_slice(&self.rows[row as usize * stride..][..stride]);
        }
        std::mem::swap(&mut self.rows, &mut self.spare);
        for span in &mut self.spans {
            let place = |row: usize| asked.partition_point(|&asked| (asked as usize) < row);
            let queries = place(span.keys.start)..place(span.keys.end);
            if !span.visible.is_empty() {
                let kept = asked[queries.clone()].iter().map(|row| *row as usize - span.queries.start);
                span.visible = kept.map(|row| span.visible[row]).collect();
            }
            span.queries = queries;
        }
    }
}
