//! A chain small enough to write every law down: 3 symbols, 4 positions, 81 sequences. Nothing here uses
//! the code under test.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

/// Positions of a canvas.
pub const LENGTH: usize = 4;
/// The chain's symbols; the mask comes after them.
pub const SYMBOLS: usize = 3;
/// Sequences without a mask.
pub const SEQUENCES: usize = 81;

/// A canvas; `SYMBOLS` is the mask.
pub type Canvas = [usize; LENGTH];

/// The law of each symbol given the one before.
pub fn transition() -> Vec<Vec<f64>> {
    vec![vec![0.70, 0.20, 0.10], vec![0.15, 0.25, 0.60], vec![0.45, 0.15, 0.40]]
}

/// The sequence with this number.
pub fn sequence(code: usize) -> Canvas {
    std::array::from_fn(|place| code / SYMBOLS.pow(place as u32) % SYMBOLS)
}

/// The number of a sequence.
pub fn code(sequence: impl IntoIterator<Item = usize>) -> usize {
    sequence.into_iter().zip(0..).map(|(symbol, place)| symbol * SYMBOLS.pow(place)).sum()
}

/// The chain's law of whole sequences.
pub fn joint() -> Vec<f64> {
    let transition = transition();
    let mut start = vec![1.0 / SYMBOLS as f64; SYMBOLS];
    for _ in 0..200 {
        start = (0..SYMBOLS)
            .map(|to| (0..SYMBOLS).map(|from| start[from] * transition[from][to]).sum())
            .collect();
    }
    let probability = |canvas: Canvas| {
        start[canvas[0]] * canvas.windows(2).map(|pair| transition[pair[0]][pair[1]]).product::<f64>()
    };
    (0..SEQUENCES).map(|number| probability(sequence(number))).collect()
}

/// Temperature, then nucleus: the law that tokens are drawn from.
#[derive(Clone, Copy)]
pub struct Drawing {
    pub temperature: f64,
    pub top_p: f64,
}

/// The chain's own conditionals.
pub const PLAIN: Drawing = Drawing { temperature: 1.0, top_p: 1.0 };

impl Drawing {
    /// The definition, in f64 with a full sort.
    fn apply(self, law: [f64; SYMBOLS]) -> [f64; SYMBOLS] {
        let normalised = |law: [f64; SYMBOLS]| law.map(|p| p / law.iter().sum::<f64>());
        let tempered = normalised(law.map(|p| p.powf(1.0 / self.temperature)));
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| tempered[b].total_cmp(&tempered[a]));
        let mut kept = [0.0; SYMBOLS];
        let mut before = 0.0;
        for symbol in order {
            if before <= self.top_p {
                kept[symbol] = tempered[symbol];
            }
            before += tempered[symbol];
        }
        normalised(kept)
    }
}

/// The distribution of each masked position of each canvas.
pub struct Beliefs {
    table: BTreeMap<(Canvas, usize), [f64; SYMBOLS]>,
}

impl Beliefs {
    /// The conditionals as ratios of sums over all sequences.
    pub fn new(drawing: Drawing) -> Self {
        let joint = joint();
        let mut table = BTreeMap::new();
        for canvas in canvases() {
            let fits = |number: &usize| {
                sequence(*number)
                    .iter()
                    .zip(canvas)
                    .all(|(symbol, known)| known == SYMBOLS || known == *symbol)
            };
            for place in (0..LENGTH).filter(|place| canvas[*place] == SYMBOLS) {
                let mut law = [0.0; SYMBOLS];
                for number in (0..SEQUENCES).filter(fits) {
                    law[sequence(number)[place]] += joint[number];
                }
                table.insert((canvas, place), drawing.apply(law.map(|p| p / law.iter().sum::<f64>())));
            }
        }
        Self { table }
    }

    /// The law of the symbol at a masked place.
    pub fn at(&self, canvas: Canvas, place: usize) -> [f64; SYMBOLS] {
        self.table[&(canvas, place)]
    }
}

/// Every canvas with and without masks.
fn canvases() -> impl Iterator<Item = Canvas> {
    let base = SYMBOLS + 1;
    (0..base.pow(LENGTH as u32))
        .map(move |code| std::array::from_fn(|place| code / base.pow(place as u32) % base))
}

