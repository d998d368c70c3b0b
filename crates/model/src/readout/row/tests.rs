use proptest::prelude::*;

use super::*;

/// At the processor's highest level; all levels draw the same token.
fn read(logits: &[f32], sampling: &Sampling, uniform: f64) -> Option<Read> {
    read_with(logits, &RowContext::new(sampling), uniform)
}

fn read_with(logits: &[f32], context: &RowContext<'_>, uniform: f64) -> Option<Read> {
    let read = |cpu| read_row(cpu, logits, context, uniform, &mut Scratch::default());
    let mut reads: Vec<_> = CpuFeatures::available().into_iter().map(read).collect();
    let token = |read: &Option<Read>| read.as_ref().map(|read| read.token);
    assert!(reads.iter().all(|read| token(read) == token(&reads[0])), "{reads:?}");
    reads.pop().flatten()
}

/// Token ids by value, largest first, the lower id on a tie.
fn ranked(values: &[(usize, f64)]) -> Vec<usize> {
    let mut order = values.to_vec();
    order.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    order.into_iter().map(|(token, _)| token).collect()
}

/// Logits after penalties and bias; they are f32 like those that come in.
fn penalised(logits: &[f32], context: &RowContext<'_>) -> Vec<f32> {
    let sampling = context.sampling;
    let edit = |(token, &logit): (usize, &f32)| {
        let mut value = f64::from(logit);
        if let Some(count) = context.counts.iter().find(|count| count.token as usize == token) {
            if count.given + count.generated > 0 {
                let factor = sampling.repetition_penalty;
                value = if value < 0.0 { value * factor } else { value / factor };
            }
            value -= sampling.frequency_penalty * f64::from(count.generated);
            value -= if count.generated > 0 { sampling.presence_penalty } else { 0.0 };
        }
        let biases = sampling.bias.iter().filter(|(biased, _)| *biased as usize == token);
        biases.fold(value as f32, |value, (_, bias)| (f64::from(value) + f64::from(*bias)) as f32)
    };
    logits.iter().enumerate().map(edit).collect()
}

/// Drops from the end of `order` what top-k, top-p and min-p drop; the distance from the nearest edge.
fn filter(order: &mut Vec<usize>, weight: impl Fn(usize) -> f64, sampling: &Sampling) -> f64 {
    let mut edge = f64::INFINITY;
    let most = if sampling.top_k > 0 { sampling.top_k } else { usize::MAX };
    if !sampling.nucleus_first {
        order.truncate(most);
    }
    if sampling.top_p < 1.0 {
        let mass: f64 = order.iter().map(|&token| weight(token)).sum();
        let mut before = 0.0;
        order.retain(|&token| {
            let keep = before <= sampling.top_p * mass;
            edge = edge.min((before / mass - sampling.top_p).abs());
            before += weight(token);
            keep
        });
    }
    order.truncate(most);
    if sampling.min_p > 0.0 {
        order.retain(|&token| {
            edge = edge.min((weight(token) / sampling.min_p - 1.0).abs());
            weight(token) >= sampling.min_p
        });
    }
    edge
}

