"""Training rows: tokens, which of them are masked, and how much each counts."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .data import Corpus, Mixture
from .masking import LARGEST_WEIGHT, by_block, by_rate, by_stretches

# Of the fill behind an answer, only the first end token counts in full, or the fill would drown the answer.
FILL_WEIGHT = 0.05


@dataclass
class Batch:
    """Rows of one length, each tensor (rows, length)."""

    tokens: Tensor
    masked: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.tokens.to(device), self.masked.to(device), self.weight.to(device))


@dataclass
class RowMaker:
    """Draws rows of a mixture. Shares say how many rows are masked in which way."""

    mixture: Mixture
    tokenizer: Tokenizer
    start: int | None  # the document start that a server puts in front of every text
    length: int
    lowest_rate: float
    stretch_share: float
    cut_share: float
    block: int

    def batch(self, count: int, highest_rate: float, rng: random.Random) -> Batch:
        """`count` rows. Masking rates are spread evenly over [lowest, highest)."""
        offset = rng.random()
        rates = [self.lowest_rate + (highest_rate - self.lowest_rate) * ((i + offset) / count % 1) for i in range(count)]
        rng.shuffle(rates)
        rows = [self.row(rate, rng) for rate in rates]
        tokens, masked, weight = (torch.tensor(column) for column in zip(*rows))
        return Batch(tokens, masked, weight)

    def row(self, rate: float, rng: random.Random) -> tuple[list[int], list[bool], list[float]]:
        corpus = self.mixture.draw(rng)
        if corpus.talks:
            return self.talk(corpus, rate, rng)
        first = [] if self.start is None else [self.start]
        tokens = first + corpus.window(self.length - len(first), rng)
        tokens += [corpus.end] * (self.length - len(tokens))
        way = rng.random()
        if way < self.cut_share:
            return self.cut(corpus, tokens, rng)
        stretch = way < self.cut_share + self.stretch_share
        masked, weight = by_stretches(self.length, 1, rng) if stretch else by_rate(self.length, 1, rate, rng)
        return tokens, masked, [weight] * self.length

    def talk(self, corpus: Corpus, rate: float, rng: random.Random) -> tuple[list[int], list[bool], list[float]]:
        """A talk whose answer is masked, filled up with end tokens."""
        talk = rng.choice(corpus.talks)
        prompt = talk.prompt[-(self.length - 16) :]
        tokens = (prompt + talk.answer)[: self.length]
        fill = self.length - len(tokens)
        weights = [1.0] * len(tokens) + [FILL_WEIGHT] * fill
        tokens = tokens + [corpus.end] * fill
        if rng.random() < 0.5:
            masked, weight = by_block(self.length, len(prompt), self.block, rng)
        else:
            masked, weight = by_rate(self.length, len(prompt), rate, rng)
        return tokens, masked, [weight * w for w in weights]

    def cut(self, corpus: Corpus, tokens: list[int], rng: random.Random) -> tuple[list[int], list[bool], list[float]]:
        """A hole between two cuts at any characters, each side split into tokens alone, as a server splits them."""
        first = [] if self.start is None else [self.start]
        text = self.tokenizer.decode(tokens[len(first) :], skip_special_tokens=False)
        size = int(math.exp(rng.uniform(0, math.log(max(2, len(text) / 4)))))
        begin = rng.randrange(len(text) // 8, max(len(text) // 8 + 1, len(text) - size))
        texts = text[:begin], text[begin : begin + size], text[begin + size :]
        before, hole, after = (self.tokenizer.encode(part, add_special_tokens=False).ids for part in texts)
        before = first + before
        surplus = len(before) + len(hole) + len(after) - self.length
        if surplus > 0:
            after = after[: max(0, len(after) - surplus)]
        result = (before + hole + after)[: self.length]
        masked = [len(before) <= i < len(before) + len(hole) for i in range(self.length)]
        masked[0] = False
        result += [corpus.end] * (self.length - len(result))
        if not any(masked):
            masked[self.length - 1] = True
        return result, masked, [min(LARGEST_WEIGHT, self.length / sum(masked))] * self.length
