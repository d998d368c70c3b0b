//! Sources of chat templates, their limits, and the routes around tokens.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chat::start;
use crate::harness::{Server, golden, unmask};
use crate::startup::{assert_last_line, copy};

fn render(body: &Value) -> Value {
    json!({ "messages": [{ "role": "user", "content": body }] })
}

/// Serves a folder.
fn serve(folder: &TempDir, flags: &[&str]) -> Server {
    let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
    command.arg(folder.path()).args(flags);
    Server::spawn(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_is_taken_from_the_flag_then_its_file_then_the_configuration() {
    let folder = copy("diffugpt-s");
    let prompt =
        async |server: &Server| server.ok("/apply-template", &render(&json!("x"))).await["prompt"].clone();
    let path = folder.path().join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["chat_template"] = json!([{ "name": "rag", "template": "rag" },
                                     { "name": "default", "template": "list {{ messages[0].content }}" }]);
    fs::write(&path, config.to_string()).unwrap();
    assert_eq!(prompt(&serve(&folder, &[])).await, "list x");
    config["chat_template"] = json!("string {{ messages[0].content }}");
    fs::write(&path, config.to_string()).unwrap();
    let server = serve(&folder, &[]);
    assert_eq!(prompt(&server).await, "string x");
    assert_eq!(server.get("/tokenizer_info").await.json()["chat_template"], config["chat_template"]);
    fs::write(folder.path().join("chat_template.jinja"), "file {{ messages[0].content }}").unwrap();
    assert_eq!(prompt(&serve(&folder, &[])).await, "file x");
    let given = folder.path().join("given.txt");
    fs::write(&given, "flag {{ messages[0].content }}").unwrap();
    let given = given.display().to_string();
    assert_eq!(prompt(&serve(&folder, &["--chat-template", &given])).await, "flag x");
}

#[test]
fn a_broken_template_is_reported_in_one_line_before_a_port_is_bound() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("broken.jinja");
    for (text, part) in [
        ("{% for m in messages %}", "broken.jinja"),
        ("a\n{{ messages | nosuchfilter }}", "nosuchfilter"),
        ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"),
    ] {
        fs::write(&file, text).unwrap();
        let mut command = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
        command.arg(golden("diffugpt-s")).arg("--chat-template").arg(&file);
        crate::startup::assert_last_line(command, &["chat template", part]);
    }
    let mut command =
        unmask(&["serve", "--listen", "127.0.0.1:0", "--chat-template", "nosuchname", "--model"]);
    command.arg(golden("diffugpt-s"));
    crate::startup::assert_last_line(command, &["nosuchname", "alpaca", "diffullama-sft"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_never_ends_on_some_messages_costs_one_request() {
    let folder = copy("diffugpt-s");
    let text = "{% if messages[0].content == 'loop' %}{% for i in range(100000) %}{% for j in range(100000) %}\
                {% endfor %}{% endfor %}{% endif %}ok";
    fs::write(folder.path().join("chat_template.jinja"), text).unwrap();
    let server = serve(&folder, &[]);
    let refused = server.post("/v1/chat/completions", &render(&json!("loop"))).await;
    assert!(refused.refusal(400, "chat_template_error")["message"].as_str().unwrap().contains("steps"));
    assert_eq!(server.ok("/apply-template", &render(&json!("x"))).await["prompt"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn special_strings_in_messages_become_no_special_tokens() {
    for (model, specials) in
        [("diffugpt-m", vec!["<|endoftext|>", "[¨M¨]"]), ("diffullama", vec!["<s>", "</s>", "<unk>"])]
    {
        let server = start(model, "pipes");
        let ids = async |body: Value| {
            let answer = server.ok("/tokenize", &body).await;
            answer["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect::<Vec<_>>()
        };
        // The template's own document end, after the message, and the one that every canvas begins with.
        let plain = ids(render(&json!("x"))).await;
        let pieces = server.ok("/tokenize", &with_pieces(&render(&json!("x")))).await;
        let special: Vec<u64> = pieces["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|token| specials.iter().any(|special| token["piece"] == *special))
            .map(|token| token["id"].as_u64().unwrap())
            .collect();
        assert_eq!(special.len(), 2, "{plain:?}");
        for text in
            [specials.concat(), specials.join(" "), specials.join("x") + "\n", format!("<{}", specials[0])]
        {
            let found = server.ok("/tokenize", &with_pieces(&render(&json!(text)))).await;
            let named = found["tokens"].as_array().unwrap().iter();
            let count =
                named.filter(|token| specials.iter().any(|special| token["piece"] == *special)).count();
            assert_eq!(count, 2, "{model} {text}: {found}");
            let prompt = server.ok("/apply-template", &render(&json!(text))).await["prompt"].clone();
            assert!(prompt.as_str().unwrap().contains(text.trim_end()), "the text itself is not changed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_of_a_template_are_text_as_well() {
    let folder = copy("diffugpt-m");
    let text = "{{ mood }}{% if mood == 'calm' %}.{% endif %}{{ messages[0].content }}";
    fs::write(folder.path().join("chat_template.jinja"), text).unwrap();
    let server = serve(&folder, &[]);
    for (mood, prompt) in [("calm", "calm.x"), ("<|endoftext|>", "<|endoftext|>x")] {
        let body = crate::completions::with(
            &render(&json!("x")),
            json!({ "chat_template_kwargs": { "mood": mood }, "add_special_tokens": false }),
        );
        assert_eq!(server.ok("/apply-template", &body).await["prompt"], prompt);
        let pieces = server.ok("/tokenize", &with_pieces(&body)).await;
        let named = pieces["tokens"].as_array().unwrap().iter();
        assert_eq!(named.filter(|token| token["piece"] == "<|endoftext|>").count(), 0, "{pieces}");
    }
}

fn with_pieces(body: &Value) -> Value {
    crate::completions::with(body, json!({ "with_pieces": true }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_go_to_tokens_and_back_in_both_shapes() {
    for (model, context) in [("diffugpt-s", 64), ("diffullama", 128)] {
        let server = Server::start(model, &[]);
        for text in ["The cat", " leading", "ünï 😀\n\tx", "", "</s><|endoftext|>"] {
            let bare = json!({ "prompt": text, "add_special_tokens": false });
            let vllm = server.ok("/tokenize", &bare).await;
            let llama = server.ok("/tokenize", &json!({ "content": text })).await;
            assert_eq!(vllm, llama);
            assert_eq!(vllm["count"], vllm["tokens"].as_array().unwrap().len());
            assert_eq!(vllm["max_model_len"], context);
            let back = server.ok("/detokenize", &json!({ "tokens": vllm["tokens"] })).await;
            assert_eq!(back, json!({ "prompt": text, "content": text }), "{model}");
            let started = server.ok("/tokenize", &json!({ "prompt": text })).await;
            let tokens = |answer: &Value| answer["tokens"].as_array().unwrap().len();
            assert_eq!(tokens(&started), tokens(&vllm) + 1, "a document start");
            assert_eq!(started["count"], vllm["count"], "which is not counted");
            let back = server.ok("/detokenize", &json!({ "tokens": started["tokens"] })).await;
            assert_eq!(back["content"], text, "it spells nothing");
        }
        let pieces = server.ok("/tokenize", &json!({ "content": "a😀", "with_pieces": true })).await;
        let mut bytes = Vec::new();
        for token in pieces["tokens"].as_array().unwrap() {
            match &token["piece"] {
                Value::String(text) => bytes.extend_from_slice(text.as_bytes()),
                Value::Array(list) => bytes.extend(list.iter().map(|byte| byte.as_u64().unwrap() as u8)),
                other => panic!("{other}"),
            }
        }
        assert_eq!(String::from_utf8(bytes).unwrap().trim_start(), "a😀");
        for body in [json!({}), json!({ "prompt": "a", "content": "a" })] {
            server.post("/tokenize", &body).await.refusal(400, "conflicting_fields");
        }
        for ids in [json!([-1]), json!([1_u64 << 40]), json!([100_000])] {
            let refused = server.post("/detokenize", &json!({ "tokens": ids })).await;
            assert_eq!(refused.refusal(400, "invalid_token")["param"], "tokens");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_find_out_what_is_served() {
    let file = golden("../templates/pipes.jinja").display().to_string();
    let server = Server::start("diffugpt-m", &["--model-name", "some/model", "--chat-template", &file]);
    let info = server.get("/tokenizer_info").await.json();
    assert_eq!((&info["eos_token"], &info["pad_token"]), (&json!("<|endoftext|>"), &json!("¨")));
    assert_eq!((&info["tokenizer_class"], &info["mask_token"]), (&json!("GPT2Tokenizer"), &json!("[¨M¨]")));
    assert_eq!(server.get("/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
    let props = server.get("/props").await.json();
    assert_eq!(props["default_generation_settings"]["n_ctx"], 64);
    assert_eq!((&props["total_slots"], &props["model_alias"]), (&json!(64), &json!("some/model")));
    assert_eq!(props["chat_template"], info["chat_template"]);
    let model = server.get("/v1/models").await.json()["data"][0].clone();
    assert_eq!((&model["id"], &model["root"]), (&json!("some/model"), &json!("some/model")));
    assert_eq!(model["capabilities"], json!(["completion", "fill", "score", "chat"]));
    assert_eq!(model["architecture"]["output_modalities"], json!(["text"]));
    assert_eq!(
        (&model["diffusion"]["default_steps"], &model["diffusion"]["max_steps"]),
        (&json!(64), &json!(512))
    );
    for path in ["/v1/models/some/model", "/v1/models/some%2Fmodel"] {
        assert_eq!(server.get(path).await.json(), model, "{path}");
    }
    for path in ["/v1/models/some", "/v1/models/..%2f..%2fetc", "/v1/models/a/b/c"] {
        server.get(path).await.refusal(404, "model_not_found");
    }
}

/// Everything but chat works without a template, so one that a model brings may be broken; one that the operator names
/// may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_models_own_template_that_does_not_compile_turns_chat_off_alone() {
    let folder = copy("diffugpt-s");
    let broken = folder.path().join("chat_template.jinja");
    fs::write(&broken, "{% for message in messages %}").unwrap();
    let server = serve(&folder, &[]);
    server.ok("/v1/completions", &json!({ "prompt": "The", "max_tokens": 2 })).await;
    let chat = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    server.post("/v1/chat/completions", &chat).await.refusal(400, "chat_template_missing");
    let models = server.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["capabilities"], json!(["completion", "fill", "score"]));
    let mut named = unmask(&["serve", "--listen", "127.0.0.1:0", "--model"]);
    named.arg(golden("diffugpt-s")).arg("--chat-template").arg(&broken);
    assert_last_line(named, &["chat_template.jinja"]);
}
