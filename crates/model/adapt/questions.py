"""Asks a server the questions of a file and prints a Markdown table: python -m adapt.questions FILE --url URL."""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path

# Blocks are filled one after another, the surest token first.
DECODING = {"block_length": 16, "order": "model_confidence", "k": 1}
# Small models say things twice otherwise.
REPETITION_PENALTY = 1.15
LEFT_TO_RIGHT = {"order": "position", "k": 1}


def ask(url: str, question: str, tokens: int, decoding: dict[str, object]) -> str:
    """The most probable answer of at most so many tokens, in one line."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": tokens, "temperature": 0,
            "repetition_penalty": REPETITION_PENALTY, "diffusion": decoding}
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        text = json.load(answer)["choices"][0]["message"]["content"]
    return " ".join(text.split())


def main() -> None:
    parser = argparse.ArgumentParser("adapt.questions", description=__doc__)
    parser.add_argument("file", type=Path, help="a question a line")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--left-to-right", action="store_true", help="one token after another, instead of in blocks")
    parser.add_argument("--tokens", type=int, default=48, help="most tokens of an answer (48)")
    args = parser.parse_args()
    print("| question | answer |\n| --- | --- |")
    for question in filter(None, args.file.read_text().splitlines()):
        answer = ask(args.url, question, args.tokens, LEFT_TO_RIGHT if args.left_to_right else DECODING).replace("|", "\\|")
        print(f"| {question} | {answer} |", flush=True)


if __name__ == "__main__":
    main()
