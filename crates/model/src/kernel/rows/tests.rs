use super::*;

#[test]
fn passes_do_what_a_plain_loop_does() {
    let counts = [0, 1, 31, 32, 63, 64, 65, 200];
    for (cpu, count) in CpuFeatures::available().into_iter().flat_map(|cpu| counts.map(|count| (cpu, count)))
    {
        let logits: Vec<f32> = (0..count).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
        let weights: Vec<f32> = (0..count).map(|i| (i % 3) as f32 / 2.0).collect();
        let pairs = || logits.iter().copied().zip(weights.iter().copied());
        for threshold in [-6.0, 0.0, 2.0, 6.0] {
            let above = || pairs().filter(|(logit, _)| *logit > threshold);
            let found = |mass| mass_above(cpu, &logits, mass, threshold);
            let expected: f64 = above().map(|(_, weight)| f64::from(weight)).sum();
            assert_eq!(found(Mass::Weights(&weights)), expected);
            let drawable = above().filter(|(_, weight)| *weight > 0.0).count();
            assert_eq!(found(Mass::Drawable(&weights)), drawable as f64);
            assert_eq!(found(Mass::All), above().count() as f64);
            let mut places = vec![7];
            assert!(between(cpu, &logits, threshold, 3.0, usize::MAX, &mut places));
            let inside = |&place: &u32| {
                let logit = logits[place as usize];
                logit > threshold && logit <= 3.0
            };
            assert_eq!(places, (0..count as u32).filter(inside).collect::<Vec<_>>());
            let mut any = Vec::new();
            assert!(between(cpu, &logits, threshold, 3.0, places.len(), &mut any));
            assert!(any.is_empty() || !between(cpu, &logits, threshold, 3.0, places.len() - 1, &mut any));
            assert_eq!(
                position(cpu, &logits, threshold),
                logits.iter().position(|logit| *logit == threshold)
            );
            let mut kept = weights.clone();
            keep_from(cpu, &logits, threshold, count / 2, &mut kept);
            for (i, (logit, weight)) in pairs().enumerate() {
                let stays = logit > threshold || (logit == threshold && i <= count / 2);
                assert_eq!(kept[i], if stays { weight } else { 0.0 });
            }
        }
        let expected: f64 = pairs().map(|(x, w)| f64::from(((4.0 - x) * 0.5).clamp(0.0, 3.0) * w)).sum();
        assert!((weighted_distance(cpu, &logits, &weights, 4.0, 0.5, 3.0) - expected).abs() < 1e-9);
    }
}
