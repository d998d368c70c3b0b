//! The generator against a server that misbehaves on demand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stub;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;
use unmask_loadtest::call::{Call, Route};
use unmask_loadtest::client::Server;
use unmask_loadtest::compare::{Plan, compare};
use unmask_loadtest::ending::{Ending, Failure};
use unmask_loadtest::plot;
use unmask_loadtest::report::{Counts, Expectations, Report, Settings};
use unmask_loadtest::run::{Run, closed_loop, open_loop};
use unmask_loadtest::trace::{Load, Planned, Reader, Trace};
use unmask_loadtest::verify::{Sample, verify};

/// Requests that say `words` to the stub, a millisecond apart.
fn trace(words: &[(&str, Route, bool, Reader)]) -> Vec<Planned> {
    let planned =
        |(number, (word, route, streamed, reader)): (usize, &(&str, Route, bool, Reader))| Planned {
            number,
            at: Duration::from_millis(number as u64),
            call: Call {
                route: *route,
                canvas: 8,
                before: format!("{word} please"),
                after: String::new(),
                seed: number as u32,
            },
            streamed: *streamed,
            reader: *reader,
        };
    words.iter().enumerate().map(planned).collect()
}

async fn send(server: &Server, trace: &[Planned]) -> Run {
    send_until(server, trace, pending(), &ProgressBar::hidden()).await
}

async fn send_until(
    server: &Server,
    trace: &[Planned],
    enough: impl Future<Output = ()>,
    progress: &ProgressBar,
) -> Run {
    open_loop(&Arc::new(server.clone()), trace, Some(std::process::id()), enough, progress).await
}

async fn report(server: &Server, run: &Run) -> Report {
    let settings = Settings {
        rate: 1000.0,
        seconds: 1.0,
        seed: 0,
        mix: String::new(),
        sizes: String::new(),
        streamed: 0.5,
        vanishing: 0.0,
        slow: 0.0,
        deadline_ms: None,
    };
    let mut report = Report::new(server.about().await.unwrap(), settings, run);
    report.judge(&Expectations::default());
    report
}

const SLOW: Reader = Reader::Slow(Duration::from_millis(1));
use Reader::Steady;
use Route::{Completion, Fill};

#[tokio::test]
async fn every_request_is_counted_under_its_end() {
    let server = stub::start().await;
    let trace = trace(&[
        ("finish", Completion, false, Steady),
        ("finish", Completion, true, Steady),
        ("finish", Fill, false, Steady),
        ("finish", Fill, true, SLOW),
        ("refuse", Fill, true, Steady),
        ("refuse", Completion, false, Steady),
        ("hang", Completion, true, Reader::VanishAfterStates(2)),
        ("hang", Fill, true, Reader::VanishAfter(Duration::from_millis(50))),
    ]);
    let run = send(&server, &trace).await;
    let report = report(&server, &run).await;
    let counts = Counts { sent: 8, finished: 4, refused: 2, expired: 0, vanished: 2, failed: 0 };
    assert_eq!(report.counts, counts, "{:#?}", run.records);
    let refusal = &report.refusals[0];
    assert_eq!((refusal.count, refusal.with_retry_after, refusal.retry_after), (2, 2, Some((3, 3))));
    assert!(report.faults.is_empty(), "refusals and vanished clients are in order: {:?}", report.faults);
    assert!(report.idle_after_ms.is_some(), "a client that vanished must have closed its connection");
    assert!(run.records.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
}

#[tokio::test]
async fn numbers_come_from_the_requests_they_speak_of() {
    let server = stub::start().await;
    let trace = trace(&[
        ("finish", Completion, true, Steady),
        ("finish", Fill, true, SLOW),
        ("finish", Fill, false, Steady),
        ("hang", Fill, true, Reader::VanishAfterStates(1)),
    ]);
    let run = send(&server, &trace).await;
    let report = report(&server, &run).await;
    let count = |quantiles: Option<unmask_loadtest::quantiles::Quantiles>| quantiles.unwrap().count;
    assert_eq!(count(report.times.queue), 3, "finished ones");
    assert_eq!(count(report.times.first_state), 3, "streams, also those that were left");
    assert_eq!(count(report.times.end_to_end), 2, "a slow reader's time is not the server's");
    assert_eq!(report.times.evaluation.unwrap().p50, 3.0, "12 ms for 4 evaluations");
    assert_eq!(report.batch_peak, Some(3));
    let per_request = report.rates.returned_tokens / report.rates.finished;
    assert!((per_request - 8.0).abs() < 1e-9);
    assert!(report.to_string().ends_with("ok\n"), "{report}");
    let svg = plot::draw(&report, &run.records);
    assert_eq!(svg.matches("<circle").count(), 3, "one point for every finished request");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "places that no viewer can draw");
}

#[tokio::test]
async fn a_run_that_is_ended_early_reports_what_was_sent() {
    let server = stub::start().await;
    let mut trace = trace(&[("finish", Fill, true, Steady), ("finish", Fill, true, Steady)]);
    trace[1].at = Duration::from_hours(1);
    let progress = ProgressBar::hidden();
    let first_has_ended = async {
        while progress.position() == 0 {
            tokio::task::yield_now().await;
        }
    };
    let run = send_until(&server, &trace, first_has_ended, &progress).await;
    let report = report(&server, &run).await;
    assert_eq!((report.counts.sent, report.counts.finished), (1, 1), "{:#?}", run.records);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
}

