"""Everything that a run needs, made from the options; and what is written when it is over."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from .bases import Base, BaseError, load_base, token_text
from .card import card
from .data import Mixture, Source
from .evaluate import Examiner
from .export import read_adapter, write_adapter, write_folder
from .loop import Pace, Run
from .model import Network, add_lora
from .rows import RowMaker, line_breaks
from .schedule import Schedule
from .workers import Workers


@dataclass
class Job:
    """A run with its base and its data."""

    args: argparse.Namespace
    base: Base
    network: Network
    trained: dict[str, nn.Parameter]
    mixture: Mixture
    examiner: Examiner | None
    run: Run

    def export(self) -> Path:
        """Writes the adapter or the folder, with its card."""
        args = self.args
        name = args.base_name or args.base
        result = args.out / ("adapter" if args.rank else "model")
        if args.rank:
            write_adapter(self.trained, self.base, name, args.rank, args.alpha, result)
        else:
            write_folder(self.network, self.base, result)
        options = {**vars(args), "mask_token": self.base.settings["mask_token"]}
        command = f"python -m adapt {shlex.join(sys.argv[1:])}"
        licence = args.licence or self.base.licence
        (result / "README.md").write_text(card(self.base, name, licence, self.mixture, args.out, options, command))
        return result

    def verify(self, result: Path) -> int:
        """The exit status of `unmask verify`. An adapter is verified on its base with the mask token named."""
        args, adapter = self.args, []
        if args.rank:
            adapter = ["--adapter", str(result)]
            result = args.out / "base"
            write_folder(self.network, self.base, result, with_adapter=False)
        return subprocess.run([args.verify, "verify", str(result), *adapter]).returncode


def readable_base(args: argparse.Namespace) -> Base:
    """The base, whose context must hold a row."""
    try:
        base = load_base(args.base, args.mask_token)
    except (BaseError, FileNotFoundError):
        raise
    except Exception as error:  # the libraries that read files have errors of many types
        raise BaseError(f"--base {args.base} cannot be read: {type(error).__name__}: {error}") from None
    if args.length > base.shape.positions:
        raise BaseError(f"--length is {args.length}, and the context of {args.base} is {base.shape.positions}; it must not be longer")
    return base


def prepare(args: argparse.Namespace, sources: list[Source]) -> Job:
    """Loads the base, reads the data and resumes the run in `--out`, if there is one."""
    if args.threads:
        torch.set_num_threads(args.threads)
    workers = Workers()
    base = readable_base(args)
    args.out.mkdir(parents=True, exist_ok=True)
    computed = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    network = base.network(computed if args.rank else torch.float32, computed)
    if args.rank:
        add_lora(network, args.rank, args.alpha, args.seed)
        if args.adapter:
            read_adapter(network, base, args.rank, args.alpha, args.adapter)
    network.to(workers.device)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    mask, start, end = (base.token_id(f"{role}_token") for role in ("mask", "bos", "eos"))
    if mask is None or end is None:
        raise BaseError(f"{args.base} names no eos_token; documents need an end")
    special = {role: token_text(base.settings.get(role)) or "" for role in ("bos_token", "eos_token")}
    template = base.settings.get("chat_template")
    mixture, held_out = (Mixture(sources, part, base.tokenizer, template, special, end) for part in (False, True))
    texts = [part for part in held_out.parts if len(part.stream) > args.length]
    examiner = None
    if texts:
        examiner = Examiner(network, texts[0].windows(args.blocks, args.length, 7), start, mask, workers)
    rows = RowMaker(mixture, base.tokenizer, start, args.length, args.lowest_rate, args.stretch_share, args.cut_share,
                    args.block, args.line_share, args.short_share, line_breaks(base.tokenizer))
    schedule = Schedule(args.tokens, args.warm_up, args.opening_tokens, args.rising_tokens, args.falling_tokens,
                        args.first_rate)
    pace = Pace(args.rows, args.rows_at_a_time, args.learning_rate, args.matrix_rate, args.weight_decay, args.seed,
                args.checkpoint_minutes, args.evaluate_tokens)
    run = Run(args.out, network, trained, rows, mask, schedule, pace, workers, examiner)
    names = ("mask_token", "rank", "alpha", "length", "rows", "seed")
    run.resume({**{name: getattr(args, name) for name in names}, "data": [asdict(source) for source in sources]})
    return Job(args, base, network, trained, mixture, examiner, run)
