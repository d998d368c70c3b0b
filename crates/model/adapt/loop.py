"""The training loop: steps, checkpoints, progress, and the work of several processes under torchrun.

A step's rows depend on the seed, the step and the process only, so that a resumed run repeats what an uninterrupted one
does.
"""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .evaluate import Examiner
from .masking import attention_bias
from .model import Network
from .optimizers import make_optimizers
from .rows import Batch, RowMaker
from .schedule import Schedule
from .workers import Workers


@dataclass
class Pace:
    """Sizes of a step, and intervals between checkpoints and evaluations."""

    rows: int  # in a step, of one process
    rows_at_a_time: int
    learning_rate: float
    matrix_rate: float
    weight_decay: float
    seed: int
    checkpoint_minutes: float
    evaluate_tokens: int


@dataclass
class State:
    """Progress of a run."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluated: int = 0


class Run:
    """A run in progress."""

    def __init__(self, out: Path, network: Network, trained: dict[str, nn.Parameter], rows: RowMaker, mask: int,
                 schedule: Schedule, pace: Pace, workers: Workers, examiner: Examiner | None) -> None:
        self.out, self.network, self.trained, self.rows, self.mask = out, network, trained, rows, mask
        self.schedule, self.pace, self.workers, self.examiner = schedule, pace, workers, examiner
        self.state = State()
        self.optimizers = make_optimizers(trained, pace.learning_rate, pace.weight_decay, pace.matrix_rate)
        self.losses: list[float] = []
        self.settings: dict[str, Any] = {}
        self.stopped = False

    def resume(self, settings: dict[str, Any]) -> bool:
        """Goes on from the checkpoint in the folder, if there is one. It must be of a run with these settings."""
        self.settings = settings
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return False
        try:
            saved = torch.load(path, map_location=self.workers.device, weights_only=True)
        except Exception as error:  # torch has many types for a damaged file
            raise ValueError(f"{path} is damaged ({type(error).__name__}); delete it to begin again") from None
        for name, value in saved.get("settings", {}).items():
            if settings[name] != value:
                raise ValueError(f"{self.out} holds a run whose {name} is {value!r}, and this command says {settings[name]!r}; "
                                 "say the same, or give another --out")
        if {n: p.shape for n, p in saved["trained"].items()} != {n: p.shape for n, p in self.trained.items()}:
            raise ValueError(f"{path} is of another base, or of another rank; give another --out")
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(saved["trained"][name])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            peaks = [group["peak"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["peak"] = peak  # of this command, not of the one that saved
        self.state = State(**saved["state"])
        if self.state.tokens - self.pace.rows * self.rows.length * self.workers.count >= self.schedule.total:
            raise ValueError(f"{self.out} holds a run that has seen {self.state.tokens:,} tokens; --tokens must not be less")
        return True

    def save(self) -> None:
        if self.workers.leads:
            saved = {"settings": self.settings, "trained": {name: p.detach() for name, p in self.trained.items()},
                     "optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "state": asdict(self.state)}
            torch.save(saved, self.out / "checkpoint.new")
            (self.out / "checkpoint.new").replace(self.out / "checkpoint.pt")

    def step(self) -> float:
        """One step of the optimiser. Returns the mean loss of the masked tokens, unweighted."""
        state, pace = self.state, self.pace
        name = f"{pace.seed} {state.step} {self.workers.rank}"
        rng = random.Random(name)
        batch = self.rows.batch(pace.rows, self.schedule.highest_rate(state.tokens), rng)
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        bias = attention_bias(batch.tokens.shape[1], self.schedule.open_share(state.tokens), generator)
        sums = torch.zeros(2, device=self.workers.device)
        for first in range(0, len(batch.tokens), pace.rows_at_a_time):
            part = slice(first, first + pace.rows_at_a_time)
            rows = Batch(batch.tokens[part], batch.masked[part], batch.weight[part]).to(self.workers.device)
            sums += self.backward(rows, None if bias is None else bias.to(self.workers.device))
        gradients = [parameter.grad for parameter in self.trained.values()]
        self.workers.sum([*gradients, sums])
        for gradient in gradients:
            gradient /= sums[1]
        nn.utils.clip_grad_norm_(list(self.trained.values()), 1.0)
        rate = self.schedule.learning_rate(state.step, state.tokens)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
            optimizer.zero_grad()
        state.step += 1
        state.tokens += batch.tokens.numel() * self.workers.count
        return (sums[0] / sums[1]).item()

    def backward(self, rows: Batch, bias: Tensor | None) -> Tensor:
        """Adds the rows' gradients. Returns the sum of the losses and the number of masked tokens."""
        inputs = rows.tokens.masked_fill(rows.masked, self.mask)
        logits = self.network.logits_before(inputs, bias, rows.masked)
        loss = F.cross_entropy(logits, rows.tokens[rows.masked], reduction="none")
        (loss * rows.weight[rows.masked]).sum().backward()
        return torch.tensor([loss.detach().sum().item(), len(loss)], device=self.workers.device)

    def stop(self, number: int, _: object) -> None:
        """Has the loop end after its step. The second signal ends the process."""
        self.stopped = True
        signal.signal(number, signal.SIG_DFL)

    def train(self) -> bool:
        """Steps until the schedule's last token. False after SIGINT or SIGTERM, which end the loop with a checkpoint."""
        if self.workers.count == 1:
            # Several processes would stop at different steps.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.stop)
        state, pace = self.state, self.pace
        shown = saved = last = time.monotonic()
        since = state.tokens
        while state.tokens < self.schedule.total and not self.stopped:
            self.losses.append(self.step())
            now = time.monotonic()
            state.seconds += now - last
            last = now
            if self.workers.leads and now - shown > 20:
                self.show((state.tokens - since) / (now - shown))
                shown, since = now, state.tokens
            if now - saved > 60 * pace.checkpoint_minutes:
                self.save()
                saved = now
            if self.examiner and pace.evaluate_tokens and state.tokens - state.evaluated >= pace.evaluate_tokens:
                self.report(self.examiner.numbers())
                self.save()
                last = shown = saved = time.monotonic()  # evaluations are not counted as training
                since = state.tokens
        self.save()
        return not self.stopped

    def show(self, speed: float) -> None:
        """Prints a line of progress."""
        state, losses = self.state, self.losses
        left = (self.schedule.total - state.tokens) / max(speed, 1e-9)
        print(f"step {state.step:6}  {state.tokens / 1e6:7.3f} M of {self.schedule.total / 1e6:.3f} M tokens  "
              f"{speed:6.0f} tokens/s  loss {sum(losses) / len(losses):.3f}  "
              f"{left // 3600:.0f} h {left % 3600 / 60:02.0f} min left", flush=True)
        losses.clear()

    def report(self, numbers: dict[str, float]) -> None:
        """Appends held-out numbers to `held_out.jsonl`."""
        self.state.evaluated = self.state.tokens
        line = {"tokens": self.state.tokens, "minutes": round(self.state.seconds / 60, 1), **numbers}
        if self.workers.leads:
            print("held out", json.dumps(line), flush=True)
            with (self.out / "held_out.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
