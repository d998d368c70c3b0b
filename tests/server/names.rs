//! Former names of flags, variables and fields, and the settings file.

use std::fs;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Server, golden, unmask};

/// Standard output and standard error of a command that must succeed.
fn printed(arguments: &[&str], variables: &[(&str, &str)]) -> (String, String) {
    let mut command = unmask(arguments);
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

/// The flags whose names have changed, each with a value and the present name.
const FORMER: [(&str, &str, &str); 7] = [
    ("--slow-reader", "31", "write-timeout"),
    ("--keep-alive", "76", "idle-timeout"),
    ("--max-canvas", "17", "max-generated-tokens"),
    ("--queue", "9", "max-queued-requests"),
    ("--max-wait", "8", "max-queue-time"),
    ("--max-rows", "777", "max-batch-tokens"),
    ("--admin-listen", "127.0.0.1:0", "metrics-listen"),
];

#[test]
fn former_flags_and_variables_work_and_name_the_present_ones() {
    let flags: Vec<&str> = FORMER.iter().flat_map(|(old, value, _)| [*old, *value]).collect();
    let (settings, warnings) = printed(&[&["serve", "--print-config"], &flags[..]].concat(), &[]);
    let variables: Vec<(String, &str)> = FORMER
        .iter()
        .map(|(old, value, _)| (format!("UNMASK_{}", old[2..].to_uppercase().replace('-', "_")), *value))
        .collect();
    let borrowed: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let (by_variable, warnings_by_variable) = printed(&["serve", "--print-config"], &borrowed);
    for ((old, value, new), (variable, _)) in FORMER.iter().zip(&variables) {
        let quoted = format!("{new} = \"{value}\"");
        for (settings, origin) in [(&settings, "command line"), (&by_variable, variable)] {
            let line = settings.lines().find(|line| line.starts_with(&format!("{new} ="))).unwrap();
            assert!(line.starts_with(&format!("{new} = {value} #")) || line.starts_with(&quoted), "{line}");
            assert!(line.ends_with(origin), "{line}");
        }
        assert!(warnings.contains(&format!("{old} is now --{new};")), "{warnings}");
        let present = format!("UNMASK_{}", new.to_uppercase().replace('-', "_"));
        assert!(
            warnings_by_variable.contains(&format!("{variable} is now {present};")),
            "{warnings_by_variable}"
        );
    }
}

#[test]
fn a_variable_that_is_no_setting_is_told_with_the_nearest_one() {
    let (_, warnings) =
        printed(&["print-openapi"], &[("UNMASK_MODLE", "x"), ("UNMASK_SERVICE_HOST", "10.0.0.1")]);
    assert!(warnings.contains("UNMASK_MODLE is not a setting; did you mean UNMASK_MODEL?"), "{warnings}");
    assert!(!warnings.contains("SERVICE_HOST"), "{warnings}");
}

/// Flags win over the environment, the environment over the file, the file over defaults; the printed settings are such
/// a file again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settings_file_counts_below_flags_and_environment() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("unmask.toml");
    let model = golden("diffugpt-s").display().to_string();
    let text = format!(
        "model = {model:?}\nlisten = \"127.0.0.1:0\"\nmodel_name = \"of the file\"\nmax-steps = 7\nmax-samples = 3\n\
         max-prompts = 2\nno-playground = true\ncors-origin = [\"https://a.example\"]\n"
    );
    fs::write(&path, text).unwrap();
    let config = path.display().to_string();
    let variables = [
        ("UNMASK_CONFIG", config.as_str()),
        ("UNMASK_MAX_STEPS", "8"),
        ("UNMASK_MAX_SAMPLES", "4"),
        ("UNMASK_STRICT_PARAMS", "no"),
    ];
    let (settings, _) = printed(&["serve", "--print-config", "--max-steps", "9"], &variables);
    for line in [
        "max-steps = 9 # command line",
        "max-samples = 4 # UNMASK_MAX_SAMPLES",
        "max-prompts = 2 # file",
        "no-playground = true # file",
        "strict-params = false # UNMASK_STRICT_PARAMS",
        "cors-origin = [\"https://a.example\"] # file",
        "drain-delay = 0 # default",
        "# adapter =",
    ] {
        assert!(settings.lines().any(|found| found == line), "{line} is not in: {settings}");
    }
    let again = folder.path().join("again.toml");
    fs::write(&again, &settings).unwrap();
    let again = again.display().to_string();
    let (twice, _) = printed(&["serve", "--print-config", "--config", &again], &[]);
    let values = |settings: &str| -> Vec<String> {
        settings.lines().filter_map(|line| Some(line.split_once(" # ")?.0.to_owned())).collect()
    };
    assert_eq!(values(&twice), values(&settings));

    let server = Server::spawn(unmask(&["--config", &config]));
    let model = server.get("/v1/models").await.json()["data"][0].clone();
    assert_eq!((&model["id"], &model["limits"]["steps"]), (&json!("of the file"), &json!(7)));
    assert_eq!(server.get("/").await.status, 404);
}

#[test]
fn a_settings_file_that_is_wrong_is_refused_in_one_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("unmask.toml");
    for (text, told) in [
        ("prot = 1\n", "did you mean `port`?"),
        ("port\n", "is not valid TOML"),
        ("port = \"x\"\n", "unmask.toml: invalid value 'x' for '--port"),
        ("device = 99\n", "unmask.toml: invalid value"),
        ("overload-status = 9\n", "[possible values: "),
        ("hub-token = 1\nhub-token = 2\n", "is not valid TOML"),
    ] {
        fs::write(&path, text).unwrap();
        let mut command = unmask(&["serve", "--print-config", "--config"]);
        let output = command.arg(&path).stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(told), "{text}: {error}");
        assert!(!error.contains("panicked") && error.trim_end().lines().count() == 1, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn former_fields_work_and_name_the_present_ones() {
    let server = Server::start("diffugpt-s", &[]);
    let body = |fields| crate::completions::with(&json!({ "prefix": "The", "length": 3, "seed": 1 }), fields);
    let ids = |answer: &crate::harness::Answer| answer.json()["choices"].clone();
    for (old, new, told) in [
        (json!({ "return": "full" }), json!({ "include": "text" }), "return (use include)"),
        (json!({ "heal": false }), json!({ "token_healing": false }), "heal (use token_healing)"),
        (
            json!({ "diffusion": { "quota": "kept" } }),
            json!({ "diffusion": { "commit_rule": "reference_top_k" } }),
            "quota (use diffusion.commit_rule)",
        ),
    ] {
        let [former, present] =
            [server.post("/fill", &body(old)).await, server.post("/fill", &body(new)).await];
        assert_eq!((former.status, present.status), (200, 200), "{}", former.body);
        assert_eq!((former.header("x-deprecated-params"), present.header("x-deprecated-params")), (told, ""));
        assert_eq!(ids(&former), ids(&present));
    }
    let quoted = json!({ "prefix": "a \"return\": b", "length": 1, "seed": 1 });
    assert_eq!(server.post("/fill", &quoted).await.header("x-deprecated-params"), "");
    let (_, log) = server.stop().await;
    assert!(log.iter().any(|line| line.contains("deprecated_params=\"return (use include)\"")), "{log:?}");
}
