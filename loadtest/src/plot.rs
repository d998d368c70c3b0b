//! A run as a picture: latency over time, how requests ended, and distributions of times.

mod chart;

use chart::{Chart, Scale};

use crate::ending::{Ending, Record};
use crate::quantiles::sorted;
use crate::report::{Report, finished, steady};
use crate::trace::Reader;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = WIDTH - 24.0;

const BLUE: &str = "#2f6fb3";
const TEAL: &str = "#2a9d8f";
const RED: &str = "#d1495b";
const GOLD: &str = "#e9a23b";
const GREY: &str = "#a0a7b0";
const BLACK: &str = "#222222";

/// Endings of requests in the drawing: the name, the colour, and the records that belong to it.
type Outcome = (&'static str, &'static str, fn(&Ending) -> bool);
const OUTCOMES: [Outcome; 4] = [
    ("finished", BLUE, |ending| matches!(ending, Ending::Finished(_))),
    ("vanished", GREY, |ending| matches!(ending, Ending::Vanished)),
    ("refused, expired", RED, |ending| matches!(ending, Ending::Refused(_) | Ending::Expired)),
    ("failed", BLACK, |ending| matches!(ending, Ending::Failed(_))),
];

/// The picture, as SVG.
#[must_use]
pub fn draw(report: &Report, records: &[Record]) -> String {
    let mut chart = Chart::new(WIDTH, 900.0);
    let settings = &report.settings;
    chart.title(LEFT, 34.0, &format!("{} under load", report.server.model));
    let mut subtitle = format!("{:.2} requests/s for {} s", settings.rate, settings.seconds);
    if let Some(capacity) = &report.capacity {
        subtitle += &format!(", {:.1} × capacity", settings.rate / capacity.per_second);
    }
    subtitle += &format!(
        " · {} sent, {} finished ({:.2}/s), {} refused, {} vanished, {} failed",
        report.counts.sent,
        report.counts.finished,
        report.rates.finished,
        report.counts.refused,
        report.counts.vanished,
        report.counts.failed
    );
    chart.note(LEFT, 54.0, &subtitle);
    latency(&mut chart, report, records);
    endings(&mut chart, report, records);
    distributions(&mut chart, records);
    chart.finish()
}

fn time_axis(report: &Report) -> Scale {
    Scale::linear((0.0, report.settings.seconds), (LEFT, RIGHT))
}

/// One point for every finished request, where it was due.
fn latency(chart: &mut Chart, report: &Report, records: &[Record]) {
    let top = 104.0;
    let bottom = 364.0;
    let x = time_axis(report);
    let y = Scale::log(finished(records).map(|(record, _)| record.total_ms), (bottom, top));
    chart.heading(LEFT, top - 18.0, "Time from due to done, by when a request was due");
    chart.vertical_axis(&y, (LEFT, RIGHT), duration);
    chart.horizontal_axis(&x, (top, bottom), |_| String::new());
    for (record, _) in finished(records) {
        let slow = matches!(record.reader, Reader::Slow(_));
        chart.point((x.at(record.due_s), y.at(record.total_ms)), if slow { GOLD } else { BLUE });
    }
    chart.legend(RIGHT, top - 18.0, &[("steady reader", BLUE), ("slow reader", GOLD)]);
}

/// The number of requests that were due in each stretch of time, stacked by their end.
fn endings(chart: &mut Chart, report: &Report, records: &[Record]) {
    let top = 424.0;
    let bottom = 544.0;
    let x = time_axis(report);
    let bins = (report.settings.seconds.ceil() as usize).clamp(1, 120);
    let width = report.settings.seconds / bins as f64;
    let mut counts = vec![[0_usize; OUTCOMES.len()]; bins];
    for record in records {
        let bin = ((record.due_s / width) as usize).min(bins - 1);
        for (kind, (_, _, holds)) in OUTCOMES.iter().enumerate() {
            counts[bin][kind] += usize::from(holds(&record.ending));
        }
    }
    let most = counts.iter().map(|bin| bin.iter().sum::<usize>()).max().unwrap_or(0);
    let y = Scale::linear((0.0, (most as f64 / width).max(1.0)), (bottom, top));
    chart.heading(LEFT, top - 18.0, "Requests per second, by how they ended");
    chart.vertical_axis(&y, (LEFT, RIGHT), |value| format!("{value}"));
    chart.horizontal_axis(&x, (top, bottom), |value| format!("{value} s"));
    for (bin, kinds) in counts.iter().enumerate() {
        let left = x.at(bin as f64 * width);
        let right = x.at((bin + 1) as f64 * width);
        let mut below = 0;
        for ((_, colour, _), count) in OUTCOMES.iter().zip(kinds) {
            let low = below as f64 / width;
            let high = (below + count) as f64 / width;
            chart.bar((left + 0.5, right - 0.5), (y.at(high), y.at(low)), colour);
            below += count;
        }
    }
    let names: Vec<(&str, &str)> = OUTCOMES.iter().map(|(name, colour, _)| (*name, *colour)).collect();
    chart.legend(RIGHT, top - 18.0, &names);
}

/// The share of the requests that took at most a given time.
fn distributions(chart: &mut Chart, records: &[Record]) {
    let top = 614.0;
    let bottom = 854.0;
    // Below a tenth of a millisecond nothing is measured that anybody feels.
    let at_least = |time: f64| time.max(0.1);
    let queue = sorted(finished(records).map(|(_, answer)| at_least(answer.work.queue_ms)));
    let first = sorted(records.iter().filter_map(|record| record.first_state_ms).map(at_least));
    let total = sorted(steady(records).map(|record| at_least(record.total_ms)));
    let x = Scale::log([&queue, &first, &total].into_iter().flatten().copied(), (LEFT, RIGHT));
    let y = Scale::linear((0.0, 100.0), (bottom, top));
    chart.heading(LEFT, top - 18.0, "Share of requests that took at most so long");
    chart.vertical_axis(&y, (LEFT, RIGHT), |value| format!("{value} %"));
    chart.horizontal_axis(&x, (top, bottom), duration);
    let lines = [("queue", GOLD, &queue), ("first state", TEAL, &first), ("end to end", BLUE, &total)];
    for (_, colour, times) in &lines {
        let rank = |index: usize| y.at(index as f64 / times.len() as f64 * 100.0);
        // A step up at every value.
        let steps = times
            .iter()
            .enumerate()
            .flat_map(|(index, time)| [(x.at(*time), rank(index)), (x.at(*time), rank(index + 1))]);
        chart.line(steps, colour);
    }
    let names = lines.map(|(name, colour, _)| (name, colour));
    chart.legend(RIGHT, top - 18.0, &names);
}

/// Milliseconds in the unit that suits them.
fn duration(milliseconds: f64) -> String {
    if milliseconds >= 1000.0 { format!("{} s", milliseconds / 1000.0) } else { format!("{milliseconds} ms") }
}
