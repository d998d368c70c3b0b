#!/usr/bin/env python3
"""Writes reference.gguf: the golden checkpoint `diffullama` by ggml's own Python package.

    pip install gguf==0.19.0 safetensors==0.8.0 && python reference.py

Matrices are Q8_0 where their rows are whole blocks, F16 elsewhere, and BF16 for the head; keys, names and the order
of rows are those of llama.cpp's convert_hf_to_gguf.py.
"""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "../../../../tests/golden/diffullama"
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def stored_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.weight"
    number, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{number}.{NAMES[part]}.weight"


def rotated_as_neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys: the element that one turns with stands behind it, not half a head away."""
    head = rows.shape[0] // heads
    order = [first + pair + half * head // 2 for first in range(0, rows.shape[0], head)
             for pair in range(head // 2) for half in range(2)]
    return rows[order]


def encoding(name: str, values: np.ndarray) -> gguf.GGMLQuantizationType:
    if values.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    if name == "output.weight":
        return gguf.GGMLQuantizationType.BF16
    whole = values.shape[1] % 32 == 0
    return gguf.GGMLQuantizationType.Q8_0 if whole else gguf.GGMLQuantizationType.F16


def main() -> None:
    config = json.loads((GOLDEN / "config.json").read_text())
    settings = json.loads((GOLDEN / "tokenizer_config.json").read_text())
    vocabulary = json.loads((GOLDEN / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)

    writer = gguf.GGUFWriter(HERE / "reference.gguf", "llama")
    writer.add_name("diffullama, tiny and random")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])

    kinds = {0: gguf.TokenType.UNKNOWN, 1: gguf.TokenType.CONTROL, 2: gguf.TokenType.CONTROL}
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types([
        kinds.get(number, gguf.TokenType.BYTE if token.startswith("<0x") else gguf.TokenType.NORMAL)
        for number, token in enumerate(tokens)
    ])
    writer.add_bos_token_id(vocabulary[settings["bos_token"]])
    writer.add_eos_token_id(vocabulary[settings["eos_token"]])
    writer.add_unk_token_id(vocabulary[settings["unk_token"]])
    writer.add_pad_token_id(vocabulary[settings["pad_token"]])
    writer.add_mask_token_id(vocabulary[settings["mask_token"]])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)

    for name, values in load_file(GOLDEN / "model.safetensors").items():
        if name.endswith("q_proj.weight"):
            values = rotated_as_neighbours(values, config["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            values = rotated_as_neighbours(values, config["num_key_value_heads"])
        name = stored_name(name)
        kind = encoding(name, values)
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
