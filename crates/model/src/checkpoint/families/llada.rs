//! LLaDA-8B (Base, Instruct, 1.5) and iLLaDA (2502.09992): LLaMA's arithmetic in the keys and names of OLMo.

use super::{Family, SamplingDefaults, any, transformers};
use crate::checkpoint::config::{Fields, rope};
use crate::checkpoint::layout::Layout;
use crate::checkpoint::spec::{
    Biases, FeedForward, NormKind, Positions, Projections, TransformerSpec, Visibility,
};
use crate::error::LoadError;

/// The settings of LLaDA's own scripts.
pub(super) const DEFAULTS: SamplingDefaults =
    SamplingDefaults { preset: "llada", steps: 256, temperature: 0.0, top_p: 1.0, nucleus_first: false };

/// LLaDA, its later versions, and iLLaDA in LLaMA's keys.
pub static LLADA: Family = Family {
    name: "llada",
    title: "LLaDA",
    model_types: &["llada", "illada"],
    classes: &["LLaDAModelLM"],
    bases: &[],
    gguf: &["llada"],
    claims: any,
    read,
    layouts: &[LAYOUT, transformers::LAYOUT],
    adapted: false,
    shift: false,
    document_start: false,
    masks: &["<|mdm_mask|>", "<[MASK]>"],
    ends: &["<|eot_id|>"],
    redraws_masks: true,
    bfloat16: true,
    defaults: DEFAULTS,
    trained_length: Some(4096),
    separator: None,
};

const LAYOUT: Layout = Layout {
    embedding: "model.transformer.wte.weight",
    head: "model.transformer.ff_out.weight",
    trunk: "model.transformer.",
    blocks: "blocks.",
    renamed: &[
        ("norm", "ln_f"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "q_proj"),
        ("self_attn.k_proj", "k_proj"),
        ("self_attn.v_proj", "v_proj"),
        ("self_attn.o_proj", "attn_out"),
        ("post_attention_layernorm", "ff_norm"),
        ("mlp.gate_proj", "ff_proj"),
        ("mlp.up_proj", "up_proj"),
        ("mlp.down_proj", "ff_out"),
    ],
};

fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    if fields.get("d_model").is_none() && fields.get("hidden_size").is_some() {
        return transformers::read(fields);
    }
    expect_llama(fields)?;
    rope::expect_whole(fields)?;
    let width = fields.count(&["d_model"])?;
    let head_count = fields.count(&["n_heads"])?;
    fields.divides("n_heads", head_count, "d_model", width)?;
    let head_width = width / head_count;
    fields.divides("2", 2, "d_model / n_heads", head_width)?;
    let kv_head_count = match fields.optional_count("n_kv_heads")? {
        Some(count) => count,
        None if fields.flag("multi_query_attention")? == Some(true) => 1,
        None => head_count,
    };
    fields.divides("n_kv_heads", kv_head_count, "n_heads", head_count)?;
    let inner = match fields.optional_count("mlp_hidden_size")? {
        Some(inner) => inner,
        None => fields.count(&["mlp_ratio"])? * width,
    };
    let context = fields.count(&["max_sequence_length"])?;
    Ok(TransformerSpec {
        width,
        head_count,
        kv_head_count,
        head_width,
        context,
        norm: NormKind::Rms,
        norm_epsilon: transformers::epsilon(fields, 1e-5)?,
        positions: Positions::Rotary(rope::read(fields, context, head_width)?),
        projections: Projections::Separate,
        biases: Biases::default(),
        head_norm: false,
        feed_forward: vec![FeedForward::SwiGlu { width: inner }; fields.count(&["n_layers"])?],
        visibility: Visibility::Full,
        ties_missing_head: fields.flag("weight_tying")?.unwrap_or(false),
    })
}

/// Refuses what OLMo's keys could ask for beside a LLaMA.
fn expect_llama(fields: &Fields<'_>) -> Result<(), LoadError> {
    fields.expect("block_type", &["llama"], "llama")?;
    fields.expect("activation_type", &["silu"], "silu")?;
    transformers::expect_silu(fields)?;
    transformers::expect_full_attention(fields)?;
    fields.expect("layer_norm_type", &["rms"], "rms")?;
    fields.expect_number("block_group_size", &[1.0])?;
    for (name, value) in [
        ("rope", true),
        ("layer_norm_with_affine", true),
        ("alibi", false),
        ("attention_layer_norm", false),
        ("input_emb_norm", false),
        ("scale_logits", false),
        ("include_bias", false),
        ("include_qkv_bias", false),
        ("bias_for_layer_norm", false),
    ] {
        fields.expect_flag(name, value)?;
    }
    fields.refuse_others(
        &transformers::BEGINNINGS,
        &[
            "rope",
            "rms_norm_eps",
            "alibi_bias_max",
            "partial_rotary_factor",
            "rope_theta",
            "rope_scaling",
            "rope_parameters",
            "rope_full_precision",
            "attention_dropout",
            "attention_layer_norm",
            "attention_layer_norm_with_affine",
            "scale_logits",
        ],
    )
}
