//! The choice of experts for a row, and their weights.

/// The most probable of some experts, by a softmax over all their logits: each with its probability, ascending by
/// number; of equal ones the lower number.
pub fn chosen_experts(logits: &[f32], used: usize, chosen: &mut Vec<(u32, f32)>) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    chosen.clear();
    chosen.extend((0..).zip(logits).map(|(number, logit)| (number, (logit - largest).exp() / sum)));
    chosen.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    chosen.truncate(used);
    chosen.sort_unstable_by_key(|expert| expert.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_experts_keep_their_probabilities() {
        let mut chosen = Vec::new();
        let logits = [0.0, 2.0, 1.0, 2.0, -1.0].map(|x: f32| x);
        chosen_experts(&logits, 3, &mut chosen);
        let sum: f32 = logits.iter().map(|x| x.exp()).sum();
        let expected = [(1, 2.0_f32.exp() / sum), (2, 1.0_f32.exp() / sum), (3, 2.0_f32.exp() / sum)];
        assert_eq!(chosen.len(), 3);
        for (found, expected) in chosen.iter().zip(expected) {
            assert!(found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6, "{found:?} {expected:?}");
        }
        // Of four equal ones the first two.
        chosen_experts(&[1.0; 4], 2, &mut chosen);
        assert_eq!(chosen, [(0, 0.25), (1, 0.25)]);
    }
}
