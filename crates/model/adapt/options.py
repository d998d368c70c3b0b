"""Command line and configuration file. A TOML file (`--config`) sets the same names; the command line comes first."""

from __future__ import annotations

import argparse
import dataclasses
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
        values = read_file(config)
        sources = read_sources(config, values.pop("data", []))
        actions = {action.dest: action for action in options._actions if action.dest not in ("help", "config", "data")}
        given = {name.replace("-", "_"): value for name, value in values.items()}
        if unknown := given.keys() - actions.keys():
            raise ValueError(f"{config} sets {', '.join(sorted(unknown))}; `python -m adapt --help` lists the options")
        for name, value in given.items():
            check_value(f"{config}: {name.replace('_', '-')}", actions[name], value)
        options.set_defaults(**given)
    args = options.parse_args(arguments)
    if args.data:
        sources = [Source(path) for path in args.data]
    for needed in ("base", "out"):
        if getattr(args, needed) is None:
            options.error(f"--{needed} is missing")
    if not sources:
        options.error("--data is missing; give files, folders or a --config with [[data]] tables")
    check_numbers(args)
    args.base, args.out = os.path.expandvars(args.base), Path(args.out)
    args.alpha = args.alpha or 2.0 * args.rank
    args.rows_at_a_time = args.rows_at_a_time or args.rows
    shares = {"opening_tokens": 0.125, "rising_tokens": 0.4, "falling_tokens": 0.25}
    for name, share in shares.items():
        if getattr(args, name) < 0:
            setattr(args, name, int(share * args.tokens))
    return args, sources


def read_file(config: Path) -> dict[str, Any]:
    """The tables of a configuration file."""
    try:
        return tomllib.loads(config.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--config {config} cannot be read: {error}") from None


def read_sources(config: Path, entries: Any) -> list[Source]:
    """The `[[data]]` tables."""
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise ValueError(f"{config}: data must be [[data]] tables")
    kinds = {"path": str, "name": str, "licence": str, "glob": list, "leave_out": list, "limit": int}
    names = [field.name for field in dataclasses.fields(Source)]
    for number, entry in enumerate(entries):
        for name, value in entry.items():
            if name not in names:
                raise ValueError(f"{config}: data[{number}] has no key {name}; there are {', '.join(names)}")
            kind = kinds.get(name, (int, float))
            listed = not isinstance(value, list) or all(isinstance(part, str) for part in value)
            if not isinstance(value, kind) or isinstance(value, bool) or not listed:
                wanted = {str: "a string", list: "a list of strings", int: "an integer"}.get(kind, "a number")
                raise ValueError(f"{config}: data[{number}].{name} is {value!r}; it must be {wanted}")
        if "path" not in entry:
            raise ValueError(f"{config}: data[{number}] has no path")
    if entries and sum(entry.get("share", 1.0) for entry in entries) <= 0:
        raise ValueError(f"{config}: the shares of the data must add up to more than 0")
    return [Source(**entry) for entry in entries]


def check_value(name: str, action: argparse.Action, value: Any) -> None:
    """Refuses what the command line would not take for an option."""
    if action.nargs == 0:
        kind, wanted = bool, "true or false"
    elif action.type in (int, float):
        kind, wanted = (int, "an integer") if action.type is int else ((int, float), "a number")
    else:
        kind, wanted = str, "a string"
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is {value!r}; it must be {wanted}")
    if action.choices and value not in action.choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(action.choices)}")


def check_numbers(args: argparse.Namespace) -> None:
    """Refuses numbers that no run can have."""
    least = {"tokens": 1, "length": 32, "rows": 1, "blocks": 1, "block": 1, "rank": 0, "alpha": 0, "rows_at_a_time": 0, "warm_up": 0,
             "threads": 0, "evaluate_tokens": 0, "learning_rate": 0, "matrix_rate": 0, "weight_decay": 0, "checkpoint_minutes": 0}
    for name, smallest in least.items():
        if getattr(args, name) < smallest:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be at least {smallest}")
    for name in ("lowest_rate", "first_rate", "stretch_share", "line_share", "short_share", "cut_share"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be from 0 to 1")
    if args.stretch_share + args.cut_share > 1:
        raise ValueError(f"--stretch-share {args.stretch_share} and --cut-share {args.cut_share} add up to more than 1")
