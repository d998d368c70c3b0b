//! The models that the program knows by name: the list, the cache, names, and what does not fit.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, golden, unmask};
use crate::startup::assert_last_line;

/// Standard output of a command that must succeed.
fn printed(mut command: Command) -> String {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The program with a cache of its own, and no hub.
fn offline(arguments: &[&str], home: &Path) -> Command {
    let mut command = unmask(arguments);
    command.env("HF_HOME", home).env("HF_HUB_OFFLINE", "1");
    command
}

/// A cache that holds a golden model under a name of the hub.
fn cache_of(model: &str, name: &str) -> TempDir {
    let home = TempDir::new().unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let folder = home.path().join("hub").join(format!("models--{}", name.replace('/', "--")));
    let snapshot = folder.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), commit).unwrap();
    for entry in fs::read_dir(golden(model)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
    }
    home
}

#[test]
fn models_are_listed_shown_and_removed() {
    let home = cache_of("diffugpt-s", "diffusionfamily/diffugpt-s");
    let table = printed(offline(&["models"], home.path()));
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(
        table.lines().any(|line| line.starts_with("diffugpt-s *") && line.contains(" 124 M ")),
        "{table}"
    );
    let lines = printed(offline(&["models", "--json"], home.path()));
    let models: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let model = models.iter().find(|model| model["name"] == "llada-8b").unwrap();
    assert_eq!((&model["download_bytes"], &model["cached"]), (&16_031_162_368_u64.into(), &false.into()));
    let memory = |kind: &str| model["memory_bytes"][kind].as_u64().unwrap();
    assert!(memory("int8") < memory("bf16") && memory("q4_k_m") < memory("int8"), "{model}");

    let shown = printed(offline(&["show", "diffugpt-s"], home.path()));
    for part in ["diffusionfamily/diffugpt-s", "124439808", "commit 0123456789abcdef", "1024 tokens"] {
        assert!(shown.contains(part), "{part} is not in: {shown}");
    }
    let removed = printed(offline(&["rm", "diffugpt-s"], home.path()));
    assert!(removed.starts_with("removed diffusionfamily/diffugpt-s ("), "{removed}");
    assert!(printed(offline(&["show", "diffugpt-s"], home.path())).contains("not in the cache"));
    assert_last_line(
        offline(&["rm", "diffugpt-s"], home.path()),
        &["diffusionfamily/diffugpt-s", "not in the cache"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_name_is_served_from_the_cache() {
    let home = cache_of("diffugpt-s", "diffusionfamily/diffugpt-s");
    let server = Server::spawn(offline(&["serve", "diffugpt-s", "--listen", "127.0.0.1:0"], home.path()));
    assert_eq!(server.get("/v1/models").await.json()["data"][0]["id"], "diffugpt-s");
    drop(server);
    let folder = printed(offline(&["pull", "diffugpt-s"], home.path()));
    assert!(Path::new(folder.trim_end()).join("config.json").exists(), "{folder}");
}

#[test]
fn a_near_miss_is_told_with_the_name_that_was_meant() {
    let home = TempDir::new().unwrap();
    for command in ["serve", "verify", "pull", "show", "rm"] {
        assert_last_line(
            offline(&[command, "difugpt-s"], home.path()),
            &["difugpt-s", "did you mean diffugpt-s?"],
        );
    }
    let mistaken = offline(&["serve", "diffugpt-s", "--base", "x.gguf"], home.path());
    assert_last_line(mistaken, &["--base", "--model smollm2"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_model_that_does_not_fit_is_refused_before_it_is_downloaded() {
    let home = TempDir::new().unwrap();
    let lines = printed(offline(&["models", "--json"], home.path()));
    let too_large = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|model| model["fits"].as_array().is_some_and(|fits| !fits.iter().any(|kind| kind == "f32")));
    // A machine that holds all of them has nothing to refuse.
    let Some(model) = too_large else { return };
    let name = model["name"].as_str().unwrap();
    assert_last_line(offline(&["serve", name], home.path()), &[name, "of memory", "--force"]);
    let forced = offline(&["serve", name, "--force"], home.path());
    assert_last_line(forced, &["HF_HUB_OFFLINE"]);
}

/// The prediction is within a tenth of what random weights of these shapes really take, in every precision.
#[test]
fn memory_is_predicted_within_a_tenth() {
    let all: &[&str] = &["f32", "bf16", "int8"];
    let shapes: [(&str, &[&str], &[&str]); 4] = [
        ("diffugpt-s", &[], all),
        ("smollm2-135m", &[], all),
        ("open-dcoder-0.5b", &["--layers", "6"], all),
        ("llada-moe-7b-a1b", &["--layers", "1"], &["bf16"]),
    ];
    for (arch, more, dtypes) in shapes {
        for dtype in dtypes {
            let arguments =
                ["bench", "--json", "--rows", "512", "--asked", "511", "--arch", arch, "--dtype", dtype];
            let report = printed(unmask(&[&arguments[..], more].concat()));
            let report: Value = serde_json::from_str(&report).unwrap();
            let megabytes = |name: &str| report[name].as_f64().unwrap();
            let predicted = megabytes("predicted_mb");
            let taken = megabytes("memory_mb");
            let error = (predicted - taken) / taken;
            assert!(error.abs() < 0.1, "{arch} {dtype}: {predicted:.0} MB predicted, {taken:.0} MB taken");
        }
    }
}
