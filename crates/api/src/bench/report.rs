//! The measurements, as lines or as JSON.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use unmask_model::backbone::Times;

use super::{BenchArgs, Subject};

/// The measurements; times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    arch: String,
    dtype: &'static str,
    deterministic: bool,
    threads: usize,
    canvases: usize,
    rows: usize,
    evaluations: usize,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    /// Positions through the network, by the sum of all evaluations.
    rows_per_second: f64,
    /// Multiplications and additions in products and attention, by the time of these.
    gflops: f64,
    /// Tokens committed, by the sum of all evaluations and decisions; with --asked those read.
    tokens_per_second: f64,
    /// The shortest and the median time in the blocks: products, attention and rest.
    trunk_min_ms: f64,
    trunk_ms: f64,
    /// Medians; a GPU tells none.
    parts_ms: Option<Parts>,
    peak_mb: Option<f64>,
    /// Memory of the process's own after all evaluations, without the maps of files.
    memory_mb: Option<f64>,
    /// The prediction of `unmask models` for such a network, without the maps of files; of random weights on a CPU.
    predicted_mb: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Parts {
    product: f64,
    attention: f64,
    head: f64,
    readout: f64,
    rest: f64,
}

/// The times and amounts of a run.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) evaluations: Vec<Duration>,
    /// By evaluation.
    pub(super) parts: Vec<Times>,
    /// With the decisions between evaluations.
    pub(super) total: Duration,
    pub(super) rows: usize,
    pub(super) tokens: usize,
    /// Multiplications and additions.
    pub(super) operations: f64,
}

impl Report {
    pub(super) fn new(args: &BenchArgs, subject: &Subject, measured: &Measured) -> Self {
        let Subject { name, placement, predictor, predicted, .. } = subject;
        let Measured { evaluations, parts, total, rows, tokens, operations } = measured;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let all = sorted(evaluations.iter().copied());
        let sum: Duration = evaluations.iter().sum();
        let part = |part: fn(&Times) -> Duration| sorted(parts.iter().map(part));
        let trunk = part(|times| times.product + times.attention + times.rest);
        let busy: Duration = parts.iter().map(|times| times.product + times.attention + times.head).sum();
        let told = !busy.is_zero();
        let busy = if told { busy } else { sum };
        let known = parts.iter().map(|times| times.product + times.attention + times.rest + times.head);
        let readout = evaluations.iter().zip(known).map(|(all, known)| all.saturating_sub(known));
        Self {
            arch: name.clone(),
            dtype: placement.precision(),
            deterministic: placement.deterministic,
            threads: predictor.threads(),
            canvases: args.canvases,
            rows: args.rows,
            evaluations: evaluations.len(),
            median_ms: ms(median(&all)),
            min_ms: all.first().copied().map_or(0.0, ms),
            max_ms: all.last().copied().map_or(0.0, ms),
            rows_per_second: *rows as f64 / sum.as_secs_f64(),
            gflops: operations / busy.as_secs_f64() / 1e9,
            tokens_per_second: *tokens as f64 / total.as_secs_f64(),
            trunk_min_ms: trunk.first().copied().map_or(0.0, ms),
            trunk_ms: ms(median(&trunk)),
            parts_ms: told.then(|| Parts {
                product: ms(median(&part(|times| times.product))),
                attention: ms(median(&part(|times| times.attention))),
                head: ms(median(&part(|times| times.head))),
                readout: ms(median(&sorted(readout))),
                rest: ms(median(&part(|times| times.rest))),
            }),
            peak_mb: status_mb("VmHWM:"),
            memory_mb: status_mb("RssAnon:"),
            predicted_mb: predicted.map(|memory| memory.own as f64 / 1e6),
        }
    }

    pub(super) fn print(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let Self { arch, dtype, threads, canvases, rows, evaluations, .. } = self;
        let shown = |mb: Option<f64>| mb.map_or("unknown".to_owned(), |mb| format!("{mb:.0} MB"));
        let mut lines = vec![
            ("network", format!("{arch}, {dtype}, {threads} threads, {canvases} x {rows} rows")),
            ("evaluations", evaluations.to_string()),
            (
                "an evaluation",
                format!("{:.2} ms median, {:.2} to {:.2}", self.median_ms, self.min_ms, self.max_ms),
            ),
        ];
        if let Some(Parts { product, attention, head, readout, rest }) = self.parts_ms {
            let all = product + attention + head + readout + rest;
            let share = |part: f64| format!("{part:8.2} ms {:5.1} %", part / all * 100.0);
            lines.extend([
                ("  products", share(product)),
                ("  attention", share(attention)),
                ("  head", share(head)),
                ("  readout", share(readout)),
                ("  rest", share(rest)),
            ]);
        }
        lines.extend([
            ("rows per second", format!("{:.0}", self.rows_per_second)),
            ("GFLOP/s", format!("{:.0} in products, attention and head", self.gflops)),
            ("tokens per second", format!("{:.1}", self.tokens_per_second)),
            ("peak memory", shown(self.peak_mb)),
            ("memory", shown(self.memory_mb)),
        ]);
        lines.extend(self.predicted_mb.map(|predicted| ("predicted memory", shown(Some(predicted)))));
        for (name, value) in lines {
            writeln!(out, "{name:<18} {value}")?;
        }
        Ok(())
    }
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times
}

fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// A line of this process's status that tells memory, where the system has one.
fn status_mb(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
}
