//! A pattern, repeated in a body of a shape: four times as many repetitions cost about four times the steps. The first
//! byte is the route, the second the shape, the third a field; the rest is the pattern.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use unmask_api::routes::app;
use unmask_api::state::AppState;
use unmask_fuzz::{ROUTES, application};

/// Repetitions of the smaller body; the larger one has four times as many.
const FEW: usize = 400;

/// Bytes of a pattern: the larger body stays far below the limit.
const LONGEST: usize = 64;

/// The largest cost of four times the work, with room for everything measured beside it. Quadratic growth
/// would be sixteen.
const TIMES: u32 = 10;

/// Below this nothing can be told.
const LEAST: Duration = Duration::from_millis(40);

const FIELDS: [&str; 16] = [
    "prompt",
    "messages",
    "segments",
    "template",
    "prefix",
    "suffix",
    "stop",
    "logit_bias",
    "response_fields",
    "input_extra",
    "tokens",
    "content",
    "chat_template_kwargs",
    "diffusion",
    "tools",
    "unknown",
];

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

static STATE: LazyLock<AppState> = LazyLock::new(|| application(&["--max-cost", "4000"]));

/// A JSON string of any bytes.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

fn body(shape: u8, field: &str, pattern: &str, count: usize) -> String {
    let repeated = |one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(",");
    let own = quoted(field);
    let given = r#""prompt":"a","max_tokens":1,"length":1,"prefix":"a""#;
    match shape % 8 {
        0 => format!("{{{given},{}}}", repeated(&|n| format!("{}:1", quoted(&format!("{pattern}{n}"))))),
        1 => format!("{{{given},{}}}", repeated(&|_| format!("{}:1", quoted(pattern)))),
        2 => format!("{{{own}:[{}]}}", repeated(&|_| quoted(pattern))),
        3 => format!("{{{own}:[{}]}}", repeated(&|n| n.to_string())),
        4 => format!("{{{own}:{}}}", quoted(&pattern.repeat(count))),
        5 => format!("{{{own}:{{{}}}}}", repeated(&|n| format!("{}:1", quoted(&format!("{pattern}{n}"))))),
        6 => format!("{{{own}:[{}]}}", repeated(&|_| pattern.to_owned())),
        _ => format!("{{{given},{own}:{}{}}}", "[".repeat(count), "]".repeat(count)),
    }
}

/// Processor time that the whole process spends on an answer: the least of three.
fn steps(route: &str, body: &str) -> Duration {
    let spent = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let once = || {
        let request =
            Request::post(route).header("host", "localhost").header("content-type", "application/json");
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let before = spent();
        RUNTIME.block_on(async {
            let response = app(STATE.clone()).oneshot(request).await.expect("an answer");
            response.into_body().collect().await.expect("a whole body");
        });
        spent() - before
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}

fuzz_target!(|input: &[u8]| {
    let [route, shape, field, pattern @ ..] = input else { return };
    let route = ROUTES[usize::from(*route) % ROUTES.len()];
    let field = FIELDS[usize::from(*field) % FIELDS.len()];
    let pattern = String::from_utf8_lossy(&pattern[..pattern.len().min(LONGEST)]);
    let few = steps(route, &body(*shape, field, &pattern, FEW));
    let many = steps(route, &body(*shape, field, &pattern, 4 * FEW));
    assert!(many < LEAST || many < few * TIMES, "{route} {field} {pattern:?}: {few:?} became {many:?}");
});
