"""Schedules over the tokens seen: the learning rate, the open share of attention, the highest masking rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Lengths in tokens, except `warm_up`, in steps. A run can be made longer until the learning rate falls."""

    total: int
    warm_up: int
    opening: int  # attention opens over the first so many tokens
    rising: int  # the highest masking rate rises from `first_rate` to 1
    falling: int  # the learning rate falls to 2 % over the last so many tokens
    first_rate: float

    def learning_rate(self, step: int, tokens: int) -> float:
        """A factor: a linear warm-up, then flat, then a line down to 2 %."""
        left = (self.total - tokens) / self.falling if self.falling else 1.0
        return min(1.0, (step + 1) / max(1, self.warm_up), max(0.02, left))

    def open_share(self, tokens: int) -> float:
        """The share of the positions to the right that attention sees."""
        return min(1.0, tokens / self.opening) if self.opening else 1.0

    def highest_rate(self, tokens: int) -> float:
        share = min(1.0, tokens / self.rising) if self.rising else 1.0
        return self.first_rate + (1 - self.first_rate) * share