/// The definition in f64, with full sorts; also the smallest distance of any decision from its edge.
pub(in crate::readout) fn oracle(
    logits: &[f32],
    context: &RowContext<'_>,
    uniform: f64,
) -> Option<(Read, f64)> {
    let sampling = context.sampling;
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - f64::from(largest)).exp()).sum();
    let raw = |token: usize| (f64::from(logits[token]) - f64::from(largest) - sum.ln()) as f32;
    let everything: Vec<(usize, f64)> = logits.iter().map(|&x| f64::from(x)).enumerate().collect();
    let mut alternatives = ranked(&everything);
    alternatives.truncate(context.alternatives);

    let edited = penalised(logits, context);
    let mut drawable: Vec<(usize, f64)> = edited.iter().map(|&x| f64::from(x)).enumerate().collect();
    drawable.retain(|(token, _)| !sampling.banned.contains(&(*token as u32)));
    drawable.retain(|(token, _)| context.allowed.is_none_or(|set| set.contains(&(*token as u32))));
    let mut order = ranked(&drawable);
    let best = *order.first()?;
    let greedy = sampling.temperature < 1e-39;
    let temperature = if greedy { 1.0 } else { sampling.temperature };
    let weight = |token: usize| ((f64::from(edited[token]) - f64::from(edited[best])) / temperature).exp();
    let mut edge = if greedy { f64::INFINITY } else { filter(&mut order, weight, sampling) };
    let mass: f64 = order.iter().map(|&token| weight(token)).sum();
    let share = |token: usize| weight(token) / mass;
    let information =
        |token: &usize| if share(*token) > 0.0 { -share(*token) * share(*token).ln() } else { 0.0 };
    let second = order.get(1).map_or(0.0, |&token| share(token));
    let mut ascending = order.clone();
    ascending.sort_unstable();
    let mut cumulative = 0.0;
    let drawn = ascending.iter().copied().find(|&token| {
        cumulative += share(token);
        edge = edge.min(if greedy { 1.0 } else { (cumulative - uniform).abs() });
        cumulative > uniform
    });
    let token = if greedy { best } else { drawn.unwrap_or(best) };
    let distance = (f64::from(edited[best]) - f64::from(edited[token])) / temperature;
    let trusted = everything.iter().filter(|(token, _)| !sampling.distrusted.contains(&(*token as u32)));
    let best_trusted = ranked(&trusted.copied().collect::<Vec<_>>()).first().copied().unwrap_or_default();
    let read = Read {
        token: token as u32,
        score: (-distance - mass.ln()) as f32,
        logprob: raw(token),
        confidence: if sampling.distrusted.contains(&(token as u32)) {
            f32::NEG_INFINITY
        } else {
            let trusted = |token: &usize| !sampling.distrusted.contains(&(*token as u32));
            let difference = |token: usize| f64::from(logits[token]) - f64::from(logits[best_trusted]);
            let sum: f64 = (0..logits.len()).filter(trusted).map(|token| difference(token).exp()).sum();
            (difference(token) - sum.ln()) as f32
        },
        entropy: order.iter().map(information).sum::<f64>() as f32,
        margin: (share(best) - second) as f32,
        target: context.target.map(|target| raw(target as usize)),
        alternatives: alternatives.into_iter().map(|token| (token as u32, raw(token))).collect(),
    };
    Some((read, edge))
}

pub(in crate::readout) fn near(found: f32, expected: f32) -> bool {
    (found - expected).abs() < 2e-5 * (1.0 + expected.abs())
}

/// A row with everything that can be asked of it.
#[derive(Clone, Debug)]
pub(in crate::readout) struct Case {
    pub(in crate::readout) logits: Vec<f32>,
    pub(in crate::readout) sampling: Sampling,
    pub(in crate::readout) allowed: Option<Vec<u32>>,
    pub(in crate::readout) counts: Vec<TokenCount>,
    pub(in crate::readout) target: u32,
    pub(in crate::readout) alternatives: usize,
    pub(in crate::readout) uniform: f64,
}

fn samplings() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(0.0), Just(1e-40), Just(1.0), 0.2_f64..2.0, 0.2_f64..2.0];
    let penalties = (
        prop_oneof![Just(1.0), 0.5_f64..2.0],
        prop_oneof![Just(0.0), -1.0_f64..1.0],
        prop_oneof![Just(0.0), -2.0_f64..2.0],
        prop::collection::vec((0_u32..220, -5.0_f32..5.0), 0..3),
    );
    let filters = (
        prop_oneof![Just(0), 1_usize..30],
        prop_oneof![Just(1.0), 0.0_f64..1.0],
        prop_oneof![Just(0.0), 0.0_f64..0.3],
        prop::collection::vec(0_u32..220, 0..3),
        (any::<bool>(), prop_oneof![Just(Vec::new()), Just(vec![3, 17]), Just(vec![0])]),
    );
    (temperature, penalties, filters).prop_map(
        |(temperature, penalties, (top_k, top_p, min_p, banned, others))| {
            let (repetition_penalty, frequency_penalty, presence_penalty, bias) = penalties;
            Sampling {
                repetition_penalty,
                frequency_penalty,
                presence_penalty,
                bias,
                banned,
                distrusted: others.1,
                temperature,
                top_k,
                nucleus_first: others.0,
                top_p,
                min_p,
            }
        },
    )
}

