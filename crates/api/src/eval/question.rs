//! Items as questions to a model. Formats make them, `ask` asks them.

use serde::Serialize;

use super::record::Place;

/// One item of a task.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Item {
    /// File and line, for errors and results.
    pub(super) id: String,
    /// The question.
    pub(super) question: Question,
}

impl Item {
    /// An item of a file.
    pub(super) fn new(place: &Place, question: Question) -> Self {
        let file = place.file.rsplit(['/', '\\']).next().unwrap_or_default();
        Self { id: format!("{file}:{}", place.line), question }
    }
}

/// A question and its right answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) enum Question {
    /// The most probable continuation.
    Choice(Choice),
    /// The last word of a passage.
    LastWord {
        /// The passage without it.
        context: String,
        /// The word.
        word: String,
    },
    /// A short answer, by any of its names.
    ShortAnswer {
        /// The question.
        question: String,
        /// The answer's names.
        aliases: Vec<String>,
    },
    /// A number behind `####`.
    Number {
        /// The problem.
        question: String,
        /// The solution, with the number.
        answer: String,
    },
    /// A hole with text on both sides.
    Hole(Hole),
    /// Holes and a cut in a stretch of a file.
    Block {
        /// The text, a little longer than a block.
        text: String,
        /// Chooses the holes.
        seed: u64,
    },
}

impl Question {
    /// Bytes of its longest text.
    pub(super) fn longest(&self) -> usize {
        match self {
            Self::Choice(choice) => {
                let bytes = |option: &Continuation| {
                    option.context.len() + option.scored.iter().map(String::len).sum::<usize>()
                };
                choice.options.iter().map(bytes).max().unwrap_or(0)
            }
            Self::LastWord { context, word } => context.len() + word.len(),
            Self::ShortAnswer { question, .. } | Self::Number { question, .. } => question.len(),
            Self::Hole(hole) => hole.prefix.len() + hole.suffix.len(),
            Self::Block { text, .. } => text.len(),
        }
    }
}

/// Continuations of which one is right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Choice {
    /// The continuations, each behind its own context.
    pub(super) options: Vec<Continuation>,
    /// The right one, from 0.
    pub(super) right: usize,
    /// True if context and continuation are tokenized together: the continuation then begins at a border of
    /// tokens of the whole text.
    pub(super) joined: bool,
}

/// A continuation to score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Continuation {
    /// The text before it, which costs nothing.
    pub(super) context: String,
    /// The scored text, which may come in pieces that are tokenized one by one.
    pub(super) scored: Vec<String>,
    /// Characters by which its log-probability is divided for `accuracy_norm`.
    pub(super) characters: usize,
}

/// A hole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Hole {
    /// The text before it.
    pub(super) prefix: String,
    /// The text after it.
    pub(super) suffix: String,
    /// The text in it.
    pub(super) truth: String,
    /// The judge of an answer.
    pub(super) judge: Judge,
}

/// The judge of a filled hole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) enum Judge {
    /// ROUGE against the truth.
    Rouge,
    /// Tests that the filled function must pass.
    Tests {
        /// Python code that defines `check`.
        test: String,
        /// The function's name.
        entry_point: String,
    },
}
