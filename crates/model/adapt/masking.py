"""Masks for training rows, the weight of each masked token, and the attention that opens gradually.

A row is masked in one of two ways. As in the paper: a rate t is drawn, every position is masked with probability t, and
the loss is weighted by 1/t. Or stretches are masked, which is what editors ask for.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

LARGEST_WEIGHT = 8.0
# Whole lines that a stretch masks, one of these at random.
LINES = (1, 1, 1, 2, 3, 5)


def by_rate(length: int, first: int, rate: float, rng: random.Random) -> tuple[list[bool], float]:
    """Masks positions from `first` on with probability `rate`; at least one. The weight is 1/rate."""
    masked = [i >= first and rng.random() < rate for i in range(length)]
    if not any(masked):
        masked[rng.randrange(first, length)] = True
    return masked, min(LARGEST_WEIGHT, 1 / rate)


def by_stretches(length: int, first: int, rng: random.Random, breaks: list[int] | None = None,
                 line_share: float = 0.0) -> tuple[list[bool], float]:
    """Masks one to three stretches, short ones as often as long ones: log-uniform up to a third of the row.

    A share of them are whole lines instead, one to five, between two of the positions `breaks`.
    """
    masked = [False] * length
    for _ in range(rng.randint(1, 3)):
        if breaks and len(breaks) > 1 and rng.random() < line_share:
            line = rng.randrange(len(breaks) - 1)
            start, end = breaks[line] + 1, breaks[min(line + rng.choice(LINES), len(breaks) - 1)]
            masked[start:end] = [True] * (end - start)
            continue
        size = max(1, int(math.exp(rng.uniform(0, math.log(max(2, (length - first) / 3))))))
        size = min(size, length - first)
        start = rng.randrange(first, length - size + 1)
        masked[start : start + size] = [True] * size
    if not any(masked):
        masked[rng.randrange(first, length)] = True
    return masked, min(LARGEST_WEIGHT, length / sum(masked))


def by_block(length: int, first: int, block: int, rng: random.Random) -> tuple[list[bool], float]:
    """A state of block-wise decoding: one block partly masked, everything after it masked, nothing before."""
    blocks = range(first, length, block)
    start = rng.choice(blocks)
    rate = rng.uniform(0.1, 1.0)
    masked = [i >= start + block or (i >= start and rng.random() < rate) for i in range(length)]
    if not any(masked):
        masked[rng.randrange(start, length)] = True
    return masked, 1.0


def attention_bias(length: int, open_share: float, generator: torch.Generator) -> Tensor | None:
    """None for full attention; otherwise causal with a random share of what lies to the right, (length, length)."""
    if open_share >= 1:
        return None
    allowed = torch.rand(length, length, generator=generator) < open_share
    allowed |= torch.ones(length, length, dtype=torch.bool).tril()
    return torch.zeros(length, length).masked_fill(~allowed, -30_000.0)
