"""Ratios of `unmask bench` to PyTorch, from runs in turn on one machine.

    python crates/model/benches/peers/compare.py target/release/unmask --turns 5

Every turn runs each case once, so that a busy machine is busy for both programs. Printed are, for every
case, the shortest time and the median, and ratios of either: what the machine's other users did is in the
median, hardly in the shortest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

PEER = Path(__file__).with_name("torch_peer.py")


class Runner:
    """Each method gives milliseconds, the shortest of a few repetitions."""

    def __init__(self, unmask, arch, threads):
        self.unmask = [unmask, "bench", "--json", "--arch", arch, "--threads", str(threads)]
        self.torch = [sys.executable, str(PEER), "--arch", arch, "--threads", str(threads)]

    def run(self, command, flags):
        result = subprocess.run([*command, *flags.split()], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def trunk(self, dtype):
        return self.run(self.unmask, f"--dtype {dtype} --asked 511 --repetitions 3")[0]["trunk_min_ms"]

    def readout(self, dtype):
        # The logits of random weights are nearly equal; at this temperature their nucleus holds about 200 tokens.
        flags = f"--dtype {dtype} --asked 511 --repetitions 3 --temperature 0.14"
        return self.run(self.unmask, flags)[0]["parts_ms"]["readout"]

    def batch(self, canvases):
        flags = f"--dtype f32 --rows 128 --canvases {canvases} --asked 127 --repetitions 3"
        return self.run(self.unmask, flags)[0]["min_ms"] / canvases

    def fill(self, dtype, rows, masked):
        report = self.run(self.unmask, f"--dtype {dtype} --rows {rows} --masked {masked}")[0]
        return 1e3 * masked / report["tokens_per_second"]

    def torch_trunk(self, dtype):
        return min(line["trunk_ms"] for line in self.run(self.torch, f"--dtype {dtype} --trunk-only --repetitions 3"))

    def torch_fill(self, dtype, rows, masked):
        flags = f"--dtype {dtype} --rows {rows} --masked {masked} --loop --first-rounds 3"
        return self.run(self.torch, flags)[0]["seconds"] * 1e3


CASES = {
    "trunk, torch f32": lambda run: run.torch_trunk("f32"),
    "trunk, torch bf16": lambda run: run.torch_trunk("bf16"),
    "trunk, f32": lambda run: run.trunk("f32"),
    "trunk, bf16": lambda run: run.trunk("bf16"),
    "trunk, int8": lambda run: run.trunk("int8"),
    "readout of 511 rows": lambda run: run.readout("bf16"),
    "batch, 128 rows alone": lambda run: run.batch(1),
    "batch, 128 rows among eight": lambda run: run.batch(8),
    "canvas, torch bf16": lambda run: run.torch_fill("bf16", 512, 511),
    "canvas, bf16": lambda run: run.fill("bf16", 512, 511),
    "canvas, int8": lambda run: run.fill("int8", 512, 511),
    "infill, torch bf16": lambda run: run.torch_fill("bf16", 128, 16),
    "infill, bf16": lambda run: run.fill("bf16", 128, 16),
}
RATIOS = [
    ("trunk, f32", "trunk, torch f32"),
    ("trunk, bf16", "trunk, torch bf16"),
    ("trunk, int8", "trunk, torch bf16"),
    ("readout of 511 rows", "trunk, bf16"),
    ("batch, 128 rows among eight", "batch, 128 rows alone"),
    ("canvas, torch bf16", "canvas, bf16"),
    ("canvas, torch bf16", "canvas, int8"),
    ("infill, torch bf16", "infill, bf16"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unmask", help="the program")
    parser.add_argument("--arch", default="diffugpt-s")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="cases whose names contain one of these, between commas")
    args = parser.parse_args()
    run = Runner(args.unmask, args.arch, args.threads)
    times = {name: [] for name in CASES if any(part in name for part in args.only.split(","))}
    for _ in range(args.turns):
        for name, values in times.items():
            values.append(CASES[name](run))
    for name, values in times.items():
        print(f"{name:<30} {min(values):10.1f} ms shortest {statistics.median(values):10.1f} ms median")
    for name, other in RATIOS:
        if name in times and other in times:
            a, b = times[name], times[other]
            shortest, middle = min(a) / min(b), statistics.median(a) / statistics.median(b)
            print(f"{name} / {other}: {shortest:.3f} of shortest, {middle:.3f} of medians")


if __name__ == "__main__":
    main()
