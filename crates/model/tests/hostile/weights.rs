//! Weights that are damaged, incomplete, of another shape or type, or not finite.

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use unmask_model::error::PredictError;
use unmask_model::predictor::{Ask, MaskPredictor, Sampling, Want};

use crate::damage::{Copy, INDEX, WEIGHTS};

#[test]
fn weights_that_end_early_are_refused() {
    let original = Copy::of("diffugpt-s").read(WEIGHTS);
    let copy = Copy::of("diffugpt-s");
    for length in [0, 1, 4, 7, 8, 9, 100, 3864, 3865, original.len() / 2, original.len() - 1] {
        copy.write(WEIGHTS, &original[..length]);
        copy.assert_refused(&[WEIGHTS]);
    }
    copy.write(WEIGHTS, [&original[..], b"x"].concat());
    copy.assert_refused(&[WEIGHTS]);
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
    for (golden, file, except) in [("diffugpt-s", WEIGHTS, ""), ("diffullama", WEIGHTS, "lm_head.weight")] {
        let original = Copy::of(golden).read(file);
        let tensors = SafeTensors::deserialize(&original).unwrap();
        for name in tensors.names().into_iter().filter(|name| *name != except) {
            let copy = Copy::of(golden);
            copy.edit_tensors(file, |tensors| drop(tensors.remove(name).unwrap()));
            copy.assert_refused(&[file, name, "missing"]);
        }
    }
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
    copy.assert_refused(&["tensor", "missing"]);
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
