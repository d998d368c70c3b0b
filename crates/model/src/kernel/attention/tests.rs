use super::*;
use crate::kernel::convert::decoded;

const NUMBERS: [Numbers; 3] = [Numbers::F32, Numbers::Bf16, Numbers::Parts];

fn values(count: usize, salt: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + salt) * 2_654_435_761) % 2001) as f32 / 500.0 - 2.0).collect()
}

/// (rows, heads · width) of numbers, each head padded to whole panels.
fn padded(numbers: Numbers, values: &[f32], heads: usize, width: usize) -> Activations {
    let room = width.next_multiple_of(PANEL);
    let mut out = Activations::new(numbers);
    out.shape(values.len() / (heads * width), heads * room);
    for (row, values) in values.chunks_exact(heads * width).enumerate() {
        let mut line = vec![0.0; heads * room];
        for (to, from) in line.chunks_exact_mut(room).zip(values.chunks_exact(width)) {
            to[..width].copy_from_slice(from);
        }
        #[expect(unsafe_code, reason = "writes through Shared")]
        // SAFETY: there is only this thread.
        unsafe {
            out.shared().write_row(CpuFeatures::portable(), row, &line);
        }
    }
    out
}

/// The numbers without the padding.
fn plain(from: &Activations, heads: usize, width: usize) -> Vec<f32> {
    let room = width.next_multiple_of(PANEL);
    let mut out = Vec::new();
    for row in 0..from.rows() {
        let all = decoded(from, row);
        (0..heads).for_each(|head| out.extend_from_slice(&all[head * room..][..width]));
    }
    out
}

fn oracle(q: &[f32], k: &[f32], v: &[f32], keys: usize, heads: Heads) -> Vec<f64> {
    let wide = heads.count * heads.width;
    let narrow = heads.shared * heads.width;
    let mut out = vec![0.0; q.len()];
    for (i, out) in out.chunks_exact_mut(wide).enumerate() {
        for head in 0..heads.count {
            let shared = head / (heads.count / heads.shared);
            let score = |j: usize| {
                let term = |c: usize| {
                    f64::from(q[i * wide + head * heads.width + c])
                        * f64::from(k[j * narrow + shared * heads.width + c])
                };
                ((0..heads.width).map(term).sum::<f64>() / (heads.width as f64).sqrt()).exp()
            };
            let total: f64 = (0..keys).map(score).sum();
            for c in 0..heads.width {
                out[head * heads.width + c] = (0..keys)
                    .map(|j| score(j) / total * f64::from(v[j * narrow + shared * heads.width + c]))
                    .sum();
            }
        }
    }
    out
}

/// Canvases of these lengths, packed; `asked` says how many queries each has.
fn run(
    cpu: CpuFeatures,
    numbers: Numbers,
    heads: Heads,
    (q, k, v): (&[f32], &[f32], &[f32]),
    spans: &[(usize, usize)],
) -> Vec<f32> {
    let mut queries = 0;
    let mut keys = 0;
    let span = |&(asked, length): &(usize, usize)| {
        (queries, keys) = (queries + asked, keys + length);
        Span { queries: queries - asked..queries, keys: keys - length..keys, ..Span::default() }
    };
    let spans: Vec<Span> = spans.iter().map(span).collect();
    let query = padded(numbers, q, heads.count, heads.width);
    let (key, value) =
        (padded(numbers, k, heads.shared, heads.width), padded(numbers, v, heads.shared, heads.width));
    let operands = Operands { query: &query, key: &key, value: &value };
    let mut out = Activations::new(numbers);
    attention(cpu, operands, &spans, heads, &mut out, &ThreadLocal::new());
    plain(&out, heads.count, heads.width)
}

#[test]
fn packed_canvases_match_f64_and_equal_themselves_alone() {
    for heads in [Heads { count: 4, shared: 2, width: 12 }, Heads { count: 2, shared: 2, width: 64 }] {
        let wide = heads.count * heads.width;
        let narrow = heads.shared * heads.width;
        // The first queries of each canvas, or all.
        let spans = [(1, 1), (50, 50), (3, 7), (16, 16), (97, 97), (1, 33)];
        let queries = spans.iter().map(|s| s.0).sum();
        let keys = spans.iter().map(|s| s.1).sum::<usize>();
        let _: usize = queries;
        let q = values(queries * wide, 1);
        let k = values(keys * narrow, 2);
        let v = values(keys * narrow, 3);
        for (cpu, numbers) in
            CpuFeatures::available().into_iter().flat_map(|set| NUMBERS.map(|numbers| (set, numbers)))
        {
            let all = run(cpu, numbers, heads, (&q, &k, &v), &spans);
            let allowed = if numbers == Numbers::Bf16 { 0.04 } else { 1e-5 };
            let mut query = 0;
            let mut key = 0;
            for (asked, length) in spans {
                let q = &q[query * wide..(query + asked) * wide];
                let rows = key * narrow..(key + length) * narrow;
                let k = &k[rows.clone()];
                let v = &v[rows];
                let part = &all[query * wide..(query + asked) * wide];
                for (found, expected) in part.iter().zip(oracle(q, k, v, length, heads)) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < allowed, "{cpu} {numbers:?}: {found} and {expected}");
                }
                let alone = run(cpu, numbers, heads, (q, k, v), &[(asked, length)]);
                assert_eq!(part, &alone[..], "a canvas of {length} alone");
                (query, key) = (query + asked, key + length);
            }
        }
    }
}

