"""Held-out numbers: what share of masked tokens is right, by one evaluation and one token at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from .masking import attention_bias
from .model import Network
from .workers import Workers

ROWS_AT_A_TIME = 8


class Examiner:
    """Asks about the same blocks with the same draws every time. Position 0 holds the document start.

    Every process of a run answers for its part of the blocks.
    """

    def __init__(self, network: Network, blocks: Tensor, start: int | None, mask: int, workers: Workers) -> None:
        self.network, self.mask, self.workers = network, mask, workers
        self.blocks = blocks.clone()
        if start is not None:
            self.blocks[:, 0] = start
        self.own = slice(workers.rank, None, workers.count)
        self.causal = attention_bias(blocks.shape[1], 0.0, torch.Generator()).to(workers.device)

    @torch.no_grad()
    def best(self, tokens: Tensor, wanted: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        """The log-probability of the most probable token at each wanted position, and the token."""
        device, bias = self.workers.device, self.causal if causal else None
        chances, choices = [], []
        for first in range(0, len(tokens), ROWS_AT_A_TIME):
            part = slice(first, first + ROWS_AT_A_TIME)
            logits = self.network.logits_before(tokens[part].to(device), bias, wanted[part].to(device))
            logits[:, self.mask] = -torch.inf
            chance, choice = logits.log_softmax(-1).max(-1)
            chances.append(chance.cpu())
            choices.append(choice.cpu())
        return torch.cat(chances), torch.cat(choices)

    def at_once(self, wanted: Tensor, causal: bool) -> tuple[int, int]:
        """Right tokens and wanted tokens, all of them from one evaluation."""
        blocks, wanted = self.blocks[self.own], wanted[self.own]
        _, best = self.best(blocks if causal else blocks.masked_fill(wanted, self.mask), wanted, causal)
        return int((best == blocks[wanted]).sum()), int(wanted.sum())

    def masked(self, rate: float) -> tuple[int, int]:
        """Right tokens and masked ones, where each is masked with probability `rate`."""
        generator = torch.Generator().manual_seed(int(1000 * rate))
        wanted = torch.rand(self.blocks.shape, generator=generator) < rate
        wanted[:, 0] = False
        return self.at_once(wanted, False)

    def next_token(self) -> tuple[int, int]:
        """Right next tokens and all of them, left to right."""
        wanted = torch.ones_like(self.blocks, dtype=torch.bool)
        wanted[:, 0] = False
        return self.at_once(wanted, True)

    def hole(self, size: int, causal: bool) -> tuple[tuple[int, int], tuple[int, int]]:
        """Right tokens and all; wholly right holes and all. The surest token is filled first; left to right when causal."""
        generator = torch.Generator().manual_seed(size)
        count, length = self.blocks.shape
        first = torch.randint(length // 4, length - length // 4, (count, 1), generator=generator)
        column = torch.arange(length)[None]
        hole = ((column >= first) & (column < first + size))[self.own]
        blocks = self.blocks[self.own]
        filled, open_ = blocks.masked_fill(hole, self.mask), hole.clone()
        rows = torch.arange(len(blocks))
        for _ in range(size):
            chances, best = self.best(filled, open_, causal)
            score = torch.full(filled.shape, -torch.inf)
            score[open_] = chances
            choice = filled.clone()
            choice[open_] = best
            where = open_.int().argmax(1) if causal else score.argmax(1)
            filled[rows, where] = choice[rows, where]
            open_[rows, where] = False
        right = (filled == blocks)[hole].view(-1, size)
        return (int(right.sum()), right.numel()), (int(right.all(1).sum()), len(right))

    def numbers(self, sizes: tuple[int, ...] = (), prefix_only: bool = False) -> dict[str, float]:
        """All shares by name. Holes take an evaluation a token, so that few sizes are asked about on the way."""
        counts = {f"masked {rate}": self.masked(rate) for rate in (0.15, 0.5, 0.9)}
        for size in sizes:
            counts[f"hole {size}"], counts[f"hole {size} exact"] = self.hole(size, False)
            if prefix_only:
                counts[f"prefix only {size}"], counts[f"prefix only {size} exact"] = self.hole(size, True)
        counts["next token"] = self.next_token()
        sums = torch.tensor(list(counts.values()), dtype=torch.float64, device=self.workers.device)
        self.workers.sum([sums])
        return {name: round((right / asked).item(), 4) for name, (right, asked) in zip(counts, sums)}
