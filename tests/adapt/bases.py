"""Tiny bases with random weights, made by transformers, and texts to train on."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)

TEXTS = [
    "".join(f"def {name}_{i}(value):\n    if value is None:\n        return {i}\n    return value + {i}\n\n" for i in range(40))
    for name in ("add", "sum", "mix", "map", "get", "put", "pop", "cut", "set", "run", "end", "old", "new", "fit", "tie", "win")
    for _ in range(3)
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|user|>' if message['role'] == 'user' else '<|assistant|>' }}"
    "{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TALK = {"messages": [{"role": "user", "content": "def"}, {"role": "assistant", "content": "return value"}]}
FAMILIES = ("gpt2", "llama", "qwen2", "qwen3")


def write_texts(folder: Path) -> Path:
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.py").write_text(text)
    return folder


def write_talks(path: Path) -> Path:
    path.write_text("".join(json.dumps(TALK) + "\n" for _ in range(60)))
    return path


def write_tokenizer(folder: Path, mask: str | None) -> int:
    """A byte-level BPE tokenizer; the number of its entries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>", *([mask] if mask else [])]
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<|end|>", "eos_token": "<|end|>", "chat_template": CHAT_TEMPLATE}
    if mask:
        settings["mask_token"] = mask
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()


def write_base(folder: Path, family: str, mask: str | None = "<|mask|>", tied: bool = True) -> Path:
    """A base as transformers saves it."""
    folder.mkdir(parents=True)
    rows = write_tokenizer(folder, mask)
    torch.manual_seed(3)
    shared = {"vocab_size": rows, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 128, "initializer_range": 0.15,
              "rope_theta": 5000.0, "tie_word_embeddings": tied, "bos_token_id": 0, "eos_token_id": 0}
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=rows, n_embd=64, n_layer=2, n_head=4, n_positions=128,
                                           initializer_range=0.15, bos_token_id=0, eos_token_id=0))
    elif family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shared))
    elif family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shared))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**shared, head_dim=16))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "norm" in name or "ln_" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder
