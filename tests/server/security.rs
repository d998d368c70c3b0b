//! The security checklist: classes of attacks that servers like this one have had, each with the tests that keep it
//! out. Those without a module are here; `doors` is [`crate::security_doors`].
//!
//! | | class | test |
//! | --- | --- | --- |
//! | 1 | sample bombs | `sample_bombs_are_refused_before_anything_is_allocated` |
//! | 2 | work bombs: the product of allowed factors | `refusals::the_product_of_all_factors_is_bounded` |
//! | 3 | empty prompts | `texts_of_nothing_are_texts` |
//! | 4 | odd integers | `odd_numbers_in_any_field_are_never_the_servers_fault` |
//! | 5 | special tokens typed as text | `special_text::texts_that_spell_special_tokens_hold_none`, `templates::special_strings_in_messages_become_no_special_tokens` |
//! | 6 | rare combinations of settings | `every_combination_of_settings_is_answered` |
//! | 7 | variables of templates | `chat::wrong_messages_are_refused_by_name` |
//! | 8 | templates that are programs | `template::jinja` (unit), `templates::a_broken_template_is_reported_in_one_line_before_a_port_is_bound`, `templates::a_template_that_never_ends_on_some_messages_costs_one_request` |
//! | 9 | patterns and grammars | `refusals::unsupported_fields_are_refused_unless_they_ask_for_nothing`, `text_view::hostile_stop_strings_cost_no_more_than_others` (unit) |
//! | 10 | requests forged by the server | `doors::addresses_in_requests_are_not_visited`, `tests/clients/python/test_outbound.py` (under seccomp) |
//! | 11 | pickled weights | `startup::pickled_weights_are_refused_with_a_way_out` |
//! | 12 | parsers of model files | `model/tests/hostile`, `tests/fuzz` (`weights`, `configs`) |
//! | 13 | paths that climb | `doors::paths_lead_to_no_files` |
//! | 14 | keys told apart by time | `access::keys::a_given_key_is_compared_with_all_keys_whichever_it_is` (unit) |
//! | 15 | addresses that lead past the keys | `doors::no_way_of_writing_an_address_leads_past_the_keys` |
//! | 16 | credentials that reach something | `doors::odd_credentials_are_no_credentials` |
//! | 17 | bombs of headers | `doors::bombs_of_headers_are_431` |
//! | 18 | slow senders, slow readers | `doors::dribbling_clients_delay_no_request`, `doors::dribbling_clients_are_cut_off`, `slow_readers::a_client_that_does_not_read_is_cancelled_and_disconnected` |
//! | 19 | DNS rebinding, CORS | `access::a_server_answers_to_names_of_its_machine_and_those_it_was_given`, `access::pages_of_named_origins_may_call` |
//! | 20 | other sites' forms | `transport::only_plain_json_bodies_are_accepted` |
//! | 21 | scripts in what a model writes | `playground::the_page_may_run_its_own_script_and_nothing_else`, `tests/playground` in a browser |
//! | 22 | leaked texts | `texts_appear_in_no_log_metric_or_error` |
//! | 23 | series made by clients | `metrics::clients_add_no_series_and_no_text` |
//! | 24 | injected lines and headers | `nothing_that_a_client_names_can_write_lines_of_its_own` |
//! | 25 | JSON abuse | `transport::texts_that_are_not_json_are_refused` |
//! | 26 | bombs of bytes | `transport::bodies_over_the_limit_are_413_however_they_are_sent`, `transport::only_plain_json_bodies_are_accepted` |
//! | 27 | clients that vanish | `vanishing::five_hundred_clients_that_vanish_leave_nothing_behind` |
//! | 28 | neighbours in a batch | `determinism::an_answer_is_the_same_among_fifteen_others`, `determinism::no_state_holds_a_token_of_a_neighbour` |
//! | 29 | panics of the engine | `scheduler/tests/engine/failing.rs`, `gated::an_evaluation_that_does_not_end_makes_the_process_not_live` |
//! | 31 | lengths of tokens | `stream_options::padded_chunks_tell_no_length` |
//! | 32 | quotas evaded | `doors::a_quota_is_not_evaded_by_claiming_another_address` |
//! | 34 | bodies that cost more than their bytes | `security_work::no_body_holds_up_a_probe`, `security_work::no_body_holds_up_the_end`, `body::a_bounded_number_of_unknown_fields_is_kept` (unit) |
//! | 35 | large requests that shut others out | `security_shares::large_requests_do_not_shut_out_other_keys`, `scheduler::batcher::tests` (unit) |
//! | 36 | work before admission | `security_work::texts_that_fit_no_context_are_refused_before_they_are_tokenized`, `security_work::tokenizing_is_bounded_and_charged`, `security_work::bodies_on_their_way_hold_bounded_memory`, `fair_pool` (unit) |
//! | 37 | streams that are held | `security_streams::a_stream_without_a_window_is_reset`, `security_streams::held_streams_keep_no_client_out`, `security_streams::answers_that_are_not_read_hold_bounded_memory`, `security_streams::probes_are_answered_when_all_connections_are_busy` |
//! | 38 | queues that one client fills | `security_shares::a_full_queue_is_shared_by_key` |
//! | 39 | logs and outputs that cannot be written | `security_log::the_whole_api_works_when_the_log_cannot_be_written`, `security_log::commands_survive_a_reader_that_has_left` |
//! | 40 | work that is not charged | `security_work::every_canvas_that_is_computed_is_charged` |
//! | 41 | events that cost all samples | `security_work::usage_in_every_chunk_is_a_running_sum` |
//! | 42 | descriptors that run out | `security_streams::connections_are_as_many_as_there_are_descriptors` |
//! | 43 | half-closed connections, endless files, files that make a library panic | `security_streams::a_client_that_closes_its_side_gets_its_answer`, `security_log::endless_files_are_refused`, `security_log::a_damaged_tokenizer_is_one_line` |
//! | | all of 34 to 43 side by side | `security_soak::soak` (by hand, and for half a minute in `.ci/run`) |
//! | 44 | states that do not replay | `states::states_replay_exactly` |

use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::completions::with;
use crate::harness::{Server, golden};

const COMPLETIONS: &str = "/v1/completions";

/// A request with a body for every route that takes one, with a text in it.
pub(crate) fn bodies(text: &str) -> Vec<(&'static str, Value)> {
    let messages = json!([{ "role": "user", "content": text }]);
    vec![
        (COMPLETIONS, json!({ "prompt": text, "max_tokens": 2 })),
        ("/v1/chat/completions", json!({ "messages": messages, "max_tokens": 2 })),
        ("/fill", json!({ "prefix": text, "length": 2 })),
        ("/v1/fill", json!({ "suffix": text, "length": 2 })),
        ("/v1/fim/completions", json!({ "prompt": text, "suffix": text, "max_tokens": 2 })),
        ("/infill", json!({ "input_prefix": text, "input_suffix": text, "n_predict": 2 })),
        ("/tokenize", json!({ "prompt": text })),
        ("/detokenize", json!({ "tokens": [1] })),
        ("/apply-template", json!({ "messages": messages })),
    ]
}

/// Serves with a chat template, so that every route works.
pub(crate) fn chatty(flags: &[&str]) -> Server {
    let template = golden("../templates/colons.jinja").display().to_string();
    Server::start("diffugpt-s", &[&["--chat-template", template.as_str()], flags].concat())
}

/// Memory may grow by what an allocator keeps, not by what was asked for.
pub(crate) fn assert_flat(server: &Server, before: u64) {
    let after = server.resident();
    assert!(after < before + (64 << 20), "memory grew from {before} to {after} bytes");
}

/// A million samples would fill the memory before any of them is computed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sample_bombs_are_refused_before_anything_is_allocated() {
    let server = chatty(&[]);
    server.ok(COMPLETIONS, &json!({ "prompt": "a", "n": 8 })).await;
    let before = server.resident();
    for (path, body) in bodies("a").into_iter().filter(|(_, body)| body.get("tokens").is_none()) {
        let name = match path {
            "/infill" => "n_cmpl",
            "/tokenize" | "/apply-template" => continue,
            _ => "n",
        };
        for n in ["9", "1000000", "9223372036854775808", "-1", "1.5", "\"1\""] {
            let text = with(&body, json!({ name: 0 })).to_string();
            let answer = server
                .post_text(path, text.replace(&format!("\"{name}\":0"), &format!("\"{name}\":{n}")))
                .await;
            assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(name)), "{path} {n}");
        }
    }
    assert_flat(&server, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_nothing_are_texts() {
    let server = chatty(&[]);
    for text in ["", " ", "\n\t", "\u{feff}", "\0", "\u{200b}", "\u{10ffff}"] {
        for (path, body) in bodies(text) {
            let answer = server.post(path, &body).await;
            // A file of nothing around a hole is no request, which the fill routes say.
            let nothing = text.is_empty() && path.ends_with("fill") && answer.status == 400;
            assert!(answer.status == 200 || nothing, "{path} {text:?}: {}", answer.body);
        }
    }
    for (path, field) in [
        (COMPLETIONS, "prompt"),
        ("/v1/fim/completions", "prompt"),
        ("/v1/chat/completions", "messages"),
        ("/apply-template", "messages"),
    ] {
        server.post(path, &json!({ field: [] })).await.refusal(400, "out_of_range");
    }
    server.post("/fill", &json!({ "segments": [] })).await.refusal(400, "conflicting_fields");
}

/// The fields of a request's schema that hold numbers, by path.
fn numeric_fields(document: &Value, schema: &Value, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/schemas/")) {
        found.extend(numeric_fields(document, &document["components"]["schemas"][name], prefix));
    }
    for part in ["oneOf", "anyOf", "allOf"] {
        for schema in schema[part].as_array().into_iter().flatten() {
            found.extend(numeric_fields(document, schema, prefix));
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let kinds = field["type"].to_string();
        if kinds.contains("integer") || kinds.contains("number") {
            found.push(path);
        } else if prefix.is_empty() {
            found.extend(numeric_fields(document, field, &format!("{path}.")));
        }
    }
    found
}

/// A negative number was once an index; a large one once wrapped around.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_numbers_in_any_field_are_never_the_servers_fault() {
    let server = chatty(&["--max-cost", "4000"]);
    let document = server.get("/openapi.json").await.json();
    let mut fields = 0;
    for (path, body) in bodies("a") {
        let schema = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
        for field in numeric_fields(&document, schema, "") {
            fields += 1;
            for value in [
                "-1",
                "0",
                "-0.0",
                "2147483648",
                "9223372036854775807",
                "9223372036854775808",
                "18446744073709551616",
                "1e308",
                "-1e308",
                "5e-324",
                "\"NaN\"",
                "[1]",
            ] {
                let (outer, inner) = field.split_once('.').unwrap_or((&field, ""));
                let given =
                    if inner.is_empty() { value.to_owned() } else { format!("{{\"{inner}\":{value}}}") };
                let mut rest = body.clone();
                rest.as_object_mut().unwrap().remove(outer);
                let rest = rest.to_string();
                let comma = if rest == "{}" { "" } else { "," };
                let text = format!("{}{comma}\"{outer}\":{given}}}", &rest[..rest.len() - 1]);
                let answer = server.post_text(path, text).await;
                assert!([200, 400].contains(&answer.status), "{path} {field} {value}: {}", answer.body);
            }
        }
    }
    assert!(fields > 100, "the document names {fields} numeric fields");
    server.ok(COMPLETIONS, &json!({ "prompt": "a", "max_tokens": 1 })).await;
}

/// xorshift64: the same requests in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// The settings that all generating routes take, with values from all over their ranges.
fn settings() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("temperature", vec![json!(0), json!(0.3), json!(2)]),
        ("top_p", vec![json!(0), json!(0.5), json!(1)]),
        ("top_k", vec![json!(-1), json!(1), json!(40)]),
        ("min_p", vec![json!(0), json!(0.2), json!(1)]),
        ("seed", vec![json!(-1), json!(7), json!(i64::MAX)]),
        ("stop", vec![json!("e"), json!(["xx", "\n", "a"])]),
        ("stream", vec![json!(true), json!(false)]),
        ("timeout_ms", vec![json!(100_000)]),
    ]
}

