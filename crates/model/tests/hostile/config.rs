//! Configurations that are garbage, make no sense, or contradict the weights.

use serde_json::json;
use unmask_model::checkpoint::{Checkpoint, Visibility};

use crate::damage::Copy;

#[test]
fn other_architectures_are_refused_by_name() {
    for found in ["mistral", "bert", "a\nb", ""] {
        let copy = Copy::of("diffullama");
        copy.edit_json("config.json", |config| config["model_type"] = json!(found));
        // With a mask it is no autoregressive model, whatever its class is called.
        let supported =
            ["config.json", "llama (DiffuLLaMA, --family diffullama)", "Dream (Dream, --family dream)"];
        copy.assert_refused(&supported);
        copy.remove("tokenizer_config.json");
        copy.remove("special_tokens_map.json");
        copy.assert_refused(&["config.json", "autoregressive"]);
        copy.edit_json("config.json", |config| config["architectures"] = json!(["BertModel"]));
        copy.assert_refused(&supported);
    }
    let copy = Copy::of("diffullama");
    copy.edit_json("config.json", |config| config["model_type"] = json!("gpt2"));
    copy.assert_refused(&["config.json", "rope_theta"]);
    let copy = Copy::of("diffugpt-s");
    copy.edit_json("config.json", |config| config["model_type"] = json!("llama"));
    copy.assert_refused(&["config.json"]);
}

#[test]
fn counts_of_the_configuration_that_make_no_sense_are_refused_by_field() {
    let values = [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("64"),
        json!(true),
        json!([]),
        json!({}),
        json!(1 << 21),
        json!(u64::MAX),
        json!(1e300),
    ];
    let gpt2 = ["n_embd", "n_head", "n_layer", "n_positions", "n_inner", "model_type"];
    let llama = [
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "num_hidden_layers",
        "intermediate_size",
        "max_position_embeddings",
        "head_dim",
        "model_type",
    ];
    for (golden, fields) in [("diffugpt-s", &gpt2[..]), ("diffullama", &llama[..])] {
        for field in fields {
            for value in values.iter().filter(|value| *field != "model_type" || !value.is_string()) {
                let copy = Copy::of(golden);
                copy.edit_json("config.json", |config| config[field] = value.clone());
                copy.assert_refused(&["config.json", field]);
            }
        }
    }
}

