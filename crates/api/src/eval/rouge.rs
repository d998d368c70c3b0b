//! ROUGE-1, ROUGE-2 and ROUGE-L as the Python package `rouge-score` computes them, without its stemmer: F1 of words
//! in lower case, of which letters and digits of ASCII count.

use std::collections::HashMap;

/// ROUGE-1, ROUGE-2 and ROUGE-L of a text against a reference, from 0 to 1.
pub(super) fn rouge(reference: &str, text: &str) -> [f64; 3] {
    let (reference, text) = (words(reference), words(text));
    [grams(&reference, &text, 1), grams(&reference, &text, 2), longest(&reference, &text)]
}

fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let pieces = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    pieces.filter(|piece| !piece.is_empty()).map(str::to_owned).collect()
}

/// F1 of the stretches of so many words.
fn grams(reference: &[String], text: &[String], size: usize) -> f64 {
    let mut counts: HashMap<&[String], usize> = HashMap::new();
    reference.windows(size).for_each(|gram| *counts.entry(gram).or_default() += 1);
    let mut common = 0;
    for gram in text.windows(size) {
        if let Some(left) = counts.get_mut(gram).filter(|left| **left > 0) {
            *left -= 1;
            common += 1;
        }
    }
    let total = |words: &[String]| (words.len() + 1).saturating_sub(size);
    f1(common, total(reference), total(text))
}

/// F1 of the longest common subsequence.
fn longest(reference: &[String], text: &[String]) -> f64 {
    let mut row = vec![0; text.len() + 1];
    for word in reference {
        let mut diagonal = 0;
        for (at, other) in text.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    f1(row[text.len()], reference.len(), text.len())
}

fn f1(common: usize, reference: usize, text: usize) -> f64 {
    let precision = common as f64 / text.max(1) as f64;
    let recall = common as f64 / reference.max(1) as f64;
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Values of rouge-score 0.1.2, which `rouge.py` records.
    #[test]
    fn values_are_those_of_the_package() {
        let recorded = include_str!("testdata/rouge.jsonl");
        assert!(recorded.lines().count() > 10);
        for line in recorded.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let found = rouge(case["reference"].as_str().unwrap(), case["prediction"].as_str().unwrap());
            let expected = case["rouge"].as_array().unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected.as_f64().unwrap()).abs() < 1e-15, "{found}: {line}");
            }
        }
    }
}
