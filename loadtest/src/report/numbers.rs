//! Records to numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Counts, FailureCount, MemoryGrowth, Rates, RefusalCount, Times};
use crate::answer::{Answer, Work};
use crate::ending::{Ending, Record, Refusal};
use crate::observe::MemorySample;
use crate::quantiles::Quantiles;
use crate::trace::Reader;

/// The finished requests.
pub fn finished(records: &[Record]) -> impl Iterator<Item = (&Record, &Answer)> {
    records.iter().filter_map(|record| match &record.ending {
        Ending::Finished(answer) => Some((record, answer)),
        _ => None,
    })
}

pub(super) fn counts(records: &[Record]) -> Counts {
    let mut counts = Counts { sent: records.len(), ..Counts::default() };
    for record in records {
        *match &record.ending {
            Ending::Finished(_) => &mut counts.finished,
            Ending::Refused(_) => &mut counts.refused,
            Ending::Expired => &mut counts.expired,
            Ending::Vanished => &mut counts.vanished,
            Ending::Failed(_) => &mut counts.failed,
        } += 1;
    }
    counts
}

pub(super) fn refusals(records: &[Record]) -> Vec<RefusalCount> {
    let mut kinds: BTreeMap<(u16, &str), Vec<Option<u64>>> = BTreeMap::new();
    for record in records {
        if let Ending::Refused(Refusal { status, code, retry_after }) = &record.ending {
            kinds.entry((*status, code)).or_default().push(*retry_after);
        }
    }
    let count = |((status, code), all): ((u16, &str), Vec<Option<u64>>)| {
        let said = || all.iter().flatten().copied();
        RefusalCount {
            status,
            code: code.to_owned(),
            count: all.len(),
            with_retry_after: said().count(),
            retry_after: said().min().zip(said().max()),
        }
    };
    kinds.into_iter().map(count).collect()
}

pub(super) fn failures(records: &[Record]) -> BTreeMap<String, FailureCount> {
    let mut kinds = BTreeMap::new();
    for record in records {
        if let Ending::Failed(failure) = &record.ending {
            let first = || FailureCount { count: 0, first: format!("request {}, {failure}", record.number) };
            kinds.entry(failure.kind()).or_insert_with(first).count += 1;
        }
    }
    kinds
}

pub(super) fn rates(records: &[Record], elapsed: Duration) -> Rates {
    let elapsed_s = elapsed.as_secs_f64();
    let per_second = |count: fn(&Work) -> u64| {
        let sum: u64 = finished(records).map(|(_, answer)| count(&answer.work)).sum();
        sum as f64 / elapsed_s
    };
    Rates {
        elapsed_s,
        finished: per_second(|_| 1),
        returned_tokens: per_second(|work| work.returned_tokens.into()),
        positions_times_passes: per_second(|work| work.rows_computed),
    }
}

pub(super) fn times(records: &[Record]) -> Times {
    let evaluation = |(_, answer): (&Record, &Answer)| {
        answer.work.denoise_ms / f64::from(answer.work.forward_passes.max(1))
    };
    Times {
        queue: Quantiles::of(finished(records).map(|(_, answer)| answer.work.queue_ms)),
        first_state: Quantiles::of(records.iter().filter_map(|record| record.first_state_ms)),
        evaluation: Quantiles::of(finished(records).map(evaluation)),
        end_to_end: Quantiles::of(steady(records).map(|record| record.total_ms)),
        late: Quantiles::of(records.iter().map(|record| record.late_ms)),
    }
}

/// Finished requests whose time was the server's and not their reader's.
pub fn steady(records: &[Record]) -> impl Iterator<Item = &Record> {
    finished(records).map(|(record, _)| record).filter(|record| !matches!(record.reader, Reader::Slow(_)))
}

pub(super) fn by_canvas(records: &[Record]) -> BTreeMap<u32, Quantiles> {
    let mut sizes: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for record in steady(records) {
        sizes.entry(record.canvas).or_default().push(record.total_ms);
    }
    sizes.into_iter().filter_map(|(canvas, times)| Some((canvas, Quantiles::of(times)?))).collect()
}

pub(super) fn memory(samples: &[MemorySample]) -> Option<MemoryGrowth> {
    let quarter = samples.len() / 4;
    if quarter == 0 {
        return None;
    }
    let mean = |part: &[MemorySample]| {
        part.iter().map(|sample| sample.bytes as f64).sum::<f64>() / part.len() as f64
    };
    let first = mean(&samples[..quarter]);
    let last = mean(&samples[samples.len() - quarter..]);
    Some(MemoryGrowth {
        first_quarter: first,
        last_quarter: last,
        growth_percent: (last / first - 1.0) * 100.0,
        samples: samples.to_vec(),
    })
}
