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
        // From which a tokenizer could be made.
        copy.remove("vocab.json");
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

/// A folder of a hub cache that was copied without the blobs. Files that a model may lack are not passed over either.
#[cfg(unix)]
#[test]
fn a_link_to_a_file_that_is_not_there_is_named() {
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS] {
        let copy = Copy::of("diffugpt-s");
        copy.remove(name);
        std::os::unix::fs::symlink("../../blobs/4d7a", copy.path(name)).unwrap();
        copy.assert_refused(&[name, "it is a link to ../../blobs/4d7a, which is not there"]);
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

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n";

/// Files of another kind than their name says are recognised by their first bytes.
#[test]
fn what_a_file_is_in_place_of_what_it_should_be_is_said() {
    let other = Copy::of("diffugpt-s").read(WEIGHTS);
    for (content, parts) in [
        (POINTER.as_bytes(), &["Git LFS", "git lfs pull"][..]),
        (b"<!DOCTYPE html><html><head>", &["web page", "download it again"]),
        (b"\n<html>", &["web page"]),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", &["XML", "error"]),
        (b"{\"error\":\"Repository not found\"}", &["JSON", "error"]),
        (b"PK\x03\x04aaaaaaaaaaaa", &["zip", "safetensors"]),
        (b"\x80\x02}q\x00", &["pickle", "safetensors"]),
        (b"\x1f\x8b\x08\x00", &["gzip"]),
        (b"GGUF\x03\x00\x00\x00\x00\x00", &["GGUF", "--model"]),
    ] {
        let copy = Copy::of("diffugpt-s");
        copy.write(WEIGHTS, content);
        copy.assert_refused(&[&[WEIGHTS][..], parts].concat());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    for (content, part) in [(POINTER.as_bytes(), "Git LFS"), (b"<html>", "web page"), (&other, "safetensors")]
    {
        std::fs::write(&file, content).unwrap();
        assert_names(&message(load(&file, None)), &["model.gguf", part]);
    }
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        let marked = [b"\xef\xbb\xbf", &Copy::of("diffugpt-s").read(name)[..]].concat();
        for (content, part) in [
            (&marked[..], "byte order mark"),
            (POINTER.as_bytes(), "Git LFS"),
            (b"\xff\xfe{\x00", "UTF-16"),
            (b"<!doctype html>", "web page"),
        ] {
            let copy = Copy::of("diffugpt-s");
            copy.write(name, content);
            copy.assert_refused(&[name, part]);
        }
    }
    let copy = Copy::of("diffullama-gqa");
    copy.write(SHARD, POINTER);
    copy.assert_refused(&[SHARD, "Git LFS"]);
}

#[test]
fn a_folder_in_the_place_of_a_file_is_said_once() {
    for name in ["config.json", "tokenizer.json", WEIGHTS] {
        let copy = Copy::of("diffugpt-s");
        copy.remove(name);
        std::fs::create_dir(copy.path(name)).unwrap();
        let message = copy.refusal(None);
        assert_names(&message, &[name, "is a folder"]);
        assert!(!message.contains("os error"), "{message}");
    }
}

/// Paths that are near a model.
#[test]
fn what_was_named_in_place_of_a_model_is_said() {
    let model = Copy::of("diffugpt-s");
    for name in [WEIGHTS, "config.json", "tokenizer.json"] {
        assert_names(&message(load(&model.path(name), None)), &[name, "folder"]);
    }
    model.write("pytorch_model.bin", b"PK\x03\x04");
    assert_names(&message(load(&model.path("pytorch_model.bin"), None)), &["pickle", "safetensors"]);
    let adapter = Copy::of("diffullama-gsm-lora");
    assert_names(&message(load(adapter.0.path(), None)), &["config.json", "adapter", "--adapter", "--model"]);
    let home = tempfile::tempdir().unwrap();
    let commit = home.path().join("hub/models--owner--some--name/snapshots/0123");
    std::fs::create_dir_all(&commit).unwrap();
    std::fs::create_dir_all(home.path().join("hub/models--owner--some--name/refs")).unwrap();
    for root in [home.path(), &home.path().join("hub")] {
        assert_names(&message(load(root, None)), &["cache", "owner/some--name", "HF_HOME"]);
    }
    let repository = home.path().join("hub/models--owner--some--name");
    assert_names(&message(load(&repository, None)), &["cache", "snapshots"]);
    std::fs::write(commit.join("config.json"), "{}").unwrap();
    assert_names(&message(load(commit.parent().unwrap(), None)), &["0123"]);
    let meta = tempfile::tempdir().unwrap();
    std::fs::write(meta.path().join("params.json"), "{}").unwrap();
    assert_names(&message(load(meta.path(), None)), &["Meta"]);
}

#[test]
fn weights_under_other_names_are_pointed_to() {
    let copy = Copy::of("diffugpt-s");
    std::fs::rename(copy.path(WEIGHTS), copy.path("diffusion.safetensors")).unwrap();
    copy.assert_refused(&["diffusion.safetensors", "model.safetensors"]);
    let copy = Copy::of("diffullama-gqa");
    copy.remove(INDEX);
    copy.assert_refused(&["shard", INDEX]);
}
