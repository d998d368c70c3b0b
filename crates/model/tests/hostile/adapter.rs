//! Adapters that are damaged, for another model, or of a kind that cannot be merged.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::damage::{Copy, assert_names};

const ADAPTER: &str = "adapter_model.safetensors";
const MODULE: &str = "base_model.model.denoise_model.layers.1.mlp.up_proj";

/// The message with which an edited adapter for `diffullama` is refused.
fn adapter_refusal(edit: impl FnOnce(&Copy)) -> String {
    let adapter = Copy::of("diffullama-gsm-lora");
    edit(&adapter);
    Copy::of("diffullama").refusal(Some(adapter.0.path()))
}

#[test]
fn an_adapter_with_missing_or_damaged_files_is_refused() {
    let nowhere = tempfile::tempdir().unwrap();
    let message = Copy::of("diffullama").refusal(Some(&nowhere.path().join("nowhere")));
    assert_names(&message, &["nowhere"]);
    for name in ["adapter_config.json", ADAPTER] {
        assert_names(&adapter_refusal(|adapter| adapter.remove(name)), &[name, "missing"]);
        assert_names(&adapter_refusal(|adapter| adapter.write(name, "")), &[name]);
        assert_names(&adapter_refusal(|adapter| adapter.write(name, "no json, no tensors")), &[name]);
    }
    let shortened = |adapter: &Copy| adapter.write(ADAPTER, &adapter.read(ADAPTER)[..1000]);
    assert_names(&adapter_refusal(shortened), &[ADAPTER]);
}

#[test]
fn an_adapter_for_another_model_is_refused() {
    let adapter = Copy::of("diffullama-gsm-lora");
    let message = Copy::of("diffullama-gqa").refusal(Some(adapter.0.path()));
    assert_names(&message, &[ADAPTER, "lora_B"]);
    let message = Copy::of("diffugpt-s").refusal(Some(adapter.0.path()));
    assert_names(&message, &[ADAPTER, "does not have"]);
}

#[test]
fn an_adapter_of_a_kind_that_cannot_be_merged_is_refused_by_field() {
    let cases = [
        ("peft_type", json!("IA3")),
        ("peft_type", json!(null)),
        ("peft_type", json!("a\nb")),
        ("use_dora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("bias", json!("all")),
        ("bias", json!("a\nb")),
        ("rank_pattern", json!({"q_proj": 8})),
        ("alpha_pattern", json!({"q_proj": 8})),
        ("r", json!(0)),
        ("r", json!(-4)),
        ("r", json!("4")),
        ("r", json!(null)),
        ("lora_alpha", json!(0)),
        ("lora_alpha", json!([])),
    ];
    for (field, value) in cases {
        let edit = |config: &mut Value| config[field] = value;
        let message = adapter_refusal(|adapter| adapter.edit_json("adapter_config.json", edit));
        assert_names(&message, &["adapter_config.json", field]);
    }
}

#[test]
fn an_adapter_whose_factors_do_not_pair_is_refused() {
    for part in ["lora_A", "lora_B"] {
        let name = format!("{MODULE}.{part}.weight");
        let message = adapter_refusal(|adapter| {
            adapter.edit_tensors(ADAPTER, |tensors| drop(tensors.remove(&name).unwrap()));
        });
        assert_names(&message, &[ADAPTER, &name]);
    }
}

#[test]
fn an_adapter_whose_rank_is_not_the_configured_one_is_refused() {
    let double = |adapter: &Copy| adapter.edit_json("adapter_config.json", |config| config["r"] = json!(8));
    assert_names(&adapter_refusal(double), &[ADAPTER, "lora_A"]);
}

#[test]
fn adapter_tensors_of_other_shapes_types_and_names_are_refused() {
    let change = |name: &str, to: Option<&str>, tensor: (Dtype, Vec<usize>, Vec<u8>)| {
        adapter_refusal(|adapter| {
            adapter.edit_tensors(ADAPTER, |tensors| {
                tensors.remove(name).unwrap();
                tensors.insert(to.unwrap_or(name).to_owned(), tensor);
            });
        })
    };
    let floats = |shape: &[usize]| (Dtype::F32, shape.to_vec(), vec![0; shape.iter().product::<usize>() * 4]);
    let (a, b) = (format!("{MODULE}.lora_A.weight"), format!("{MODULE}.lora_B.weight"));
    let table = "base_model.model.embed_tokens.weight";
    for (name, tensor) in [
        (a.as_str(), floats(&[64, 4])),
        (&a, floats(&[4])),
        (&a, floats(&[])),
        (&a, floats(&[0, 64])),
        (&a, (Dtype::I64, vec![4, 64], vec![0; 2048])),
        (&b, floats(&[4, 172])),
        (&b, floats(&[172, 5])),
        (table, floats(&[601, 64])),
        (table, floats(&[64])),
        (table, (Dtype::I64, vec![600, 64], vec![0; 600 * 64 * 8])),
    ] {
        assert_names(&change(name, None, tensor), &[ADAPTER, name]);
    }
    for other in ["something", "two\nlines", "base_model.model.layers.0.mlp.up_proj.lora_magnitude_vector"] {
        let named = other.escape_debug().to_string();
        assert_names(&change(table, Some(other), floats(&[1])), &[ADAPTER, &named]);
    }
}

#[test]
fn an_adapter_for_what_is_no_linear_layer_is_refused() {
    for module in ["layers.0.input_layernorm", "norm", "embed_tokens", "layers.0.no\nthing", ""] {
        let message = adapter_refusal(|adapter| {
            adapter.edit_tensors(ADAPTER, |tensors| {
                for part in ["lora_A", "lora_B"] {
                    let tensor = tensors.remove(&format!("{MODULE}.{part}.weight")).unwrap();
                    tensors.insert(format!("base_model.model.model.{module}.{part}.weight"), tensor);
                }
            });
        });
        assert_names(&message, &[ADAPTER, &format!("`{}`", module.escape_debug())]);
    }
}

#[test]
fn an_adapter_without_any_tensor_is_refused() {
    let message = adapter_refusal(|adapter| adapter.edit_tensors(ADAPTER, BTreeMap::clear));
    assert_names(&message, &[ADAPTER]);
}
