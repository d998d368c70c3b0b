"""A picture of held-out numbers against the tokens seen: `python -m adapt.curve --help`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402


def draw(lines: list[dict[str, float]], out: Path) -> None:
    """Writes an SVG with a curve for each number that at least two of the `lines` of a `held_out.jsonl` have."""
    # Names without chance and files without a date, so that the same numbers make the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "adapt", "svg.fonttype": "none"})
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name in dict.fromkeys(name for line in lines for name in line if name not in ("tokens", "minutes")):
        points = [(line["tokens"] / 1e6, line[name]) for line in lines if name in line]
        if len(points) > 1:
            axes.plot(*zip(*points), marker=".", label=name)
    axes.set(xlabel="million tokens seen", ylabel="share of right tokens", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(out, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser("adapt.curve", description=__doc__.split(":")[0])
    parser.add_argument("log", type=Path, help="held_out.jsonl of a run, or of several after one another")
    parser.add_argument("--out", type=Path, default=Path("curve.svg"), help="the picture (curve.svg)")
    args = parser.parse_args()
    draw([json.loads(line) for line in args.log.read_text().splitlines()], args.out)


if __name__ == "__main__":
    main()
