//! The kernel on a GPU or its source on this machine, against `read_row` and the sorted definition.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::plan::{ALTERNATIVE, FOUND, Place, Plan};
use crate::kernel::CpuFeatures;
use crate::predictor::{Read, Sampling};
use crate::readout::row::tests::{Case, cases, near, oracle};
use crate::readout::{RowContext, Scratch, read_row};
use crate::twin::Kernels;

/// Rows over logits of one vocabulary.
struct Batch {
    plan: Plan,
    vocabulary: usize,
    logits: Vec<f32>,
}

fn kernels() -> Kernels {
    Kernels::new("src/readout/cuda/twin.cpp")
}

impl Batch {
    fn bytes(&self) -> Vec<u8> {
        let Self { plan, vocabulary, logits } = self;
        let rows_of_logits = logits.len() / vocabulary;
        let head = [*vocabulary, plan.len(), plan.lists().len(), rows_of_logits, plan.most_alternatives()];
        let head = head.map(|number| number as u32);
        let bits = logits.iter().map(|logit| logit.to_bits());
        let words = head.iter().chain(plan.rows()).chain(plan.lists()).copied().chain(bits);
        words.flat_map(u32::to_le_bytes).collect()
    }
}

/// The kernel's reads of some batches.
fn read_all(kernels: &Kernels, batches: &[Batch]) -> Vec<Vec<Option<Read>>> {
    #[cfg(feature = "cuda")]
    if let Some(device) = &kernels.gpu {
        return batches.iter().map(|batch| read_on_gpu(device, batch)).collect();
    }
    let output = kernels.ask_twin(&batches.iter().flat_map(Batch::bytes).collect::<Vec<u8>>());
    let words: Vec<u32> = output.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let mut rest = words.as_slice();
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count);
        rest = left;
        taken
    };
    let read = |Batch { plan, .. }: &Batch| {
        let found = take(FOUND * plan.len());
        plan.decode(found, take(ALTERNATIVE * plan.most_alternatives() * plan.len()))
    };
    batches.iter().map(read).collect()
}

#[cfg(feature = "cuda")]
fn read_on_gpu(device: &candle_core::Device, batch: &Batch) -> Vec<Option<Read>> {
    let Batch { plan, vocabulary, logits } = batch;
    let logits = candle_core::Tensor::from_slice(logits, (logits.len() / vocabulary, *vocabulary), device);
    let mut reading = super::Reading::start(plan, device.as_cuda_device().unwrap()).unwrap();
    reading.read(plan.len(), &logits.unwrap()).unwrap();
    reading.finish().unwrap()
}

impl Case {
    fn context(&self) -> RowContext<'_> {
        RowContext {
            sampling: &self.sampling,
            allowed: self.allowed.as_deref(),
            counts: &self.counts,
            target: Some(self.target),
            alternatives: self.alternatives,
        }
    }

    fn batch(&self) -> Batch {
        let mut plan = Plan::default();
        plan.push(Place { own: 0, guide: None }, &self.context(), self.uniform);
        Batch { plan, vocabulary: self.logits.len(), logits: self.logits.clone() }
    }
}

fn same(found: &Read, expected: &Read) -> bool {
    let pairs = found.alternatives.iter().zip(&expected.alternatives);
    found.token == expected.token
        && near(found.score, expected.score)
        && near(found.logprob, expected.logprob)
        && (found.confidence == expected.confidence || near(found.confidence, expected.confidence))
        && near(found.entropy, expected.entropy)
        && near(found.margin, expected.margin)
        && found.target.zip(expected.target).is_none_or(|(found, expected)| near(found, expected))
        && found.target.is_some() == expected.target.is_some()
        && found.alternatives.len() == expected.alternatives.len()
        && pairs.into_iter().all(|(found, expected)| found.0 == expected.0 && near(found.1, expected.1))
}

/// The same settings, penalties, sets and ties that the CPU's readout is tried with.
#[test]
fn the_kernel_reads_random_rows_as_the_cpu_does() {
    let kernels = kernels();
    let mut runner = TestRunner::deterministic();
    let cases: Vec<Case> = (0..4096).map(|_| cases().new_tree(&mut runner).unwrap().current()).collect();
    let batches: Vec<Batch> = cases.iter().map(Case::batch).collect();
    let mut compared = 0;
    let mut flips = 0;
    for (case, found) in cases.iter().zip(read_all(&kernels, &batches)) {
        let expected = read_row(
            CpuFeatures::detect(),
            &case.logits,
            &case.context(),
            case.uniform,
            &mut Scratch::default(),
        );
        let (Some(found), Some(expected)) = (&found[0], &expected) else {
            assert_eq!(found[0], expected, "{case:?}");
            continue;
        };
        compared += 1;
        if !same(found, expected) {
            // Only where a decision lies within rounding of its edge.
            let (_, edge) = oracle(&case.logits, &case.context(), case.uniform).unwrap();
            assert!(edge < 1e-5, "edge {edge}: {found:?}\n{expected:?}\n{case:?}");
            flips += 1;
        }
    }
    eprintln!("{compared} rows compared, {flips} with a decision within rounding of its edge");
    assert!(compared > 3000, "{compared} rows");
}

