//! Any bytes as a safetensors file, or as its header before the numbers of a sound one: the model loads, or is
//! refused in one line. The first byte chooses the model, and which of both.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use unmask_fuzz::ModelFolder;

const FILE: &str = "model.safetensors";

struct Case {
    folder: ModelFolder,
    original: Vec<u8>,
    /// The offset of the numbers.
    numbers: usize,
}

static CASES: LazyLock<[Case; 2]> = LazyLock::new(|| {
    ["diffugpt-s", "diffullama"].map(|model| {
        let folder = ModelFolder::of(model);
        let original = folder.read(FILE);
        let length = original.first_chunk().expect("a length");
        let numbers = 8 + u64::from_le_bytes(*length) as usize;
        Case { folder, original, numbers }
    })
});

fuzz_target!(|input: &[u8]| {
    let Some((first, content)) = input.split_first() else { return };
    let Case { folder, original, numbers } = &CASES[usize::from(*first) % CASES.len()];
    let whole = usize::from(*first) / CASES.len() % 2 == 1;
    if whole {
        folder.load_with(FILE, content, original);
    } else {
        // With its length before it: no mutation of a header would keep that true.
        let length = (content.len() as u64).to_le_bytes();
        folder.load_with(FILE, &[&length, content, &original[*numbers..]].concat(), original);
    }
});