pub(in crate::readout) fn cases() -> impl Strategy<Value = Case> {
    // Coarse logits have many exact ties; wide ones fill the histogram's last bucket, narrow ones its first.
    let scale = prop_oneof![Just(1.0_f32), Just(1.0), Just(20.0), Just(0.003)];
    let logits = (prop::collection::vec(-12.0_f32..12.0, 1..700), scale, any::<bool>()).prop_map(
        |(logits, scale, coarse)| -> Vec<f32> {
            logits.into_iter().map(|x| if coarse { x.round() } else { x } * scale).collect()
        },
    );
    let set = prop::collection::btree_set(0_u32..220, 0..40).prop_map(Vec::from_iter);
    let counts = prop::collection::btree_map(0_u32..220, (0_u32..3, 0_u32..3), 0..20).prop_map(|map| {
        let count = |(token, (given, generated))| TokenCount { token, given, generated };
        map.into_iter().map(count).collect()
    });
    let rest = (prop::option::of(set), counts, any::<prop::sample::Index>(), 0_usize..9, 0.0_f64..1.0);
    (logits, samplings(), rest).prop_map(
        |(logits, sampling, (allowed, counts, target, alternatives, uniform))| {
            let target = target.index(logits.len()) as u32;
            Case { logits, sampling, allowed, counts, target, alternatives, uniform }
        },
    )
}

fn compare(found: &Read, expected: &Read) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.token, expected.token);
    prop_assert!(near(found.score, expected.score), "score {} {}", found.score, expected.score);
    prop_assert!(near(found.logprob, expected.logprob), "logprob {} {}", found.logprob, expected.logprob);
    let confident = found.confidence == expected.confidence || near(found.confidence, expected.confidence);
    prop_assert!(confident, "confidence {} {}", found.confidence, expected.confidence);
    prop_assert!(near(found.entropy, expected.entropy), "entropy {} {}", found.entropy, expected.entropy);
    prop_assert!(near(found.margin, expected.margin), "margin {} {}", found.margin, expected.margin);
    prop_assert!(near(found.target.unwrap(), expected.target.unwrap()));
    prop_assert_eq!(found.alternatives.len(), expected.alternatives.len());
    for (found, expected) in found.alternatives.iter().zip(&expected.alternatives) {
        prop_assert_eq!(found.0, expected.0);
        prop_assert!(near(found.1, expected.1));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn reads_equal_the_sorted_definition(case in cases(), other in cases()) {
        let context = RowContext {
            sampling: &case.sampling,
            allowed: case.allowed.as_deref(),
            counts: &case.counts,
            target: Some(case.target),
            alternatives: case.alternatives,
        };
        let Some((expected, edge)) = oracle(&case.logits, &context, case.uniform) else {
            prop_assert_eq!(read_with(&case.logits, &context, case.uniform), None);
            return Ok(());
        };
        prop_assume!(edge > 1e-5);
        for cpu in CpuFeatures::available() {
            let mut scratch = Scratch::default();
            // The buffers still hold another row, which changes nothing.
            read_row(cpu, &other.logits, &RowContext::new(&other.sampling), other.uniform, &mut scratch);
            let found = read_row(cpu, &case.logits, &context, case.uniform, &mut scratch);
            prop_assert!(found.is_some(), "{}", cpu);
            compare(&found.unwrap(), &expected)?;
        }
    }
}

#[test]
fn temperature_zero_takes_the_lower_id_of_a_tie_and_skips_banned_ones() {
    for temperature in [0.0, 1e-300, 1e-39] {
        let greedy = |banned: Vec<u32>| {
            let sampling = Sampling { temperature, top_p: 0.9, banned, ..Sampling::default() };
            read(&[1.0, 3.0, 3.0, 2.0], &sampling, 0.99).unwrap().token
        };
        assert_eq!(greedy(vec![]), 1);
        assert_eq!(greedy(vec![1]), 2);
        assert_eq!(greedy(vec![1, 2]), 3);
    }
}

#[test]
fn a_banned_token_that_outweighs_all_others_leaves_their_law_alone() {
    let cases = [1.0, 0.6].into_iter().flat_map(|top_p| [0.1, 0.4, 0.6, 0.9].map(|uniform| (top_p, uniform)));
    for (top_p, uniform) in cases {
        let sampling = Sampling { top_p, banned: vec![1], ..Sampling::default() };
        let loud = read(&[0.5, 80.0, 0.5, 1.0], &sampling, uniform).unwrap();
        let quiet = read(&[0.5, -80.0, 0.5, 1.0], &sampling, uniform).unwrap();
        assert_eq!((loud.token, loud.score), (quiet.token, quiet.score));
        assert_eq!((loud.entropy, loud.margin), (quiet.entropy, quiet.margin));
    }
}

