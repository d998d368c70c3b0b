//! A few flipped bytes in any file: refused in one line or served, and no panic.

use std::panic::catch_unwind;

use proptest::prelude::*;
use unmask_model::checkpoint::Checkpoint;

use crate::damage::{Copy, WEIGHTS};

/// Loads a copy in which some bytes of one file are others: refused in one line, or served.
fn check_flipped(name: &str, first: usize, count: usize, flips: &[(usize, u8)]) {
    let copy = Copy::of("diffugpt-s");
    let mut file = copy.read(name);
    for (place, byte) in flips {
        file[first + place % count] ^= byte;
    }
    copy.write(name, &file);
    let loaded = catch_unwind(|| {
        let checkpoint = Checkpoint::open(copy.0.path(), None)?;
        let text = "Once upon a time ☃ <|endoftext|>\n------------";
        if let Ok(tokens) = checkpoint.tokenizer.encode_template(text, true) {
            let _ = checkpoint.tokenizer.decode(&tokens, true);
        }
        copy.load(None)
    });
    if let Err(error) = loaded.expect("loading must not panic") {
        let message = error.to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}

fn flips() -> impl Strategy<Value = Vec<(usize, u8)>> {
    // One bit or any bits, of one byte or a few.
    let byte = prop_oneof![(0_u32..8).prop_map(|bit| 1 << bit), 1..=u8::MAX];
    proptest::collection::vec((any::<usize>(), byte), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn flipped_bytes_in_the_header_of_the_weights_never_panic(flips in flips()) {
        check_flipped(WEIGHTS, 0, 3864, &flips);
    }

    #[test]
    fn flipped_bytes_in_the_configuration_never_panic(flips in flips()) {
        check_flipped("config.json", 0, 783, &flips);
    }

    #[test]
    fn flipped_bytes_in_the_tokenizer_never_panic(flips in flips()) {
        check_flipped("tokenizer.json", 0, 16921, &flips);
    }

    #[test]
    fn flipped_bytes_in_the_tokenizer_settings_never_panic(flips in flips()) {
        check_flipped("tokenizer_config.json", 0, 475, &flips);
    }
}
