//! Arguments.

mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use self::values::Rate;
use self::values::{positive, share};
use crate::call::Route;
use crate::client::{Address, Server};
use crate::compare::Plan;
use crate::fair::{self, Crowd};
use crate::report::{Expectations, Settings};
use crate::shares::Shares;
use crate::trace::Load;
use crate::verify::Sample;

/// Puts load on a running Unmask server and reports times, refusals and failures.
///
/// Requests are sent when they are due, independently of earlier ones (an open loop), and all times count
/// from then. Exits with 0 only if nothing went wrong; refusals of an overloaded server are in order.
#[derive(Debug, Parser)]
#[command(name = "unmask-loadtest", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// A benchmark other than an open-loop run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The open-loop run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Benchmarks other than an open-loop run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compares the time of requests together and one after another, and of a short one beside a long one.
    Compare(CompareArgs),
    /// Compares keys with different loads: a key with few requests beside one with many.
    Fair(FairArgs),
}

/// The server to load.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: Address,
    /// Seconds that a client waits for the end of its answer.
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = positive)]
    pub timeout: f64,
}

/// An open-loop run.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Requests a second, or a multiple of the server's capacity, such as 2x, which is then measured first.
    #[arg(long, default_value = "2x")]
    pub rate: Rate,
    /// Seconds during which requests are due; Ctrl-C ends them early.
    #[arg(long, default_value = "60", value_parser = positive)]
    pub seconds: f64,
    /// Measure the capacity, print it, and stop.
    #[arg(long)]
    pub calibrate: bool,
    /// Clients that measure the capacity; each asks again as soon as it has its answer.
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    pub calibrate_clients: u16,
    /// Seconds that this takes.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = positive)]
    pub calibrate_seconds: f64,
    /// The deadline that requests ask the server to keep; answers of `request_timeout` are then in order.
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub deadline_ms: Option<u64>,
    /// Send so many of the finished requests again, alone, and compare the texts: a number or `all`.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "64")]
    pub verify: Option<Sample>,
    /// The server's process on this machine, whose memory is watched.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Fail if the 99th percentile of the time in the queue is longer.
    #[arg(long, value_name = "MILLISECONDS")]
    pub expect_queue_p99_ms: Option<f64>,
    /// Fail if the server's memory grows by more from the first to the last quarter of the run. Needs --pid.
    #[arg(long, value_name = "PERCENT", requires = "pid")]
    pub expect_flat_memory: Option<f64>,
    /// File for the report with every request, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// File for a drawing of the run.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// The composition of the load.
#[derive(Debug, Args)]
struct LoadArgs {
    /// The same seed, settings and model give the same requests at the same times.
    #[arg(long, default_value = "0")]
    seed: u64,
    /// Routes and their shares.
    #[arg(long, default_value = "completion=0.5,fill=0.5")]
    mix: Shares<Route>,
    /// Positions to generate and their shares; what the model has no room for is left out.
    #[arg(long, default_value = "8=0.4,32=0.4,128=0.2")]
    sizes: Shares<u32>,
    /// Share of requests that ask for a stream. Slow clients always do.
    #[arg(long, default_value = "0.5", value_parser = share)]
    stream: f64,
    /// Share of clients that go away: half after some states of a stream, half within a second.
    #[arg(long, default_value = "0.05", value_parser = share)]
    vanishing: f64,
    /// Share of clients that pause after every event of a stream.
    #[arg(long, default_value = "0.05", value_parser = share)]
    slow: f64,
}

/// The benchmark of continuous batching.
#[derive(Debug, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Requests that are sent together.
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=1024))]
    requests: u32,
    /// Positions that each of them generates: one size or several.
    #[arg(long, value_name = "N,…", default_value = "8,32", value_delimiter = ',')]
    canvas: Vec<u32>,
    /// Positions of the long canvas that a short fill runs beside; less if the model has no room.
    #[arg(long, value_name = "N", default_value = "512")]
    long: u32,
    /// Number of repetitions of each measurement.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// File for the numbers, as JSON; - prints them.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The benchmark of clients that share a server.
