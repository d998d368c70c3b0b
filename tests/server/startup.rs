//! Messages of a program that cannot start, and the ways to start it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Server, golden, unmask};

/// Runs a command that must refuse: its standard error.
fn refusal(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{text}");
    assert!(output.status.code().is_some(), "killed by a signal: {text}");
    assert!(!text.contains("listening on"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Runs a command that must refuse in one last line, which names `names`.
pub(crate) fn assert_last_line(command: Command, names: &[&str]) {
    let text = refusal(command);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("unmask: "), "{text}");
    assert!(names.iter().all(|name| last.contains(name)), "{names:?} in {text}");
}

/// Runs a command that the argument parser must refuse, with a line that names `names`.
fn assert_usage(arguments: &[&str], names: &[&str]) {
    let text = refusal(serve(Path::new("anything"), arguments));
    let line = text.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(names.iter().all(|name| line.contains(name)), "{names:?} in {text}");
}

fn serve(model: &Path, flags: &[&str]) -> Command {
    let mut command = unmask(&["serve", "--model"]);
    command.arg(model).args(flags);
    if !flags.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command
}

/// A copy of a golden model to damage.
pub(crate) fn copy(model: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(golden(model)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

#[test]
fn what_is_no_adapter_is_told_from_a_model() {
    let [model, adapter] = ["diffullama", "diffullama-gsm-lora"].map(golden);
    let file = adapter.join("adapter_model.safetensors");
    let steps = TempDir::new().unwrap();
    fs::create_dir(steps.path().join("checkpoint-10")).unwrap();
    fs::copy(adapter.join("adapter_config.json"), steps.path().join("checkpoint-10/adapter_config.json"))
        .unwrap();
    for (given, names) in [
        (file.as_path(), ["an adapter is a folder", adapter.to_str().unwrap()]),
        (steps.path(), ["adapter_config.json is missing", "the folder checkpoint-10 in it has one"]),
        (Path::new("nowhere"), ["there is no folder nowhere", "owner/name@revision"]),
    ] {
        assert_last_line(serve(&model, &["--adapter", given.to_str().unwrap()]), &names);
    }
}

#[test]
fn settings_that_would_be_passed_over_are_refused() {
    let mut base = unmask(&["serve", "--base", "x.gguf", "--listen", "127.0.0.1:0"]);
    base.env_remove("UNMASK_MODEL");
    assert_last_line(base, &["--base", "--model smollm2", "no model is named"]);
    assert_usage(&["--model-name", ""], &["--model-name"]);
    let model = golden("diffugpt-s");
    assert_last_line(serve(&model, &["--log", "inof"]), &["inof is not a level", "did you mean info?"]);
}

#[cfg(not(feature = "embedded"))]
#[test]
fn without_any_model_the_flag_is_named() {
    assert_last_line(unmask(&["serve"]), &["embedded", "--model", "UNMASK_MODEL"]);
    assert_last_line(unmask(&[]), &["--model"]);
    assert_last_line(unmask(&["verify"]), &["--model"]);
}

#[test]
fn a_missing_folder_is_named() {
    assert_last_line(serve(Path::new("/no/such/folder"), &[]), &["/no/such/folder"]);
    assert_last_line(serve(&golden("diffullama"), &["--adapter", "/no/such/adapter"]), &["/no/such/adapter"]);
    let unreachable = ["--hub-endpoint", "http://127.0.0.1:1"];
    assert_last_line(serve(Path::new("unknown/model"), &unreachable), &["unknown/model"]);
}

#[test]
fn an_empty_folder_lacks_a_configuration() {
    let folder = TempDir::new().unwrap();
    assert_last_line(serve(folder.path(), &[]), &["config.json"]);
}

#[test]
fn damaged_weights_are_named() {
    let folder = copy("diffullama");
    let weights = folder.path().join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for length in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&weights, &bytes[..length]).unwrap();
        assert_last_line(serve(folder.path(), &[]), &["model.safetensors"]);
    }
    let folder = copy("diffullama-gqa");
    fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert_last_line(serve(folder.path(), &[]), &["model-00002-of-00002.safetensors"]);
}

#[test]
fn another_architecture_is_named() {
    let folder = copy("diffullama");
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["model_type"] = json!("mamba");
    config["architectures"] = json!(["MambaForCausalLM"]);
    fs::write(&path, config.to_string()).unwrap();
    // Its tokenizer names a mask, so it is a diffusion model.
    let supported = ["config.json", "mamba", "gpt2", "llama", "llada", "dream", "--family"];
    assert_last_line(serve(folder.path(), &[]), &supported);
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    assert_last_line(serve(folder.path(), &[]), &["config.json", "`mamba` is an autoregressive model"]);
    config["architectures"] = json!(["BertModel"]);
    fs::write(&path, config.to_string()).unwrap();
    assert_last_line(serve(folder.path(), &[]), &supported);
}

#[test]
fn pickled_weights_are_refused_with_a_way_out() {
    let folder = copy("diffugpt-s");
    let weights = folder.path().join("model.safetensors");
    fs::rename(&weights, folder.path().join("pytorch_model.bin")).unwrap();
    assert_last_line(serve(folder.path(), &[]), &["pytorch_model.bin", "pickle", "save_file"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    assert_last_line(serve(&golden("diffugpt-s"), &["--listen", &address]), &["cannot listen on", &address]);
    // Before a model is loaded, which may take minutes.
    let text = refusal(serve(Path::new("/no/such/folder"), &["--listen", &address]));
    assert!(text.contains("cannot listen on") && !text.contains("/no/such/folder"), "{text}");
}

#[test]
fn a_device_or_precision_that_is_not_there_is_named() {
    let model = golden("diffugpt-s");
    if !cfg!(feature = "cuda") {
        assert_last_line(serve(&model, &["--device", "cuda"]), &["cuda:0", "--features cuda"]);
    }
    let half = ["--device", "cpu", "--dtype", "f16"];
    assert_last_line(serve(&model, &half), &["f16", "cpu", "bf16"]);
}

#[test]
fn settings_out_of_range_are_named() {
    for flag in [
        "--max-batch-tokens",
        "--max-running",
        "--max-queued-requests",
        "--max-body",
        "--max-steps",
        "--max-cost",
    ] {
        for value in ["0", "x", "1.5"] {
            assert_usage(&[flag, value], &[flag, value]);
        }
    }
    assert_usage(&["--listen", "nowhere"], &["--listen", "nowhere"]);
    assert_usage(&["--device", "tpu"], &["--device", "tpu"]);
    assert_usage(&["--nonsense"], &["--nonsense"]);
    let model = golden("diffugpt-s");
    assert_last_line(serve(&model, &["--log", "info,=,x=loud"]), &["--log", "info,=,x=loud"]);
}

#[test]
fn verify_says_ok_of_every_golden_model() {
    let adapter = golden("diffullama-gsm-lora").display().to_string();
    let more: [&[&str]; 2] = [&[], &["--adapter", &adapter]];
    for (model, flags) in [
        ("diffugpt-s", more[0]),
        ("diffugpt-m", more[0]),
        ("diffullama", more[0]),
        ("diffullama-wrapper", more[0]),
        ("diffullama-gqa", more[0]),
        ("diffullama", more[1]),
        ("llada", more[0]),
        ("dream", more[0]),
        ("llada-moe", more[0]),
        ("sdar", more[0]),
        ("llada2", more[0]),
    ] {
        let output =
            unmask(&["verify"]).arg(golden(model)).args(flags).stdout(Stdio::piped()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{model}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(text.lines().last(), Some("ok"), "{text}");
    }
    let file = golden("../../crates/model/tests/gguf/reference.gguf");
    let output = unmask(&["verify"]).arg(file).stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in ["BF16 1, F16 3, F32 7, Q8_0 19", "259 \"ти\"", "ok"] {
        assert!(text.lines().any(|found| found.contains(line)), "{line} is not in: {text}");
    }
    let folder = copy("diffullama");
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["truncation"] =
        json!({ "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 });
    fs::write(&path, tokenizer.to_string()).unwrap();
    let output = unmask(&["verify"]).arg(folder.path()).stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for (name, value) in [
        ("rotation", "theta 10000, not scaled"),
        ("head", "own"),
        ("unread tensors", "none"),
        ("dropped of tokenizer.json", "truncation"),
        ("bos", "1 \"<s>\""),
        ("eos", "2 \"</s>\""),
        ("mask", "259 \"ти\", by the tokenizer's configuration"),
    ] {
        assert!(
            text.lines().any(|line| line
                .split_once("  ")
                .is_some_and(|(found, rest)| { found == name && rest.trim() == value })),
            "{name} {value} is not in: {text}"
        );
    }
    assert!(text.lines().any(|line| line.starts_with("round trip") && line.ends_with("unchanged")), "{text}");
    let mut missing = unmask(&["verify", "/no/such/folder"]);
    missing.stdout(Stdio::piped());
    assert_last_line(missing, &["/no/such/folder"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_alone_is_enough_to_serve() {
    let mut command = unmask(&[]);
    command.env("UNMASK_MODEL", golden("diffullama")).env("UNMASK_LISTEN", "127.0.0.1:0");
    command.env("UNMASK_MODEL_NAME", "a/name").env("UNMASK_LOG_FORMAT", "text");
    // What compose files pass on for a variable that is not set.
    command.env("UNMASK_ADAPTER", "").env("UNMASK_MAX_GENERATED_TOKENS", "");
    let server = Server::spawn(command);
    let models = server.get("/v1/models").await.json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("a/name")));
    assert_eq!(models["data"][0]["max_model_len"], 128);
    server.ok("/v1/completions", &json!({ "model": "a/name", "prompt": "a", "max_tokens": 2 })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_wins_over_the_environment() {
    let mut command = unmask(&["serve", "--model-name", "flag"]);
    command.env("UNMASK_MODEL", golden("diffugpt-s")).env("UNMASK_LISTEN", "127.0.0.1:0");
    command.env("UNMASK_MODEL_NAME", "environment");
    let server = Server::spawn(command);
    assert_eq!(server.get("/v1/models").await.json()["data"][0]["id"], "flag");
}
