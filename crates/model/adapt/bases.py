"""Bases: a checkpoint's shape, weights, tokenizer and special tokens, from a folder, the hub or a GGUF file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor

from .model import Network, Shape
from .names import file_name, is_transposed

FAMILIES = ("gpt2", "llama", "qwen2", "qwen3")
# Files that an exported folder takes over as they are.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


class BaseError(Exception):
    """A base that cannot be adapted; the message says why and what to do."""


@dataclass
class Base:
    """A checkpoint to adapt."""

    name: str
    shape: Shape
    tokenizer: Tokenizer
    config: dict[str, Any]  # config.json
    settings: dict[str, Any]  # tokenizer_config.json
    tensor: Callable[[str], Tensor]  # a tensor by the network's name, (outputs, inputs), float32
    licence: str = "unknown"
    files: dict[str, bytes] = field(default_factory=dict)  # the tokenizer's files, for the export

    def token_id(self, role: str) -> int | None:
        """The id of `bos_token`, `eos_token` or `mask_token`."""
        text = token_text(self.settings.get(role))
        return None if text is None else self.tokenizer.token_to_id(text)

    def network(self, stored: torch.dtype, computed: torch.dtype) -> Network:
        """The network with the base's weights in `stored` and products in `computed`; rows for new tokens are added."""
        with torch.device("meta"):
            network = Network(self.shape, computed).to(stored)
        network = network.to_empty(device="cpu")
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                value = self.tensor(name)
                if name in ("embed.weight", "head.weight") and len(value) < len(parameter):
                    added = value.mean(0, keepdim=True).repeat(len(parameter) - len(value), 1)
                    value = torch.cat([value, added])
                if value.shape != parameter.shape:
                    raise BaseError(f"{name} has the shape {list(value.shape)}; {list(parameter.shape)} is expected")
                parameter.copy_(value)
        return network


def token_text(value: Any) -> str | None:
    """A special token is written as a string or as an object with its text in `content`."""
    return value.get("content") if isinstance(value, dict) else value


def load_base(given: str, mask_token: str | None) -> Base:
    """Opens a folder, a .gguf file, or the name of a repository on the hub, and settles its mask token."""
    path = Path(given)
    if path.suffix == ".gguf":
        from .gguf_base import open_gguf

        base = open_gguf(path)
    elif path.is_dir():
        base = open_folder(path, given)
    elif path.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", given):
        raise BaseError(f"--base {given} is no folder, no .gguf file and no name of the form owner/name")
    else:
        from huggingface_hub import snapshot_download

        kept = ["*.json", "*.safetensors", "*.jinja", "README.md"]
        base = open_folder(Path(snapshot_download(given, allow_patterns=kept)), given)
    return with_mask(base, mask_token)


def with_mask(base: Base, mask_token: str | None) -> Base:
    """Names the mask token: the given one, else the base's, else a new entry `<|mask|>`."""
    text = mask_token or token_text(base.settings.get("mask_token")) or "<|mask|>"
    if base.tokenizer.token_to_id(text) is None:
        base.tokenizer.add_special_tokens([text])
        base.files["tokenizer.json"] = base.tokenizer.to_str().encode()
    base.settings["mask_token"] = text
    rows = max(base.shape.vocabulary, base.tokenizer.get_vocab_size(with_added_tokens=True))
    base.shape = Shape(**{**base.shape.__dict__, "vocabulary": rows})
    base.config["vocab_size"] = rows
    return base


def open_folder(folder: Path, name: str) -> Base:
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).exists():
            raise BaseError(f"{folder / needed} is missing; a base is a folder as transformers saves it")
    config = json.loads((folder / "config.json").read_text())
    settings_file = folder / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text()) if settings_file.exists() else {}
    special_file = folder / "special_tokens_map.json"
    if special_file.exists():
        settings = {**json.loads(special_file.read_text()), **settings}
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise BaseError(f"{folder} holds no .safetensors file; convert the weights first")
    opened = [safe_open(shard, "pt") for shard in shards]
    where = {short_name(stored): (shard, stored) for shard in opened for stored in shard.keys()}
    shape = shape_of(config, "lm_head.weight" not in where)

    def tensor(wanted: str) -> Tensor:
        stored = short_name(file_name(wanted, shape.family))
        if stored not in where:
            raise BaseError(f"{folder} has no tensor {stored}")
        shard, full = where[stored]
        value = shard.get_tensor(full).float()
        return value.T.contiguous() if is_transposed(wanted, shape.family) else value

    files = {part: (folder / part).read_bytes() for part in TOKENIZER_FILES if (folder / part).exists()}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Base(name, shape, tokenizer, config, settings, tensor, licence_of(folder), files)


def short_name(stored: str) -> str:
    """A tensor's name without the trunk's prefix, in plain and in DiffuGPT's and DiffuLLaMA's layouts."""
    for prefix in ("denoise_model.", "transformer.", "model."):
        stored = stored.removeprefix(prefix)
    return {"wte.weight": "embed_tokens.weight"}.get(stored, stored)


def shape_of(config: dict[str, Any], head_missing: bool) -> Shape:
    """Reads `config.json`."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise BaseError(f"model_type is {family}; supported: {', '.join(FAMILIES)}")
    if config.get("rope_scaling"):
        raise BaseError("rope_scaling is set; only null is supported")
    if family == "gpt2":
        width, heads = config["n_embd"], config["n_head"]
        return Shape(family, config["vocab_size"], config["n_positions"], width, config["n_layer"], heads, heads,
                     width // heads, config.get("n_inner") or 4 * width, config.get("layer_norm_epsilon", 1e-5))
    width, heads = config["hidden_size"], config["num_attention_heads"]
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 10_000.0)
    return Shape(family, config["vocab_size"], config["max_position_embeddings"], width, config["num_hidden_layers"],
                 heads, config.get("num_key_value_heads") or heads, config.get("head_dim") or width // heads,
                 config["intermediate_size"], config.get("rms_norm_eps", 1e-6), theta,
                 config.get("tie_word_embeddings", False) or head_missing)


def licence_of(folder: Path) -> str:
    """The licence that the head of a model card names."""
    card = folder / "README.md"
    lines = card.read_text("utf-8", "replace").splitlines()[:60] if card.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("license:")]
    return named[0] if named else "unknown"
