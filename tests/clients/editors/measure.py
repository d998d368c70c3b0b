"""What the requests of editors' plugins take: python tests/clients/editors/measure.py [--url URL]

Prints a Markdown table: the median of as many answers as asked for, from the first byte sent to the last one read, and the text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import urllib.request
from pathlib import Path

# Where a text stands in the answers of the routes.
TEXTS = ("content", "text", "delta.content", "message.content")


def texts(answer: dict) -> str:
    """The text of an answer or of a chunk."""
    for place in [answer, *answer.get("choices", [])]:
        for path in TEXTS:
            value = place
            for name in path.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            if isinstance(value, str):
                return value
    return ""


def ask(url: str, entry: dict) -> tuple[float, str]:
    """Milliseconds, and the text of the answer."""
    body = json.dumps(entry["body"]).encode()
    request = urllib.request.Request(url + entry["route"], body, {"content-type": "application/json"})
    begun = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        received = answer.read().decode()
    took = 1e3 * (time.perf_counter() - begun)
    if "streams" in entry:
        chunks = [line.removeprefix("data: ") for line in received.splitlines() if line.startswith("data: {")]
        return took, "".join(texts(json.loads(chunk)) for chunk in chunks)
    return took, texts(json.loads(received))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    print("| plugin | request | ms | text |\n| --- | --- | --- | --- |")
    for file in sorted(Path(__file__).parent.glob("*.json")):
        for entry in json.loads(file.read_text()):
            if "warm_up" in entry:
                continue
            answers = [ask(args.url, entry) for _ in range(args.repeats)]
            text = json.dumps(answers[-1][1])
            print(f"| {file.stem} | {entry['what']} | {statistics.median(took for took, _ in answers):.0f} | `{text}` |")


if __name__ == "__main__":
    main()