#[test]
fn rows_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(read(&[0.0, bad], &Sampling::default(), 0.5), None, "{bad}");
    }
    let all = Sampling { banned: vec![0, 1], ..Sampling::default() };
    assert_eq!(read(&[0.0, 1.0], &all, 0.5), None);
    assert_eq!(read(&[], &Sampling::default(), 0.5), None);
    let sampling = Sampling::default();
    let nothing = RowContext { allowed: Some(&[]), ..RowContext::new(&sampling) };
    assert_eq!(read_with(&[0.0, 1.0], &nothing, 0.5), None);
}

#[test]
fn penalties_follow_the_sign_and_the_counts() {
    let sampling = Sampling {
        repetition_penalty: 2.0,
        frequency_penalty: 0.5,
        presence_penalty: 0.25,
        ..Sampling::default()
    };
    let count = |token, given, generated| TokenCount { token, given, generated };
    let counts = [count(0, 1, 0), count(1, 0, 2), count(2, 1, 1), count(3, 0, 0)];
    let context = RowContext { counts: &counts, ..RowContext::new(&sampling) };
    let penalised_by_hand = [1.0, -4.0 - 1.0 - 0.25, 0.5 - 0.5 - 0.25, 1.5, 0.0];
    assert_eq!(penalised(&[2.0, -2.0, 1.0, 1.5, 0.0], &context), penalised_by_hand);
    let found = read_with(&[2.0, -2.0, 1.0, 1.5, 0.0], &context, 0.3).unwrap();
    let expected = read(&penalised_by_hand, &Sampling::default(), 0.3).unwrap();
    assert_eq!((found.token, found.score, found.entropy), (expected.token, expected.score, expected.entropy));
    let model = read(&[2.0, -2.0, 1.0, 1.5, 0.0], &Sampling::default(), 0.3).unwrap();
    assert_eq!(found.token, model.token);
    assert_eq!(found.logprob, model.logprob, "the model's own belief knows no penalties");
}

#[test]
fn a_bias_beyond_all_bounds_decides_without_breaking_the_row() {
    let bias = vec![(2, f32::MAX), (2, f32::MAX), (0, -f32::MAX), (0, f32::NEG_INFINITY)];
    let sampling = Sampling { bias, temperature: 0.2, top_p: 0.9, ..Sampling::default() };
    let found = read(&[5.0, 4.0, 3.0], &sampling, 0.999).unwrap();
    assert_eq!((found.token, found.score, found.entropy, found.margin), (2, 0.0, 0.0, 1.0));
}

#[test]
fn filters_apply_one_after_the_other() {
    // Probabilities 0.4, 0.3, 0.2, 0.1.
    let logits = [0.4_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln(), 0.1_f32.ln()];
    let support = |sampling: &Sampling| -> Vec<u32> {
        let mut tokens: Vec<u32> = (0..1000)
            .map(|i| read(&logits, sampling, (f64::from(i) + 0.5) / 1000.0).unwrap().token)
            .collect();
        tokens.dedup();
        tokens
    };
    let sampling = |top_k, top_p, min_p| Sampling { top_k, top_p, min_p, ..Sampling::default() };
    assert_eq!(support(&sampling(0, 1.0, 0.0)), [0, 1, 2, 3]);
    assert_eq!(support(&sampling(0, 0.65, 0.0)), [0, 1], "the token that crosses 0.65 stays");
    assert_eq!(support(&sampling(0, 0.75, 0.0)), [0, 1, 2]);
    assert_eq!(support(&sampling(3, 0.75, 0.0)), [0, 1], "the first two hold 7/9 of the three left");
    assert_eq!(support(&sampling(0, 1.0, 0.4)), [0, 1, 2]);
    assert_eq!(support(&sampling(0, 1.0, 1.0)), [0], "the best one always stays");
    assert_eq!(support(&sampling(1, 1.0, 0.0)), [0]);
    assert_eq!(support(&sampling(0, 0.0, 0.0)), [0]);
}