/// Those that `/infill` does not take.
fn more_settings() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("frequency_penalty", vec![json!(-2), json!(2)]),
        ("presence_penalty", vec![json!(-2), json!(2)]),
        ("repetition_penalty", vec![json!(0.1), json!(0.5), json!(10)]),
        ("logit_bias", vec![json!({ "5": 100 }), json!({ "5": -100, "6": 3.5 })]),
        ("n", vec![json!(1), json!(3)]),
    ]
}

/// Decision rules: presets, and single fields of each kind.
fn rules() -> Vec<Value> {
    let mut rules = vec![
        json!({ "order": "margin", "alg_temp": 0.5 }),
        json!({ "order": "stratified", "steps": 5 }),
        json!({ "order": "entropy", "window": "sliding", "block_length": 3, "k": 2 }),
        json!({ "order": "model_confidence", "window": "left_to_right", "entropy_budget": 0.4 }),
        json!({ "order": "permutation", "commit_rule": "evaluations", "steps": 4, "block_length": 5 }),
        json!({ "revise": "rescale", "eta": 0.5, "steps": 12 }),
        json!({ "revise": "loop", "steps": 20 }),
        json!({ "factor": 0.7, "block_length": 1 }),
    ];
    for preset in ["exact", "budget", "threshold", "factor", "greedy"] {
        rules.push(json!({ "preset": preset }));
    }
    for preset in ["reference", "balanced", "confidence", "dream", "llada", "remdm"] {
        rules.extend([1, 3, 20].map(|steps| json!({ "preset": preset, "steps": steps })));
    }
    rules
}

/// A request that is valid, with about half of the settings set, and where it goes.
fn valid(dice: &mut Dice) -> (&'static str, Value) {
    fn pick<T: Clone>(values: &[T], dice: &mut Dice) -> T {
        values[dice.below(values.len())].clone()
    }
    let texts = [json!("The cat"), json!("def f(x):\n"), json!("\u{301}\0é")];
    let ids = [json!(["a", "b c"]), json!([5, 6, 7]), json!([[9, 8], [7]]), json!("")];
    let length = pick(&[1, 4, 9], dice);
    let text = pick(&texts, dice);
    let (path, mut body) = match dice.below(8) {
        0..=2 => (COMPLETIONS, json!({ "prompt": pick(&ids, dice), "max_tokens": length })),
        3 => (
            COMPLETIONS,
            json!({ "prompt": text, "suffix": " end", "max_tokens": length, "logprobs": dice.below(4) }),
        ),
        4 => (
            "/v1/chat/completions",
            json!({ "messages": [{ "role": "user", "content": text }], "max_tokens": length }),
        ),
        5 => (
            "/fill",
            json!({ "prefix": text, "suffix": pick(&texts, dice), "length": { "min": 1, "max": length } }),
        ),
        6 => (
            "/v1/fill",
            json!({ "segments": [text, { "length": length, "temperature": 1 }, "x", { "choices": ["a", "b"] }, "\n"] }),
        ),
        _ => ("/infill", json!({ "input_prefix": text, "input_suffix": "\n", "n_predict": length })),
    };
    let mut fields = settings();
    if path != "/infill" {
        fields.extend(more_settings());
    }
    if path.starts_with("/v1/c") {
        fields.push(("min_tokens", vec![json!(0), json!(1), json!(length)]));
        fields.push(("ignore_eos", vec![json!(true), json!(false)]));
    }
    for (name, values) in fields {
        if dice.below(2) == 0 {
            body[name] = pick(&values, dice);
        }
    }
    body["diffusion"] = pick(&rules(), dice);
    for (name, values) in [
        ("guidance", [json!(-1), json!(0), json!(1.5)]),
        ("reproduce", [json!(true), json!(false), json!(false)]),
        ("time_budget_ms", [json!(1), json!(50_000), json!(null)]),
        ("eos", [json!("cut"), json!("ban"), json!(null)]),
    ] {
        // These two say the same, and may contradict each other.
        if dice.below(3) == 0 && !(name == "eos" && body["ignore_eos"] == true) {
            body["diffusion"][name] = pick(&values, dice);
        }
    }
    // Where lengths are searched, there are no states to stream.
    if body["stream"] == true && !["/infill", "/fill"].contains(&path) && dice.below(2) == 0 {
        body["diffusion"]["stream_states"] = pick(&[json!("delta"), json!("draft")], dice);
    }
    (path, body)
}

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 8;

