//! The results of a run: a table for people, JSON for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use super::ask::Outcome;
use super::ask::server::Model;
use super::paper;
use super::statistics::Mean;
use super::task::Task;
use crate::terminal::visible::visible_line;

/// All tasks of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The model's name.
    pub(super) model: String,
    /// The settings that the tasks share.
    pub(super) settings: Value,
    /// The tasks, in the order of the command line.
    pub(super) tasks: Vec<TaskReport>,
}

/// One task.
#[derive(Debug, Serialize)]
pub(super) struct TaskReport {
    pub(super) task: Task,
    /// Items that were asked, now or in an earlier run.
    pub(super) items: usize,
    /// Those of them that an earlier run asked.
    pub(super) resumed: usize,
    /// Items that were not asked, by the reason.
    pub(super) skipped: BTreeMap<String, usize>,
    /// Items whose text was cut to the model's context.
    pub(super) truncated: usize,
    /// Metrics by name; shares are from 0 to 1.
    pub(super) metrics: BTreeMap<String, Metric>,
    /// Evaluations of the network, over all items.
    pub(super) evaluations: u64,
    /// Seconds that this run took for the task.
    pub(super) seconds: f64,
}

/// A metric.
#[derive(Debug, Serialize)]
pub(super) struct Metric {
    #[serde(flatten)]
    pub(super) mean: Mean,
    /// The paper's number, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paper_percent: Option<f64>,
}

impl TaskReport {
    /// From a task's outcomes. `compared` says whether the run follows the paper, whose numbers then stand beside.
    pub(super) fn new(
        (task, model, compared): (Task, &Model, bool),
        outcomes: &BTreeMap<usize, Outcome>,
        resumed: usize,
        seconds: f64,
    ) -> Self {
        let asked: Vec<&Outcome> = outcomes.values().filter(|outcome| outcome.skipped.is_none()).collect();
        let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
        for reason in outcomes.values().filter_map(|outcome| outcome.skipped.as_ref()) {
            *skipped.entry(reason.clone()).or_default() += 1;
        }
        let names: BTreeSet<&String> = asked.iter().flat_map(|outcome| outcome.metrics.keys()).collect();
        let metric = |name: &String| {
            let values: Vec<f64> =
                asked.iter().filter_map(|outcome| outcome.metrics.get(name).copied()).collect();
            let paper_percent = compared.then(|| paper::number(model, task, name)).flatten();
            Some((name.clone(), Metric { mean: Mean::of(&values)?, paper_percent }))
        };
        let mut metrics: BTreeMap<String, Metric> = names.into_iter().filter_map(metric).collect();
        add_perplexity(&mut metrics);
        Self {
            task,
            items: asked.len(),
            resumed,
            skipped,
            truncated: asked.iter().filter(|outcome| outcome.truncated).count(),
            metrics,
            evaluations: outcomes.values().map(|outcome| outcome.evaluations).sum(),
            seconds,
        }
    }
}

/// The perplexity of words: exp of the mean negative log-probability, with its error to first order.
fn add_perplexity(metrics: &mut BTreeMap<String, Metric>) {
    if let Some(Metric { mean, .. }) = metrics.get("log_probability") {
        let value = (-mean.value).exp();
        let standard_error = mean.standard_error.map(|error| error * value);
        let mean = Mean { value, standard_error, items: mean.items };
        metrics.insert("perplexity".to_owned(), Metric { mean, paper_percent: None });
    }
}