#[test]
fn invalid_numbers_and_flags_of_the_configuration_are_refused_by_field() {
    let numbers = [json!(0), json!(-1e-5), json!("1e-5"), json!([]), json!(true)];
    let flags = [json!("yes"), json!(1), json!({})];
    let cases = [
        ("diffugpt-s", "layer_norm_epsilon", &numbers[..]),
        ("diffugpt-s", "scale_attn_weights", &flags[..]),
        ("diffugpt-s", "scale_attn_weights", &[json!(false)]),
        ("diffugpt-s", "scale_attn_by_inverse_layer_idx", &[json!(true)]),
        ("diffugpt-s", "activation_function", &[json!("relu"), json!("a\nb"), json!(7)]),
        ("diffullama", "rms_norm_eps", &numbers[..]),
        ("diffullama", "rope_theta", &numbers[..]),
        ("diffullama", "rope_scaling", &[json!({"type": "linear", "factor": 0.5}), json!("x"), json!(2)]),
        ("diffullama", "rope_freqs", &[json!(2)]),
        ("diffullama", "attention_multiplier", &[json!(0.5), json!(1)]),
        ("diffullama", "embedding_multiplier", &[json!(12)]),
        ("diffullama", "residual_multiplier", &[json!(0.22)]),
        ("diffullama", "attn_logit_softcapping", &[json!(50.0)]),
        ("diffullama", "final_logit_softcapping", &[json!(30.0), json!(1.0)]),
        ("diffullama", "query_pre_attn_scalar", &[json!(4)]),
        ("diffullama", "rotary_pct", &[json!(0.25)]),
        ("diffullama", "rotary_dim", &[json!(4)]),
        ("diffullama", "rotary_emb_base", &[json!(5000)]),
        ("diffullama", "no_rope_layers", &[json!([0, 0, 0])]),
        ("diffullama", "clip_qkv", &[json!(1)]),
        ("diffullama", "hidden_activation", &[json!("gelu")]),
        ("diffullama", "use_qk_norm", &[json!(true)]),
        ("diffullama", "use_qkv_bias", &[json!(true)]),
        ("diffullama", "use_parallel_residual", &[json!(true)]),
        ("diffullama", "parallel_attn", &[json!(true)]),
        ("diffullama", "num_local_experts", &[json!(8)]),
        ("dream", "num_experts", &[json!(8)]),
        ("llada", "hidden_act", &[json!("gelu")]),
        ("llada", "use_sliding_window", &[json!(true)]),
        ("llada2", "rotary_dim", &[json!(4)]),
        ("diffullama", "logits_scaling", &[json!(8.0)]),
        ("diffullama", "use_sliding_window", &[json!(true)]),
        ("diffullama", "layer_types", &[json!(["full_attention", "sliding_attention"]), json!(1)]),
        ("diffullama", "mask_token_id", &[json!(-1), json!("m"), json!(1.5)]),
        ("llada", "alibi", &[json!(true), json!(1)]),
        ("llada", "input_emb_norm", &[json!(true)]),
        ("llada", "attention_layer_norm", &[json!(true)]),
        ("llada", "scale_logits", &[json!(true)]),
        ("llada", "include_qkv_bias", &[json!(true)]),
        ("llada", "block_type", &[json!("sequential")]),
        ("llada", "activation_type", &[json!("gelu")]),
        ("llada", "layer_norm_type", &[json!("default")]),
        ("llada", "rope", &[json!(false)]),
        ("llada", "clip_qkv", &[json!(8.0)]),
        ("llada", "d_model", &numbers[..3]),
        ("llada", "n_heads", &[json!(0), json!(5)]),
        ("llada", "n_kv_heads", &[json!(3)]),
        ("dream", "use_mrope", &[json!(true)]),
        ("dream", "rope_scaling", &[json!({"type": "su", "factor": 2.0})]),
        ("llada-moe", "norm_topk_prob", &[json!(true)]),
        ("llada-moe", "num_experts_per_tok", &[json!(0), json!(9)]),
        ("llada-moe", "num_experts", &[json!(0), json!(2)]),
        ("llada-moe", "shared_expert_intermediate_size", &[json!(32)]),
        ("llada-moe", "moe_router_score_function", &[json!("sigmoid")]),
        ("llada-moe", "moe_router_enable_expert_bias", &[json!(true)]),
        ("llada-moe", "moe_layer_freq", &[json!([1, 1]), json!([1, 1, 2]), json!(1)]),
        ("llada-moe", "routed_scaling_factor", &[json!(2.5)]),
        ("sdar", "block_size", &[json!(0), json!("4"), json!(1.5)]),
        ("sdar", "use_sliding_window", &[json!(true)]),
        ("llada2", "score_function", &[json!("softmax"), json!(1)]),
        ("llada2", "router_dtype", &[json!("bf16")]),
        ("llada2", "n_group", &[json!(3), json!(-1), json!(32)]),
        ("llada2", "topk_group", &[json!(5), json!("2")]),
        ("llada2", "num_experts_per_tok", &[json!(0), json!(9), json!(17)]),
        ("llada2", "partial_rotary_factor", &[json!(0), json!(1.5), json!(0.3), json!("half")]),
        ("llada2", "use_bias", &[json!(true)]),
        ("llada2", "use_qkv_bias", &[json!(true)]),
        ("llada2", "norm_head", &[json!(true)]),
        ("llada2", "routed_scaling_factor", &[json!(0), json!("2.5")]),
        ("llada2", "moe_shared_expert_intermediate_size", &[json!(24)]),
        ("llada2", "first_k_dense_replace", &[json!(-1), json!(0.5)]),
        ("dream", "partial_rotary_factor", &[json!(0.5)]),
        ("diffullama", "attention_bias", &[json!(true), json!("no")]),
        ("diffullama", "mlp_bias", &[json!(true)]),
        ("diffullama", "hidden_act", &[json!("relu"), json!(null)][..1]),
    ];
    for (golden, field, values) in cases {
        for value in values {
            let copy = Copy::of(golden);
            copy.edit_json("config.json", |config| config[field] = value.clone());
            copy.assert_refused(&["config.json", field]);
        }
    }
}

