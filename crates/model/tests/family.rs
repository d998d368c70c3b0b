//! A further family is one value: it is read, loaded and computed without a change anywhere else.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod device;

use std::path::Path;

use unmask_model::checkpoint::families::{DREAM, transformers};
use unmask_model::checkpoint::{
    Checkpoint, Family, Fields, Layout, ModelFiles, ReadOptions, TransformerSpec,
};
use unmask_model::device::{DeviceChoice, Placement, Precision};
use unmask_model::error::LoadError;
use unmask_model::predictor::{CandlePredictor, MaskPredictor};

/// LLaMA's network in other names, with LLaDA's way to read it.
static MINE: Family = Family {
    name: "mine",
    title: "A family of a test",
    model_types: &["mine"],
    layouts: &[Layout {
        embedding: "net.tokens.weight",
        head: "net.out.weight",
        trunk: "net.",
        blocks: "block_",
        renamed: &[("norm", "last"), ("self_attn.q_proj", "q"), ("mlp.down_proj", "down")],
    }],
    read,
    shift: false,
    masks: &["ти"],
    ..DREAM
};

fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    fields.expect_flag("mine", true)?;
    transformers::read(fields)
}

#[test]
fn a_family_is_one_value() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/diffullama");
    let folder = tempfile::tempdir().unwrap();
    let names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];
    for name in names {
        std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    let config = std::fs::read_to_string(golden.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    (config["model_type"], config["mine"]) = ("mine".into(), true.into());
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let tensors = candle_core::safetensors::load(golden.join("model.safetensors"), &candle_core::Device::Cpu);
    let renamed = tensors.unwrap().into_iter().map(|(name, tensor)| {
        let rest = name.strip_prefix("model.").unwrap_or(&name);
        let rest =
            rest.replace("embed_tokens.", "tokens.").replace("lm_head.", "out.").replace("layers.", "block_");
        let rest = rest.replace("self_attn.q_proj", "q").replace("mlp.down_proj", "down");
        (format!("net.{}", if rest == "norm.weight" { "last.weight" } else { &rest }), tensor)
    });
    candle_core::safetensors::save(&renamed.collect(), folder.path().join("model.safetensors")).unwrap();
    let files = || ModelFiles::open(folder.path()).unwrap();
    // No family claims it; the caller names one.
    assert!(Checkpoint::read(files(), None).is_err());
    let options = ReadOptions { family: Some(&MINE), ..ReadOptions::default() };
    let mine = Checkpoint::read_with(files(), options).unwrap();
    let original = Checkpoint::open(&golden, None).unwrap();
    let load = |checkpoint: &Checkpoint| {
        let family = checkpoint.profile.family;
        let placement = Placement::new(DeviceChoice::Cpu, Precision::F32, family, device::cpu()).unwrap();
        CandlePredictor::load(checkpoint, placement, 1).unwrap()
    };
    let found = load(&mine);
    let expected = load(&original);
    let logits = |predictor: &CandlePredictor| {
        let logits = predictor.all_logits(&[&[1, 7, 300, 259, 12]]).unwrap();
        logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert!(logits(&found) == logits(&expected));
    assert_eq!((found.limits().shift, expected.limits().shift), (false, true));
}
