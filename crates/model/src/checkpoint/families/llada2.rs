//! LLaDA2.0 and LLaDA2.1 mini and flash (2512.15745): Ling 2.0's network with attention that is full within blocks and
//! causal between them.

use super::{Family, SamplingDefaults, any, transformers};
use crate::checkpoint::config::Fields;
use crate::checkpoint::layout::Layout;
use crate::checkpoint::spec::{Experts, FeedForward, Positions, Projections, TransformerSpec, Visibility};
use crate::error::LoadError;
use crate::kernel::{ExpertGroups, ExpertScore, Routing};

/// Positions of a block, which no file says: that of the training.
const BLOCK: usize = 32;

/// LLaDA2.0 and LLaDA2.1.
pub static LLADA2: Family = Family {
    name: "llada2",
    title: "LLaDA2",
    model_types: &["llada2_moe", "llada2_moe_veomni"],
    classes: &["LLaDA2MoeModelLM"],
    bases: &[],
    gguf: &[],
    claims: any,
    read,
    layouts: &[LAYOUT],
    adapted: false,
    shift: false,
    document_start: false,
    masks: &["<|mask|>"],
    ends: &["<|role_end|>"],
    redraws_masks: true,
    bfloat16: true,
    defaults: SamplingDefaults {
        preset: "llada2",
        steps: BLOCK as u32,
        temperature: 0.0,
        top_p: 1.0,
        nucleus_first: false,
    },
    trained_length: None,
    separator: None,
};

const LAYOUT: Layout = Layout {
    renamed: &[
        ("self_attn.qkv_proj", "attention.query_key_value"),
        ("self_attn.q_norm", "attention.query_layernorm"),
        ("self_attn.k_norm", "attention.key_layernorm"),
        ("self_attn.o_proj", "attention.dense"),
    ],
    ..Layout::plain("model.word_embeddings.weight", "model.")
};

fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    for name in ["use_bias", "use_qkv_bias", "norm_head", "attention_bias"] {
        fields.expect_flag(name, false)?;
    }
    fields.expect("score_function", &["sigmoid"], "sigmoid")?;
    let layers = fields.count(&["num_hidden_layers"])?;
    let dense = whole(fields, "first_k_dense_replace", 0)?;
    let experts = FeedForward::Experts(experts(fields)?);
    let mut feed_forward = vec![experts; layers];
    if dense > 0 {
        let width = fields.count(&["intermediate_size"])?;
        feed_forward.iter_mut().take(dense).for_each(|part| *part = FeedForward::SwiGlu { width });
    }
    let spec = transformers::read_partly_rotated(fields, feed_forward, &["use_qk_norm", "rotary_dim"])?;
    let rotated = match spec.positions {
        Positions::Rotary(rotation) => rotation.part.unwrap_or(spec.head_width),
        Positions::Learned => 0,
    };
    fields.expect_number("rotary_dim", &[rotated as f64])?;
    let head_norm = fields.flag("use_qk_norm")?.unwrap_or(false);
    let visibility = Visibility::BlockCausal { block: BLOCK };
    Ok(TransformerSpec { projections: Projections::Stacked, head_norm, visibility, ..spec })
}

fn experts(fields: &Fields<'_>) -> Result<Experts, LoadError> {
    let (count, used) = transformers::experts(fields)?;
    let groups = whole(fields, "n_group", 1)?.max(1);
    let kept = whole(fields, "topk_group", 1)?.max(1);
    fields.divides("n_group", groups, "num_experts", count)?;
    if kept > groups {
        return Err(fields.error("topk_group", &format!("is {kept}, more than n_group = {groups}")));
    }
    let reachable = kept * (count / groups);
    if used > reachable {
        let reason = format!("is {used}, more than the {reachable} experts of topk_group = {kept} groups");
        return Err(fields.error("num_experts_per_tok", &reason));
    }
    let width = fields.count(&["moe_intermediate_size"])?;
    let shared = whole(fields, "num_shared_experts", 0)? * width;
    Ok(Experts {
        count,
        width,
        shared: (shared > 0).then_some(shared),
        bias: fields.flag("moe_router_enable_expert_bias")?.unwrap_or(false),
        routing: Routing {
            used,
            score: ExpertScore::Sigmoid,
            groups: (groups > 1).then_some(ExpertGroups { count: groups, kept }),
            normalised: fields.flag("norm_topk_prob")?.unwrap_or(true),
            scale: fields.number("routed_scaling_factor", 1.0)? as f32,
        },
    })
}

/// A number of things that may be 0.
fn whole(fields: &Fields<'_>, name: &str, default: usize) -> Result<usize, LoadError> {
    match fields.get(name) {
        Some(value) if value.as_u64() == Some(0) => Ok(0),
        _ => Ok(fields.optional_count(name)?.unwrap_or(default)),
    }
}
