//! Any sizes in `config.json`: the configuration is refused in one line, or a network of that shape with random
//! weights evaluates a canvas. Two bytes for each size; the first byte chooses the architecture and the precision.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tempfile::TempDir;
use unmask_model::checkpoint::{Family, ModelConfig, ModelFiles, StoredType, Weights};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{Ask, CandlePredictor, MaskPredictor, ModelLimits, Sampling, Want};

/// Larger networks take longer than an input may.
const MOST_NUMBERS: usize = 1 << 20;
const VOCABULARY: usize = 37;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder for temporary files"));

fuzz_target!(|input: &[u8]| {
    let Some((first, sizes)) = input.split_first() else { return };
    let gpt2 = first % 2 == 0;
    let size = |field: usize| sizes.get(2 * field..2 * field + 2).map(|size| u16::from_le_bytes([size[0], size[1]]));
    let fields = if gpt2 {
        &["n_layer", "n_embd", "n_head", "n_positions", "n_inner"][..]
    } else {
        &[
            "num_hidden_layers",
            "hidden_size",
            "num_attention_heads",
            "max_position_embeddings",
            "intermediate_size",
            "num_key_value_heads",
            "head_dim",
        ]
    };
    let mut config = json!({ "model_type": if gpt2 { "gpt2" } else { "llama" } });
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
    let wide = config.width.max(config.head_count * config.head_width);
    let a_layer = wide.saturating_mul(wide.saturating_mul(4).saturating_add(config.mlp_width.saturating_mul(3)));
    if config.layers.saturating_mul(a_layer).max(config.context.saturating_mul(wide)) > MOST_NUMBERS {
        return;
    }
    let precision = [Precision::F32, Precision::Bf16, Precision::Int8][usize::from(first / 2) % 3];
    let family = if gpt2 { Family::DiffuGpt } else { Family::DiffuLlama };
    for cpu in CpuFeatures::available() {
        let placement = Placement::new(DeviceChoice::Cpu, precision, family, cpu).expect("a CPU");
        let limits = ModelLimits { vocabulary: VOCABULARY, context: config.context, mask_token: 0, shift: true };
        let weights = Weights::random(VOCABULARY, StoredType::F32);
        let mut predictor = CandlePredictor::new(&config, &weights, limits, &placement, 1).expect("weights that fit");
        let tokens: Vec<u32> = (0..config.context.min(20) as u32).map(|position| position % VOCABULARY as u32).collect();
        let wants: Vec<Want> =
            (1..tokens.len() as u32).map(|position| Want { position, ..Want::default() }).collect();
        let ask = Ask { tokens: &tokens, wants: &wants, samplings: &[Sampling::default()], ..Ask::default() };
        let reads = predictor.predict(&[ask]).expect("an evaluation");
        assert_eq!(reads[0].len(), wants.len());
    }
});
