"""A base in llama.cpp's GGUF format: its keys as a configuration, its blocks as float32, its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from .bases import Base, BaseError, shape_of
from .names import file_name

# Rules by which a text is cut before pairs are merged, by `tokenizer.ggml.pre`.
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
NORMAL, CONTROL = 1, 3


def open_gguf(path: Path) -> Base:
    reader = gguf.GGUFReader(path)
    keys = {name: value.contents() for name, value in reader.fields.items()}
    family = keys.get("general.architecture")
    if family not in ("llama", "qwen2", "qwen3"):
        raise BaseError(f"general.architecture of {path} is {family}; supported: llama, qwen2, qwen3")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    key = lambda name, default=None: keys.get(f"{family}.{name}", default)  # noqa: E731
    heads = key("attention.head_count")
    tokens = keys["tokenizer.ggml.tokens"]
    config = {
        "model_type": family, "architectures": [f"{family.capitalize()}ForCausalLM"], "vocab_size": len(tokens),
        "max_position_embeddings": key("context_length"), "hidden_size": key("embedding_length"),
        "num_hidden_layers": key("block_count"), "num_attention_heads": heads,
        "num_key_value_heads": key("attention.head_count_kv", heads), "intermediate_size": key("feed_forward_length"),
        "head_dim": key("attention.key_length", key("embedding_length") // heads), "hidden_act": "silu",
        "rms_norm_eps": round(key("attention.layer_norm_rms_epsilon", 1e-6), 9),
        "rope_theta": key("rope.freq_base", 10_000.0), "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": False, "mlp_bias": False, "torch_dtype": "float16",
    }
    shape = shape_of(config, "output.weight" not in tensors)

    def tensor(wanted: str) -> Tensor:
        stored = file_name(wanted, shape.family, "gguf")
        if stored not in tensors:
            raise BaseError(f"{path} has no tensor {stored}")
        found = tensors[stored]
        values = torch.tensor(gguf.dequantize(found.data, found.tensor_type), dtype=torch.float32)
        part = wanted.split(".")[-2]
        if shape.family == "llama" and part in ("q", "k"):
            return as_halves(values, shape.heads if part == "q" else shape.kv_heads)
        return values

    tokenizer = read_tokenizer(keys, path)
    settings = settings_of(keys, tokens)
    files = {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": json.dumps(settings).encode()}
    return Base(keys.get("general.name", path.name), shape, tokenizer, config, settings, tensor,
                keys.get("general.license", "unknown"), files)


def as_halves(rows: Tensor, heads: int) -> Tensor:
    """llama.cpp rotates neighbours, and its converter sorts the rows of each head so; this undoes it."""
    return rows.view(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def settings_of(keys: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """tokenizer_config.json: the special tokens' roles and the chat template."""
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for role, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"), ("mask", "mask")):
        if (token := keys.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            settings[f"{role}_token"] = tokens[token]
    if template := keys.get("tokenizer.chat_template"):
        settings["chat_template"] = template
    return settings


def read_tokenizer(keys: dict[str, Any], path: Path) -> Tokenizer:
    """A byte-level BPE tokenizer from the keys; of other kinds, the tokenizer.json beside the file."""
    beside = path.with_name("tokenizer.json")
    if beside.exists():
        return Tokenizer.from_file(str(beside))
    kind, rule = keys.get("tokenizer.ggml.model"), keys.get("tokenizer.ggml.pre", "gpt-2")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    rules = {
        "gpt-2": byte_level,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
        "qwen2": pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]),
    }
    if kind != "gpt2" or rule not in rules:
        raise BaseError(f"{path} has a tokenizer of kind {kind} with the rule {rule}; supported: gpt2 with "
                        f"{', '.join(rules)}. Put the model's tokenizer.json beside the file.")
    tokens = keys["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in keys["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = rules[rule], decoders.ByteLevel()
    kinds = keys["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, k in zip(tokens, kinds) if k == CONTROL])
    return tokenizer
