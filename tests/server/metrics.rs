//! `/metrics`: well formed, true, and free of what clients send.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::harness::{DEADLINE, Server};

/// Classic text, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    /// Type by family.
    families: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Reads text, and fails where it is not what the format allows.
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        let mut seen = BTreeSet::new();
        for line in text.strip_suffix('\n').unwrap().split('\n') {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(help.len() > 3 && helped.insert(name.to_owned()), "one help a family: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(helped.contains(name), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(scrape.families.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
                family = name.to_owned();
            } else {
                assert!(!line.starts_with('#') && seen.insert(line.rsplit_once(' ').unwrap().0), "{line}");
                let sample = sample(line);
                let kind = scrape.families[&family].as_str();
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_sum", "_count", "_bucket"] } else { &[""] };
                let known = suffixes.iter().any(|suffix| sample.name == format!("{family}{suffix}"));
                assert!(known, "{line} under {family}");
                assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
                scrape.samples.push(sample);
            }
        }
        scrape.assert_histograms();
        scrape
    }

    /// Buckets rise to the count.
    fn assert_histograms(&self) {
        type Series<'a> = (&'a str, Vec<(&'a String, &'a String)>);
        let mut buckets: BTreeMap<Series<'_>, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in &self.samples {
            let Some(name) = sample.name.strip_suffix("_bucket") else { continue };
            let labels = sample.labels.iter().filter(|(name, _)| *name != "le").collect();
            let bound = sample.labels["le"].parse().unwrap();
            buckets.entry((name, labels)).or_default().push((bound, sample.value));
        }
        assert!(!buckets.is_empty());
        for ((name, labels), rows) in buckets {
            assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{name}");
            let labels: Vec<(&str, &str)> =
                labels.into_iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let last = rows.last().unwrap();
            assert_eq!(*last, (f64::INFINITY, self.sum(&format!("{name}_count"), &labels)), "{name}");
        }
    }

    /// The sum over all samples of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            let label =
                |(name, value): &(&str, &str)| sample.labels.get(*name).is_some_and(|own| own == value);
            sample.name == name && labels.iter().all(label)
        };
        self.samples.iter().filter(has).map(|sample| sample.value).sum()
    }
}

/// `name{label="value",…} number`; no value of ours holds a quote or a comma.
fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let pairs = labels.strip_suffix('}').unwrap().split(',').filter(|pair| !pair.is_empty());
    let labels = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned())
    });
    Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
}

/// The metrics now.
async fn scrape(server: &Server) -> Scrape {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    Scrape::parse(&answer.body)
}

/// Asks for the metrics until they say what is waited for.
pub(crate) async fn scrape_until(server: &Server, what: &str, met: impl Fn(&Scrape) -> bool) -> Scrape {
    let poll = async {
        loop {
            let scrape = scrape(server).await;
            if met(&scrape) {
                return scrape;
            }
        }
    };
    tokio::time::timeout(DEADLINE, poll).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_is_what_is_counted() {
    let server = Server::start("diffugpt-s", &[]);
    let completion = json!({ "prompt": [5, 6, 7], "max_tokens": 10, "n": 2, "seed": 1, "ignore_eos": true });
    let passes = server.ok("/v1/completions", &completion).await["diffusion"]["forward_passes"].clone();
    let mut fill = json!({ "segments": ["a", { "length": 2 }, "b", { "length": 4 }, "c"], "stream": true });
    fill["token_healing"] = json!(false);
    assert_eq!(server.post("/v1/fill", &fill).await.status, 200);
    server.post("/fill", &json!({ "length": 0, "prefix": "a" })).await.refusal(400, "out_of_range");
    server.post_text("/fill", "{").await.refusal(400, "invalid_json");
    server.get("/live").await;
    // A stream has ended for its client a moment before it has for the server.
    let ended = [("route", "/v1/fill"), ("outcome", "ok")];
    let scrape = scrape_until(&server, "the end of the stream", |scrape| {
        scrape.sum("unmask_requests_total", &ended) == 1.0
    })
    .await;
    let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);
    let requests = |route, class, outcome| {
        sum("unmask_requests_total", &[("route", route), ("code_class", class), ("outcome", outcome)])
    };
    assert_eq!(requests("/v1/completions", "2xx", "ok"), 1.0);
    assert_eq!((requests("/fill", "4xx", "client_error"), requests("/live", "2xx", "ok")), (2.0, 1.0));
    let rejected = |code| sum("unmask_rejected_total", &[("code", code)]);
    assert_eq!((rejected("out_of_range"), rejected("invalid_json")), (1.0, 1.0));
    assert_eq!(sum("unmask_generated_tokens_total", &[("model", "diffugpt-s")]), 26.0);
    // Two texts, and two holes of a third.
    assert_eq!(sum("unmask_finish_total", &[]), 4.0);
    assert_eq!(sum("unmask_finish_total", &[("reason", "full")]), 4.0);
    assert_eq!(sum("unmask_committed_tokens_total", &[]), 26.0);
    let completions = [("operation", "text_completion")];
    assert_eq!(sum("unmask_steps_sum", &completions), passes.as_f64().unwrap());
    assert_eq!(sum("unmask_canvas_length_sum", &completions), 10.0);
    for name in ["gen_ai_server_request_duration_seconds", "unmask_time_to_first_state_seconds"] {
        assert_eq!(sum(&format!("{name}_count"), &completions), 1.0, "{name}");
    }
    assert_eq!(sum("unmask_queue_seconds_count", &[]), 2.0);
    assert_eq!(sum("unmask_requests_running", &[]) + sum("unmask_requests_waiting", &[]), 0.0);
    assert_eq!((sum("unmask_ready", &[]), sum("unmask_draining", &[])), (1.0, 0.0));
    assert_eq!(sum("unmask_model_info", &[("dtype", "f32"), ("device", "cpu")]), 1.0);
    if cfg!(target_os = "linux") {
        assert!(
            sum("process_resident_memory_bytes", &[]) > 1e6 && sum("process_start_time_seconds", &[]) > 1e9
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_add_no_series_and_no_text() {
    let server = Server::start("diffugpt-s", &[]);
    let visit = async |word: &str| {
        let body = json!({ "prompt": word, "max_tokens": 1, "model": word, "user": word, word: 1 });
        let request = server.http.post(format!("{}/v1/completions", server.url)).json(&body);
        server.send(request.header("x-request-id", word)).await.refusal(404, "model_not_found");
        server.get(&format!("/{word}")).await.refusal(404, "not_found");
    };
    visit("canary-0").await;
    scrape(&server).await;
    let before = scrape(&server).await.samples.len();
    for number in 1..1000 {
        visit(&format!("canary-{number}")).await;
    }
    assert_eq!(scrape(&server).await.samples.len(), before);
    assert!(!server.get("/metrics").await.body.contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_ask_get_open_metrics() {
    let server = Server::start("diffugpt-s", &[]);
    let request = server.http.get(format!("{}/metrics", server.url));
    let answer =
        server.send(request.header("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")).await;
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(answer.body.ends_with("# EOF\n"));
    assert!(answer.body.contains("\n# TYPE unmask_forward_passes counter\nunmask_forward_passes_total{"));
}