/// Other engines have failed on untried combinations, twice. Eight clients at once, so that rules that differ
/// share evaluations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_combination_of_settings_is_answered() {
    let server = chatty(&[]);
    let client = async |number: usize| {
        let mut dice = Dice(0xfeed + number as u64);
        for _ in 0..REQUESTS / CLIENTS {
            let (path, body) = valid(&mut dice);
            let answer = server.post(path, &body).await;
            assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
            assert!(!answer.body.contains("\"error\":"), "{path} {body}: {}", answer.body);
        }
    };
    join_all((0..CLIENTS).map(client)).await;
    assert_eq!(server.get("/live").await.status, 200);
}

/// Users' texts appear in answers and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_appear_in_no_log_metric_or_error() {
    let server = chatty(&["--log", "debug", "--max-generated-tokens", "20"]);
    let canary = "zanarybird";
    for (path, body) in bodies(canary) {
        for wrong in [
            json!({}),
            json!({ "max_tokens": canary, "length": canary, "n_predict": canary, "tokens": [canary] }),
            json!({ "stream": true }),
            json!({ "temperature": canary, "with_pieces": canary }),
            json!({ "stop": [canary, 5], "content": 5 }),
            json!({ "stop": canary.repeat(30), "prefix": [canary], "input_prefix": [canary] }),
            json!({ "diffusion": canary }),
            json!({ "diffusion": { "order": canary } }),
            json!({ "messages": canary, "prompt": { "a": canary } }),
            json!({ "messages": [{ "role": canary, "content": canary }], "suffix": { "a": canary } }),
            json!({ "max_tokens": 999, "length": 999, "n_predict": 0, "user": canary }),
            json!({ "prompt": canary.repeat(500), "prefix": canary.repeat(500), "truncate": false }),
        ] {
            let answer = server.post(path, &with(&body, wrong.clone())).await;
            assert!(answer.status == 200 || !answer.body.contains(canary), "{path} {wrong}: {}", answer.body);
        }
        let cut = format!("{}\"", &body.to_string()[..body.to_string().len() - 1]);
        let answer = server.post_text(path, cut).await;
        assert!(answer.status == 400 && !answer.body.contains(canary), "{path}: {}", answer.body);
    }
    for path in ["/metrics", "/props", "/v1/models", "/health", "/openapi.json", "/tokenizer_info"] {
        assert!(!server.get(path).await.body.contains(canary), "{path}");
    }
    let (_, log) = server.stop().await;
    assert!(!log.iter().any(|line| line.contains(canary)), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_client_names_can_write_lines_of_its_own() {
    let server = Server::start("diffugpt-s", &["--log", "debug"]);
    let forged = "x\r\nINFO forged: y\u{1b}[31m\u{7}";
    for body in [
        json!({ "prompt": "a", "model": forged }),
        json!({ "prompt": "a", "max_tokens": 1, forged: 1 }),
        json!({ "prompt": "a", "diffusion": { forged: 1 } }),
        json!({ "prompt": "a", "logit_bias": { forged: 1 } }),
    ] {
        let answer = server.post(COMPLETIONS, &body).await;
        let control = |text: &str| text.contains(['\u{1b}', '\u{7}', '\r', '\n']);
        assert!(!control(&answer.body), "{}", answer.body);
        for (name, value) in &answer.headers {
            assert!(!control(value.to_str().unwrap()), "{name}: {value:?}");
        }
    }
    server.post("/fill", &json!({ "prefix": "a", forged: 1 })).await.refusal(400, "unknown_parameter");
    for id in [&b"a\tb"[..], b"a\x80b", b"a;b=c"] {
        let id = HeaderValue::from_bytes(id).unwrap();
        let request = server.http.get(format!("{}/version", server.url)).header("x-request-id", id);
        assert_eq!(server.send(request).await.header("x-request-id").len(), 32);
    }
    let method = Method::from_bytes(b"A'B").unwrap();
    let request = server.http.request(method, format!("{}/nothing", server.url));
    server.send(request).await.refusal(404, "not_found");
    let (_, log) = server.stop().await;
    assert!(!log.iter().any(|line| line.contains('\u{1b}') || line.starts_with("INFO forged")), "{log:?}");
}
