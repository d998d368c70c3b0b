//! DiffuGPT: GPT-2 adapted to diffusion (2410.17891, section 3; `model.py` of the reference).

use super::{Family, SamplingDefaults, any, transformers};
use crate::checkpoint::config::Fields;
use crate::checkpoint::layout::Layout;
use crate::checkpoint::spec::{
    Biases, FeedForward, NormKind, Positions, Projections, TransformerSpec, Visibility,
};
use crate::error::LoadError;

/// GPT-2 adapted to diffusion.
pub static DIFFUGPT: Family = Family {
    name: "diffugpt",
    title: "DiffuGPT",
    model_types: &["gpt2"],
    classes: &[],
    bases: &[],
    gguf: &[],
    claims: any,
    read,
    // The reference's wrapper, as its hub mixin and its fine-tuning save it, then the plain layouts of transformers.
    layouts: &[
        Layout::plain("embed_tokens.weight", "denoise_model."),
        Layout::plain("transformer.wte.weight", "transformer."),
        Layout::plain("wte.weight", ""),
    ],
    adapted: true,
    shift: true,
    document_start: true,
    masks: &[],
    ends: &[],
    redraws_masks: false,
    bfloat16: false,
    defaults: SamplingDefaults {
        preset: "reference",
        steps: 64,
        temperature: 0.95,
        top_p: 0.9,
        nucleus_first: false,
    },
    trained_length: None,
    separator: Some("======"),
};

fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    fields.expect("activation_function", &["gelu_new", "gelu_pytorch_tanh"], "gelu_new")?;
    fields.expect_flag("scale_attn_weights", true)?;
    fields.expect_flag("scale_attn_by_inverse_layer_idx", false)?;
    fields.refuse_others(&transformers::BEGINNINGS, &["scale_attn_weights", "tie_word_embeddings"])?;
    let width = fields.count(&["n_embd", "hidden_size"])?;
    let head_count = fields.count(&["n_head", "num_attention_heads"])?;
    fields.divides("n_head", head_count, "n_embd", width)?;
    let layers = fields.count(&["n_layer", "num_hidden_layers"])?;
    let inner = fields.optional_count("n_inner")?.unwrap_or(4 * width);
    Ok(TransformerSpec {
        width,
        head_count,
        kv_head_count: head_count,
        head_width: width / head_count,
        context: fields.count(&["n_positions", "max_position_embeddings"])?,
        norm: NormKind::Layer,
        norm_epsilon: fields.number("layer_norm_epsilon", 1e-5)?,
        positions: Positions::Learned,
        projections: Projections::Fused,
        biases: Biases { qkv: true, output: true, feed_forward: true },
        head_norm: false,
        feed_forward: vec![FeedForward::Gelu { width: inner }; layers],
        visibility: Visibility::Full,
        ties_missing_head: fields.flag("tie_word_embeddings")?.unwrap_or(true),
    })
}
