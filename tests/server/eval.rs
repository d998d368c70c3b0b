//! `unmask eval` as a user runs it. If these failed, benchmarks would depend on the way they are asked, would begin again
//! after every interruption, or would run code without permission.

use std::fs;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, golden, unmask};

#[cfg(feature = "embedded")]
const TASKS: usize = 12;

fn run(arguments: &[&str]) -> Output {
    let mut command = unmask(&[&["eval"], arguments].concat());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && err.is_empty(), "{arguments:?}: {err}");
    out
}

fn report(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(&[arguments, &["--json"]].concat())).unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// A report without what a clock says.
fn timeless(mut report: Value) -> Value {
    for task in report["tasks"].as_array_mut().unwrap() {
        task["seconds"].take();
        task["resumed"].take();
    }
    report
}

#[cfg(feature = "embedded")]
#[test]
fn the_carried_items_of_every_task_are_asked() {
    let report = report(&["--smoke", "--limit", "2", "--steps", "4"]);
    assert_eq!(report["model"], "unmask-code");
    let tasks = report["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), TASKS);
    for task in tasks {
        assert_eq!((&task["items"], &task["skipped"]), (&Value::from(2), &serde_json::json!({})), "{task}");
        assert!(
            task["evaluations"].as_u64().unwrap() > 0 && !task["metrics"].as_object().unwrap().is_empty()
        );
        for (name, metric) in task["metrics"].as_object().unwrap() {
            let value = metric["value"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&value) || name == "perplexity", "{name} {metric}");
            assert!(metric.get("paper_percent").is_none(), "this is no model of the paper");
        }
    }
    let table = printed(&["lambada", "piqa", "--smoke", "--limit", "2", "--steps", "4"]);
    for part in ["model unmask-code", "lambada ", "piqa ", "accuracy", " evaluations, "] {
        assert!(table.contains(part), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_this_process_agree_however_many_items_are_asked_at_once() {
    let server = Server::start("diffullama", &[]);
    let model = golden("diffullama").display().to_string();
    let tasks = ["lambada", "winogrande", "rocstories", "--smoke", "--limit", "3", "--steps", "3"];
    for more in [&["--score", "chain"][..], &["--protocol", "harness"], &[]] {
        let here = report(&[&tasks, more, &["--model", &model, "--at-once", "1"]].concat());
        let there = report(&[&tasks, more, &["--url", &server.url]].concat());
        assert_eq!(timeless(here), timeless(there), "{more:?}");
    }
}

#[test]
fn a_run_goes_on_where_it_stopped_and_no_other_run_touches_it() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("results").display().to_string();
    let model = golden("diffugpt-s").display().to_string();
    let arguments = |limit: &'static str, seed: &'static str| {
        let settings = ["piqa", "--smoke", "--steps", "2", "--limit", limit, "--seed", seed];
        [&settings[..], &["--model", &model, "--out", &out]].concat()
    };
    let with = |limit, seed| report(&arguments(limit, seed));
    assert_eq!(with("4", "1")["tasks"][0]["resumed"], 0);
    let journal = folder.path().join("results/piqa.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    assert_eq!(text.lines().count(), 5, "the settings and four items");
    // As a process leaves it that is stopped while it writes.
    let (half, _) = text.split_at(text.trim_end().rfind('\n').unwrap() + 9);
    fs::write(&journal, half).unwrap();
    let resumed = with("6", "1");
    assert_eq!((&resumed["tasks"][0]["resumed"], &resumed["tasks"][0]["items"]), (&3.into(), &6.into()));
    let kept: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("results/results.json")).unwrap())
            .unwrap();
    assert_eq!(kept, resumed);
    let whole =
        report(&["piqa", "--smoke", "--steps", "2", "--model", &model, "--limit", "6", "--seed", "1"]);
    assert_eq!(timeless(whole), timeless(resumed));
    let other = refusal(&arguments("6", "2"));
    assert!(other.contains("other settings (`seed`)"), "{other}");
    let rounded = refusal(&[&arguments("6", "1")[..], &["--dtype", "bf16"]].concat());
    assert!(rounded.contains("other settings (`fingerprint`)"), "{rounded}");
}

#[test]
fn a_mistake_is_one_line() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().display().to_string();
    fs::write(folder.path().join("piqa.jsonl"), "{\"goal\":\"a\",\"sol1\":\"b\"}\n").unwrap();
    for (arguments, part) in [
        (&["piqa", "--data", &data][..], "piqa.jsonl line 1, field `sol2`: it is missing"),
        (&["siqa", "--data", &data], "siqa needs one of"),
        (&["infill", "--data", &data, "--extension", ".rs"], "holds no text file whose name ends in .rs"),
        (&["piqa", "--smoke", "--run-code"], "--run-code needs a task whose answers are code"),
        (&["piqa", "--smoke", "--model", "/no/such/folder"], "/no/such/folder"),
        (&["piqa", "--smoke", "--url", "http://127.0.0.1:1"], "http://127.0.0.1:1/ does not answer"),
    ] {
        let line = refusal(arguments);
        assert!(line.contains(part), "{line}");
    }
    for arguments in [&[][..], &["piqa"], &["unknown", "--smoke"], &["piqa", "--smoke", "--data", "x"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let list = printed(&["--list"]);
    assert!(list.contains("hellaswag_val.jsonl") && list.contains("Rowan/hellaswag"), "{list}");
}

/// The command refuses where user namespaces are not permitted.
#[test]
fn code_runs_if_it_may_and_in_a_process_without_network() {
    let folder = TempDir::new().unwrap();
    let model = golden("diffugpt-s").display().to_string();
    let item = serde_json::json!({
        "entry_point": "f", "prompt": "def f():\n    '''", "suffix": "'''\n    return 1\n",
        "canonical_solution": "A text.", "test": "def check(candidate):\n    assert candidate() == 1\n",
    });
    let wrong = item.to_string().replace("== 1", "== 2");
    fs::write(folder.path().join("HumanEval-SingleLineInfilling.jsonl"), format!("{item}\n{wrong}\n"))
        .unwrap();
    let data = folder.path().display().to_string();
    let arguments = ["humaneval-single-line", "--data", &data, "--model", &model, "--steps", "2"];
    let metrics = &report(&arguments)["tasks"][0]["metrics"];
    assert!(metrics.get("pass@1").is_none(), "nothing runs by itself: {metrics}");
    let output = run(&[&arguments[..], &["--run-code", "--json"]].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    if output.status.success() {
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["tasks"][0]["metrics"]["pass@1"]["value"], 0.5, "{report}");
    } else {
        assert!(errors.contains("--run-code cannot cut the network"), "{errors}");
    }
}
