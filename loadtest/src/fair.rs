//! Keys with different loads on one server: whether a key that asks for little is kept waiting by one that asks for
//! much.
//!
//! Every client of a key asks again as soon as it has its answer (a closed loop). First the key with the fewest clients
//! has the server to itself, then all keys ask together.

mod table;

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use self::table::{Fairness, Row};
use crate::client::Server;
use crate::ending::{Ending, Failure, Record};
use crate::observe::About;
use crate::quantiles::Quantiles;
use crate::run::IDLE_WITHIN;
use crate::trace::{Load, NothingFits, Planned, Trace};
use crate::verify::{Sample, verify};

/// The longest pause of a client that is refused. It is shorter than what servers ask for: the load is a greedy one.
const PAUSE: Duration = Duration::from_millis(250);

/// A key and its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// Its name in the table.
    pub name: String,
    /// The key; none where the server has no keys.
    pub key: Option<String>,
    /// Clients that ask with it.
    pub clients: usize,
}

/// Not `name[:key]=clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be name:key=clients, with 1 to 10000 clients, such as many:secret=190")]
pub struct CrowdError;

impl FromStr for Crowd {
    type Err = CrowdError;

    fn from_str(text: &str) -> Result<Self, CrowdError> {
        let (who, clients) = text.rsplit_once('=').ok_or(CrowdError)?;
        let clients =
            clients.parse().ok().filter(|clients| (1..=10_000).contains(clients)).ok_or(CrowdError)?;
        let (name, key) = who.split_once(':').map_or((who, None), |(name, key)| (name, Some(key.to_owned())));
        if name.is_empty() {
            return Err(CrowdError);
        }
        Ok(Self { name: name.to_owned(), key, clients })
    }
}

