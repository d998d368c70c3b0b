//! Reports as text.

use std::fmt;

use crate::compare::{Batching, Comparison, Mixed, Repeats};
use crate::quantiles::Quantiles;
use crate::report::{RefusalCount, Report};
use crate::run::Capacity;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

impl fmt::Display for Capacity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, clients, seconds } = self;
        write!(formatter, "capacity {per_second:.2} requests/s ({clients} clients, {seconds:.0} s)")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_load(out)?;
        self.write_ends(out)?;
        self.write_times(out)?;
        self.write_server(out)?;
        for fault in &self.faults {
            writeln!(out, "FAULT {fault}")?;
        }
        writeln!(out, "{}", if self.faults.is_empty() { "ok" } else { "failed" })
    }
}

impl Report {
    fn write_load(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.server;
        let load = &self.settings;
        writeln!(out, "{}, context {}", server.model, server.room.context)?;
        write!(out, "{:.2} requests/s for {} s, seed {}", load.rate, load.seconds, load.seed)?;
        match &self.capacity {
            Some(capacity) => writeln!(out, "; {:.2} × {capacity}", load.rate / capacity.per_second)?,
            None => writeln!(out)?,
        }
        writeln!(out, "{}; canvas {}", load.mix, load.sizes)?;
        write!(out, "streamed {}, vanishing {}, slow {}", load.streamed, load.vanishing, load.slow)?;
        match load.deadline_ms {
            Some(deadline) => writeln!(out, ", deadline {deadline} ms\n"),
            None => writeln!(out, "\n"),
        }
    }

    fn write_ends(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let rates = &self.rates;
        writeln!(out, "{:<22}{:>8}", "requests", counts.sent)?;
        writeln!(
            out,
            "{:<22}{:>8}   {:.2}/s over {:.1} s",
            "finished", counts.finished, rates.finished, rates.elapsed_s
        )?;
        writeln!(out, "{:<22}{:>8}", "refused", counts.refused)?;
        for RefusalCount { status, code, count, with_retry_after, retry_after } in &self.refusals {
            write!(out, "  {status} {code}: {count}, {with_retry_after} with Retry-After")?;
            match retry_after {
                Some((least, most)) => writeln!(out, " ({least} to {most} s)")?,
                None => writeln!(out)?,
            }
        }
        if self.settings.deadline_ms.is_some() {
            writeln!(out, "{:<22}{:>8}", "deadline passed", counts.expired)?;
        }
        writeln!(out, "{:<22}{:>8}", "vanished", counts.vanished)?;
        writeln!(out, "{:<22}{:>8}", "failed", counts.failed)?;
        for (kind, failure) in &self.failures {
            writeln!(out, "  {kind}: {}", failure.count)?;
        }
        writeln!(out)
    }

    fn write_times(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:<22}{:>8}{:>11}{:>11}{:>11}{:>11}",
            "milliseconds", "count", "p50", "p90", "p99", "max"
        )?;
        let times = &self.times;
        write_quantiles(out, "queue", times.queue)?;
        write_quantiles(out, "first state", times.first_state)?;
        write_quantiles(out, "evaluation", times.evaluation)?;
        write_quantiles(out, "end to end", times.end_to_end)?;
        for (canvas, quantiles) in &self.by_canvas {
            write_quantiles(out, &format!("  canvas of {canvas}"), Some(*quantiles))?;
        }
        write_quantiles(out, "sent late", times.late)?;
        writeln!(out)
    }

    fn write_server(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = &self.rates;
        writeln!(out, "{:<22}{:>10.1}/s", "returned tokens", rates.returned_tokens)?;
        writeln!(out, "{:<22}{:>10.0}/s", "positions × passes", rates.positions_times_passes)?;
        let peak = self.batch_peak.map_or("n/a".to_owned(), |peak| format!("{peak} canvases"));
        writeln!(out, "{:<22}{peak:>10}", "largest batch")?;
        match &self.memory {
            Some(memory) => writeln!(
                out,
                "{:<22}{:>10.1} MiB first quarter, {:.1} MiB last, {:+.1} %",
                "server memory",
                memory.first_quarter / MEBIBYTE,
                memory.last_quarter / MEBIBYTE,
                memory.growth_percent
            )?,
            None => writeln!(out, "{:<22}{:>10}", "server memory", "n/a")?,
        }
        match self.idle_after_ms {
            Some(time) => writeln!(out, "{:<22}{time:>10.0} ms after the last end", "server idle")?,
            None => writeln!(out, "{:<22}{:>10}", "server idle", "n/a")?,
        }
        if let Some(verified) = &self.verified {
            let same = verified.same;
            let count = verified.count();
            writeln!(out, "{:<22}{same:>10} of {count} sent again alone", "same text")?;
            for mismatch in verified.different.iter().take(5) {
                writeln!(out, "  {}", mismatch.body)?;
                writeln!(out, "    under load {:?}\n    alone      {:?}", mismatch.loaded, mismatch.alone)?;
            }
        }
        Ok(())
    }
}

fn write_quantiles(out: &mut fmt::Formatter<'_>, name: &str, quantiles: Option<Quantiles>) -> fmt::Result {
    match quantiles {
        Some(Quantiles { count, p50, p90, p99, max }) => {
            writeln!(out, "{name:<22}{count:>8}{p50:>11.1}{p90:>11.1}{p99:>11.1}{max:>11.1}")
        }
        None => writeln!(out, "{name:<22}{:>8}", 0),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}, context {}", self.server.model, self.server.room.context)?;
        writeln!(out, "\n{} requests, milliseconds: min / median", self.requests)?;
        writeln!(
            out,
            "{:>8}{:>8}{:>22}{:>22}{:>8}{:>12}",
            "canvas", "rows", "one by one", "together", "ratio", "batch peak"
        )?;
        for Batching { canvas, rows, together_ms, one_by_one_ms, ratio, batch_peak } in &self.batching {
            let together = together_ms.to_string();
            let apart = one_by_one_ms.to_string();
            writeln!(out, "{canvas:>8}{rows:>8.1}{apart:>22}{together:>22}{ratio:>8.2}{batch_peak:>12}")?;
        }
        let Mixed { short, long, alone_ms, beside_ms, ratio, overlapped, long_ms } = &self.mixed;
        writeln!(out, "\na fill of {short} beside a completion of {long}, milliseconds: min / median")?;
        writeln!(out, "{:<22}{:>22}", "alone", alone_ms.to_string())?;
        writeln!(out, "{:<22}{:>22}   {ratio:.2} times", "beside the long one", beside_ms.to_string())?;
        writeln!(out, "{:<22}{long_ms:>22.1}", "the long one alone")?;
        let repeats = beside_ms.all.len();
        writeln!(out, "the long one outlasted the short one in {overlapped} of {repeats} repeats")?;
        let padding = self.padding.map_or("n/a".to_owned(), |share| format!("{:.1} %", share * 100.0));
        writeln!(out, "\npadding rows: {padding}")
    }
}

impl fmt::Display for Repeats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.1} / {:.1}", self.min, self.median)
    }
}
