//! Independence of answers from load: requests are sent again, alone, and their texts compared.

use std::str::FromStr;

use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::Instant;

use crate::client::Server;
use crate::ending::{Ending, Record};
use crate::trace::{Planned, Reader};

/// The number of finished requests that are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Every one.
    All,
    /// So many, evenly spread over the run.
    Some(usize),
}

impl FromStr for Sample {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::Some) }
    }
}

/// The result of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verified {
    /// Requests whose text was the same alone.
    pub same: usize,
    /// Those whose text was another.
    pub different: Vec<Mismatch>,
    /// Those that were not answered the second time, and how they ended.
    pub unanswered: Vec<String>,
}

impl Verified {
    /// Requests that were sent again.
    #[must_use]
    pub fn count(&self) -> usize {
        self.same + self.different.len() + self.unanswered.len()
    }
}

/// A request whose text depended on the load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Its number in the trace.
    pub number: usize,
    /// Its body.
    pub body: String,
    /// The text under load.
    pub loaded: String,
    /// The text alone.
    pub alone: String,
}

/// Sends a sample of the finished requests again, one by one and without a stream. `records` and `trace`
/// are numbered alike.
pub async fn verify(
    server: &Server,
    trace: &[Planned],
    records: &[Record],
    sample: Sample,
    progress: &ProgressBar,
) -> Verified {
    let finished: Vec<(&Planned, &str)> = records
        .iter()
        .filter_map(|record| match &record.ending {
            Ending::Finished(answer) => Some((&trace[record.number], answer.text.as_str())),
            _ => None,
        })
        .collect();
    let count = match sample {
        Sample::All => finished.len(),
        Sample::Some(count) => count.min(finished.len()),
    };
    progress.set_length(count as u64);
    let mut verified = Verified::default();
    for index in 0..count {
        let (planned, loaded) = finished[index * finished.len() / count];
        let alone = Planned { streamed: false, reader: Reader::Steady, ..planned.clone() };
        match server.perform(&alone, Instant::now()).await.ending {
            Ending::Finished(answer) if answer.text == loaded => verified.same += 1,
            Ending::Finished(answer) => verified.different.push(Mismatch {
                number: planned.number,
                body: planned.call.body(planned.streamed).to_string(),
                loaded: loaded.to_owned(),
                alone: answer.text,
            }),
            other => verified.unanswered.push(format!("request {}: {other}", planned.number)),
        }
        progress.inc(1);
    }
    verified
}
