"""Talks written by a base model itself, left to right: `python -m adapt.talks --help`.

An instruct model that is adapted on texts alone forgets how to answer. Its own talks keep it: it writes the question
(or answers one from a file), then the answer. Talks that do not fit into `--length` are left out.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import jinja2
import torch
from torch import Tensor

from .bases import load_base, token_text
from .masking import attention_bias
from .model import Network, Past

# Sorting a whole vocabulary takes longer than the network.
CANDIDATES = 64


def pick(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """One token of each row (rows, vocabulary) by nucleus sampling."""
    sorted_, order = (logits / temperature).softmax(-1).topk(CANDIDATES)
    sorted_[sorted_.cumsum(-1) - sorted_ > top_p] = 0
    return order.gather(1, torch.multinomial(sorted_, 1, generator=generator))[:, 0]


@torch.no_grad()
def write(network: Network, start: list[int], forced: list[list[int]], between: list[int], end: int, length: int,
          settings: argparse.Namespace, generator: torch.Generator) -> list[tuple[list[int], list[int]]]:
    """Questions and answers as tokens. `forced` holds one question a row; an empty one is written by the model."""
    rows = [start + question + (between if question else []) for question in forced]
    answer_at = [len(row) if question else 0 for row, question in zip(rows, forced)]
    alive, past, found = list(range(len(rows))), Past(), []
    tokens = torch.tensor([row[: len(start)] for row in rows])
    bias = attention_bias(len(start), 0.0, generator)
    place = len(start)
    while alive and place < length:
        logits = network.read(network(tokens, bias, past)[:, -1])
        bias = None
        asking = pick(logits, settings.question_temperature, settings.top_p, generator).tolist()
        answering = pick(logits, settings.answer_temperature, settings.top_p, generator).tolist()
        kept = []
        for i, row in enumerate(alive):
            if len(rows[row]) == place:
                token = answering[i] if answer_at[row] else asking[i]
                if token == end and answer_at[row]:
                    found.append((rows[row][len(start) : answer_at[row] - len(between)], rows[row][answer_at[row] :]))
                    continue
                if token == end:
                    rows[row] += between
                    answer_at[row] = len(rows[row])
                else:
                    rows[row].append(token)
            kept.append(i)
        place += 1
        alive = [alive[i] for i in kept]
        past.keep(torch.tensor(kept, dtype=torch.long))
        tokens = torch.tensor([[rows[row][place - 1]] for row in alive])
    return found


def main() -> None:
    parser = argparse.ArgumentParser("adapt.talks", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--base", required=True)
    add("--out", type=Path, required=True, help=".jsonl file; talks are appended")
    add("--count", type=int, default=1000, help="talks to begin (1000)")
    add("--batch", type=int, default=48, help="talks at a time (48)")
    add("--length", type=int, default=192, help="tokens of a talk, the template's included (192)")
    add("--questions", type=Path, help="file with a question a line; each is asked once, before the model's own")
    add("--system", default="You are a helpful assistant. You answer in one to three sentences.",
        help="the system message while writing; it is not part of the talk")
    add("--question-temperature", type=float, default=1.0)
    add("--answer-temperature", type=float, default=0.4)
    add("--top-p", type=float, default=0.9)
    add("--threads", type=int, default=1)
    add("--dtype", choices=["bf16", "f32"], default="bf16", help="number format of the network (bf16)")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = load_base(args.base, None)
    computed = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    network = base.network(computed, computed).eval()
    render = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(base.settings["chat_template"]).render
    special = {role: token_text(base.settings.get(role)) or "" for role in ("bos_token", "eos_token")}
    marker = "\u241f"
    messages = [{"role": "system", "content": args.system}, {"role": "user", "content": marker}]
    before, after = render(messages=messages, add_generation_prompt=True, **special).split(marker)
    encode = lambda text: base.tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    start, between, end = encode(before), encode(after), base.token_id("eos_token")
    asked = [line for line in args.questions.read_text().splitlines() if line.strip()] if args.questions else []
    forced = [encode(question) for question in asked] + [[] for _ in range(args.count - len(asked))]
    random.Random(args.seed).shuffle(forced)
    generator = torch.Generator().manual_seed(args.seed)
    seen: set[str] = set()
    for first in range(0, args.count, args.batch):
        talks = write(network, start, forced[first : first + args.batch], between, end, args.length, args, generator)
        with args.out.open("a") as file:
            for question, answer in talks:
                texts = [base.tokenizer.decode(part, skip_special_tokens=False).strip() for part in (question, answer)]
                if len(question) >= 3 and len(answer) >= 3 and texts[0] not in seen:
                    seen.add(texts[0])
                    pair = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts)]
                    file.write(json.dumps({"messages": pair}, ensure_ascii=False) + "\n")
        print(f"{first + args.batch} begun, {len(seen)} kept", flush=True)


if __name__ == "__main__":
    main()
