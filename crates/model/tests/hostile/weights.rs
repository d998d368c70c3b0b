//! Weights that are damaged, incomplete, of another shape or type, or not finite.

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use unmask_model::checkpoint::Checkpoint;
use unmask_model::error::PredictError;
use unmask_model::predictor::{Ask, MaskPredictor, Sampling, Want};

use crate::damage::{Copy, INDEX, SHARD, WEIGHTS};

#[test]
fn weights_that_end_early_are_refused() {
    let original = Copy::of("diffugpt-s").read(WEIGHTS);
    let copy = Copy::of("diffugpt-s");
    for length in [0, 1, 4, 7, 8, 9, 100, 3864, 3865, original.len() / 2, original.len() - 1] {
        copy.write(WEIGHTS, &original[..length]);
        copy.assert_refused(&[WEIGHTS]);
    }
    copy.write(WEIGHTS, [&original[..], b"x"].concat());
    copy.assert_refused(&[WEIGHTS, "it is shorter or longer than its header says"]);
    copy.write(WEIGHTS, &original[..original.len() - 1000]);
    copy.assert_refused(&[WEIGHTS, "it is shorter or longer than its header says", "download it again"]);
    let mut flipped = original.clone();
    flipped[9] = b'\\';
    copy.write(WEIGHTS, &flipped);
    copy.assert_refused(&[WEIGHTS, "its header is not valid"]);
}

#[test]
fn headers_of_impossible_length_are_refused() {
    let copy = Copy::of("diffugpt-s");
    let original = copy.read(WEIGHTS);
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 1 << 20, 100_000_000, 3857, 3855, 1, 0] {
        copy.write(WEIGHTS, [&length.to_le_bytes(), &original[8..]].concat());
        copy.assert_refused(&[WEIGHTS]);
    }
}