/// Released files carry fields of their class that leave the network as it is.
#[test]
fn fields_that_ask_for_nothing_are_read_past() {
    let cases = [
        ("diffullama", "embedding_multiplier", json!(1.0)),
        ("diffullama", "logits_scaling", json!(1)),
        ("diffullama", "final_logit_softcapping", json!(null)),
        ("diffullama", "attn_logit_softcapping", json!(0)),
        ("diffullama", "rotary_pct", json!(1.0)),
        ("diffullama", "no_rope_layers", json!([])),
        ("diffullama", "use_parallel_residual", json!(false)),
        ("diffullama", "num_experts", json!(0)),
        ("llada-moe", "shared_expert_intermediate_size", json!(0)),
        ("llada-moe", "router_num_group", json!(1)),
        ("llada-moe", "model_type", json!("lladamoe")),
        ("llada2", "model_type", json!("llada2_moe_veomni")),
        ("llada", "model_type", json!("LLaDA")),
        ("fast-dllm-v2", "model_type", json!("fast_dllm_qwen")),
        // Qwen2 has its biases whatever this says.
        ("dream", "attention_bias", json!(true)),
        // Another name of the type, and a class that is known.
        ("dream", "model_type", json!("mine")),
    ];
    for (golden, field, value) in cases {
        let copy = Copy::of(golden);
        copy.edit_json("config.json", |config| config[field] = value.clone());
        copy.load(None).unwrap_or_else(|error| panic!("{golden}: {field} = {value}: {error}"));
    }
    let copy = Copy::of("llada2");
    copy.edit_json("config.json", |config| {
        let theta = config["rope_theta"].take();
        config["rope_parameters"] =
            json!({"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": 0.5});
        config["partial_rotary_factor"] = json!(null);
    });
    copy.load(None).unwrap();
    copy.edit_json("config.json", |config| config["partial_rotary_factor"] = json!(1.0));
    copy.assert_refused(&["rope_parameters.partial_rotary_factor", "0.5", "1"]);
}

/// The epsilon of another norm would be taken for the usual one.
#[test]
fn an_epsilon_under_another_name_is_refused() {
    for name in ["layer_norm_eps", "layer_norm_epsilon", "rms_norm_epsilon"] {
        let copy = Copy::of("diffullama");
        copy.edit_json("config.json", |config| {
            config[name] = config["rms_norm_eps"].take();
        });
        copy.assert_refused(&[name, "rms_norm_eps"]);
    }
}

/// A fine-tuned model is saved without the class that it is known by; its mask is spelled as before.
#[test]
fn a_family_is_known_by_the_spelling_of_its_mask() {
    let copy = Copy::of("stable-diffcoder");
    copy.edit_json("config.json", |config| {
        config["auto_map"].take();
        config["architectures"] = json!(["LlamaForCausalLM"]);
    });
    let read = Checkpoint::open(copy.0.path(), None).unwrap();
    assert_eq!(read.config.family.name, "stable-diffcoder");
    assert!(matches!(read.config.spec.visibility, Visibility::BlockCausal { block: 4 }));
}