#[derive(Debug, Args)]
pub struct FairArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// A key and its clients, twice or more, such as many:secret=190.
    #[arg(long = "key", value_name = "NAME:KEY=CLIENTS", required = true)]
    keys: Vec<Crowd>,
    /// Seconds for which the key with the fewest clients has the server to itself.
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = positive)]
    alone_seconds: f64,
    /// Seconds for which all keys ask together.
    #[arg(long, default_value = "60", value_parser = positive)]
    seconds: f64,
    /// Send so many of the finished requests again, alone, and compare the texts: a number or `all`.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "64")]
    verify: Option<Sample>,
    /// File for the numbers, as JSON; - prints them.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl ServerArgs {
    fn server(&self, deadline: Option<Duration>) -> Server {
        let address = self.url.clone();
        let patience = Duration::from_secs_f64(self.timeout);
        Server { address, patience, deadline, key: None }
    }
}

impl RunArgs {
    /// The server.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server.server(self.deadline_ms.map(Duration::from_millis))
    }

    /// The load.
    ///
    /// # Errors
    /// If more clients are slow or vanishing than there are.
    pub fn load(&self) -> Result<Load, &'static str> {
        let LoadArgs { seed, mix, sizes, stream, vanishing, slow } = &self.load;
        if vanishing + slow > 1.0 {
            return Err("--vanishing and --slow are shares of the same clients: together at most 1");
        }
        let mix = mix.clone();
        let sizes = sizes.clone();
        Ok(Load { seed: *seed, mix, sizes, streamed: *stream, vanishing: *vanishing, slow: *slow })
    }

    /// The load's settings, as the report repeats them.
    #[must_use]
    pub fn settings(&self, rate: f64) -> Settings {
        let LoadArgs { seed, mix, sizes, stream, vanishing, slow } = &self.load;
        Settings {
            rate,
            seconds: self.seconds,
            seed: *seed,
            mix: mix.to_string(),
            sizes: sizes.to_string(),
            streamed: *stream,
            vanishing: *vanishing,
            slow: *slow,
            deadline_ms: self.deadline_ms.map(|deadline| deadline as f64),
        }
    }

    /// The limits that the run must keep.
    #[must_use]
    pub fn expectations(&self) -> Expectations {
        Expectations {
            queue_p99_ms: self.expect_queue_p99_ms,
            memory_growth_percent: self.expect_flat_memory,
        }
    }
}

impl FairArgs {
    /// The server.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server.server(None)
    }

    /// The measurements to take.
    #[must_use]
    pub fn plan(&self) -> fair::Plan {
        let LoadArgs { seed, mix, sizes, stream, .. } = &self.load;
        let mix = mix.clone();
        let sizes = sizes.clone();
        fair::Plan {
            crowds: self.keys.clone(),
            load: Load { seed: *seed, mix, sizes, streamed: *stream, vanishing: 0.0, slow: 0.0 },
            alone: Duration::from_secs_f64(self.alone_seconds),
            together: Duration::from_secs_f64(self.seconds),
            verify: self.verify,
        }
    }
}

impl CompareArgs {
    /// The server.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server.server(None)
    }

    /// The measurements to take.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            requests: self.requests,
            canvases: self.canvas.clone(),
            long: self.long,
            repeats: self.repeats,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["unmask-loadtest", "--rate", "2x", "--verify", "--seconds", "3"]);
        assert_eq!((cli.run.rate, cli.run.verify), (Rate::TimesCapacity(2.0), Some(Sample::Some(64))));
        let cli = Cli::parse_from(["unmask-loadtest", "--rate", "5", "--verify", "all"]);
        assert_eq!((cli.run.rate, cli.run.verify), (Rate::PerSecond(5.0), Some(Sample::All)));
        let cli = Cli::parse_from(["unmask-loadtest", "compare", "--canvas", "8,16"]);
        assert!(matches!(cli.command, Some(Command::Compare(args)) if args.plan().canvases == [8, 16]));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for bad in [["--rate", "0"], ["--rate", "x"], ["--slow", "1.5"], ["--expect-flat-memory", "5"]] {
            assert!(Cli::try_parse_from(["unmask-loadtest"].into_iter().chain(bad)).is_err(), "{bad:?}");
        }
        let cli = Cli::parse_from(["unmask-loadtest", "--slow", "0.6", "--vanishing", "0.6"]);
        assert!(cli.run.load().is_err());
    }
}
