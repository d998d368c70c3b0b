//! The tasks: names, files, and where the data sets come from.

use clap::ValueEnum;
use serde::Serialize;

/// A task of the paper's tables, or held-out infilling of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Task {
    /// The last word of a passage.
    Lambada,
    /// The right ending of four.
    Hellaswag,
    /// The right name of two in a sentence.
    Winogrande,
    /// The right way of two to do something.
    Piqa,
    /// The right answer of three about people.
    Siqa,
    /// Questions with short answers.
    Triviaqa,
    /// Word problems with a number as the answer.
    Gsm8k,
    /// The third sentence of five.
    Rocstories,
    /// A line of a Python function.
    HumanevalSingleLine,
    /// Some lines of a Python function.
    HumanevalMultiLine,
    /// A random stretch of a Python function.
    HumanevalRandomSpan,
    /// Holes and cuts in files of your own.
    Infill,
}

/// A task's files and their origin.
pub(super) struct Source {
    /// File names below `--data`, in the order in which they are tried. A folder with the task's name may hold
    /// them as well, by any name.
    pub(super) files: &'static [&'static str],
    /// The data set on the Hugging Face hub, or another address.
    pub(super) origin: &'static str,
}

impl Task {
    /// All tasks.
    pub(super) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The name on the command line and in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lambada => "lambada",
            Self::Hellaswag => "hellaswag",
            Self::Winogrande => "winogrande",
            Self::Piqa => "piqa",
            Self::Siqa => "siqa",
            Self::Triviaqa => "triviaqa",
            Self::Gsm8k => "gsm8k",
            Self::Rocstories => "rocstories",
            Self::HumanevalSingleLine => "humaneval-single-line",
            Self::HumanevalMultiLine => "humaneval-multi-line",
            Self::HumanevalRandomSpan => "humaneval-random-span",
            Self::Infill => "infill",
        }
    }

    /// Whether its answers are Python code that can be run.
    pub(super) fn is_code(self) -> bool {
        matches!(self, Self::HumanevalSingleLine | Self::HumanevalMultiLine | Self::HumanevalRandomSpan)
    }

    /// Its files, and where they come from.
    pub(super) fn source(self) -> Source {
        let (files, origin): (&[_], _) = match self {
            Self::Lambada => (
                &["lambada_test_plain_text.txt", "lambada_test.jsonl", "lambada.jsonl", "lambada.parquet"],
                "hub: EleutherAI/lambada_openai, the test split",
            ),
            Self::Hellaswag => (
                &["hellaswag_val.jsonl", "hellaswag.jsonl", "hellaswag.parquet"],
                "github.com/rowanz/hellaswag, data/hellaswag_val.jsonl; hub: Rowan/hellaswag, the validation split",
            ),
            Self::Winogrande => (
                &["winogrande_1.1/dev.jsonl", "winogrande.jsonl", "winogrande.parquet"],
                "winogrande.allenai.org, dev.jsonl of winogrande_1.1; hub: allenai/winogrande, winogrande_xl, the \
                 validation split",
            ),
            Self::Piqa => (
                &["physicaliqa-train-dev/dev.jsonl", "piqa.jsonl", "piqa.parquet"],
                "yonatanbisk.com/piqa, valid.jsonl and valid-labels.lst; hub: ybisk/piqa, the validation split",
            ),
            Self::Siqa => (
                &["socialiqa-train-dev/dev.jsonl", "siqa.jsonl", "siqa.parquet"],
                "dev.jsonl and dev-labels.lst of socialiqa-train-dev; hub: allenai/social_i_qa, the validation split",
            ),
            Self::Triviaqa => (
                &["triviaqa.jsonl", "triviaqa.parquet", "triviaqa-rc/qa/wikipedia-dev.json", "triviaqa.json"],
                "nlp.cs.washington.edu/triviaqa, wikipedia-dev.json; hub: mandarjoshi/trivia_qa, rc.nocontext, the \
                 validation split",
            ),
            Self::Gsm8k => (
                &["gsm8k_test.jsonl", "gsm8k.jsonl", "gsm8k.parquet"],
                "github.com/openai/grade-school-math, test.jsonl; hub: openai/gsm8k, main, the test split",
            ),
            Self::Rocstories => (
                &["cloze_test_val__spring2016.csv", "rocstories.csv", "rocstories.jsonl"],
                "cs.rochester.edu/nlp/rocstories, cloze_test_val__spring2016.csv (on request)",
            ),
            Self::HumanevalSingleLine => (
                &["HumanEval-SingleLineInfilling.jsonl.gz", "HumanEval-SingleLineInfilling.jsonl"],
                INFILLING,
            ),
            Self::HumanevalMultiLine => {
                (&["HumanEval-MultiLineInfilling.jsonl.gz", "HumanEval-MultiLineInfilling.jsonl"], INFILLING)
            }
            Self::HumanevalRandomSpan => (
                &["HumanEval-RandomSpanInfilling.jsonl.gz", "HumanEval-RandomSpanInfilling.jsonl"],
                INFILLING,
            ),
            Self::Infill => (&[], "any folder of text or source files"),
        };
        Source { files, origin }
    }
}

const INFILLING: &str = "github.com/openai/human-eval-infilling, data";