/// The law of the sampler that commits in round r the places with label r, from independent draws,
/// averaged over these labelings.
pub fn law_of_labelings(beliefs: &Beliefs, labelings: &[[usize; LENGTH]]) -> Vec<f64> {
    let probability = |labels: &[usize; LENGTH], target: Canvas| {
        let place_probability = |place: usize| {
            let seen =
                std::array::from_fn(
                    |other| if labels[other] < labels[place] { target[other] } else { SYMBOLS },
                );
            beliefs.at(seen, place)[target[place]]
        };
        (0..LENGTH).map(place_probability).product::<f64>()
    };
    let average = |target: Canvas| {
        labelings.iter().map(|labels| probability(labels, target)).sum::<f64>() / labelings.len() as f64
    };
    (0..SEQUENCES).map(|number| average(sequence(number))).collect()
}

/// All labels in 0..rounds, each as likely as any other: the reference's rounds.
pub fn independent_labels(rounds: usize) -> Vec<[usize; LENGTH]> {
    (0..rounds.pow(LENGTH as u32))
        .map(|code| std::array::from_fn(|place| code / rounds.pow(place as u32) % rounds))
        .collect()
}

/// All labelings in which no two places share a round: one place at a time, in any order.
pub fn permutations() -> Vec<[usize; LENGTH]> {
    let distinct = |labels: &[usize; LENGTH]| (0..LENGTH).all(|round| labels.contains(&round));
    independent_labels(LENGTH).into_iter().filter(distinct).collect()
}

/// The reference's loop to the letter: T evaluations, each open place committed with probability
/// 1/(t + 1), the rest at the end.
pub fn reference_loop(beliefs: &Beliefs, steps: u32, generator: &mut ChaCha8Rng) -> Canvas {
    let mut canvas = [SYMBOLS; LENGTH];
    for t in (0..steps).rev() {
        let seen = canvas;
        for place in (0..LENGTH).filter(|place| seen[*place] == SYMBOLS) {
            let drawn = draw(&beliefs.at(seen, place), generator);
            if uniform(generator) < 1.0 / f64::from(t + 1) {
                canvas[place] = drawn;
            }
        }
    }
    canvas
}

/// ReMDM's law by its definition, over canvases: from `alpha` before to after each step a committed token
/// becomes a mask with probability σ and a masked place is committed with probability
/// (α_s − (1 − σ)α_t)/(1 − α_t), all independently.
pub fn remasking_law(beliefs: &Beliefs, steps: u32, sigma: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut law = BTreeMap::from([([SYMBOLS; LENGTH], 1.0)]);
    for step in 1..=steps {
        let before = f64::from(step - 1) / f64::from(steps);
        let after = f64::from(step) / f64::from(steps);
        let sigma = sigma(before, after);
        let commit = (after - (1.0 - sigma) * before) / (1.0 - before);
        let mut next: BTreeMap<Canvas, f64> = BTreeMap::new();
        for (canvas, mass) in law {
            for target in canvases() {
                let place_probability = |place: usize| match (canvas[place], target[place]) {
                    (SYMBOLS, SYMBOLS) => 1.0 - commit,
                    (SYMBOLS, symbol) => commit * beliefs.at(canvas, place)[symbol],
                    (_, SYMBOLS) => sigma,
                    (old, new) => {
                        if old == new {
                            1.0 - sigma
                        } else {
                            0.0
                        }
                    }
                };
                let probability: f64 = (0..LENGTH).map(place_probability).product();
                if probability > 0.0 {
                    *next.entry(target).or_default() += mass * probability;
                }
            }
        }
        law = next;
    }
    (0..SEQUENCES).map(|number| law.get(&sequence(number)).copied().unwrap_or(0.0)).collect()
}

fn draw(law: &[f64; SYMBOLS], generator: &mut ChaCha8Rng) -> usize {
    let number = uniform(generator);
    let mut cumulative = 0.0;
    let below = |p: &&f64| {
        cumulative += **p;
        cumulative <= number
    };
    law.iter().take_while(below).count().min(SYMBOLS - 1)
}

fn uniform(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The distance of Pearson's statistic from its mean, in standard deviations, for counts of sequences against
/// their law. Cells of fewer than five expected counts are pooled.
pub fn chi_square(counts: &[u64], law: &[f64]) -> f64 {
    let total: f64 = counts.iter().map(|count| *count as f64).sum();
    let mut pooled = (0.0, 0.0);
    let mut cells = Vec::new();
    for (count, p) in counts.iter().zip(law) {
        let cell = (*count as f64, p * total);
        if cell.1 < 5.0 {
            pooled = (pooled.0 + cell.0, pooled.1 + cell.1);
        } else {
            cells.push(cell);
        }
    }
    if pooled.1 > 0.0 || pooled.0 > 0.0 {
        cells.push(pooled);
    }
    let statistic: f64 = cells.iter().map(|(count, mean)| (count - mean).powi(2) / mean).sum();
    let freedom = (cells.len() - 1) as f64;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}
