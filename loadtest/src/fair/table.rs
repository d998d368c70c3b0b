//! The measurements of each key, and a judgement of them.

use std::fmt;

use serde::Serialize;

use crate::observe::About;
use crate::quantiles::Quantiles;
use crate::verify::Verified;

/// The ends of a key's requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The key's name.
    pub name: String,
    /// Its clients.
    pub clients: usize,
    /// Requests that were answered.
    pub finished: usize,
    /// Those that were refused.
    pub refused: usize,
    /// Those that ended otherwise.
    pub failed: usize,
    /// Milliseconds from the request to the end of its answer.
    pub total_ms: Option<Quantiles>,
    /// Finished requests whose texts were compared, if they were.
    pub verified: Option<Verified>,
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fairness {
    /// The server.
    pub server: About,
    /// The key with the fewest clients, alone.
    pub alone: Row,
    /// All keys together.
    pub together: Vec<Row>,
    /// The longest evaluation that a request saw on average, in milliseconds.
    pub evaluation_ms: f64,
    /// Faults, if there are any.
    pub faults: Vec<String>,
}

impl Fairness {
    /// The goal: nothing of the key with the fewest clients is refused, its median is at most four times and its 99th
    /// percentile at most ten times what it has alone, beside an evaluation that cannot be interrupted, and no text of
    /// any key depends on the load.
    pub(super) fn judged(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for row in self.together.iter().filter(|row| row.failed > 0) {
            faults.push(format!("{}: {} requests failed", row.name, row.failed));
        }
        for row in &self.together {
            let Some(verified) = &row.verified else { continue };
            let wrong = verified.different.len() + verified.unanswered.len();
            if wrong > 0 {
                faults.push(format!(
                    "{}: {wrong} of {} texts are not what they are alone",
                    row.name,
                    verified.count()
                ));
            }
        }
        let Some(few) = self.together.iter().find(|row| row.name == self.alone.name) else { return faults };
        if few.refused > 0 {
            faults.push(format!("{}: {} requests were refused", few.name, few.refused));
        }
        let (Some(alone), Some(beside)) = (self.alone.total_ms, few.total_ms) else {
            faults.push(format!("{}: no request finished", few.name));
            return faults;
        };
        let mut bound = |what: &str, found: f64, alone: f64, times: f64| {
            let most = alone * times + self.evaluation_ms;
            if found > most {
                faults.push(format!("{}: its {what} is {found:.0} ms, above {most:.0}", few.name));
            }
        };
        bound("median", beside.p50, alone.p50, 4.0);
        bound("99th percentile", beside.p99, alone.p99, 10.0);
        faults
    }
}

impl fmt::Display for Fairness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, context {}", self.server.model, self.server.room.context)?;
        writeln!(
            f,
            "{:<16} {:>7} {:>8} {:>8} {:>7} {:>9} {:>9} {:>9} {:>9}",
            "key", "clients", "finished", "refused", "failed", "p50 ms", "p90 ms", "p99 ms", "texts"
        )?;
        let alone = Row { name: format!("{} alone", self.alone.name), ..self.alone.clone() };
        for row in std::iter::once(&alone).chain(&self.together) {
            let at = |value: fn(&Quantiles) -> f64| row.total_ms.as_ref().map_or(f64::NAN, value);
            let texts = row
                .verified
                .as_ref()
                .map_or("-".to_owned(), |verified| format!("{}/{}", verified.same, verified.count()));
            writeln!(
                f,
                "{:<16} {:>7} {:>8} {:>8} {:>7} {:>9.1} {:>9.1} {:>9.1} {:>9}",
                row.name,
                row.clients,
                row.finished,
                row.refused,
                row.failed,
                at(|all| all.p50),
                at(|all| all.p90),
                at(|all| all.p99),
                texts
            )?;
        }
        writeln!(f, "longest evaluation {:.1} ms", self.evaluation_ms)?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "FAULT {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Room;

    fn row(name: &str, refused: usize, total: f64) -> Row {
        let total_ms = Quantiles::of([total]);
        Row { name: name.to_owned(), clients: 2, finished: 1, refused, failed: 0, total_ms, verified: None }
    }

    #[test]
    fn what_is_not_fair_is_a_fault() {
        let judged = |refused, total| {
            let server = About { model: "toy".to_owned(), room: Room { context: 64, canvas: 64 } };
            let together = vec![row("many", 9, 900.0), row("few", refused, total)];
            let alone = row("few", 0, 10.0);
            Fairness { server, alone, together, evaluation_ms: 5.0, faults: Vec::new() }.judged()
        };
        assert_eq!(judged(0, 45.0), [""; 0]);
        assert_eq!(judged(1, 45.0), ["few: 1 requests were refused"]);
        assert_eq!(judged(0, 46.0), ["few: its median is 46 ms, above 45"]);
        assert_eq!(judged(0, 110.0).len(), 2);
    }
}
