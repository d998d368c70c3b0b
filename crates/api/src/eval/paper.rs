//! Numbers of the paper's Table 1 (arXiv 2410.17891, third version).

use super::ask::server::Model;
use super::task::Task;

/// A row of the table.
struct Row {
    /// The model's name on the hub.
    name: &'static str,
    /// Numbers in the model, in millions: from and to.
    millions: (u64, u64),
    /// Percent, in the order of the columns: TriviaQA, LAMBADA, HellaSwag, WinoGrande, SIQA, PIQA, GSM8K,
    /// ROCStories (ROUGE-1, 2, L), HumanEval single-line.
    percent: [f64; 11],
}

const ROWS: [Row; 3] = [
    Row {
        name: "diffugpt-s",
        millions: (100, 180),
        percent: [2.0, 21.6, 33.4, 50.8, 37.0, 57.7, 50.2, 13.7, 1.4, 12.6, 0.3],
    },
    Row {
        name: "diffugpt-m",
        millions: (300, 450),
        percent: [3.8, 30.3, 37.2, 52.6, 39.0, 59.6, 61.8, 18.7, 2.7, 17.0, 2.9],
    },
    Row {
        name: "diffullama",
        millions: (6000, 8000),
        percent: [18.5, 53.9, 58.7, 56.4, 43.2, 63.3, 63.1, 23.3, 5.5, 21.2, 15.5],
    },
];

/// The paper's number for a model, a task and a metric, in percent. GSM8K's is that of the model finetuned on it.
pub(super) fn number(model: &Model, task: Task, metric: &str) -> Option<f64> {
    let name = model.id.rsplit('/').next().unwrap_or_default().to_lowercase();
    let size = model.parameters / 1_000_000;
    let row =
        ROWS.iter().find(|row| row.name == name && (row.millions.0..=row.millions.1).contains(&size))?;
    let column = match (task, metric) {
        (Task::Triviaqa, "accuracy") => 0,
        (Task::Lambada, "accuracy") => 1,
        (Task::Hellaswag, "accuracy") => 2,
        (Task::Winogrande, "accuracy") => 3,
        (Task::Siqa, "accuracy") => 4,
        (Task::Piqa, "accuracy") => 5,
        (Task::Gsm8k, "accuracy") => 6,
        (Task::Rocstories, "rouge_1") => 7,
        (Task::Rocstories, "rouge_2") => 8,
        (Task::Rocstories, "rouge_l") => 9,
        (Task::HumanevalSingleLine, "pass@1") => 10,
        _ => return None,
    };
    Some(row.percent[column])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_paper_s_models_have_numbers() {
        let model = |id: &str, parameters| Model {
            id: id.to_owned(),
            family: "diffugpt".to_owned(),
            parameters,
            fingerprint: String::new(),
            context: 1024,
            chats: false,
        };
        let small = model("diffusionfamily/diffugpt-s", 127_000_000);
        assert_eq!(number(&small, Task::Lambada, "accuracy"), Some(21.6));
        assert_eq!(number(&small, Task::Rocstories, "rouge_l"), Some(12.6));
        assert_eq!(number(&small, Task::Lambada, "log_probability"), None);
        assert_eq!(number(&small, Task::HumanevalMultiLine, "pass@1"), None);
        let large = model("DiffuLLaMA", 6_738_000_000);
        assert_eq!(number(&large, Task::HumanevalSingleLine, "pass@1"), Some(15.5));
        assert_eq!(
            number(&model("diffugpt-s", 20_000), Task::Piqa, "accuracy"),
            None,
            "another model of this name"
        );
        assert_eq!(number(&model("unmask-code", 127_000_000), Task::Piqa, "accuracy"), None);
    }
}
