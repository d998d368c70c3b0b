//! TriviaQA: a question and the names of its answer, in the hub's layout or the original one.

use std::collections::HashMap;

use super::super::question::Question;
use super::super::record::{DataError, Record};

/// The question and the answer's names.
pub(super) fn question(record: &Record) -> Result<Question, DataError> {
    let question = record.filled(&["question", "Question"])?.to_owned();
    let answer = record.object(&["answer", "Answer"])?;
    let aliases = answer.texts(&["aliases", "Aliases"])?;
    Ok(Question::ShortAnswer { question, aliases })
}

/// A text as SQuAD's and TriviaQA's scripts compare it: lower case, without punctuation and articles, single blanks.
fn normalized(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = plain.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.collect::<Vec<_>>().join(" ")
}

/// Whether one of the names is part of the answer.
pub(in super::super) fn contains_alias(answer: &str, aliases: &[String]) -> bool {
    let answer = normalized(answer);
    aliases.iter().map(|alias| normalized(alias)).any(|alias| !alias.is_empty() && answer.contains(&alias))
}

/// The best F1 of the answer's words against the words of a name.
pub(in super::super) fn token_f1(answer: &str, aliases: &[String]) -> f64 {
    let answer = normalized(answer);
    let f1 = |alias: &String| {
        let alias = normalized(alias);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        alias.split(' ').for_each(|word| *counts.entry(word).or_default() += 1);
        let (mut common, mut given) = (0, 0);
        for word in answer.split(' ') {
            given += 1;
            if let Some(left) = counts.get_mut(word).filter(|left| **left > 0) {
                *left -= 1;
                common += 1;
            }
        }
        let expected = alias.split(' ').count();
        2.0 * f64::from(common) / (f64::from(given) + expected as f64)
    };
    aliases.iter().map(f1).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whatever_their_case_and_punctuation() {
        assert_eq!(normalized("The  Beatles' (an album), A.D."), "beatles album ad");
        let aliases = ["The Nile".to_owned(), "!?".to_owned()];
        assert!(contains_alias("It is the river NILE, in Africa.", &aliases));
        assert!(!contains_alias("the Amazon", &aliases), "a name without a letter is in no answer");
        assert!(!contains_alias("", &aliases));
    }

    #[test]
    fn the_f1_of_words_is_the_best_over_the_names() {
        let aliases = ["William Shakespeare".to_owned(), "Shakespeare".to_owned()];
        assert_eq!(token_f1("shakespeare", &aliases), 1.0);
        assert_eq!(token_f1("William of Stratford", &aliases), 2.0 / 5.0);
        assert_eq!(token_f1("Marlowe", &aliases), 0.0);
    }
}
