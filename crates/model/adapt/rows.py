"""Training rows: tokens, which of them are masked, and how much each counts."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

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
    line_share: float = 0.0
    short_share: float = 0.0
    breaks: set[int] = field(default_factory=set)  # tokens that begin with a line break

    def batch(self, count: int, highest_rate: float, rng: random.Random) -> Batch:
        """`count` rows, or twice or four times as many short ones. Masking rates are spread evenly over [lowest, highest)."""
        length = self.length
        if self.short_share and rng.random() < self.short_share:
            shorter = rng.choice([2, 4])
            count, length = count * shorter, length // shorter
        offset = rng.random()
        rates = [self.lowest_rate + (highest_rate - self.lowest_rate) * ((i + offset) / count % 1) for i in range(count)]
        rng.shuffle(rates)
        rows = [self.row(length, rate, rng) for rate in rates]
        tokens, masked, weight = (torch.tensor(column) for column in zip(*rows))
        return Batch(tokens, masked, weight)

    def row(self, length: int, rate: float, rng: random.Random) -> tuple[list[int], list[bool], list[float]]:
        """Tokens, which of them are masked, and the weight of each."""
        corpus = self.mixture.draw(rng)
        if corpus.talks:
            return self.talk(corpus, length, rate, rng)
        first = [] if self.start is None else [self.start]
        tokens = first + corpus.window(length - len(first), rng)
        tokens += [corpus.end] * (length - len(tokens))
        way = rng.random()
        if way < self.cut_share:
            return self.cut(corpus, tokens, rng)
        stretch = way < self.cut_share + self.stretch_share
        if stretch:
            breaks = [i for i, token in enumerate(tokens) if token in self.breaks] if self.line_share else []
            masked, weight = by_stretches(length, 1, rng, breaks, self.line_share)
        else:
            masked, weight = by_rate(length, 1, rate, rng)
        return tokens, masked, [weight] * length

    def talk(self, corpus: Corpus, length: int, rate: float, rng: random.Random) -> tuple[list[int], list[bool], list[float]]:
        """A talk whose answer is masked, filled up with end tokens."""
        talk = rng.choice(corpus.talks)
        first = [] if self.start is None or talk.prompt[0] == self.start else [self.start]
        prompt = first + talk.prompt[-(length - 16) :]
        tokens = (prompt + talk.answer)[:length]
        fill = length - len(tokens)
        weights = [1.0] * len(tokens) + [FILL_WEIGHT] * fill
        tokens = tokens + [corpus.end] * fill
        if rng.random() < 0.5:
            masked, weight = by_block(length, len(prompt), self.block, rng)
        else:
            masked, weight = by_rate(length, len(prompt), rate, rng)
        return tokens, masked, [weight * w for w in weights]

    def cut(self, corpus: Corpus, tokens: list[int], rng: random.Random) -> tuple[list[int], list[bool], list[float]]:
        """A hole between two cuts at any characters, each side split into tokens alone, as a server splits them."""
        length = len(tokens)
        first = [] if self.start is None else [self.start]
        text = self.tokenizer.decode(tokens[len(first) :], skip_special_tokens=False)
        size = int(math.exp(rng.uniform(0, math.log(max(2, len(text) / 4)))))
        begin = rng.randrange(len(text) // 8, max(len(text) // 8 + 1, len(text) - size))
        texts = text[:begin], text[begin : begin + size], text[begin + size :]
        before, hole, after = (self.tokenizer.encode(part, add_special_tokens=False).ids for part in texts)
        before = first + before
        surplus = len(before) + len(hole) + len(after) - length
        if surplus > 0:
            after = after[: max(0, len(after) - surplus)]
        result = (before + hole + after)[: length]
        masked = [len(before) <= i < len(before) + len(hole) for i in range(length)]
        masked[0] = False
        result += [corpus.end] * (length - len(result))
        if not any(masked):
            masked[length - 1] = True
        return result, masked, [min(LARGEST_WEIGHT, length / sum(masked))] * length


def line_breaks(tokenizer: Tokenizer) -> set[int]:
    """The tokens whose text begins with a line break."""
    texts = ((i, tokenizer.decode([i])) for i in range(tokenizer.get_vocab_size(with_added_tokens=True)))
    return {i for i, text in texts if text[:1] in ("\n", "\r") and text}
