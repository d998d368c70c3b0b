//! The choice of experts for a row, and their weights.

use std::fmt;

/// How the experts of a row are chosen and weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// How many a row uses.
    pub used: usize,
    /// The score of an expert.
    pub score: ExpertScore,
    /// Experts are chosen from the best groups only.
    pub groups: Option<ExpertGroups>,
    /// Whether the weights of the chosen ones are divided by their sum.
    pub normalised: bool,
    /// Factor of all weights.
    pub scale: f32,
}

/// The score of an expert, which is its weight as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertScore {
    /// Softmax over the logits of all experts.
    Softmax,
    /// The logistic function of its own logit.
    Sigmoid,
}

/// Groups of neighbouring experts, as many in each. A group is as good as the sum of its two best scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertGroups {
    /// How many there are.
    pub count: usize,
    /// From how many of them experts are chosen.
    pub kept: usize,
}

impl Routing {
    /// The most probable experts, each weighted with its probability.
    #[must_use]
    pub fn softmax(used: usize) -> Self {
        Self { used, score: ExpertScore::Softmax, groups: None, normalised: false, scale: 1.0 }
    }

    /// The experts with the largest sums of score and bias, ascending by number, each with its weight, which the bias has
    /// no part in; of equal ones the lower number. `bias` is empty, or has one number for each expert.
    pub fn choose(&self, logits: &[f32], bias: &[f32], chosen: &mut Vec<(u32, f32)>) {
        let score = self.score(logits);
        let rank = |(number, logit): (usize, &f32)| score(*logit) + bias.get(number).unwrap_or(&0.0);
        let ranks: Vec<f32> = logits.iter().enumerate().map(rank).collect();
        chosen.clear();
        chosen.extend((0..).zip(&ranks).map(|(number, rank)| (number, *rank)));
        if let Some(groups) = self.groups {
            let size = (ranks.len() / groups.count.max(1)).max(1);
            let kept = groups.best(&ranks, size);
            chosen.retain(|(number, _)| kept.contains(&(*number as usize / size)));
        }
        chosen.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        chosen.truncate(self.used);
        chosen.sort_unstable_by_key(|expert| expert.0);
        chosen.iter_mut().for_each(|(number, weight)| *weight = score(logits[*number as usize]));
        // The smallest sum that the reference divides by.
        let sum: f32 = chosen.iter().map(|expert| expert.1).sum::<f32>() + 1e-20;
        let factor = if self.normalised { self.scale / sum } else { self.scale };
        chosen.iter_mut().for_each(|(_, weight)| *weight *= factor);
    }

    /// Scores of single logits.
    fn score(&self, logits: &[f32]) -> impl Fn(f32) -> f32 + use<> {
        let kind = self.score;
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        move |logit| match kind {
            ExpertScore::Softmax => (logit - largest).exp() / sum,
            ExpertScore::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
        }
    }
}

/// The routing in words, such as `sigmoid, from 4 of 8 groups, divided by their sum, times 2.5`.
impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.score {
            ExpertScore::Softmax => "softmax",
            ExpertScore::Sigmoid => "sigmoid",
        })?;
        if let Some(ExpertGroups { count, kept }) = self.groups {
            write!(f, ", from {kept} of {count} groups")?;
        }
        if self.normalised {
            f.write_str(", divided by their sum")?;
        }
        if self.scale == 1.0 { Ok(()) } else { write!(f, ", times {}", self.scale) }
    }
}

impl ExpertGroups {
    /// The best groups of `size` experts; of equal ones the lower number.
    fn best(self, ranks: &[f32], size: usize) -> Vec<usize> {
        let worth = |group: &[f32]| {
            let mut sorted = group.to_vec();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            sorted.iter().take(2).sum::<f32>()
        };
        let mut groups: Vec<(usize, f32)> = ranks.chunks(size).map(worth).enumerate().collect();
        groups.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        groups.iter().take(self.kept).map(|group| group.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[(u32, f32)], expected: &[(u32, f32)]) {
        assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn the_most_probable_experts_keep_their_probabilities() {
        let mut chosen = Vec::new();
        let logits = [0.0, 2.0, 1.0, 2.0, -1.0].map(|x: f32| x);
        Routing::softmax(3).choose(&logits, &[], &mut chosen);
        let sum: f32 = logits.iter().map(|x| x.exp()).sum();
        let weight = |x: f32| x.exp() / sum;
        near(&chosen, &[(1, weight(2.0)), (2, weight(1.0)), (3, weight(2.0))]);
        // Of four equal ones the first two.
        Routing::softmax(2).choose(&[1.0; 4], &[], &mut chosen);
        assert_eq!(chosen, [(0, 0.25), (1, 0.25)]);
        // Qwen3's experts: the weights of those that are used add up to 1.
        Routing { normalised: true, ..Routing::softmax(2) }.choose(&logits, &[], &mut chosen);
        near(&chosen, &[(1, 0.5), (3, 0.5)]);
    }

    /// Sigmoids 0.5, 0.88, 0.73, 0.27, 0.95, 0.02: in groups of two, the middle one has the largest sum of scores.
    #[test]
    fn groups_and_biases_choose_and_leave_weights_alone() {
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        let logits = [0.0, 2.0, 1.0, -1.0, 3.0, -4.0];
        let groups = |kept| Some(ExpertGroups { count: 3, kept });
        let routing =
            Routing { used: 2, score: ExpertScore::Sigmoid, groups: None, normalised: true, scale: 2.5 };
        let mut chosen = Vec::new();
        let mut expect = |routing: Routing, bias: &[f32], experts: [u32; 2]| {
            routing.choose(&logits, bias, &mut chosen);
            let weights = experts.map(|expert| sigmoid(logits[expert as usize]));
            let sum: f32 = weights.iter().sum();
            near(&chosen, &[0, 1].map(|i| (experts[i], 2.5 * weights[i] / sum)));
        };
        expect(routing, &[], [1, 4]);
        // 1.38, 1.00 and 0.97.
        expect(Routing { groups: groups(1), ..routing }, &[], [0, 1]);
        expect(Routing { groups: groups(2), ..routing }, &[], [1, 2]);
        // The bias moves the choice to expert 5, whose weight stays its own sigmoid.
        expect(routing, &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [4, 5]);
        expect(Routing { groups: groups(1), ..routing }, &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0], [2, 3]);
    }
}
