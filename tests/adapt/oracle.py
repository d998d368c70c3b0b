"""Logits by transformers with full attention, the way the paper's authors switch causality off."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


@torch.no_grad()
def logits(folder: Path, tokens: Tensor, causal: bool = False, change: dict[str, Tensor] | None = None) -> Tensor:
    """(batch, length, vocabulary) in float32. `change` is added to the weights of these names."""
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    for name, value in (change or {}).items():
        model.get_parameter(name).add_(value)
    if causal:
        return model(tokens).logits
    if model.config.model_type == "gpt2":
        for block in model.transformer.h:
            block.attn.bias.fill_(True)
    mask = torch.zeros(len(tokens), 1, tokens.shape[1], tokens.shape[1])
    return model(tokens, attention_mask=mask).logits
