//! Any bytes as the body of a request; the first byte chooses the route. There is always an answer, it is
//! never the server's fault, and every error has the same four keys.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use unmask_api::access::Access;
use unmask_api::fair_pool::FairPool;
use unmask_api::load::{Loaded, load};
use unmask_api::metrics::{Metrics, ModelLabels};
use unmask_api::routes::app;
use unmask_api::state::{AppState, ServedModel, room_for_bodies};
use unmask_fuzz::{golden, serve_args};
use unmask_model::predictor::{MaskPredictor, Script, ScriptedPredictor};
use unmask_scheduler::{CostModel, Engine};

const ROUTES: [&str; 8] = [
    "/v1/completions",
    "/v1/chat/completions",
    "/fill",
    "/v1/fim/completions",
    "/infill",
    "/tokenize",
    "/detokenize",
    "/apply-template",
];

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// The application over `diffugpt-s`, computed by a script.
static STATE: LazyLock<AppState> = LazyLock::new(|| {
    let (model, template) = (golden("diffugpt-s"), golden("../templates/thinking.jinja"));
    let (model, template) = (model.display().to_string(), template.display().to_string());
    let args = serve_args(&["--model", &model, "--chat-template", &template, "--max-cost", "4000"]);
    let loaded = load(Some(&model), &args.load).expect("the golden model");
    let Loaded { checkpoint, predictor, chat_template, .. } = loaded;
    let limits = predictor.limits();
    let labels = ModelLabels { id: "toy".into(), dtype: "f32".into(), device: "cpu".into() };
    let (metrics, engine_metrics) = Metrics::new(labels, Duration::ZERO);
    let scripted = ScriptedPredictor::new(limits, Script::default());
    let config = args.engine.config(CostModel::default());
    AppState {
        model: Arc::new(ServedModel {
            id: "toy".into(),
            created: 0,
            fingerprint: "toy".into(),
            profile: checkpoint.profile,
            parameters: 0,
            tokenizer: checkpoint.tokenizer,
            chat_template,
            limits,
        }),
        engine: Engine::spawn(scripted, config, engine_metrics).expect("the engine"),
        cost: CostModel::default(),
        access: Arc::new(Access::open(&args.access, args.server.listen).expect("no keys")),
        slots: args.engine.max_running,
        queue: (args.engine.queue, Duration::from_secs(args.engine.max_wait)),
        patience: args.server.patience(),
        limits: args.limits.limits(limits.context),
        draining: Arc::default(),
        pool: FairPool::of_machine(),
        bodies: room_for_bodies(),
        watchdog: Duration::from_secs(args.server.watchdog),
        overload_status: args.server.overload_status.into(),
        playground: !args.server.no_playground,
        metrics: Arc::new(metrics),
    }
});

async fn answer(route: &str, body: &[u8]) -> (StatusCode, Vec<u8>) {
    let request = Request::post(route).header("host", "localhost").header("content-type", "application/json");
    let request = request.body(Body::from(body.to_vec())).expect("a request");
    let response = app(STATE.clone()).oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body");
    (status, body.to_bytes().to_vec())
}

fn check_error(error: &Value) {
    let mut keys: Vec<&str> = error.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "{error}");
    assert!(error["code"].is_string() && error["type"].is_string(), "{error}");
    assert!(error["param"].is_string() || error["param"].is_null(), "{error}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
}

/// What stands behind `data:` in a stream, whose other lines are of no interest here.
fn check_stream(text: &str) {
    let events = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    for event in events.filter(|event| *event != "[DONE]") {
        let event: Value = serde_json::from_str(event).expect("JSON in a stream");
        if let Some(error) = event.get("error") {
            check_error(error);
            assert_ne!(error["code"], "engine_error", "{event}");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let route = ROUTES[usize::from(*first) % ROUTES.len()];
    let (status, body) = RUNTIME.block_on(answer(route, body));
    let text = String::from_utf8(body).expect("UTF-8");
    let allowed = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    assert!(!status.is_server_error() || allowed.contains(&status), "{route}: {status} {text}");
    match serde_json::from_str::<Value>(&text) {
        Ok(answer) if !status.is_success() => check_error(&answer["error"]),
        Ok(_) => {}
        Err(_) => {
            assert!(status.is_success(), "{route}: {status} {text}");
            check_stream(&text);
        }
    }
});
