"""Command line and configuration file. A TOML file (`--config`) sets the same names; the command line comes first."""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path
from typing import Any

from .data import Source


def parser() -> argparse.ArgumentParser:
    """All options."""
    result = argparse.ArgumentParser("adapt", description="Adapts an autoregressive model to masked diffusion.")
    add = result.add_argument
    add("--config", type=Path, help="TOML file with any of these options, and [[data]] tables")
    add("--base", help="folder, name on the hub (owner/name) or .gguf file of a GPT-2, LLaMA, Qwen2 or Qwen3")
    add("--data", nargs="+", default=[], metavar="PATH", help="text files, .jsonl files and folders of them")
    add("--out", type=Path, help="folder for checkpoints, logs and the result; a run in it is resumed")
    add("--mask-token", help="text of the mask token; an unused entry keeps the embedding as it is (the base's, or a new one)")
    add("--base-name", help="the base's name for the adapter's configuration and the card (--base)")
    add("--licence", help="licence of the result, for the card (the base's)")
    add("--rank", type=int, default=0, help="rank of a LoRA adapter; 0 trains all weights (0)")
    add("--adapter", type=Path, help="folder of an adapter of this rank and alpha to begin with")
    add("--alpha", type=float, default=0.0, help="the adapter's alpha (twice the rank)")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=0, help="processor threads (torch's choice)")
    add("--dtype", choices=["bf16", "f32"], default="bf16", help="number format of matrix products (bf16)")
    add("--no-export", action="store_true", help="train only")
    add("--verify", default="unmask", help="program that verifies the result; empty for none (unmask)")
    for name, value, text in (
        ("tokens", 10_000_000, "tokens to train on"),
        ("length", 512, "tokens of a row"),
        ("rows", 16, "rows of a step, of each process"),
        ("rows-at-a-time", 0, "rows computed at once; 0 for all"),
        ("warm-up", 50, "steps over which the learning rate rises"),
        ("opening-tokens", -1, "tokens over which attention opens; -1 for an eighth of --tokens"),
        ("rising-tokens", -1, "tokens over which the highest masking rate rises to 1; -1 for two fifths of --tokens"),
        ("falling-tokens", -1, "tokens over which the learning rate falls at the end; -1 for a quarter of --tokens"),
        ("evaluate-tokens", 1_000_000, "tokens between evaluations; 0 for none on the way"),
        ("blocks", 48, "held-out blocks of an evaluation"),
        ("block", 16, "length of a block in block-wise decoding of talks"),
    ):
        add(f"--{name}", type=int, default=value, help=f"{text} ({value})")
    for name, value, text in (
        ("learning-rate", 3e-4, "peak learning rate of AdamW"),
        ("matrix-rate", 0.0, "peak learning rate of the blocks' matrices by Muon; 0 for AdamW"),
        ("weight-decay", 0.0, "AdamW's weight decay"),
        ("lowest-rate", 0.1, "lowest masking rate (the paper's 0.001 gives single tokens weights up to 1000)"),
        ("first-rate", 0.3, "highest masking rate of the first step"),
        ("stretch-share", 0.4, "share of the rows that lose stretches instead of single tokens"),
        ("line-share", 0.0, "share of the stretches that are whole lines"),
        ("short-share", 0.0, "share of the steps whose rows have a half or a quarter of the length"),
        ("cut-share", 0.1, "share of the rows whose hole begins and ends inside of words"),
        ("checkpoint-minutes", 5.0, "minutes between checkpoints"),
    ):
        add(f"--{name}", type=float, default=value, help=f"{text} ({value})")
    return result


def read(arguments: list[str] | None = None) -> tuple[argparse.Namespace, list[Source]]:
    """The options and the data."""
    options = parser()
    config = options.parse_known_args(arguments)[0].config
    sources: list[Source] = []
    if config:
        values: dict[str, Any] = tomllib.loads(config.read_text())
        sources = [Source(**entry) for entry in values.pop("data", [])]
        given = {name.replace("-", "_"): value for name, value in values.items()}
        known = vars(options.parse_args([]))
        if unknown := given.keys() - known.keys():
            options.error(f"{config} sets {', '.join(sorted(unknown))}; `adapt --help` lists the options")
        options.set_defaults(**given)
    args = options.parse_args(arguments)
    if args.data:
        sources = [Source(path) for path in args.data]
    for needed in ("base", "out"):
        if getattr(args, needed) is None:
            options.error(f"--{needed} is missing")
    if not sources:
        options.error("--data is missing; give files, folders or a --config with [[data]] tables")
    args.base, args.out = os.path.expandvars(args.base), Path(args.out)
    args.alpha = args.alpha or 2.0 * args.rank
    args.rows_at_a_time = args.rows_at_a_time or args.rows
    shares = {"opening_tokens": 0.125, "rising_tokens": 0.4, "falling_tokens": 0.25}
    for name, share in shares.items():
        if getattr(args, name) < 0:
            setattr(args, name, int(share * args.tokens))
    return args, sources
