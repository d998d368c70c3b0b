"""Training data: files of text and of talks, cut into rows of one length.

A text file is one document. A `.jsonl` file holds one JSON object a line: `{"text": …}` is a document, and
`{"messages": [{"role": …, "content": …}, …]}` is a talk, of which the last answer is learned. A hash of its name holds
one document in twenty out.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

import jinja2
import torch
from tokenizers import Tokenizer
from torch import Tensor

# Larger files, and files with longer lines, are tables, generated or minified.
LARGEST_FILE, LONGEST_LINE = 400_000, 1_000


@dataclass
class Source:
    """Files to read, and the share of the rows that come from them."""

    path: str
    name: str = ""
    licence: str = "not stated"
    glob: list[str] = field(default_factory=lambda: ["**/*"])
    leave_out: list[str] = field(default_factory=list)
    share: float = 1.0
    limit: int = 4_000_000  # tokens
    starts: float = 0.0  # share of the windows that begin at the start of a document


@dataclass
class Talk:
    """Tokens of the prompt, and of the answer with its end token."""

    prompt: list[int]
    answer: list[int]


def documents(source: Source) -> Iterator[tuple[str, Any]]:
    """Names and contents: a text, or a list of messages."""
    root = Path(os.path.expandvars(os.path.expanduser(source.path)))
    if not root.exists():
        raise FileNotFoundError(f"--data {source.path} does not exist")
    files = [root] if root.is_file() else sorted({f for glob in source.glob for f in root.glob(glob) if f.is_file()})
    if not files:
        raise FileNotFoundError(f"--data {source.path}: no file in it matches {', '.join(source.glob)}")
    for file in files:
        name = file.name if root.is_file() else file.relative_to(root).as_posix()
        if any(part in f"/{name}" for part in source.leave_out):
            continue
        if file.suffix == ".jsonl":
            # Other ends of lines may stand within a string.
            for number, line in enumerate(jsonl_lines(file)):
                found = content(line, f"{file}, line {number + 1}") if line.strip() else ""
                if not isinstance(found, str) or found.strip():
                    yield f"{name}:{number}", found
        elif file.stat().st_size <= LARGEST_FILE:
            try:
                text = file.read_text("utf-8-sig")
            except (UnicodeDecodeError, OSError):
                continue
            if text.strip() and max(map(len, text.split("\n"))) <= LONGEST_LINE:
                yield name, text


def jsonl_lines(file: Path) -> list[str]:
    """The lines of a file that must be UTF-8."""
    try:
        return file.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from None


def content(line: str, place: str) -> str | list[dict[str, str]]:
    """The text or the messages of a line."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: it is not JSON: {error}") from None
    found = (entry.get("messages") or entry.get("text")) if isinstance(entry, dict) else None
    message = lambda one: isinstance(one, dict) and all(isinstance(one.get(key), str) for key in ("role", "content"))  # noqa: E731
    talk = isinstance(found, list) and all(map(message, found))
    if not (isinstance(found, str) or talk):
        raise ValueError(f"{place}: it must have `text`, a string, or `messages`, a list of objects with the strings role and content")
    return found


def is_held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 20 == 0


class Corpus:
    """One source's documents as tokens: those to train on, or the held-out ones."""

    def __init__(self, source: Source, held_out: bool, tokenizer: Tokenizer, template: str | None,
                 special: dict[str, str], end: int) -> None:
        self.source, self.end = source, end
        chosen = [(name, content) for name, content in documents(source) if is_held_out(name) == held_out]
        random.Random(source.path).shuffle(chosen)
        stream: list[int] = []
        self.firsts: list[int] = []  # where each document begins in the stream
        self.talks: list[Talk] = []
        self.count = self.tokens = 0
        for _, content in chosen:
            if self.tokens >= source.limit:
                break
            self.count += 1
            if isinstance(content, str):
                tokenizer.encode_special_tokens = True  # the text of a special token is text here
                document = [*tokenizer.encode(content, add_special_tokens=False).ids, end]
                self.tokens += len(document)
                self.firsts.append(len(stream))
                stream += document
            else:
                talk = self._talk(content, tokenizer, template, special)
                self.tokens += len(talk.prompt) + len(talk.answer)
                self.talks.append(talk)
        self.stream = torch.tensor(stream, dtype=torch.int32)

    def _talk(self, messages: list[dict[str, str]], tokenizer: Tokenizer, template: str | None,
              special: dict[str, str]) -> Talk:
        if template is None:
            raise ValueError(f"{self.source.path} holds talks, and the base has no chat template")
        *before, last = messages
        render = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template).render
        prompt = render(messages=before, add_generation_prompt=True, **special)
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        return Talk(ids, [*tokenizer.encode(last["content"], add_special_tokens=False).ids, self.end])

    def window(self, length: int, rng: random.Random) -> list[int]:
        """Consecutive tokens, document borders included."""
        start = rng.randrange(max(1, len(self.stream) - length))
        if self.source.starts and rng.random() < self.source.starts:
            start = rng.choice(self.firsts)
        return self.stream[start : start + length].tolist()

    def windows(self, count: int, length: int, seed: int) -> Tensor:
        """The same windows for the same seed, (count, length)."""
        rng = random.Random(seed)
        return torch.tensor([self.window(length, rng) for _ in range(count)])


class Mixture:
    """All sources of a run."""

    def __init__(self, sources: list[Source], held_out: bool, tokenizer: Tokenizer, template: str | None,
                 special: dict[str, str], end: int) -> None:
        parts = [Corpus(source, held_out, tokenizer, template, special, end) for source in sources]
        for part in parts:
            if not held_out and part.count == 0:
                raise ValueError(f"--data {part.source.path} leaves no document to train on: all of them are left out, "
                                 "held out by a hash of their names, too large, or not UTF-8 text")
        self.parts = [part for part in parts if part.talks or len(part.stream)]
        self.shares = [part.source.share for part in self.parts]

    def draw(self, rng: random.Random) -> Corpus:
        return rng.choices(self.parts, self.shares)[0]
