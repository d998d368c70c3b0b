//! The tensors of a network, by their canonical names, and those that files hold beside them.

use super::config::{Architecture, ModelConfig};
use super::weights::{EMBEDDING, HEAD};

/// Parts of a block of GPT-2; each has a weight and a bias.
const GPT2_PARTS: [&str; 6] = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"];
/// Parts of a block of LLaMA; each has a weight.
const LLAMA_PARTS: [&str; 9] = [
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Ends of names of tensors that follow from the configuration: older versions of transformers saved the mask of
/// causal attention and the frequencies of the rotation.
const LEFTOVERS: [&str; 3] = [".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"];

/// Whether the network has a tensor, by its canonical name.
pub(super) fn is_part(config: &ModelConfig, name: &str) -> bool {
    let (outside, blocks, parts, ends): (&[&str], _, &[&str], &[&str]) = match config.architecture {
        Architecture::Gpt2 => {
            (&["wpe.weight", "ln_f.weight", "ln_f.bias"], "h.", &GPT2_PARTS, &["weight", "bias"])
        }
        Architecture::Llama => (&["norm.weight"], "layers.", &LLAMA_PARTS, &["weight"]),
    };
    let in_block = || {
        let (number, rest) = name.strip_prefix(blocks)?.split_once('.')?;
        let (part, end) = rest.rsplit_once('.')?;
        let number: usize = number.parse().ok().filter(|parsed: &usize| parsed.to_string() == number)?;
        Some(number < config.layers && parts.contains(&part) && ends.contains(&end))
    };
    [EMBEDDING, HEAD].contains(&name) || outside.contains(&name) || in_block().unwrap_or(false)
}

/// Whether a tensor that the network does not have may be left unread.
pub(super) fn is_leftover(name: &str) -> bool {
    LEFTOVERS.iter().any(|end| name.ends_with(end))
}

/// Whether a name is the one of a linear layer whose weight is stored as (in, out).
pub(super) fn is_in_out(name: &str) -> bool {
    [".c_attn", ".c_proj", ".c_fc"].iter().any(|end| name.ends_with(end))
}
