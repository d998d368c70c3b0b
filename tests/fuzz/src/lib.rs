//! Parts shared by the targets: the golden models, and the bound on memory.

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cap::Cap;
use clap::Parser;
use tempfile::TempDir;
use unmask_api::access::Access;
use unmask_api::commands::{Cli, Command};
use unmask_api::config::ServeArgs;
use unmask_api::load::load;
use unmask_api::state::AppState;
use unmask_model::predictor::{MaskPredictor, Script, ScriptedPredictor};
use unmask_scheduler::{CostModel, Engine};

/// An input that makes the process hold more is a finding: the allocation fails, and the process with it.
const MEMORY: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY);

/// A folder of the golden data.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(name)
}

/// The settings of `unmask serve` with these flags, with one thread that computes.
pub fn serve_args(flags: &[&str]) -> ServeArgs {
    let arguments = ["unmask", "serve", "--threads", "1"];
    match Cli::parse_from(arguments.into_iter().chain(flags.iter().copied())).command {
        Some(Command::Serve(command)) => command.settings(),
        other => panic!("another command: {other:?}"),
    }
}

/// The routes that take a body.
pub const ROUTES: [&str; 8] = [
    "/v1/completions",
    "/v1/chat/completions",
    "/fill",
    "/v1/fim/completions",
    "/infill",
    "/tokenize",
    "/detokenize",
    "/apply-template",
];

/// The application over `diffugpt-s`, computed by a script, with more flags.
pub fn application(flags: &[&str]) -> AppState {
    let model = golden("diffugpt-s");
    let template = golden("../templates/thinking.jinja");
    let model = model.display().to_string();
    let template = template.display().to_string();
    let own = ["--model", &model, "--chat-template", &template];
    let args = serve_args(&[&own[..], flags].concat());
    let loaded = load(Some(&model), &args.load).expect("the golden model");
    let (predictor, model, (metrics, engine_metrics)) =
        loaded.served_as(Some("toy".to_owned()), Duration::ZERO);
    let limits = predictor.limits();
    let scripted = ScriptedPredictor::new(limits, Script::default());
    let config = args.engine.config(CostModel::default());
    let engine = Engine::spawn(scripted, config, engine_metrics).expect("the engine");
    let access = Arc::new(Access::open(&args.access, args.server.address()).expect("no keys"));
    AppState::new(model, (engine, CostModel::default()), access, metrics, &args)
}

/// A copy of a golden model whose files can be replaced. The loader reads it as it reads any folder.
pub struct ModelFolder {
    folder: TempDir,
    args: ServeArgs,
}

impl ModelFolder {
    /// A copy of the model without the reference's answers.
    pub fn of(model: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        for entry in golden(model).read_dir().expect("a golden model") {
            let entry = entry.expect("an entry of the folder");
            if !entry.file_name().to_string_lossy().starts_with("golden") {
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
            }
        }
        Self { folder, args: serve_args(&[]) }
    }

    /// One of its files.
    pub fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(file)).expect("a file of the model")
    }

    /// Loads the model with another `file`, as the server does at its start, and puts the old file back.
    /// Refusing it is fine, in one line.
    pub fn load_with(&self, file: &str, content: &[u8], original: &[u8]) {
        let path = self.folder.path().join(file);
        std::fs::write(&path, content).expect("a writable folder");
        let name = self.folder.path().to_str().expect("a path that is text");
        match unmask_api::load::load(Some(name), &self.args.load) {
            Ok(loaded) => drop(loaded.checkpoint.weights.fingerprint()),
            Err(error) => {
                let message = format!("{error:#}");
                assert!(!message.contains(char::is_control), "{message:?}");
            }
        }
        std::fs::write(&path, original).expect("a writable folder");
    }
}
