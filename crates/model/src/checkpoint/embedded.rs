//! A small model of Python code inside the library. What it is and how it was trained stands in
//! `crates/model/embedded/README.md`.

use super::ModelFiles;

/// The model's name.
pub const NAME: &str = "unmask-code";

macro_rules! files {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../../embedded/", $name)))),*]
    };
}

/// The model's files.
pub static FILES: ModelFiles = ModelFiles::Memory {
    name: NAME,
    files: files![
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json"
    ],
};