/// Rows as they are served: a vocabulary of GPT-2's size, one sampling for all rows of a canvas, guidance,
/// and lists that rows share.
#[test]
fn the_kernel_reads_rows_of_a_whole_vocabulary_as_the_cpu_does() {
    const VOCABULARY: usize = 50_257;
    const ROWS: usize = 24;
    let kernels = kernels();
    let mut runner = TestRunner::deterministic();
    let mut any = |range: std::ops::Range<f32>| range.new_tree(&mut runner).unwrap().current();
    // Sums of three uniform numbers have the tails that logits have, and more.
    let logits: Vec<f32> = (0..ROWS * VOCABULARY).map(|_| (0..3).map(|_| any(-3.0..3.0)).sum()).collect();
    let nucleus = Sampling { temperature: 0.95, top_p: 0.9, banned: vec![10_541], ..Sampling::default() };
    let bias = vec![(40_000, 9.0), (3, -1.0), (40_000, 0.5)];
    let samplings = [
        nucleus.clone(),
        Sampling { top_p: 1.0, ..nucleus.clone() },
        Sampling { temperature: 0.0, ..nucleus.clone() },
        Sampling { top_k: 50, min_p: 0.02, bias, repetition_penalty: 1.3, ..nucleus },
    ];
    let counts: Vec<_> = (0..500)
        .map(|token| crate::predictor::TokenCount {
            token: 90 * token,
            given: token % 3,
            generated: token % 2,
        })
        .collect();
    let row = |row: usize| &logits[row * VOCABULARY..][..VOCABULARY];
    let mut plan = Plan::default();
    let mut expected = Vec::new();
    for (number, uniform) in (0..ROWS).map(|number| (number, (number as f64 + 0.37) / ROWS as f64)) {
        let context =
            RowContext { counts: &counts, alternatives: 3, ..RowContext::new(&samplings[number % 4]) };
        let guide = (number % 3 == 0).then_some(((number as u32 + 1) % ROWS as u32, 1.5));
        plan.push(Place { own: number as u32, guide }, &context, uniform);
        let guided: Vec<f32> = match guide {
            Some((guide, _)) => {
                row(guide as usize).iter().zip(row(number)).map(|(u, c)| u + 2.5 * (c - u)).collect()
            }
            None => row(number).to_vec(),
        };
        expected.push(
            read_row(CpuFeatures::detect(), &guided, &context, uniform, &mut Scratch::default()).unwrap(),
        );
    }
    assert!(plan.lists().len() < 2000, "lists are shared: {} words", plan.lists().len());
    let found =
        read_all(&kernels, &[Batch { plan, vocabulary: VOCABULARY, logits: logits.clone() }]).remove(0);
    for (found, expected) in found.iter().zip(&expected) {
        let found = found.as_ref().unwrap();
        assert!(same(found, expected), "{found:?}\n{expected:?}");
    }
}

/// A row that cannot be read must not be answered, and must not take its neighbours with it.
#[test]
fn the_kernel_refuses_rows_that_are_not_finite_or_leave_nothing_to_draw() {
    let kernels = kernels();
    let logits = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5].into_iter().flat_map(|x| [1.0, x, 2.0]);
    let plain = Sampling::default();
    let banned = Sampling { banned: vec![0, 1, 2], ..Sampling::default() };
    let mut plan = Plan::default();
    for (own, sampling) in [(0, &plain), (1, &plain), (2, &plain), (3, &banned), (3, &plain)] {
        plan.push(Place { own, guide: None }, &RowContext::new(sampling), 0.5);
    }
    let nothing = RowContext { allowed: Some(&[]), ..RowContext::new(&plain) };
    plan.push(Place { own: 3, guide: None }, &nothing, 0.5);
    let reads = read_all(&kernels, &[Batch { plan, vocabulary: 3, logits: logits.collect() }]).remove(0);
    let read: Vec<bool> = reads.iter().map(Option::is_some).collect();
    assert_eq!(read, [false, false, false, false, true, false]);
}
