#!/usr/bin/env python3
"""Makes the base of the embedded model: a byte-level BPE tokenizer, and a small GPT-2 trained left to right.

    python embedded/start.py --config embedded/adapt.toml --out BASE --tokens 4000000

The texts are those of the configuration's [[data]] tables; `python -m adapt` turns the folder into a diffusion model. It
needs torch, tokenizers and safetensors.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
import tomllib
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapt.bases import Base
from adapt.data import Mixture, Source, documents, is_held_out
from adapt.export import write_folder
from adapt.masking import attention_bias
from adapt.model import Network, Shape
from adapt.optimizers import make_optimizers
from adapt.schedule import Schedule

END, MASK = "<|endoftext|>", "<|mask|>"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]

# A line break with the indentation after it is one token, and a word carries at most one space before it. GPT-2's own rule
# gives the last space of an indentation to the word behind it, so that a text cut after its indentation, as editors cut
# it, would be split as the model never saw it.
SPLIT = r"[\r\n]+[ \t]*| ?_*\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"

# One line, and the line break written as an escape, so that every engine renders it the same.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\\n' }}{{ message['content'] }}{{ '<|endoftext|>' }}"
    "{% elif message['role'] == 'system' %}{{ '<|system|>' }}{{ message['content'] }}"
    "{% else %}{{ '<|user|>' }}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def learn_tokenizer(texts: list[str], entries: int) -> Tokenizer:
    """The special tokens come first: 0 the end, 1 the mask, 2 to 4 the roles."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=entries, special_tokens=[END, MASK, *ROLES], initial_alphabet=alphabet,
                                  show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def empty_base(tokenizer: Tokenizer, length: int, width: int, layers: int, heads: int) -> Base:
    """A base whose weights are drawn, not read."""
    rows = tokenizer.get_vocab_size()
    shape = Shape("gpt2", rows, length, width, layers, heads, heads, width // heads, 4 * width, 1e-5)
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": rows, "n_positions": length, "n_ctx": length,
        "n_embd": width, "hidden_size": width, "n_layer": layers, "n_head": heads, "n_inner": None,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "bos_token_id": 0, "eos_token_id": 0,
        "task_specific_params": {"text-generation": {"max_length": length}},
    }
    special = {"bos_token": END, "eos_token": END, "unk_token": END, "mask_token": MASK}
    settings = {"tokenizer_class": "GPT2Tokenizer", **special, "additional_special_tokens": ROLES, "model_max_length": length,
                "add_bos_token": False, "chat_template": CHAT_TEMPLATE}
    files = {"tokenizer.json": tokenizer.to_str(pretty=True).encode()}
    return Base("a new GPT-2", shape, tokenizer, config, settings, lambda name: torch.empty(0), files=files)


def draw_weights(network: Network) -> None:
    """GPT-2's initialisation: matrices that write to the residual stream are smaller in deeper networks."""
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            deep = any(f".{part}." in name for part in ("o", "down"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * network.shape.layers) if deep else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def train(network: Network, mixture: Mixture, args: argparse.Namespace) -> None:
    """Steps of next-token prediction until `--tokens` are seen."""
    optimizers = make_optimizers(dict(network.named_parameters()), args.learning_rate, 0.0, args.matrix_rate)
    schedule = Schedule(args.tokens, 100, 0, 0, int(0.4 * args.tokens), 1.0)
    rng, causal = random.Random(args.seed), attention_bias(args.length, 0.0, torch.Generator())
    step, seen, started = 0, 0, time.monotonic()
    while seen < args.tokens:
        rows = [mixture.draw(rng).window(args.length, rng) for _ in range(args.rows)]
        tokens = torch.tensor([row for row in rows if len(row) == args.length])
        wanted = torch.ones_like(tokens, dtype=torch.bool)
        wanted[:, 0] = False
        loss = F.cross_entropy(network.logits_before(tokens, causal, wanted), tokens[wanted])
        loss.backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule.learning_rate(step, seen)
            optimizer.step()
            optimizer.zero_grad()
        step, seen = step + 1, seen + args.rows * args.length
        if step % 50 == 0 or seen >= args.tokens:
            speed = seen / (time.monotonic() - started)
            print(f"step {step:6}  {seen / 1e6:7.3f} M tokens  {speed:6.0f} tokens/s  loss {loss.item():.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", type=Path, required=True, help="TOML file with [[data]] tables")
    add("--out", type=Path, required=True, help="folder that the base is written to")
    for name, value in (("tokens", 4_000_000), ("vocabulary", 4096), ("length", 256), ("width", 256), ("layers", 5),
                        ("heads", 4), ("rows", 16), ("seed", 0)):
        add(f"--{name}", type=int, default=value, help=f"({value})")
    for name, value, text in (("matrix-rate", 0.02, "of the matrices, by Muon"), ("learning-rate", 0.003, "of the rest, by AdamW")):
        add(f"--{name}", type=float, default=value, help=f"peak learning rate {text} ({value})")
    args = parser.parse_args()
    sources = [Source(**entry) for entry in tomllib.loads(args.config.read_text())["data"]]
    texts = [text for source in sources for name, text in documents(source) if isinstance(text, str) and not is_held_out(name)]
    tokenizer = learn_tokenizer(texts, args.vocabulary)
    base = empty_base(tokenizer, args.length, args.width, args.layers, args.heads)
    torch.manual_seed(args.seed)
    network = Network(base.shape, torch.bfloat16)
    draw_weights(network)
    mixture = Mixture(sources, False, tokenizer, CHAT_TEMPLATE, {}, 0)
    mixture.parts = [part for part in mixture.parts if len(part.stream) > args.length]
    mixture.shares = [part.source.share for part in mixture.parts]
    train(network, mixture, args)
    write_folder(network, base, args.out)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