/// Python writes numbers that JSON does not have, in fields that change nothing here.
#[test]
fn numbers_that_only_python_writes_are_told_by_their_field() {
    for (name, text) in [
        ("config.json", r#"{"time_step_limit": [0.0, Infinity], "#),
        ("tokenizer_config.json", r#"{"model_max_length": Infinity, "#),
    ] {
        let copy = Copy::of("diffullama");
        let file = String::from_utf8(copy.read(name)).unwrap();
        copy.write(name, file.replacen('{', text, 1));
        copy.load(None).unwrap();
    }
    let copy = Copy::of("diffullama");
    let file = String::from_utf8(copy.read("config.json")).unwrap();
    copy.write("config.json", file.replace("10000.0", "-Infinity"));
    copy.assert_refused(&["rope_theta", "-Infinity"]);
}

/// transformers 5 writes it where it wrote `rope_scaling` before.
#[test]
fn the_base_of_the_rotation_is_read_wherever_it_stands() {
    let ids: &[u32] = &[1, 7, 300, 259, 12, 30, 31];
    let logits = |copy: &Copy| {
        let predictor = copy.load(None).unwrap();
        predictor.all_logits(&[ids]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let expected = logits(&Copy::of("diffullama-gqa"));
    let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
        let copy = Copy::of("diffullama-gqa");
        copy.edit_json("config.json", |config| {
            let object = config.as_object_mut().unwrap();
            object.remove("rope_scaling");
            object.remove("rope_theta");
            edit(config);
        });
        copy
    };
    let theta = 500_000.0;
    for (name, parameters) in [
        ("rope_parameters", json!({"rope_theta": theta})),
        ("rope_parameters", json!({"rope_theta": theta, "rope_type": "default"})),
        ("rope_parameters", json!({"rope_theta": 500_000, "rope_type": "linear", "factor": 1})),
        ("rope_parameters", json!({"rope_theta": theta, "partial_rotary_factor": 1.0, "factor": null})),
        ("rope_scaling", json!({"rope_theta": theta, "type": "default"})),
    ] {
        let copy = edited(&|config| config[name] = parameters.clone());
        assert_eq!(logits(&copy), expected, "{name} {parameters}");
        let twice = edited(&|config| {
            config[name] = parameters.clone();
            config["rope_theta"] = json!(theta);
        });
        assert_eq!(logits(&twice), expected, "{name} {parameters}");
    }
    for nothing in
        [json!({}), json!(null), json!({"rope_type": "default"}), json!({"type": "linear", "factor": 1.0})]
    {
        let copy = edited(&|config| {
            config["rope_theta"] = json!(theta);
            config["rope_scaling"] = nothing.clone();
            config["rope_parameters"] = nothing.clone();
        });
        assert_eq!(logits(&copy), expected, "{nothing}");
    }
    assert_ne!(logits(&edited(&|_| {})), expected, "transformers' default is another base");
}

#[test]
fn rotations_that_are_not_computed_are_refused_by_field() {
    for (name, value) in [
        ("rope_parameters", json!({"rope_type": "linear"})),
        ("rope_parameters", json!({"rope_type": "linear", "factor": 0.25})),
        ("rope_parameters", json!({"rope_type": "yarn", "factor": 0.5})),
        ("rope_parameters", json!({"rope_type": "yarn", "factor": 4.0, "mscale": 1.0})),
        ("rope_parameters", json!({"rope_type": "longrope", "factor": 4.0})),
        ("rope_parameters", json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0})),
        ("rope_parameters", json!({"rope_type": "dynamic", "factor": 1.0})),
        ("rope_parameters", json!({"rope_type": 7})),
        ("rope_parameters", json!({"factor": 2.0})),
        ("rope_parameters", json!({"rope_theta": "500000"})),
        ("rope_parameters", json!({"rope_theta": 0})),
        ("rope_parameters", json!({"rope_theta": 10_001.0})),
        ("rope_parameters", json!({"partial_rotary_factor": 0.5})),
        ("rope_parameters", json!({"full_attention": {"rope_theta": 10_000.0}})),
        ("rope_parameters", json!([])),
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0})),
        ("partial_rotary_factor", json!(0.5)),
        ("quantization_config", json!({"quant_method": "gptq"})),
    ] {
        let copy = Copy::of("diffullama");
        copy.edit_json("config.json", |config| config[name] = value.clone());
        copy.assert_refused(&["config.json", name]);
    }
}

/// Other keys that would make another network of the weights.
#[test]
fn fewer_layers_than_the_files_hold_are_refused() {
    for (golden, field, named) in [
        ("diffullama", "num_hidden_layers", "model.layers.2.input_layernorm.weight"),
        ("diffullama-gqa", "num_hidden_layers", "model.layers.2.input_layernorm.weight"),
        ("diffullama-wrapper", "num_hidden_layers", "denoise_model.layers.2.input_layernorm.weight"),
        ("diffugpt-s", "n_layer", "denoise_model.h.2.attn.c_attn.bias"),
    ] {
        let copy = Copy::of(golden);
        copy.edit_json("config.json", |config| config[field] = json!(2));
        copy.assert_refused(&["config.json", named, "2 layers"]);
    }
}

