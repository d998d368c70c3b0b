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
        Span { queries: queries - asked..queries, keys: keys - length..keys }
    };
    let spans: Vec<Span> = spans.iter().map(span).collect();
    let query = padded(numbers, q, heads.count, heads.width);
    let (key, value) =
        (padded(numbers, k, heads.shared, heads.width), padded(numbers, v, heads.shared, heads.width));
    let operands = Operands { query: &query, key: &key, value: &value };
    let mut out = Activations::new(numbers);
    attention(cpu, operands, &spans, heads, &mut out, &[Mutex::default(), Mutex::default()]);
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
