"""Output: a folder or a PEFT adapter that the server loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .bases import Base
from .model import Linear, Network
from .names import adapter_name, file_name, is_transposed, target_modules


def write(tensors: dict[str, Tensor], path: Path) -> None:
    """Replaces the file only once the new one is complete."""
    new = path.with_name(path.name + ".new")
    save_file(tensors, new, {"format": "pt"})
    new.chmod(0o644)  # it is made for the owner alone
    new.replace(path)


def write_adapter(trained: dict[str, nn.Parameter], base: Base, base_name: str, rank: int, alpha: float, folder: Path) -> None:
    """adapter_config.json, adapter_model.safetensors with bfloat16 factors, and a tokenizer_config.json with the mask token."""
    folder.mkdir(parents=True, exist_ok=True)
    family = base.shape.family
    tensors = {adapter_name(name, family): p.detach().to("cpu", torch.bfloat16).contiguous() for name, p in trained.items()}
    write(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name, "r": rank,
        "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": family == "gpt2", "use_dora": False,
        "use_rslora": False, "inference_mode": True, "target_modules": target_modules(family),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    mask = {"mask_token": base.settings["mask_token"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(mask, indent=1) + "\n")


@torch.no_grad()
def read_adapter(network: Network, base: Base, rank: int, alpha: float, folder: Path) -> None:
    """Puts the factors of an adapter that was written by `write_adapter` into the network."""
    config = json.loads((folder / "adapter_config.json").read_text())
    if (config["r"], config["lora_alpha"]) != (rank, alpha):
        given = f"{config['r']} and {config['lora_alpha']}; --rank and --alpha say {rank} and {alpha}"
        raise ValueError(f"{folder} has rank and alpha {given}")
    stored = load_file(folder / "adapter_model.safetensors")
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.copy_(stored[adapter_name(name, base.shape.family)])


@torch.no_grad()
def weights(network: Network, with_adapter: bool) -> dict[str, Tensor]:
    """All weights by the network's names, thin matrices added to what they adapt or left out."""
    tensors = {name: p.detach().float() for name, p in network.named_parameters() if "lora_" not in name}
    for name, layer in network.named_modules():
        if with_adapter and isinstance(layer, Linear) and layer.lora_a is not None:
            tensors[f"{name}.weight"] = tensors[f"{name}.weight"] + layer.scale * layer.lora_b @ layer.lora_a
    return tensors


def write_folder(network: Network, base: Base, folder: Path, with_adapter: bool = True) -> None:
    """config.json, model.safetensors in float16 and the tokenizer's files, its mask token named."""
    folder.mkdir(parents=True, exist_ok=True)
    family, tensors = base.shape.family, {}
    for name, tensor in weights(network, with_adapter).items():
        turned = tensor.T if is_transposed(name, family) else tensor
        tensors[file_name(name, family)] = turned.to("cpu", torch.float16).contiguous()
    write(tensors, folder / "model.safetensors")
    config = {**base.config, "torch_dtype": "float16", "tie_word_embeddings": base.shape.tied}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name, content in base.files.items():
        (folder / name).write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps(base.settings, indent=1) + "\n")
