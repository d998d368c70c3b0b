"""Names of tensors in published checkpoints and in PEFT's adapters, and the network's own for them."""

from __future__ import annotations

import re

# In a block: the network's module, and its name in a file.
GPT2 = {"attention_norm": "ln_1", "qkv": "attn.c_attn", "o": "attn.c_proj", "mlp_norm": "ln_2", "up": "mlp.c_fc",
        "down": "mlp.c_proj"}
LLAMA = {"attention_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
         "v": "self_attn.v_proj", "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm", "o": "self_attn.o_proj",
         "mlp_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
# The same in llama.cpp's GGUF files.
GGUF = {"attention_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "q_norm": "attn_q_norm",
        "k_norm": "attn_k_norm", "o": "attn_output", "mlp_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up",
        "down": "ffn_down"}
OUTSIDE = {
    "gpt2": {"embed": "transformer.wte", "place": "transformer.wpe", "norm": "transformer.ln_f", "head": "lm_head"},
    "llama": {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"},
    "gguf": {"embed": "token_embd", "norm": "output_norm", "head": "output"},
}
# GPT-2's files hold the weights of linear layers as (inputs, outputs).
TRANSPOSED = ("qkv", "o", "up", "down")

BLOCK = re.compile(r"blocks\.(\d+)\.(\w+)\.(weight|bias)")


def file_name(name: str, family: str, layout: str = "") -> str:
    """The name in a file of the network's parameter `name`. `layout` is `gguf` for llama.cpp's names."""
    style = layout or ("gpt2" if family == "gpt2" else "llama")
    if match := BLOCK.fullmatch(name):
        layer, module, kind = match.groups()
        block, table = {"gpt2": ("transformer.h", GPT2), "llama": ("model.layers", LLAMA), "gguf": ("blk", GGUF)}[style]
        return f"{block}.{layer}.{table[module]}.{kind}"
    module, kind = name.split(".")
    return f"{OUTSIDE[style][module]}.{kind}"


def adapter_name(name: str, family: str) -> str:
    """The name in a PEFT file of a parameter such as `blocks.0.q.lora_a`."""
    module, part = name.rsplit(".", 1)
    inner = file_name(f"{module}.weight", family).removesuffix(".weight")
    return f"base_model.model.{inner}.{ {'lora_a': 'lora_A', 'lora_b': 'lora_B'}[part]}.weight"


def target_modules(family: str) -> list[str]:
    """The last part of every adapted module's name, as PEFT lists them."""
    table = GPT2 if family == "gpt2" else LLAMA
    return sorted({name.split(".")[-1] for module, name in table.items() if "norm" not in module})


def is_transposed(name: str, family: str) -> bool:
    match = BLOCK.fullmatch(name)
    return family == "gpt2" and match is not None and match[2] in TRANSPOSED and match[3] == "weight"
