//! A network in the keys of a GGUF file.

use super::super::spec::{
    Biases, Experts, FeedForward, NormKind, Positions, Projections, Rotation, Scaling, TransformerSpec,
    Visibility,
};
use super::fields::Fields;
use crate::error::LoadError;
use crate::kernel::Routing;

/// Keys that would make another network of it, each with the numbers that ask for nothing.
const NEUTRAL: [(&str, &[f64]); 15] = [
    ("rope.scaling.attn_factor", &[0.0, 1.0]),
    ("attention.scale", &[0.0]),
    ("attention.sliding_window", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attn_logit_softcapping", &[0.0]),
    ("final_logit_softcapping", &[0.0]),
    ("logit_scale", &[0.0, 1.0]),
    ("embedding_scale", &[0.0, 1.0]),
    ("residual_scale", &[0.0, 1.0]),
    ("expert_shared_count", &[0.0]),
    ("expert_group_count", &[0.0, 1.0]),
    ("expert_weights_scale", &[0.0, 1.0]),
    ("expert_gating_func", &[0.0, 1.0]),
    ("leading_dense_block_count", &[0.0]),
];

/// Networks that are read, by llama.cpp's names: which linear layers have biases, whether heads have norms of their
/// own, whether there are experts.
const KINDS: [(&str, bool, bool, bool); 5] = [
    ("llama", false, false, false),
    ("llada", false, false, false),
    ("dream", true, false, false),
    ("qwen2", true, false, false),
    ("llada-moe", false, true, true),
];

/// A network in llama.cpp's keys.
pub(super) fn read(fields: &Fields<'_>) -> Result<TransformerSpec, LoadError> {
    let name = fields.text("general.architecture")?.unwrap_or_default();
    let Some(&(kind, qkv, head_norm, experts)) = KINDS.iter().find(|(kind, ..)| *kind == name) else {
        let kinds: Vec<&str> = KINDS.iter().map(|(kind, ..)| *kind).collect();
        let reason = format!("is `{name}`; supported are {}", kinds.join(", "));
        return Err(fields.error("general.architecture", &reason));
    };
    let key = |name: &str| format!("{kind}.{name}");
    NEUTRAL.iter().try_for_each(|(name, neutral)| fields.expect_number(&key(name), neutral))?;
    let wide = key("embedding_length");
    let heads = key("attention.head_count");
    let width = fields.count(&[&wide])?;
    let head_count = fields.count(&[&heads])?;
    let shared = key("attention.head_count_kv");
    let kv_head_count = fields.optional_count(&shared)?.unwrap_or(head_count);
    fields.divides(&shared, kv_head_count, &heads, head_count)?;
    let layers = fields.count(&[&key("block_count")])?;
    Ok(TransformerSpec {
        width,
        head_count,
        kv_head_count,
        head_width: head_width(fields, kind, (width, head_count))?,
        context: fields.count(&[&key("context_length")])?,
        norm: NormKind::Rms,
        norm_epsilon: fields.number(&key("attention.layer_norm_rms_epsilon"), 1e-6)?,
        positions: Positions::Rotary(rotation(fields, kind)?),
        projections: Projections::Separate,
        biases: Biases { qkv, ..Biases::default() },
        head_norm,
        feed_forward: vec![feed_forward(fields, kind, experts)?; layers],
        visibility: Visibility::Full,
        ties_missing_head: true,
    })
}

fn head_width(
    fields: &Fields<'_>,
    kind: &str,
    (width, head_count): (usize, usize),
) -> Result<usize, LoadError> {
    let key = |name: &str| format!("{kind}.{name}");
    let (wide, heads, head_key) =
        (key("embedding_length"), key("attention.head_count"), key("attention.key_length"));
    let head_width = match fields.optional_count(&head_key)? {
        Some(given) => given,
        None => {
            fields.divides(&heads, head_count, &wide, width)?;
            width / head_count
        }
    };
    fields.divides("2", 2, &head_key, head_width)?;
    for name in ["rope.dimension_count", "attention.value_length"].map(key) {
        if let Some(other) = fields.optional_count(&name)?.filter(|other| *other != head_width) {
            let reason = format!("is {other}; only the width of a head, {head_width}, is supported");
            return Err(fields.error(&name, &reason));
        }
    }
    // Or the rotation's table would be reserved before any tensor contradicts it.
    if head_width > width {
        return Err(fields.error(&head_key, &format!("is {head_width}, more than {wide} = {width}")));
    }
    Ok(head_width)
}

fn feed_forward(fields: &Fields<'_>, kind: &str, experts: bool) -> Result<FeedForward, LoadError> {
    let key = |name: &str| format!("{kind}.{name}");
    if !experts {
        fields.expect_number(&key("expert_count"), &[0.0])?;
        return Ok(FeedForward::SwiGlu { width: fields.count(&[&key("feed_forward_length")])? });
    }
    fields.expect_flag(&key("expert_weights_norm"), false)?;
    let used_key = key("expert_used_count");
    let count = fields.count(&[&key("expert_count")])?;
    let used = fields.count(&[&used_key])?;
    if used > count {
        return Err(fields.error(&used_key, &format!("is {used}, more than the {count} experts")));
    }
    let width = fields.count(&[&key("expert_feed_forward_length"), &key("feed_forward_length")])?;
    Ok(FeedForward::Experts(Experts {
        count,
        width,
        shared: None,
        bias: false,
        routing: Routing::softmax(used),
    }))
}

/// A factor without a type is one of `linear`, as llama.cpp has it.
fn rotation(fields: &Fields<'_>, kind: &str) -> Result<Rotation, LoadError> {
    let key = |name: &str| format!("{kind}.{name}");
    let scaling = key("rope.scaling.type");
    fields.expect(&scaling, &["none", "linear"], "none")?;
    let unscaled = fields.text(&scaling)? == Some("none");
    let factor_key = key("rope.scaling.factor");
    let mut factor = 1.0;
    for name in [key("rope.scale_linear"), factor_key] {
        if fields.get(&name).is_some_and(|value| value.as_f64() == Some(0.0)) {
            continue;
        }
        factor = fields.number(&name, factor)?;
        if factor < 1.0 {
            return Err(fields.error(&name, &format!("is {factor}; it must be at least 1")));
        }
    }
    let scaling = if unscaled || factor == 1.0 { Scaling::None } else { Scaling::Linear(factor) };
    Ok(Rotation { theta: fields.number(&key("rope.freq_base"), 10_000.0)?, scaling, part: None })
}
