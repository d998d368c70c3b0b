//! Asks a task's items, several at a time.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::args::Protocol;
use super::ask::server::Server;
use super::ask::{Settings, ask};
use super::items::Asked;
use super::journal::Journal;
use super::report::TaskReport;
use crate::clock::now;

/// The things that the tasks of a run share.
pub(super) struct Runner<'a> {
    pub(super) server: Arc<Server>,
    pub(super) settings: Arc<Settings>,
    pub(super) at_once: usize,
    pub(super) out: Option<&'a Path>,
}

impl Runner<'_> {
    /// Asks all items that no earlier run has asked.
    ///
    /// # Errors
    /// An item cannot be asked, or the journal not be used.
    pub(super) async fn run(&self, asked: Asked) -> anyhow::Result<TaskReport> {
        let Asked { task, items, hash } = asked;
        let start = now();
        let items = Arc::<[_]>::from(items);
        let mut journal = Journal::open(self.out, task.name(), &self.head(task.name(), &hash))?;
        journal.done.retain(|index, _| *index < items.len());
        let resumed = journal.done.len();
        let open: Vec<usize> = (0..items.len()).filter(|index| !journal.done.contains_key(index)).collect();
        let mut open = open.into_iter();
        let progress = bar(task.name(), items.len(), resumed);
        let mut running = JoinSet::new();
        loop {
            for index in open.by_ref().take(self.at_once - running.len()) {
                let server = Arc::clone(&self.server);
                let settings = Arc::clone(&self.settings);
                let items = Arc::clone(&items);
                running.spawn(async move { (index, ask(&server, &settings, index, &items[index]).await) });
            }
            let Some(joined) = running.join_next().await else { break };
            let (index, outcome) = joined.context("the thread that asks an item ended")?;
            let id = &items[index].id;
            let outcome = outcome.with_context(|| format!("{}, item {id}", task.name()))?;
            journal.add(index, id, outcome)?;
            progress.inc(1);
        }
        progress.finish_and_clear();
        let compared = self.settings.protocol == Protocol::Paper;
        let seconds = (now() - start).as_secs_f64();
        Ok(TaskReport::new((task, &self.server.model, compared), &journal.done, resumed, seconds))
    }

    /// The settings that all answers depend on.
    pub(super) fn settings(&self) -> Value {
        let Settings { protocol, score, steps, seed, block, sandbox } = &*self.settings;
        json!({
            "protocol": protocol, "score": score, "steps": steps, "seed": seed, "block": block,
            "run_code": sandbox.is_some(),
        })
    }

    fn head(&self, task: &str, hash: &str) -> Value {
        let model = &self.server.model;
        let mut head = self.settings();
        head["task"] = json!(task);
        head["model"] = json!(model.id);
        head["parameters"] = json!(model.parameters);
        head["fingerprint"] = json!(model.fingerprint);
        head["items"] = json!(hash);
        head
    }
}

/// A bar on standard error, where that is a terminal.
fn bar(task: &str, items: usize, done: usize) -> ProgressBar {
    let bar = ProgressBar::new(items as u64).with_message(task.to_owned());
    let style = ProgressStyle::with_template("{msg:22} {bar:30} {pos}/{len} items, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_position(done as u64)
}