impl Report {
    /// Prints a table.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "model {}", visible_line(&self.model))?;
        let mut metrics = self.tasks.iter().flat_map(|task| task.metrics.values());
        let compares = metrics.any(|metric| metric.paper_percent.is_some());
        let paper = if compares { "  paper" } else { "" };
        writeln!(out, "{:<22} {:>6} {:<16} {:>16}{paper}", "task", "items", "metric", "value")?;
        for task in &self.tasks {
            let mut name = task.task.name();
            if task.metrics.is_empty() {
                writeln!(out, "{name:<22} {:>6} {:<16}", task.items, "none")?;
            }
            for (metric, found) in &task.metrics {
                let paper = found.paper_percent.map(|number| format!("{number:>7.1}")).unwrap_or_default();
                let line = format!(
                    "{name:<22} {:>6} {metric:<16} {:>16}{paper}",
                    found.mean.items,
                    shown(metric, &found.mean)
                );
                writeln!(out, "{}", line.trim_end())?;
                name = "";
            }
            writeln!(out, "{}", task.cost())?;
        }
        if compares {
            writeln!(out, "paper: Table 1 of arXiv 2410.17891; gsm8k after finetuning on it")?;
        }
        Ok(())
    }
}

impl TaskReport {
    /// The task's cost, and the items that were left out.
    fn cost(&self) -> String {
        let mut line = format!("  {} evaluations, {:.1} s", self.evaluations, self.seconds);
        if self.resumed > 0 {
            line += &format!(", {} items of an earlier run", self.resumed);
        }
        if self.truncated > 0 {
            line += &format!(", {} items cut to the context", self.truncated);
        }
        for (reason, count) in &self.skipped {
            line += &format!(", {count} skipped: {reason}");
        }
        line
    }
}

/// A value with its error: shares in percent.
fn shown(metric: &str, mean: &Mean) -> String {
    let share = !matches!(metric, "log_probability" | "perplexity");
    let (scale, unit) = if share { (100.0, " %") } else { (1.0, "") };
    let error = mean.standard_error.map(|error| format!(" ± {:.2}", error * scale)).unwrap_or_default();
    format!("{:.2}{error}{unit}", mean.value * scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model() -> Model {
        let id = "diffusionfamily/diffugpt-s".to_owned();
        let family = "diffugpt".to_owned();
        Model { id, family, parameters: 127_000_000, fingerprint: String::new(), context: 1024, chats: false }
    }

    #[test]
    fn a_table_has_values_errors_and_the_paper_s_numbers() {
        let outcome = |value: f64| Outcome {
            metrics: [("accuracy".to_owned(), value)].into(),
            evaluations: 32,
            ..Outcome::default()
        };
        let mut outcomes: BTreeMap<usize, Outcome> =
            (0..4).map(|index| (index, outcome(f64::from(u8::from(index == 0))))).collect();
        outcomes.insert(4, Outcome { skipped: Some("too long".to_owned()), ..Outcome::default() });
        let task = TaskReport::new((Task::Piqa, &model(), true), &outcomes, 2, 1.25);
        let report = Report { model: "m\x1b".to_owned(), settings: json!({}), tasks: vec![task] };
        let mut table = Vec::new();
        report.print(&mut table).unwrap();
        let expected = "\
model m␛
task                    items metric                      value  paper
piqa                        4 accuracy          25.00 ± 25.00 %   57.7
  128 evaluations, 1.2 s, 2 items of an earlier run, 1 skipped: too long
paper: Table 1 of arXiv 2410.17891; gsm8k after finetuning on it
";
        assert_eq!(String::from_utf8(table).unwrap(), expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["tasks"][0]["metrics"]["accuracy"]["paper_percent"], 57.7);
        assert_eq!(json["tasks"][0]["metrics"]["accuracy"]["value"], 0.25);
    }

    #[test]
    fn the_perplexity_follows_from_the_log_probabilities() {
        let outcome = |value: f64| Outcome {
            metrics: [("log_probability".to_owned(), value)].into(),
            ..Outcome::default()
        };
        let outcomes = [(0, outcome(-1.0)), (1, outcome(-3.0))].into();
        let task = TaskReport::new((Task::Lambada, &model(), false), &outcomes, 0, 0.0);
        let found = task.metrics["perplexity"].mean;
        assert!((found.value - 2f64.exp()).abs() < 1e-12);
        assert!((found.standard_error.unwrap() - 2f64.exp()).abs() < 1e-12);
    }
}
