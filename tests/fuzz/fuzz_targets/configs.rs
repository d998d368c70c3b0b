//! Any bytes as `config.json` or `tokenizer_config.json` of a model whose other files are sound: it loads, or
//! is refused in one line. The first byte chooses the model and the file.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use unmask_fuzz::ModelFolder;

struct Case {
    folder: ModelFolder,
    file: &'static str,
    original: Vec<u8>,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let case = |(model, file)| {
        let folder = ModelFolder::of(model);
        let original = folder.read(file);
        Case { folder, file, original }
    };
    let files = ["config.json", "tokenizer_config.json"];
    let models = ["diffugpt-s", "diffullama", "llada", "dream", "llada-moe"];
    models.into_iter().flat_map(|model| files.map(|file| (model, file))).map(case).collect()
});

fuzz_target!(|input: &[u8]| {
    if let Some((first, content)) = input.split_first() {
        let Case { folder, file, original } = &CASES[usize::from(first.wrapping_sub(b'0')) % CASES.len()];
        folder.load_with(file, content, original);
    }
});