/// Keys and values of `keys` positions, and the queries of one span.
struct Case {
    cpu: CpuFeatures,
    heads: Heads,
    query: Activations,
}

impl Case {
    fn new(cpu: CpuFeatures, numbers: Numbers, heads: Heads, queries: usize) -> Self {
        let values = values(queries * heads.count * heads.width, 1);
        Self { cpu, heads, query: padded(numbers, &values, heads.count, heads.width) }
    }

    fn rows(&self, values: &[f32]) -> Activations {
        padded(self.query.numbers(), values, self.heads.shared, self.heads.width)
    }

    fn attend(&self, [key, value]: [&Activations; 2], span: Span) -> Vec<f32> {
        let operands = Operands { query: &self.query, key, value };
        let mut out = Activations::new(self.query.numbers());
        attention(self.cpu, operands, &[span], self.heads, &mut out, &ThreadLocal::new());
        plain(&out, self.heads.count, self.heads.width)
    }

    fn pages(&self, base: Pages, rows: [&Activations; 2], range: Range<usize>) -> Pages {
        let mut pages = NewPages::new(base, range);
        pages.push(self.cpu, rows, self.heads);
        pages.finish()
    }
}

fn levels() -> impl Iterator<Item = (CpuFeatures, Numbers)> {
    CpuFeatures::available().into_iter().flat_map(|set| NUMBERS.map(|numbers| (set, numbers)))
}

/// The rows of `before`, continued by those of `now`; the rows at `positions` are all of `now`.
fn replaced(before: &[f32], now: &[f32], positions: &[u32], narrow: usize) -> Vec<f32> {
    let total = (positions.last().map_or(0, |last| *last as usize + 1) * narrow).max(before.len());
    let mut all = [before, &now[before.len().min(total)..total]].concat();
    for position in positions {
        let row = *position as usize * narrow..(*position as usize + 1) * narrow;
        all[row.clone()].copy_from_slice(&now[row]);
    }
    all
}

#[test]
fn remembered_keys_and_values_give_the_bits_of_rows() {
    let heads = Heads { count: 4, shared: 2, width: 40 };
    let narrow = heads.shared * heads.width;
    for (cpu, numbers) in levels() {
        // Positions that were remembered, and the active ones.
        for (known, positions) in [
            (300, vec![0, 5, 6, 100, 255, 256, 299]),
            (70, vec![69]),
            (130, (130..300).collect()),
            (256, (250..260).collect::<Vec<u32>>()),
            (600, vec![300]),
        ] {
            let total = (*positions.last().unwrap() as usize + 1).max(known);
            let case = Case::new(cpu, numbers, heads, positions.len());
            let [before, now] = [[2, 3], [4, 5]].map(|salts| salts.map(|salt| values(total * narrow, salt)));
            let [old_key, old_value] = [0, 1].map(|part| case.rows(&before[part][..known * narrow]));
            // A memo that was made at once, and one that was made in two evaluations.
            let at_once = case.pages(Pages::default(), [&old_key, &old_value], 0..known);
            let half = case.pages(Pages::default(), [&old_key, &old_value], 0..known / 3);
            let [rest_key, rest_value] =
                [0, 1].map(|part| case.rows(&before[part][known / 3 * narrow..known * narrow]));
            let in_parts = case.pages(half, [&rest_key, &rest_value], 0..known - known / 3);
            let longer = case.pages(at_once.clone(), [&old_key, &old_value], 0..known).first(known);
            let part = |part: usize| {
                let rows = positions.iter().flat_map(|position| {
                    let row = *position as usize * narrow;
                    now[part][row..row + narrow].to_vec()
                });
                case.rows(&rows.collect::<Vec<_>>())
            };
            let active = [part(0), part(1)];
            let all = [0, 1].map(|part| {
                case.rows(&replaced(&before[part][..known * narrow], &now[part], &positions, narrow))
            });
            let queries = 0..positions.len();
            let whole = Span { queries: queries.clone(), keys: 0..total, ..Span::default() };
            let expected = case.attend([&all[0], &all[1]], whole);
            for pages in [at_once, in_parts, longer] {
                let remembered = Some(Remembered { pages, layer: 0, positions: positions.clone() });
                let span =
                    Span { queries: queries.clone(), keys: queries.clone(), remembered, visible: vec![] };
                let found = case.attend([&active[0], &active[1]], span);
                assert_eq!(found, expected, "{cpu} {numbers:?}: {known} remembered, {positions:?}");
            }
        }
    }
}

#[test]
fn a_query_that_sees_the_first_keys_has_the_bits_of_a_canvas_of_those() {
    let heads = Heads { count: 2, shared: 2, width: 16 };
    let narrow = heads.shared * heads.width;
    let total = 75;
    for (cpu, numbers) in levels() {
        let case = Case::new(cpu, numbers, heads, total);
        let [key, value] = [2, 3].map(|salt| case.rows(&values(total * narrow, salt)));
        let visible: Vec<u32> = (0..total as u32).map(|row| ((row / 6 + 1) * 6).min(total as u32)).collect();
        let span = Span { queries: 0..total, keys: 0..total, remembered: None, visible: visible.clone() };
        let all = case.attend([&key, &value], span);
        for (row, seen) in visible.into_iter().enumerate() {
            let span = Span { queries: row..row + 1, keys: 0..seen as usize, ..Span::default() };
            let alone = case.attend([&key, &value], span);
            let columns = row * heads.count * heads.width..(row + 1) * heads.count * heads.width;
            assert_eq!(all[columns.clone()], alone[columns], "{cpu} {numbers:?}: query {row}");
        }
    }
}
