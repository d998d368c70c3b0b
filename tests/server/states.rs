//! Denoising states in streams replay: folding them gives the canvas that each of them speaks of.

use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::Server;

/// One sample as a reader of states knows it.
#[derive(Default)]
struct Canvas {
    cells: Vec<Option<u64>>,
    taken_back: usize,
}

impl Canvas {
    fn fold(&mut self, state: &Value) {
        let positions = |name: &str| -> Vec<usize> {
            let list = state[name].as_array().into_iter().flatten();
            list.map(|position| position.as_u64().unwrap() as usize).collect()
        };
        match state["type"].as_str().unwrap() {
            "start" => self.cells = vec![None; state["length"].as_u64().unwrap() as usize],
            "step" => {
                for position in positions("remasked") {
                    assert!(self.cells[position].take().is_some(), "{position} was not committed: {state}");
                    self.taken_back += 1;
                }
                for (position, token) in
                    positions("positions").into_iter().zip(state["token_ids"].as_array().unwrap())
                {
                    let before = self.cells[position].replace(token.as_u64().unwrap());
                    assert_eq!(before, None, "{position} was committed already: {state}");
                }
                let open = self.cells.iter().filter(|cell| cell.is_none()).count();
                assert_eq!(state["remaining"], open, "{state}");
            }
            _ => {}
        }
    }
}

/// The states of an answer's samples, folded.
async fn fold(server: &Server, path: &str, body: &Value, samples: usize) -> Vec<Canvas> {
    let text = server.post(path, body).await.body;
    let mut canvases: Vec<Canvas> = (0..samples).map(|_| Canvas::default()).collect();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    for event in data.map(|data| serde_json::from_str::<Value>(data).unwrap()) {
        let state = if event["state"].is_object() { &event["state"] } else { &event["diffusion"] };
        if state["type"].is_string() {
            canvases[state["choice"].as_u64().unwrap() as usize].fold(state);
        }
    }
    canvases
}

/// The `remaining` of a reviser's states was once ahead of their positions, and a position was committed twice without
/// having been taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_replay_exactly() {
    let server = Server::start("diffugpt-s", &[]);
    let rules = [
        json!({ "preset": "remdm", "steps": 40 }),
        json!({ "revise": "rescale", "eta": 0.8, "steps": 30 }),
        json!({ "revise": "loop", "eta": 0.3, "steps": 60 }),
        json!({ "revise": "cap", "eta": 0.5, "steps": 16 }),
        json!({ "preset": "reference", "steps": 30 }),
        json!({ "preset": "confidence", "steps": 10 }),
    ];
    let mut taken_back = 0;
    for rule in rules {
        for every in [1, 2, 5] {
            let rule = with(&rule, json!({ "state_every": every, "stream_states": "delta" }));
            for seed in 0..4 {
                let completion = json!({ "prompt": "The", "max_tokens": 20, "n": 2, "ignore_eos": true });
                let fill = json!({ "segments": ["The", { "length": 6 }, "b", { "length": 9 }, "c"], "n": 2 });
                for (path, body) in [("/v1/completions", completion), ("/fill", fill)] {
                    let body = with(&body, json!({ "seed": seed, "stream": true, "diffusion": rule }));
                    for canvas in fold(&server, path, &body, 2).await {
                        assert!(
                            canvas.cells.iter().all(Option::is_some) && !canvas.cells.is_empty(),
                            "{body}"
                        );
                        taken_back += canvas.taken_back;
                    }
                }
            }
        }
    }
    assert!(taken_back > 100, "{taken_back} positions were drawn again");
}
