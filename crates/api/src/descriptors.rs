//! File descriptors: every connection takes one, and systems give a process few until it asks for more.

use crate::config::Patience;
use crate::server::KEPT;

/// Descriptors that are no connections of clients: files, listeners, the runtimes' own.
const OTHERS: usize = 64;

/// Descriptors for so many connections at each of two addresses.
fn needed(connections: usize) -> u64 {
    connections.saturating_add(KEPT).saturating_add(KEPT + OTHERS) as u64
}

/// Raises the process's limit as far as the connections need, or lowers their number to what the system gives.
#[must_use]
#[cfg(unix)]
pub fn enough_for(patience: Patience) -> Patience {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = needed(patience.connections);
    if current.is_none_or(|current| current >= needed) {
        return patience;
    }
    let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
    let done = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    let given = if done.is_ok() { raised } else { current.unwrap_or(raised) };
    let lowered = lowered(patience, given);
    if lowered.connections < patience.connections {
        tracing::warn!(
            asked = patience.connections,
            connections = lowered.connections,
            descriptors = given,
            "the limit of open files (ulimit -n, LimitNOFILE=) is too low for --max-connections, which is lowered"
        );
    }
    lowered
}

/// Other systems have no such limit.
#[must_use]
#[cfg(not(unix))]
pub fn enough_for(patience: Patience) -> Patience {
    patience
}

/// With as many connections as `given` descriptors bear, and one at least.
fn lowered(patience: Patience, given: u64) -> Patience {
    let spare = given.saturating_sub(needed(0));
    let most = usize::try_from(spare).unwrap_or(usize::MAX).max(1);
    Patience { connections: patience.connections.min(most), ..patience }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_descriptors_bear() {
        let patience = Patience { connections: 1024, ..Patience::default() };
        let connections = |given| lowered(patience, given).connections;
        assert_eq!((connections(100_000), connections(needed(1024))), (1024, 1024));
        assert_eq!(connections(needed(300)), 300);
        assert_eq!(connections(0), 1);
    }
}