/// A plan of a measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The keys.
    pub crowds: Vec<Crowd>,
    /// The requests of all keys.
    pub load: Load,
    /// Time for which the key with the fewest clients has the server to itself.
    pub alone: Duration,
    /// Time for which all ask together.
    pub together: Duration,
    /// Finished requests that are sent again, alone.
    pub verify: Option<Sample>,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum FairError {
    /// The server did not tell about itself.
    #[error(transparent)]
    About(#[from] Failure),
    /// The model is too small for the load.
    #[error(transparent)]
    NothingFits(#[from] NothingFits),
    /// There is no key.
    #[error("no key was given")]
    NoCrowd,
    /// Another program uses the server.
    #[error("the server did not become idle within {IDLE_WITHIN:?}; is another program using it?")]
    Busy,
}

/// A crowd's part of the load, and what has become of it.
struct Part {
    crowd: Crowd,
    server: Server,
    sent: Mutex<(Trace, Vec<Planned>)>,
    records: Mutex<Vec<Record>>,
}

impl Part {
    fn new(crowd: &Crowd, server: &Server, about: &About, load: &Load) -> Result<Arc<Self>, NothingFits> {
        // The rate means nothing in a closed loop.
        let trace = Trace::new(load, about.room, 1.0)?;
        let server = Server { key: crowd.key.clone(), ..server.clone() };
        let sent = Mutex::new((trace, Vec::new()));
        let records = Mutex::default();
        Ok(Arc::new(Self { crowd: crowd.clone(), server, sent, records }))
    }

    fn next(&self) -> Option<Planned> {
        // It is whole between any two requests.
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = sent.0.next()?;
        sent.1.push(planned.clone());
        Some(planned)
    }

    async fn client(self: Arc<Self>, end: Instant, progress: ProgressBar) {
        while Instant::now() < end {
            let Some(planned) = self.next() else { return };
            let record = self.server.perform(&planned, Instant::now()).await;
            let refused = matches!(record.ending, Ending::Refused(_));
            self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
            progress.inc(1);
            if refused {
                sleep(PAUSE).await;
            }
        }
    }

    fn take(&self) -> (Vec<Planned>, Vec<Record>) {
        let planned = self.sent.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (planned, records)
    }

    async fn row(&self, sample: Option<Sample>, progress: &ProgressBar) -> (Row, f64) {
        let (planned, records) = self.take();
        let verified = match sample {
            Some(sample) => Some(verify(&self.server, &planned, &records, sample, progress).await),
            None => None,
        };
        let count = |is: fn(&Ending) -> bool| records.iter().filter(|record| is(&record.ending)).count();
        let finished = count(|ending| matches!(ending, Ending::Finished(_)));
        let refused = count(|ending| matches!(ending, Ending::Refused(_)));
        let times = records.iter().filter(|record| matches!(record.ending, Ending::Finished(_)));
        let evaluation = records.iter().filter_map(|record| match &record.ending {
            Ending::Finished(answer) => {
                Some(answer.work.denoise_ms / f64::from(answer.work.forward_passes.max(1)))
            }
            _ => None,
        });
        let row = Row {
            name: self.crowd.name.clone(),
            clients: self.crowd.clients,
            finished,
            refused,
            failed: records.len() - finished - refused,
            total_ms: Quantiles::of(times.map(|record| record.total_ms)),
            verified,
        };
        (row, evaluation.fold(0.0, f64::max))
    }
}

/// Measures what `plan` says. No other program should use the server meanwhile.
///
/// # Errors
/// The server does not tell about itself or is not idle, or no size of the load fits the model.
pub async fn fair(server: &Server, plan: &Plan, progress: &ProgressBar) -> Result<Fairness, FairError> {
    let few = plan.crowds.iter().min_by_key(|crowd| crowd.clients).ok_or(FairError::NoCrowd)?;
    let asking = Server { key: few.key.clone(), ..server.clone() };
    let about = asking.about().await?;
    let load = plan.load.patient();
    let alone = Part::new(few, server, &about, &load)?;
    run(std::slice::from_ref(&alone), plan.alone, progress).await;
    asking.until_idle(IDLE_WITHIN).await.ok_or(FairError::Busy)?;
    let parts: Result<Vec<_>, _> = (1..)
        .zip(&plan.crowds)
        .map(|(number, crowd)| {
            let load = Load { seed: load.seed.wrapping_add(number), ..load.clone() };
            Part::new(crowd, server, &about, &load)
        })
        .collect();
    let parts = parts?;
    run(&parts, plan.together, progress).await;
    asking.until_idle(IDLE_WITHIN).await.ok_or(FairError::Busy)?;
    let (alone, mut evaluation_ms) = alone.row(None, progress).await;
    let mut together = Vec::new();
    for part in &parts {
        let (row, evaluation) = part.row(plan.verify, progress).await;
        evaluation_ms = evaluation_ms.max(evaluation);
        together.push(row);
    }
    let mut fairness = Fairness { server: about, alone, together, evaluation_ms, faults: Vec::new() };
    fairness.faults = fairness.judged();
    Ok(fairness)
}

async fn run(parts: &[Arc<Part>], window: Duration, progress: &ProgressBar) {
    let end = Instant::now() + window;
    let mut clients = JoinSet::new();
    for part in parts {
        for _ in 0..part.crowd.clients {
            clients.spawn(Arc::clone(part).client(end, progress.clone()));
        }
    }
    clients.join_all().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_a_name_maybe_a_key_and_clients() {
        let crowd = |text: &str| text.parse::<Crowd>();
        let many = Crowd { name: "many".to_owned(), key: Some("a=b".to_owned()), clients: 190 };
        assert_eq!(crowd("many:a=b=190"), Ok(many));
        assert_eq!(crowd("all=2"), Ok(Crowd { name: "all".to_owned(), key: None, clients: 2 }));
        for wrong in ["", "a", "a=0", "a=x", "=1", ":k=1", "a=10001"] {
            assert_eq!(crowd(wrong), Err(CrowdError), "{wrong}");
        }
    }
}
