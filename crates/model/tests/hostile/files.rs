//! Folders and files that are missing, or of a kind that is not read.

use crate::damage::{Copy, INDEX, SHARD, WEIGHTS, assert_names, load, message};

#[test]
fn the_undamaged_copies_load() {
    for golden in ["diffugpt-s", "diffullama", "diffullama-gqa"] {
        Copy::of(golden).load(None).unwrap();
    }
    let adapter = Copy::of("diffullama-gsm-lora");
    Copy::of("diffullama").load(Some(adapter.0.path())).unwrap();
}

#[test]
fn a_folder_that_is_missing_or_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_names(&message(load(&folder.path().join("nowhere"), None)), &["nowhere", "missing"]);
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_names(&message(load(&folder.path().join("file"), None)), &["file"]);
    assert_names(&message(load(folder.path(), None)), &["config.json", "missing"]);
}

#[test]
fn each_file_that_is_missing_is_named() {
    for name in ["config.json", "tokenizer.json", WEIGHTS] {
        let copy = Copy::of("diffugpt-s");
        copy.remove(name);
        copy.assert_refused(&[name, "missing"]);
        std::fs::create_dir(copy.path(name)).unwrap();
        copy.assert_refused(&[name]);
    }
    for name in [SHARD, INDEX] {
        let copy = Copy::of("diffullama-gqa");
        copy.remove(name);
        copy.assert_refused(&[if name == INDEX { WEIGHTS } else { SHARD }, "missing"]);
    }
}

#[test]
fn pickles_are_refused_with_the_way_to_convert_them() {
    for name in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let copy = Copy::of("diffugpt-s");
        copy.remove(WEIGHTS);
        copy.write(name, b"\x80\x02");
        copy.assert_refused(&["pytorch_model.bin", "save_file", "weights_only=True"]);
    }
}
