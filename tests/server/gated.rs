//! A server inside the test, whose evaluations wait for the test's permission.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::net::TcpListener;
use unmask_api::access::Access;
use unmask_api::commands::{Cli, Command};
use unmask_api::load::load;
use unmask_api::server::Listeners;
use unmask_api::state::AppState;
use unmask_model::predictor::{MaskPredictor, Script, ScriptedPredictor, TokenId};
use unmask_scheduler::{CostModel, Engine};

use crate::harness::{DEADLINE, golden};

/// A running server; its evaluations go on freely once it is dropped.
pub(crate) struct Gated {
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    seen: Receiver<Vec<Vec<TokenId>>>,
    permits: Sender<()>,
}

impl Gated {
    /// Serves `diffugpt-s`, computed by a script, with more flags.
    pub(crate) async fn start(flags: &[&str], watchdog: Duration) -> Self {
        let model = golden("diffugpt-s").display().to_string();
        let arguments = ["unmask", "serve", "--model", &model, "--threads", "1"];
        let cli = Cli::parse_from(arguments.into_iter().chain(flags.iter().copied()));
        let Some(Command::Serve(command)) = cli.command else { panic!("another command") };
        let args = command.settings();
        let loaded = load(Some(&model), &args.load).unwrap();
        let (predictor, model, (metrics, engine_metrics)) =
            loaded.served_as(Some("toy".to_owned()), Duration::ZERO);
        let limits = predictor.limits();
        let (seen_sender, seen) = sync_channel(1 << 16);
        let (permits, gate) = channel();
        let scripted = ScriptedPredictor::new(limits, Script::default().gate(seen_sender, gate));
        let config = args.engine.config(CostModel::default());
        let engine = Engine::spawn(scripted, config, engine_metrics).unwrap();
        let access = Arc::new(Access::open(&args.access, args.server.address()).unwrap());
        let state = AppState::new(model, (engine, CostModel::default()), access, metrics, &args);
        let state = AppState { watchdog, ..state };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listeners = Listeners { public: listener, admin: None };
        tokio::spawn(unmask_api::serve(listeners, state, std::future::pending()));
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
        Self { url, http, seen, permits }
    }

    /// Waits until an evaluation has begun: its canvases.
    pub(crate) fn begun(&self) -> Vec<Vec<TokenId>> {
        self.seen.recv_timeout(DEADLINE).unwrap()
    }

    /// Lets one evaluation end.
    pub(crate) fn permit(&self) {
        self.permits.send(()).unwrap();
    }

    /// The status of `/live`.
    pub(crate) async fn live(&self) -> u16 {
        self.http.get(format!("{}/live", self.url)).send().await.unwrap().status().as_u16()
    }

    /// Keeps the server busy with probes for `time`.
    pub(crate) async fn pass(&self, time: Duration) {
        let start = now();
        while now().duration_since(start) < time {
            self.live().await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "deadlines are moments")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_evaluation_that_does_not_end_makes_the_process_not_live() {
    let server = Gated::start(&[], Duration::from_millis(10)).await;
    assert_eq!(server.live().await, 200);
    let body = serde_json::json!({ "prompt": "a", "max_tokens": 1 });
    let client = tokio::spawn(server.http.post(format!("{}/v1/completions", server.url)).json(&body).send());
    server.begun();
    // It is stuck from some moment on; a watchdog that never fires would keep a dead process in service.
    while server.live().await == 200 {}
    // Nothing is wrong with the answers of others.
    assert_eq!(server.http.get(format!("{}/ready", server.url)).send().await.unwrap().status(), 200);
    server.permit();
    assert_eq!(client.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.live().await, 200);
}
