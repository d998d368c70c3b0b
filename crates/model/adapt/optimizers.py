"""Optimisers: AdamW for all weights, or Muon for the matrices of the blocks and AdamW for the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz steps (Jordan 2024). A fused q, k, v is three matrices."""

    def __init__(self, matrices: list[nn.Parameter], lr: float, momentum: float = 0.95, steps: int = 5) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "steps": steps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"])
                parts = update.split(p.shape[1]) if p.shape[0] == 3 * p.shape[1] else [update]
                turned = torch.cat([orthogonal(part, group["steps"]) for part in parts])
                p.mul_(1 - 0.01 * group["lr"]).add_(turned, alpha=-group["lr"])


def orthogonal(update: Tensor, steps: int) -> Tensor:
    """About the nearest matrix with orthogonal rows or columns, scaled for tall ones."""
    x = (update if update.shape[0] <= update.shape[1] else update.T).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    x = x if update.shape[0] <= update.shape[1] else x.T
    return x.to(update.dtype) * max(1.0, update.shape[0] / update.shape[1]) ** 0.5


def make_optimizers(trained: dict[str, nn.Parameter], learning_rate: float, weight_decay: float,
                    matrix_rate: float) -> list[torch.optim.Optimizer]:
    """Optimisers with their peak learning rate in each group's `peak`. Muon is used when `matrix_rate` is above 0."""
    matrices = {n: p for n, p in trained.items() if matrix_rate and n.startswith("blocks.") and p.ndim == 2}
    rest = [p for n, p in trained.items() if n not in matrices]
    made: list[torch.optim.Optimizer] = [Muon(list(matrices.values()), matrix_rate)] if matrices else []
    made.append(torch.optim.AdamW(rest, learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made
