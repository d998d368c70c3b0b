//! LLaDA's Monte-Carlo likelihoods.

use unmask_model::device::Precision;
use unmask_model::predictor::CandlePredictor;

use crate::data::{cross_entropy, floats, ids, models_with};

/// The mean over batches of the mean over texts of the cross-entropy at masked positions over their share.
#[test]
fn golden_family_likelihoods() {
    for (model, tensors) in models_with("golden-score.safetensors") {
        let predictor = model.load(Precision::F32);
        let family = model.family().unwrap();
        let mask = u32::try_from(family["mask_token_id"].as_u64().unwrap()).unwrap();
        for (number, case) in family["score"].as_array().unwrap().iter().enumerate() {
            let tensor = |part: &str| &tensors[&format!("{number}.{part}")];
            let input = ids(&tensor("input_ids").unsqueeze(0).unwrap()).remove(0);
            let prompt = case["prompt"].as_u64().unwrap() as usize;
            let guidance = case["guidance"].as_f64().unwrap() as f32;
            let mut batches = Vec::new();
            for batch in 0..tensor("x_t").dim(0).unwrap() {
                let texts = ids(&tensor("x_t").get(batch).unwrap());
                let shares = floats(&tensor("share").get(batch).unwrap());
                let total: f64 = texts
                    .iter()
                    .zip(shares)
                    .map(|(text, share)| {
                        let rows = guided(&predictor, text, (prompt, mask), guidance);
                        let masked = (0..text.len()).filter(|position| text[*position] == mask);
                        masked.map(|position| cross_entropy(&rows[position], input[position])).sum::<f64>()
                            / f64::from(share)
                    })
                    .sum();
                batches.push(total / texts.len() as f64);
            }
            let value = -batches.iter().sum::<f64>() / batches.len() as f64;
            let expected = f64::from(floats(tensor("value"))[0]);
            println!("{} case {number}: {value}, recorded {expected}", model.name);
            assert!(
                (value - expected).abs() < 5e-4 * expected.abs().max(1.0),
                "{}: {value} {expected}",
                model.name
            );
        }
    }
}

/// Rows of logits, pushed away from those of the text whose prompt is masked.
fn guided(
    predictor: &CandlePredictor,
    text: &[u32],
    (prompt, mask): (usize, u32),
    weight: f32,
) -> Vec<Vec<f32>> {
    let rows = |text: Vec<u32>| predictor.all_logits(&[&text]).unwrap().to_vec2::<f32>().unwrap();
    let own = rows(text.to_vec());
    if weight == 0.0 {
        return own;
    }
    let mut bare = text.to_vec();
    bare[..prompt].fill(mask);
    let pairs = own.into_iter().zip(rows(bare));
    pairs
        .map(|(own, bare)| own.iter().zip(&bare).map(|(c, u)| u + (weight + 1.0) * (c - u)).collect())
        .collect()
}