#[test]
fn headers_that_say_nothing_usable_are_refused() {
    let headers: [&[u8]; 9] = [
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b"{\"a\":1}",
        b"{\"a\":{\"dtype\":\"F32\"}}",
        b"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        b"{\"a\\nb\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}",
    ];
    let copy = Copy::of("diffugpt-s");
    for header in headers {
        copy.write(WEIGHTS, [&(header.len() as u64).to_le_bytes(), header].concat());
        copy.assert_refused(&[WEIGHTS]);
    }
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    copy.write(WEIGHTS, [&(deep.len() as u64).to_le_bytes(), deep.as_bytes()].concat());
    copy.assert_refused(&[WEIGHTS]);
}

#[test]
fn tensors_that_overlap_or_lie_outside_the_file_are_refused() {
    let name = "denoise_model.h.0.ln_1.bias";
    let huge = u64::MAX;
    let places = [
        json!([0, 256]),
        json!([66561, 66817]),
        json!([66816, 66560]),
        json!([10_000_000, 10_000_256]),
        json!([66560, huge]),
        json!([huge, huge]),
        json!([-1, 255]),
        json!([66560]),
        json!("0-256"),
    ];
    for place in places {
        let copy = Copy::of("diffugpt-s");
        copy.edit_header(WEIGHTS, |header| header[name]["data_offsets"] = place);
        copy.assert_refused(&[WEIGHTS]);
    }
    for shape in
        [json!([huge, huge]), json!([1_u64 << 62, 4]), json!([65]), json!([]), json!([-64]), json!("64")]
    {
        let copy = Copy::of("diffugpt-s");
        copy.edit_header(WEIGHTS, |header| header[name]["shape"] = shape);
        copy.assert_refused(&[WEIGHTS]);
    }
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let cases = [
        ("denoise_model.h.1.attn.c_attn.weight", vec![192, 64]),
        ("denoise_model.h.2.ln_2.bias", vec![8, 8]),
        ("denoise_model.h.2.mlp.c_fc.bias", vec![256, 1]),
        ("denoise_model.wpe.weight", vec![4096]),
        ("embed_tokens.weight", vec![64, 600]),
        ("embed_tokens.weight", vec![38400]),
        ("embed_tokens.weight", vec![600, 8, 8]),
    ];
    for (name, shape) in cases {
        let copy = Copy::of("diffugpt-s");
        copy.edit_tensors(WEIGHTS, |tensors| tensors.get_mut(name).unwrap().1.clone_from(&shape));
        copy.assert_refused(&[WEIGHTS, name, &format!("{shape:?}")]);
    }
    for (name, shape) in [("embed_tokens.weight", vec![0, 64]), ("denoise_model.h.0.ln_1.bias", vec![0])] {
        let copy = Copy::of("diffugpt-s");
        copy.edit_tensors(WEIGHTS, |tensors| {
            tensors.insert(name.to_owned(), (Dtype::F32, shape.clone(), vec![])).unwrap();
        });
        copy.assert_refused(&[WEIGHTS, name, &format!("{shape:?}")]);
    }
}

#[test]
fn a_tensor_of_another_type_is_named_with_its_type() {
    for name in ["embed_tokens.weight", "denoise_model.h.0.attn.c_proj.weight", "denoise_model.ln_f.weight"] {
        for (dtype, width) in [(Dtype::I64, 8), (Dtype::U8, 1), (Dtype::F64, 8), (Dtype::F8_E4M3, 1)] {
            let copy = Copy::of("diffugpt-s");
            copy.edit_tensors(WEIGHTS, |tensors| {
                let tensor = tensors.get_mut(name).unwrap();
                *tensor = (dtype, tensor.1.clone(), vec![0; tensor.2.len() / 4 * width]);
            });
            copy.assert_refused(&[WEIGHTS, name, &format!("{dtype:?}")]);
        }
    }
}

#[test]
fn every_tensor_is_needed() {
    for (golden, file) in [("diffugpt-s", WEIGHTS), ("diffullama", WEIGHTS)] {
        let original = Copy::of(golden).read(file);
        let tensors = SafeTensors::deserialize(&original).unwrap();
        for name in tensors.names() {
            let copy = Copy::of(golden);
            copy.edit_tensors(file, |tensors| drop(tensors.remove(name).unwrap()));
            let named = if name == "lm_head.weight" { "config.json" } else { file };
            copy.assert_refused(&[named, name, "missing"]);
        }
    }
}

#[test]
fn every_tensor_is_used() {
    let floats = || (Dtype::F32, vec![2], vec![0; 8]);
    for (golden, names) in [
        ("diffugpt-s", &["score.weight", "denoise_model.h.0.attn.c_attn.scales", "h.0.ln_1.weight"][..]),
        (
            "diffugpt-s",
            &["denoise_model.h.3.ln_1.weight", "transformer.wte.weight", "denoise_model.h.00.ln_1.bias"],
        ),
        (
            "diffullama",
            &["model.layers.0.self_attn.q_proj.bias", "value_head.weight", "model.layers.3.mlp.x"],
        ),
        ("diffullama", &["denoise_model.norm.weight", "model.lm_head.weight", "a\nb"]),
    ] {
        for name in names {
            let copy = Copy::of(golden);
            copy.edit_tensors(WEIGHTS, |tensors| drop(tensors.insert((*name).to_owned(), floats())));
            copy.assert_refused(&["config.json", &name.escape_debug().to_string()]);
        }
    }
}

/// Older versions of transformers saved what follows from the configuration; the reference's wrapper holds the
/// embedding outside the trunk.
#[test]
fn known_leftovers_are_not_read() {
    let floats = || (Dtype::F32, vec![2], vec![0; 8]);
    for (golden, name) in [
        ("diffugpt-s", "denoise_model.h.0.attn.bias"),
        ("diffugpt-s", "denoise_model.h.2.attn.masked_bias"),
        ("diffugpt-s", "denoise_model.wte.weight"),
        ("diffullama", "model.layers.1.self_attn.rotary_emb.inv_freq"),
        ("diffullama", "model.rotary_emb.inv_freq"),
        ("diffullama-wrapper", "denoise_model.embed_tokens.weight"),
    ] {
        let copy = Copy::of(golden);
        copy.edit_tensors(WEIGHTS, |tensors| drop(tensors.insert(name.to_owned(), floats())));
        let checkpoint = Checkpoint::open(copy.0.path(), None).unwrap();
        assert_eq!(checkpoint.weights.unread(), [name]);
        copy.load(None).unwrap();
    }
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let copy = Copy::of("diffullama-gqa");
    let twice = "model.norm.weight";
    let first = "model-00001-of-00002.safetensors";
    let mut norm = None;
    copy.edit_tensors(SHARD, |tensors| norm = tensors.get(twice).cloned());
    copy.edit_tensors(first, |tensors| drop(tensors.insert(twice.to_owned(), norm.unwrap())));
    copy.assert_refused(&[twice, SHARD, first]);
}

#[test]
fn a_missing_head_is_the_embedding_only_where_the_configuration_says_so() {
    let without_head = |tied: Value| {
        let copy = Copy::of("diffullama");
        copy.edit_tensors(WEIGHTS, |tensors| drop(tensors.remove("lm_head.weight").unwrap()));
        copy.edit_json("config.json", |config| config["tie_word_embeddings"] = tied);
        copy
    };
    for tied in [json!(false), Value::Null] {
        without_head(tied).assert_refused(&["config.json", "tie_word_embeddings", "lm_head.weight"]);
    }
    let tied = without_head(json!(true));
    let copied = Copy::of("diffullama");
    copied.edit_tensors(WEIGHTS, |tensors| {
        let embedding = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".to_owned(), embedding).unwrap();
    });
    let ids: &[u32] = &[1, 7, 300, 259, 12];
    let logits = |copy: &Copy| {
        let predictor = copy.load(None).unwrap();
        predictor.all_logits(&[ids]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(logits(&tied), logits(&copied));
    let llada = Copy::of("llada");
    for shard in [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ] {
        llada.edit_tensors(shard, |tensors| drop(tensors.remove("model.transformer.ff_out.weight")));
    }
    llada.assert_refused(&["config.json", "weight_tying", "model.transformer.ff_out.weight"]);
    llada.edit_json("config.json", |config| config["weight_tying"] = json!(true));
    llada.load(None).unwrap();
    let gpt2 = Copy::of("diffugpt-s");
    gpt2.edit_json("config.json", |config| config["tie_word_embeddings"] = json!(false));
    gpt2.assert_refused(&["config.json", "tie_word_embeddings"]);
}

/// transformers would compute with the embedding, and other programs with the head.
#[test]
fn a_head_that_contradicts_the_configuration_is_refused() {
    for (model, field) in
        [("diffullama", "tie_word_embeddings"), ("dream", "tie_word_embeddings"), ("llada", "weight_tying")]
    {
        let copy = Copy::of(model);
        copy.edit_json("config.json", |config| config[field] = json!(true));
        copy.assert_refused(&["config.json", field, "is not the embedding"]);
    }
}

/// A wrapper's prefix stands before every name.
#[test]
fn names_behind_a_prefix_are_told_with_the_prefix() {
    for prefix in ["module.", "_orig_mod.", "base_model.model."] {
        let copy = Copy::of("diffullama");
        copy.edit_tensors(WEIGHTS, |tensors| {
            *tensors =
                tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect();
        });
        copy.assert_refused(&["model.embed_tokens.weight", "missing", &format!("begin with `{prefix}`")]);
    }
}

/// A network that was saved without the class of its head has no prefix.
#[test]
fn a_network_without_its_heads_class_is_read() {
    let copy = Copy::of("diffullama");
    copy.edit_json("config.json", |config| config["tie_word_embeddings"] = json!(true));
    copy.edit_tensors(WEIGHTS, |tensors| {
        tensors.remove("lm_head.weight");
        let bare = |name: &String| name.strip_prefix("model.").unwrap_or(name).to_owned();
        *tensors = tensors.iter().map(|(name, tensor)| (bare(name), tensor.clone())).collect();
    });
    copy.load(None).unwrap();
}

#[test]
fn an_index_that_is_odd_or_reaches_outside_is_refused() {
    let maps = [
        json!({"a": "../evil"}),
        json!({"a": "/etc/passwd"}),
        json!({"a": ".."}),
        json!({"a": "sub/model.safetensors"}),
        json!({"a": ""}),
        json!({"a": 7}),
        json!({"a": null}),
        json!({}),
        json!([]),
        json!("model.safetensors"),
        Value::Null,
    ];
    for map in maps {
        let copy = Copy::of("diffullama-gqa");
        copy.edit_json(INDEX, |index| index["weight_map"] = map);
        copy.assert_refused(&[INDEX, "weight_map"]);
    }
    let copy = Copy::of("diffullama-gqa");
    copy.edit_json(INDEX, |index| index["weight_map"] = json!({"a": "evil\nname"}));
    copy.refusal(None);
    for text in ["", "no json", "[]", "7"] {
        copy.write(INDEX, text);
        copy.assert_refused(&[INDEX]);
    }
}

#[test]
fn a_shard_that_the_index_forgets_is_missed_by_its_tensors() {
    let copy = Copy::of("diffullama-gqa");
    copy.edit_json(INDEX, |index| index["weight_map"] = json!({"a": "model-00001-of-00002.safetensors"}));
    copy.assert_refused(&[
        "tensor",
        "missing",
        "is in the folder and is not read",
        "model-00002-of-00002.safetensors",
    ]);
}

#[test]
fn weights_that_are_not_finite_fail_the_evaluation() {
    for (golden, tensor) in [
        ("diffugpt-s", "denoise_model.ln_f.weight"),
        ("diffugpt-s", "denoise_model.h.1.attn.c_attn.weight"),
        ("diffugpt-s", "embed_tokens.weight"),
        ("diffullama", "model.layers.0.mlp.up_proj.weight"),
        ("diffullama", "lm_head.weight"),
    ] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let copy = Copy::of(golden);
            copy.edit_tensors(WEIGHTS, |tensors| {
                for number in tensors.get_mut(tensor).unwrap().2.as_chunks_mut().0 {
                    *number = value.to_le_bytes();
                }
            });
            let mut predictor = copy.load(None).unwrap();
            let tokens = [5, 6, predictor.limits().mask_token];
            let wants = [Want { position: 2, uniform: 0.5, ..Want::default() }];
            let ask =
                Ask { tokens: &tokens, wants: &wants, samplings: &[Sampling::default()], ..Ask::default() };
            let result = predictor.predict(&[ask]);
            let found = matches!(result, Err(PredictError::NotFinite { ask: 0, position: 2 }));
            assert!(found, "{tensor} {value}: {result:?}");
        }
    }
}
