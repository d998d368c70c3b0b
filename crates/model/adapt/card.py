"""The card: a README.md that says what was trained on what, with the numbers of the run."""

from __future__ import annotations

import json
from pathlib import Path

from .bases import Base
from .data import Mixture


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]


def data_table(mixture: Mixture) -> list[str]:
    """A table of the data, with licences and shares."""
    total = sum(mixture.shares)
    rows = [[part.source.name or Path(part.source.path).name, part.source.licence, f"{part.count:,}", f"{part.tokens:,}",
             f"{100 * share / total:.0f} %"] for part, share in zip(mixture.parts, mixture.shares)]
    return table(["data", "licence", "documents", "tokens", "share of the rows"], rows)


def held_out_table(out: Path) -> list[str]:
    """The lines of `held_out.jsonl`, a row each; numbers that a line lacks stay empty."""
    log = out / "held_out.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    names = list(dict.fromkeys(name for line in lines for name in line if name not in ("tokens", "minutes")))
    if not names:
        return ["No held-out text was long enough to ask about."]
    rows = [[f"{line['tokens']:,}", f"{line['minutes']:.0f}", *(f"{line[n]:.3f}" if n in line else "" for n in names)]
            for line in lines]
    return table(["tokens seen", "minutes", *names], rows)


def card(base: Base, base_name: str, licence: str, mixture: Mixture, out: Path, options: dict[str, object],
         command: str) -> str:
    """The text of the card."""
    kind = f"a LoRA adapter of rank {options['rank']}" if options["rank"] else "all weights"
    names = ("mask_token", "rank", "alpha", "tokens", "length", "rows", "learning_rate", "matrix_rate", "opening_tokens",
             "rising_tokens", "falling_tokens", "lowest_rate", "first_rate", "stretch_share", "line_share", "short_share",
             "cut_share", "dtype", "seed")
    settings = table(["setting", "value"], [[name.replace("_", "-"), f"`{options[name]}`"] for name in names])
    head = ["---", f"license: {licence}", f"base_model: {base_name}"]
    head += ["library_name: peft"] if options["rank"] else []
    lines = [
        *head, "---", "", f"# {base_name}, adapted to masked diffusion", "",
        f"This is {kind}. `{base_name}` ({base.shape.family}, licence {base.licence}) was trained on with the recipe of",
        "[DiffuLLaMA](https://arxiv.org/abs/2410.17891): attention opens to both sides, random tokens are masked, the loss of",
        "a masked token is weighted by the inverse of the masking rate, and row i of the head predicts position i + 1.", "",
        f"The mask token is `{base.settings['mask_token']}`.", "",
        "## Data", "", *data_table(mixture), "",
        "One document in twenty is held out, by a hash of its name.", "",
        "## Held-out numbers", "", *held_out_table(out), "",
        "Shares of right tokens, on blocks of the first data. `masked`: each token is masked with this probability and all are",
        "filled by one evaluation. `hole`: consecutive tokens, filled one at a time, the surest first. `prefix only`: the same",
        "holes, left to right, without the text behind them. `next token`: left to right.", "",
        "## Settings", "", f"    {command}", "", *settings, "",
    ]
    return "\n".join(lines)
