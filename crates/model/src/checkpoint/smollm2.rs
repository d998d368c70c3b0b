//! The adapter inside the library that makes SmolLM2-135M-Instruct a diffusion model. What it is and how it was trained
//! stands in `crates/model/adapt/smollm2/README.md`.

use super::ModelFiles;

/// The name of base and adapter together.
pub const NAME: &str = "smollm2";

macro_rules! files {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../../adapt/smollm2/", $name)))),*]
    };
}

/// The adapter's files.
pub static ADAPTER: ModelFiles = ModelFiles::Memory {
    name: "the adapter of smollm2",
    files: files![
        "adapter_config.json",
        "adapter_model.safetensors",
        "generation_config.json",
        "tokenizer_config.json"
    ],
};
