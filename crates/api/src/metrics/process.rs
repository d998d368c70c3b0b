//! The process itself, under the names that every Prometheus client uses. Read from `/proc`; elsewhere
//! than on Linux there are none.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Clock ticks of a second in `/proc`: what Linux shows programs on every architecture that is left.
const TICKS: f64 = 100.0;

/// Reads `/proc/self` at every scrape.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = cpu_seconds() {
            put(&mut encoder, "process_cpu_seconds", "CPU time used", &ConstCounter::new(seconds))?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use", status_bytes("VmRSS:")),
            ("process_virtual_memory_bytes", "Address space in use", status_bytes("VmSize:")),
            ("process_open_fds", "Open files and connections", open_files()),
            ("process_max_fds", "Files and connections that may be open", most_files()),
            ("process_start_time_seconds", "Start of the process in seconds since 1970", started()),
        ] {
            if let Some(value) = value {
                put(&mut encoder, name, help, &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A field of `/proc/self/stat`, counted from 1 as its manual page does. The second one is a name that may
/// hold anything, so counting starts behind it.
fn stat(field: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(field - 3)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat(14)? + stat(15)?) / TICKS)
}

fn started() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat(22)? / TICKS)
}

/// A size of `/proc/self/status`, which it gives in KiB.
fn status_bytes(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let size = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = size.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn open_files() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn most_files() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let limits = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    limits.split_whitespace().next()?.parse().ok()
}