#[test]
fn fields_that_are_missing_are_named() {
    for field in ["n_embd", "n_head", "n_layer", "n_positions", "model_type"] {
        let copy = Copy::of("diffugpt-s");
        copy.edit_json("config.json", |config| drop(config.as_object_mut().unwrap().remove(field)));
        copy.assert_refused(&["config.json", field, "missing"]);
    }
}

#[test]
fn a_configuration_that_contradicts_the_weights_is_refused() {
    let cases = [
        ("diffugpt-s", "n_head", json!(7), "n_head"),
        ("diffugpt-s", "n_layer", json!(4), "h.3."),
        ("diffugpt-s", "n_layer", json!(1 << 20), "h.3."),
        ("diffugpt-s", "n_positions", json!(63), "wpe.weight"),
        ("diffugpt-s", "n_positions", json!(1 << 20), "wpe.weight"),
        ("diffugpt-s", "n_embd", json!(128), "embed_tokens.weight"),
        ("diffugpt-s", "n_embd", json!(1 << 20), "embed_tokens.weight"),
        ("diffugpt-s", "n_inner", json!(100), "mlp.c_fc"),
        ("diffugpt-s", "n_inner", json!(1 << 20), "mlp.c_fc"),
        ("diffullama", "num_attention_heads", json!(7), "num_attention_heads"),
        ("diffullama", "num_attention_heads", json!(64), "head_dim"),
        ("diffullama", "num_key_value_heads", json!(3), "num_key_value_heads"),
        ("diffullama", "num_key_value_heads", json!(2), "k_proj"),
        ("diffullama", "num_key_value_heads", json!(8), "num_key_value_heads"),
        ("diffullama", "num_hidden_layers", json!(4), "layers.3."),
        ("diffullama", "intermediate_size", json!(1 << 20), "gate_proj"),
        ("diffullama", "head_dim", json!(32), "q_proj"),
        ("diffullama", "head_dim", json!(15), "head_dim"),
        ("diffullama", "head_dim", json!(1 << 20), "head_dim"),
    ];
    for (golden, field, value, named) in cases {
        let copy = Copy::of(golden);
        copy.edit_json("config.json", |config| config[field] = value);
        copy.assert_refused(&[named]);
    }
}

#[test]
fn rotation_tables_that_no_memory_could_hold_are_not_built() {
    let copy = Copy::of("diffullama");
    copy.edit_json("config.json", |config| {
        config["head_dim"] = json!(1 << 20);
        config["max_position_embeddings"] = json!(1 << 20);
    });
    copy.assert_refused(&["config.json", "head_dim"]);
}

#[test]
fn configurations_that_are_no_json_object_are_refused() {
    let copy = Copy::of("diffugpt-s");
    let deep = "{\"a\":".repeat(100_000);
    for text in ["", "{", "[]", "7", "null", "\"gpt2\"", "{\"model_type\": \"gpt2\",}", "\u{feff}{}", &deep] {
        copy.write("config.json", text);
        copy.assert_refused(&["config.json"]);
    }
    copy.write("config.json", b"{\"model_type\": \"\xff\"}");
    copy.assert_refused(&["config.json"]);
}

/// A repair of anything else would be of no use.
#[test]
fn an_autoregressive_checkpoint_is_told_so_before_anything_else() {
    let copy = Copy::of("dream");
    copy.edit_json("config.json", |config| {
        config["model_type"] = json!("qwen2");
        config["architectures"] = json!(["Qwen2ForCausalLM"]);
        drop(config.as_object_mut().unwrap().remove("mask_token_id"));
    });
    // Its tokenizer names a mask, so it is a diffusion model.
    copy.load(None).unwrap();
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        copy.edit_json(name, |settings| drop(settings.as_object_mut().unwrap().remove("mask_token")));
    }
    copy.assert_refused(&["config.json", "`qwen2` is an autoregressive model"]);
    copy.edit_json("config.json", |config| {
        config["quantization_config"] = json!({ "quant_method": "gptq" });
        config["hidden_size"] = json!(0);
    });
    for name in ["merges.txt", "vocab.json", "added_tokens.json", "model.safetensors.index.json"] {
        copy.remove(name);
        copy.assert_refused(&["config.json", "`qwen2` is an autoregressive model"]);
    }
    copy.remove("tokenizer_config.json");
    copy.assert_refused(&["config.json", "`qwen2` is an autoregressive model"]);
}
