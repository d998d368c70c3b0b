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
        ("use_rslora", json!("yes")),
        ("lora_bias", json!(true)),
        ("use_qalora", json!(true)),
        ("layer_replication", json!([[0, 2], [1, 3]])),
        ("trainable_token_indices", json!([1, 2])),
        ("target_parameters", json!(["gate_up_proj"])),
        ("alora_invocation_tokens", json!([5])),
        ("some_later_field", json!({"of": "PEFT"})),
        ("bias", json!("all")),
        ("bias", json!("a\nb")),
        ("rank_pattern", json!({"q_proj": 0})),
        ("rank_pattern", json!(8)),
        ("alpha_pattern", json!({"q_proj": "8"})),
        ("alpha_pattern", json!({"q_(proj": 8})),
        ("alpha_pattern", json!({"q_proj": 8, "self_attn.q_proj": 4})),
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

/// PEFT takes a part of the base's weights out when it loads these.
#[test]
fn an_adapter_trained_from_other_base_weights_is_refused_with_advice() {
    for start in ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga", "mica", "later"] {
        let edit = |config: &mut Value| config["init_lora_weights"] = json!(start);
        let message = adapter_refusal(|adapter| adapter.edit_json("adapter_config.json", edit));
        let parts =
            ["init_lora_weights", start, "path_initial_model_for_weight_conversion", "merge_and_unload"];
        assert_names(&message, &parts);
    }
    for start in
        [json!(true), json!(false), json!(null), json!("gaussian"), json!("eva"), json!("orthogonal")]
    {
        let adapter = Copy::of("diffullama-gsm-lora");
        adapter.edit_json("adapter_config.json", |config| config["init_lora_weights"] = start.clone());
        assert!(Copy::of("diffullama").load(Some(adapter.0.path())).is_ok(), "{start}");
    }
}

/// PEFT sets it right by the kind of the layer.
#[test]
fn the_orientation_of_an_adapter_follows_from_its_base() {
    let adapter = Copy::of("diffullama-gsm-lora");
    adapter.edit_json("adapter_config.json", |config| config["fan_in_fan_out"] = json!(true));
    let turned = Copy::of("diffullama");
    let plain = Copy::of("diffullama-gsm-lora");
    let ids: &[u32] = &[1, 7, 300, 259, 12];
    let logits = |adapter: &Copy| {
        let predictor = turned.load(Some(adapter.0.path())).unwrap();
        predictor.all_logits(&[ids]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(logits(&adapter), logits(&plain));
}

#[test]
fn a_tied_head_that_the_adapter_would_tie_again_is_refused() {
    let tied = Copy::of("diffullama");
    tied.edit_tensors("model.safetensors", |tensors| drop(tensors.remove("lm_head.weight").unwrap()));
    tied.edit_json("config.json", |config| config["tie_word_embeddings"] = json!(true));
    let adapter = Copy::of("diffullama-gsm-lora");
    assert!(tied.load(Some(adapter.0.path())).is_ok());
    adapter.edit_json("adapter_config.json", |config| config["ensure_weight_tying"] = json!(true));
    assert_names(&tied.refusal(Some(adapter.0.path())), &["ensure_weight_tying", "merge_and_unload"]);
    assert!(Copy::of("diffullama").load(Some(adapter.0.path())).is_ok(), "a head of its own is not tied");
}

#[test]
fn a_model_that_is_given_as_an_adapter_is_named_as_one() {
    let message = Copy::of("diffullama").refusal(Some(Copy::of("diffullama").0.path()));
    assert_names(&message, &["adapter_config.json", "missing", "--model"]);
}

#[test]
fn an_adapter_that_is_only_a_pickle_is_refused_with_the_way_to_convert_it() {
    let message = adapter_refusal(|adapter| {
        adapter.remove(ADAPTER);
        adapter.write("adapter_model.bin", b"\x80\x02");
    });
    assert_names(&message, &["adapter_model.bin", "save_file", "weights_only=True", ADAPTER]);
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
    let a = format!("{MODULE}.lora_A.weight");
    let b = format!("{MODULE}.lora_B.weight");
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