#[tokio::test]
async fn what_should_not_happen_is_a_fault() {
    let server = stub::start().await;
    for (word, streamed, fault) in [
        ("break", false, "status 500: engine_error"),
        ("expire", false, "status 504: request_timeout"),
        ("cut", true, "ended before its last event"),
        ("error-event", true, "error in the stream: engine_error"),
        ("refuse-bare", false, "without Retry-After"),
        ("drain", false, "not about load"),
    ] {
        let run = send(&server, &trace(&[(word, Fill, streamed, Steady)])).await;
        let report = report(&server, &run).await;
        assert_eq!(report.faults.len(), 1, "{word}: {:?}", report.faults);
        assert!(report.faults[0].contains(fault), "{word}: {:?}", report.faults);
        assert!(report.to_string().ends_with("failed\n"));
    }
}

#[tokio::test]
async fn a_deadline_that_was_asked_for_may_pass() {
    let server = Server { deadline: Some(Duration::from_secs(1)), ..stub::start().await };
    let run = send(&server, &trace(&[("expire", Fill, false, Steady)])).await;
    assert_eq!(run.records[0].ending, Ending::Expired);
}

#[tokio::test]
async fn bounds_are_kept_or_reported() {
    let server = stub::start().await;
    let run = send(&server, &trace(&[("finish", Fill, false, Steady)])).await;
    let mut report = report(&server, &run).await;
    report.judge(&Expectations { queue_p99_ms: Some(2.0), memory_growth_percent: None });
    assert!(report.faults.is_empty(), "2 ms are not more than 2 ms: {:?}", report.faults);
    report.judge(&Expectations { queue_p99_ms: Some(1.5), memory_growth_percent: Some(5.0) });
    assert!(report.faults[0].contains("queue is 2.0 ms"), "{:?}", report.faults);
    assert!(report.faults[1].contains("memory was not measured"), "a run too short proves nothing");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_and_no_hang() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let address = format!("http://{closed}").parse().unwrap();
    let server = Server { address, patience: Duration::from_secs(5), deadline: None, key: None };
    let record = server.perform(&trace(&[("finish", Fill, false, Steady)])[0], Instant::now()).await;
    assert!(matches!(record.ending, Ending::Failed(Failure::Connect(_))), "{:?}", record.ending);
}

#[tokio::test]
async fn time_counts_from_when_a_request_was_due() {
    let server = stub::start().await;
    let due = Instant::now() - Duration::from_millis(300);
    let record = server.perform(&trace(&[("finish", Fill, true, Steady)])[0], due).await;
    assert!(record.late_ms >= 300.0 && record.first_state_ms.unwrap() >= 300.0);
    assert!(record.total_ms >= 300.0, "what a stalled generator or server delays must not look fast");
}

#[tokio::test]
async fn a_text_that_depends_on_the_load_is_found() {
    let server = stub::start().await;
    let trace = trace(&[
        ("finish", Completion, true, Steady),
        ("drift", Fill, true, Steady),
        ("refuse", Fill, true, Steady),
        ("finish", Fill, false, Steady),
    ]);
    let run = send(&server, &trace).await;
    let verified = verify(&server, &trace, &run.records, Sample::All, &ProgressBar::hidden()).await;
    assert_eq!((verified.same, verified.count()), (2, 3), "only finished requests can be compared");
    assert_eq!(verified.different[0].number, 1);
    let mut report = report(&server, &run).await;
    report.verified = Some(verified);
    report.judge(&Expectations::default());
    assert_eq!(report.faults, ["1 texts were others than alone"]);
    let some = verify(&server, &trace, &run.records, Sample::Some(1), &ProgressBar::hidden()).await;
    assert_eq!(some.count(), 1);
}

#[tokio::test]
async fn capacity_is_what_finishes() {
    let server = Arc::new(stub::start().await);
    let load = Load {
        seed: 0,
        mix: "completion=1,fill=1".parse().unwrap(),
        sizes: "8=1".parse().unwrap(),
        streamed: 0.5,
        vanishing: 0.0,
        slow: 0.0,
    };
    let room = server.about().await.unwrap().room;
    let trace = Trace::new(&load, room, 1.0).unwrap();
    let capacity = closed_loop(&server, trace, 2, Duration::from_millis(500)).await.unwrap();
    assert!(capacity.per_second > 0.0 && (capacity.seconds - 0.4).abs() < 1e-9);
}

#[tokio::test]
async fn a_comparison_measures_both_orders_and_a_short_one_beside_a_long_one() {
    let server = Arc::new(stub::start().await);
    let plan = Plan { requests: 3, canvases: vec![8, 16], long: 512, repeats: 2 };
    let comparison = compare(&server, &plan, &ProgressBar::hidden()).await.unwrap();
    assert_eq!(comparison.batching.iter().map(|batching| batching.canvas).collect::<Vec<_>>(), [8, 16]);
    let batching = &comparison.batching[0];
    assert_eq!((batching.batch_peak, batching.rows), (3, 20.0), "80 rows in 4 evaluations");
    assert_eq!((batching.together_ms.all.len(), batching.one_by_one_ms.all.len()), (2, 2));
    let mixed = &comparison.mixed;
    assert_eq!(u64::from(mixed.long), stub::LONG, "512 positions are more than this model has");
    assert_eq!(mixed.overlapped, 2, "the stub never answers a long one twice");
    assert_eq!(comparison.padding, None);
    assert!(comparison.to_string().contains("padding rows: n/a"), "{comparison}");
}
