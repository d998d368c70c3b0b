//! The security checklist: clients that ask for much, beside clients that ask for little.

use std::time::Duration;

use futures_util::future::{join_all, select_all};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::access::KeyFile;
use crate::cancelling::{ONE_BY_ONE, long};
use crate::gated::Gated;
use crate::harness::{Answer, Server};

const COMPLETIONS: &str = "/v1/completions";
const KEYS: &str = "many:many-secret\nfew:few-secret\n";

fn fill_of_two() -> Value {
    json!({ "prompt": "The", "max_tokens": 2, "seed": 1 })
}

async fn ask(server: &Server, key: &str, body: &Value) -> Answer {
    let request = server.http.post(format!("{}{COMPLETIONS}", server.url)).json(body);
    server.send(request.bearer_auth(key)).await
}

/// A request of 512 samples, and eight of eight, once kept every other key out until they were done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_do_not_shut_out_other_keys() {
    let keys = KeyFile::new(KEYS);
    let server = Server::start("diffullama", &[&keys.flag()[..], &ONE_BY_ONE].concat());
    let mut of_eight = long(true);
    of_eight["prompt"] = json!("The");
    for (body, count) in [(long(true), 1), (of_eight, 8)] {
        let mut crowd = Vec::new();
        for _ in 0..count {
            let request = server.http.post(format!("{}{COMPLETIONS}", server.url)).json(&body);
            crowd.push(tokio::spawn(request.bearer_auth("many-secret").send()));
        }
        let before = server.health_until("a crowd", |health| health.running == Some(count)).await;
        let answer = ask(&server, "few-secret", &fill_of_two()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let after = server.health().await;
        // Of tens of thousands: two of its own, and those of the others meanwhile.
        let evaluations = after.evaluations.unwrap() - before.evaluations.unwrap();
        assert!(evaluations < 200 && after.running == Some(count), "{evaluations} evaluations, {after:?}");
        crowd.into_iter().for_each(|client| client.abort());
        server.health_until("an idle engine", crate::cancelling::idle).await;
    }
}

/// Requests with a key, whose answers are waited for elsewhere.
struct Crowd<'a> {
    server: &'a Gated,
    key: &'static str,
}

impl Crowd<'_> {
    fn post(&self, number: usize) -> JoinHandle<(u16, Option<u64>)> {
        let body = json!({ "prompt": [number], "max_tokens": 1 });
        let request = self.server.http.post(format!("{}{COMPLETIONS}", self.server.url)).json(&body);
        let request = request.bearer_auth(self.key).send();
        tokio::spawn(async {
            let response = request.await.unwrap();
            let told =
                response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
            (response.status().as_u16(), told)
        })
    }
}

async fn waiting(server: &Gated, count: u64) {
    loop {
        let health = server.http.get(format!("{}/health", server.url)).send().await.unwrap();
        if health.json::<Value>().await.unwrap()["waiting"] == count {
            return;
        }
    }
}

/// A key with 190 clients once filled the queue, and three quarters of another key's requests were refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_is_shared_by_key() {
    let keys = KeyFile::new(KEYS);
    let flags = [&keys.flag()[..], &["--max-queued-requests", "6", "--max-running", "1"]].concat();
    let server = Gated::start(&flags, Duration::MAX).await;
    let [many, few] = ["many-secret", "few-secret"].map(|key| Crowd { server: &server, key });
    let running = many.post(0);
    server.begun();
    let mut crowd = Vec::new();
    for number in 1..=6 {
        crowd.push(many.post(number));
        waiting(&server, number as u64).await;
    }
    assert_eq!(many.post(7).await.unwrap().0, 503, "its own share is the whole queue already");
    let mut others = Vec::new();
    for number in 10..13 {
        others.push(few.post(number));
        let ((status, told), displaced, rest) = {
            let (done, index, rest) = select_all(crowd).await;
            (done.unwrap(), index, rest)
        };
        assert_eq!((status, displaced), (503, rest.len()), "the newest one makes room");
        assert!(told.is_some_and(|seconds| (1..=60).contains(&seconds)), "{told:?}");
        crowd = rest;
    }
    assert_eq!(few.post(13).await.unwrap().0, 503, "both have three by now");
    (0..100).for_each(|_| server.permit());
    for (status, _) in join_all(crowd.into_iter().chain(others).chain([running])).await.into_iter().flatten()
    {
        assert_eq!(status, 200);
    }
}
