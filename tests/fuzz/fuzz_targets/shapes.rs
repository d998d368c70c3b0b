//! Any sizes in `config.json`: the configuration is refused in one line, or a network of that shape with random
//! weights evaluates a canvas. Two bytes for each size; the first byte chooses the architecture and the precision.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tempfile::TempDir;
use unmask_model::checkpoint::{FeedForward, ModelConfig, ModelFiles, StoredType, Weights};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{Ask, CandlePredictor, MaskPredictor, ModelLimits, Sampling, Want, Visibility};

/// Larger networks take longer than an input may.
const MOST_NUMBERS: usize = 1 << 20;
const VOCABULARY: usize = 37;

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a folder for temporary files"));

fuzz_target!(|input: &[u8]| {
    let Some((first, sizes)) = input.split_first() else { return };
    let kind = ["gpt2", "llama", "Dream", "llada_moe"][usize::from(first % 4)];
    let size =
        |field: usize| sizes.get(2 * field..2 * field + 2).map(|size| u16::from_le_bytes([size[0], size[1]]));
    let fields = if kind == "gpt2" {
        &["n_layer", "n_embd", "n_head", "n_positions", "n_inner"][..]
    } else {
        &[
            "num_hidden_layers",
            "hidden_size",
            "num_attention_heads",
            "max_position_embeddings",
            if kind == "llada_moe" { "expert_intermediate_size" } else { "intermediate_size" },
            "num_key_value_heads",
            "head_dim",
            "num_experts",
            "num_experts_per_tok",
        ]
    };
    let mut config = json!({ "model_type": kind, "qk_layernorm": first % 8 > 3 });
    for (number, field) in fields.iter().enumerate() {
        config[*field] = size(number).map_or(Value::Null, Value::from);
    }
    std::fs::write(FOLDER.path().join("config.json"), config.to_string()).expect("a writable folder");
    let files = ModelFiles::open(FOLDER.path()).expect("a folder");
    let config = match ModelConfig::read(&files) {
        Ok(config) => config,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control), "{message:?}");
            return;
        }
    };
    let spec = &config.spec;
    let wide = spec.width.max(spec.head_count * spec.head_width);
    let inner = spec.feed_forward.iter().map(|kind| match kind {
        FeedForward::Gelu { width } | FeedForward::SwiGlu { width } => *width,
        FeedForward::Experts(experts) => experts.count.saturating_mul(experts.width.saturating_add(1)),
    });
    let inner = inner.max().unwrap_or(0);
    let a_layer = wide.saturating_mul(wide.saturating_mul(4).saturating_add(inner.saturating_mul(3)));
    let numbers = spec.layers().saturating_mul(a_layer);
    if numbers.max(spec.context.saturating_mul(wide)) > MOST_NUMBERS {
        return;
    }
    let precision = [Precision::F32, Precision::Bf16, Precision::Int8][usize::from(first / 8) % 3];
    for cpu in CpuFeatures::available() {
        let placement = Placement::new(DeviceChoice::Cpu, precision, config.family, cpu).expect("a CPU");
        let limits =
            ModelLimits { vocabulary: VOCABULARY, context: spec.context, mask_token: 0, shift: true, visibility: Visibility::Full };
        let weights = Weights::random(VOCABULARY, StoredType::F32);
        let mut predictor =
            CandlePredictor::new(spec, &weights, limits, &placement, 1).expect("weights that fit");
        let tokens: Vec<u32> =
            (0..spec.context.min(20) as u32).map(|position| position % VOCABULARY as u32).collect();
        let wants: Vec<Want> =
            (1..tokens.len() as u32).map(|position| Want { position, ..Want::default() }).collect();
        let ask = Ask { tokens: &tokens, wants: &wants, samplings: &[Sampling::default()], ..Ask::default() };
        let reads = predictor.predict(&[ask]).expect("an evaluation");
        assert_eq!(reads[0].len(), wants.len());
    }
});
