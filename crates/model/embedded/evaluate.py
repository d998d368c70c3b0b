#!/usr/bin/env python3
"""Makes the held-out numbers of the model's card, by asking a running server.

    unmask serve --model crates/model/embedded --listen 127.0.0.1:8080 &
    python evaluate.py --ar BASE --json numbers.json

The questions come from the files of the standard library that `adapt` holds out:

* masked tokens: some tokens of a block become holes of one token each, and the server fills all of
  them in one evaluation with the most probable token;
* cuts: a line of a function is cut at a random character and its rest becomes a hole of as many tokens
  as that has by itself, with token healing and without. Right means the same text;
* lengths: a line of a function, or its rest from a blank on, becomes a hole of 1 to 12 tokens; the server is told the
  true length, then only that it is at most 16, then asked through /infill for at most 128 tokens in a second, as
  editors ask. Right means the same text;
* cache: a hole of 1, 4 or 16 tokens in a block of 240, with keys and values of the other tokens computed by every
  evaluation and kept (`diffusion.kv_cache`), by refresh and neighbours. Right is counted token by token;
* lines: one line of a function becomes a hole of as many tokens as it had, filled one token per
  evaluation, the surest first. Right means the same text; the token accuracy compares position by
  position; and the filled function is given to Python's `ast`.

Two baselines answer the same questions: a left-to-right model of the same size (`--ar`), which
sees only what stands before, and the token that is most frequent among the answers themselves.
It needs torch, tokenizers and safetensors; the server is asked over HTTP alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import random
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapt.bases import open_folder
from adapt.data import is_held_out
from adapt.masking import attention_bias
from adapt.model import Network
from functions import functions_of

# Mask rates, and how long the blocks are: a request may have at most 64 holes.
MASKED_BLOCKS = {0.15: 240, 0.5: 112, 0.9: 64}
MOST_HOLES = 64
# Lines that become holes, in tokens.
LONGEST_LINE, SHORT_LINE = 12, 5


class Server:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def fill(self, **request: Any) -> dict[str, Any]:
        """The first choice of the answer."""
        settings = {"temperature": 0, "seed": 0, "truncate": False, "token_healing": False}
        return self.ask("/fill", {**settings, **request})["choices"][0]

    def infill(self, **request: Any) -> str:
        """The text for an editor."""
        return self.ask("/infill", {"temperature": 0, "seed": 0, **request})["content"]

    def ask(self, route: str, request: dict[str, Any]) -> Any:
        body = json.dumps(request).encode()
        asked = urllib.request.Request(self.url + route, body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"the server answered {error.code}: {error.read().decode(errors='replace')}")


class Reader:
    """The left-to-right baseline."""

    def __init__(self, folder: Path) -> None:
        self.model: Network = open_folder(folder, str(folder)).network(torch.float32, torch.float32)

    @torch.no_grad()
    def logits(self, tokens: list[int]) -> torch.Tensor:
        hidden = self.model(torch.tensor([tokens]), attention_bias(len(tokens), 0.0, torch.Generator()))
        return self.model.read(hidden)[0]

    def next_tokens(self, tokens: list[int]) -> list[int]:
        """For every token but the first, the one this model would have written there."""
        return self.logits(tokens)[:-1].argmax(-1).tolist()

    def go_on(self, tokens: list[int], count: int) -> list[int]:
        tokens = list(tokens)
        for _ in range(count):
            tokens.append(int(self.logits(tokens[-self.model.shape.positions :])[-1].argmax()))
        return tokens[-count:]


# Folders without code worth learning: character tables, the pages of pydoc's help, and the
# (partly broken on purpose) data of test suites. `site-packages` is not the standard library.
LEFT_OUT = ("site-packages", "__pycache__", "encodings", "pydoc_data", "lib2to3/tests/data", "test/encoded_modules",
            "test/tokenizedata", "test/typinganndata", "test/dtracedata", "test/cjkencodings")


def read_held_out(folder: Path) -> dict[str, str]:
    """The held-out files by relative path."""
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if is_held_out(name) and not any(f"/{part}/" in f"/{name}" for part in LEFT_OUT):
            try:
                text = path.read_text("utf-8")
            except UnicodeDecodeError:
                continue
            if text.strip():
                files[name] = text
    return files


class HeldOut:
    """The held-out files as one list of tokens, an end of a text before each and after the last."""

    def __init__(self, files: dict[str, str], tokenizer: Tokenizer) -> None:
        self.eos: int = tokenizer.token_to_id("<|endoftext|>")
        names = sorted(files)
        random.Random(1).shuffle(names)
        self.tokens: list[int] = []
        for name in names:
            self.tokens += [self.eos, *tokenizer.encode(files[name]).ids]
        self.tokens.append(self.eos)


class Tally:
    """Shares of right answers, per contestant."""

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def add(self, who: str, right: int, asked: int = 1) -> None:
        self.right[who] += right
        self.asked[who] += asked

    def shares(self) -> dict[str, dict[str, float]]:
        result = {}
        for who, asked in self.asked.items():
            share = self.right[who] / asked
            error = math.sqrt(share * (1 - share) / asked)
            result[who] = {"share": round(share, 4), "standard_error": round(error, 4), "asked": asked}
        return result


def text_of(tokenizer: Tokenizer, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=False)


def choose_masks(tokenizer: Tokenizer, tokens: list[int], rate: float, rng: random.Random) -> list[bool]:
    """Masks tokens, and takes back masks until every text between two holes is split into the same
    tokens when it stands alone, as the server will see it."""
    masked = [rng.random() < rate for _ in tokens]
    chosen = [i for i, m in enumerate(masked) if m]
    for i in rng.sample(chosen, max(0, len(chosen) - MOST_HOLES)):
        masked[i] = False
    position = 0
    while position < len(tokens):
        end = position
        while end < len(tokens) and masked[end] == masked[position]:
            end += 1
        piece = tokens[position:end]
        if not masked[position] and tokenizer.encode(text_of(tokenizer, piece)).ids != piece:
            # Give back the hole on one side and look at the longer piece from its beginning.
            if end < len(tokens):
                masked[end] = False
            else:
                masked[position - 1] = False
            while position > 0 and not masked[position - 1]:
                position -= 1
            continue
        position = end
    return masked


def masked_tokens(server: Server, tokenizer: Tokenizer, held_out: HeldOut, reader: Reader | None, blocks: int) -> dict[str, Any]:
    result = {}
    for rate, length in MASKED_BLOCKS.items():
        rng = random.Random(f"masked {rate}")
        tally, truths, seen = Tally(), Counter[int](), 0
        while seen < blocks:
            start = rng.randrange(len(held_out.tokens) - length)
            tokens = held_out.tokens[start : start + length]
            if held_out.eos in tokens or tokenizer.encode(text_of(tokenizer, tokens)).ids != tokens:
                continue  # a document border, or a cut inside of a word
            masked = choose_masks(tokenizer, tokens, rate, rng)
            if not any(masked):
                continue
            seen += 1
            segments: list[Any] = []
            for i, token in enumerate(tokens):
                if masked[i]:
                    segments.append({"hole": str(i), "length": 1})
                elif segments and isinstance(segments[-1], list):
                    segments[-1].append(token)
                else:
                    segments.append([token])
            segments = [text_of(tokenizer, s) if isinstance(s, list) else s for s in segments]
            choice = server.fill(segments=segments, diffusion={"steps": 1})
            guesses = {int(hole["id"]): hole["text"] for hole in choice["holes"]}
            follows = reader.next_tokens([held_out.eos, *tokens]) if reader else []
            for i, token in enumerate(tokens):
                if masked[i]:
                    truths[token] += 1
                    tally.add("server", guesses[i] == text_of(tokenizer, [token]))
                    if reader:
                        tally.add("left to right", follows[i] == token)
        tally.add("most frequent token", truths.most_common(1)[0][1], truths.total())
        result[f"masked tokens, rate {rate}, blocks of {length}"] = tally.shares()
    return result


def lines(server: Server, tokenizer: Tokenizer, files: dict[str, str], eos: int, reader: Reader | None,
          longest: int, count: int) -> dict[str, Any]:
    rng = random.Random("lines")
    functions = [f.source for name in sorted(files) for f in functions_of(files[name]) if "test" not in name]
    functions = sorted({f for f in functions if f.count("\n") >= 3})
    rng.shuffle(functions)
    cases: list[tuple[str, str, str, list[int]]] = []
    for source in functions:
        rows = source.split("\n")
        inner = [i for i in range(1, len(rows)) if rows[i].strip() and not rows[i].strip().startswith(("#", '"', "'"))]
        if not inner or len(tokenizer.encode(source).ids) > longest:
            continue
        i = rng.choice(inner)
        line = rows[i].strip()
        before = "\n".join(rows[:i]) + "\n" + rows[i][: len(rows[i]) - len(rows[i].lstrip())]
        after = "\n" + "\n".join(rows[i + 1 :])
        hole = tokenizer.encode(line).ids
        if len(hole) <= LONGEST_LINE and parses(before + line + after):
            cases.append((before, line, after, hole))
    exact, short, token, parse = Tally(), Tally(), Tally(), Tally()
    cases = cases[:count]
    truths = Counter(t for *_, hole in cases for t in hole)
    frequent = truths.most_common(1)[0][0]
    for before, line, after, hole in cases:
        choice = server.fill(prefix=before, suffix=after, length=len(hole), diffusion={"preset": "greedy"})
        answer = choice["holes"][0]["text"]
        answers = {"server": (answer, tokenizer.encode(answer).ids)}
        if reader:
            written = reader.go_on([eos, *tokenizer.encode(before).ids], len(hole))
            answers["left to right"] = (text_of(tokenizer, written), written)
        repeated = [frequent] * len(hole)
        answers["most frequent token"] = (text_of(tokenizer, repeated), repeated)
        for who, (answer, written) in answers.items():
            right = answer.strip() == line
            exact.add(who, right)
            if len(hole) <= SHORT_LINE:
                short.add(who, right)
            token.add(who, sum(a == b for a, b in zip(written, hole)), len(hole))
            parse.add(who, parses(before + answer + after))
    return {
        f"lines of at most {LONGEST_LINE} tokens, exact": exact.shares(),
        f"lines of at most {SHORT_LINE} tokens, exact": short.shares(),
        "lines, tokens": token.shares(),
        "lines, filled function parses": parse.shares(),
    }


def kind_of_cut(before: str, hole: str) -> str:
    within = lambda letter: letter.isalnum() or letter == "_"  # noqa: E731
    if before.endswith(" "):
        return "behind a blank"
    if within(before[-1]):
        return "inside a word" if within(hole[0]) else "behind a word"
    return "elsewhere"


def cuts(server: Server, tokenizer: Tokenizer, files: dict[str, str], longest: int, count: int) -> dict[str, Any]:
    """Exact answers by the kind of the cut, as shares with token healing (on) and without (off)."""
    rng = random.Random("cuts")
    functions = {f.source for name in sorted(files) for f in functions_of(files[name]) if "test" not in name}
    functions = sorted(f for f in functions if f.count("\n") >= 3)
    rng.shuffle(functions)
    exact: dict[str, Tally] = {}
    asked = 0
    for source in functions:
        rows = source.split("\n")
        inner = [i for i in range(1, len(rows)) if len(rows[i].strip()) > 3 and not rows[i].strip().startswith(("#", '"', "'"))]
        if not inner or len(tokenizer.encode(source).ids) > longest:
            continue
        i = rng.choice(inner)
        indent = len(rows[i]) - len(rows[i].lstrip())
        at = rng.randrange(indent + 1, len(rows[i]))
        hole = rows[i][at:]
        length = len(tokenizer.encode(hole).ids)
        if length > SHORT_LINE:
            continue
        before = "\n".join([*rows[:i], rows[i][:at]])
        after = "\n" + "\n".join(rows[i + 1 :])
        kind = kind_of_cut(before, hole)
        for who, healing in [("on", True), ("off", False)]:
            choice = server.fill(prefix=before, suffix=after, length=length, token_healing=healing, diffusion={"preset": "greedy"})
            right = choice["holes"][0]["text"] == hole
            for name in (kind, "all"):
                exact.setdefault(name, Tally()).add(who, right)
        asked += 1
        if asked == count:
            break
    return {f"cut {name}, exact": tally.shares() for name, tally in sorted(exact.items())}


def lengths(server: Server, tokenizer: Tokenizer, files: dict[str, str], longest: int, count: int) -> dict[str, Any]:
    """Exact answers with the true length, with an unknown one, and through /infill; and what /infill takes."""
    rng = random.Random("lengths")
    functions = {f.source for name in sorted(files) for f in functions_of(files[name]) if "test" not in name}
    functions = sorted(f for f in functions if f.count("\n") >= 3)
    rng.shuffle(functions)
    exact, parse, times = Tally(), Tally(), []
    for source in functions * 3:
        rows = source.split("\n")
        inner = [i for i in range(1, len(rows)) if len(rows[i].strip()) > 1 and not rows[i].strip().startswith(("#", '"', "'"))]
        if not inner or len(tokenizer.encode(source).ids) > longest:
            continue
        i = rng.choice(inner)
        indent = len(rows[i]) - len(rows[i].lstrip())
        blanks = [at for at in range(indent + 1, len(rows[i])) if rows[i][at] == " "]
        at = rng.choice([indent, *blanks])
        hole = rows[i][at:]
        before, after = "\n".join([*rows[:i], rows[i][:at]]), "\n" + "\n".join(rows[i + 1 :])
        length = len(tokenizer.encode(hole).ids)
        if length > LONGEST_LINE or not after.strip():
            continue
        known = server.fill(prefix=before, suffix=after, length=length)
        found = server.fill(prefix=before, suffix=after, length={"max": 16})
        start = time.perf_counter()
        editor = server.infill(input_prefix=before, input_suffix=after, n_predict=128, t_max_predict_ms=1000)
        times.append(1000 * (time.perf_counter() - start))
        for who, text in [("true", known["holes"][0]["text"]), ("found", found["holes"][0]["text"]), ("infill", editor)]:
            exact.add(who, text == hole)
            parse.add(who, parses(before + text + after))
        if len(times) == count:
            break
    times.sort()
    taken = {"median": round(times[len(times) // 2], 1), "p90": round(times[len(times) * 9 // 10], 1)}
    return {"exact": exact.shares(), "parses": parse.shares(), "milliseconds of /infill": taken}


# kv_cache, refresh and near; the first one computes every row of every evaluation.
CACHES = [(None, None, None), ("dual", "never", 0), ("dual", "never", 16), ("dual", 4, 16), ("prefix", "never", 0)]


def cache(server: Server, tokenizer: Tokenizer, held_out: HeldOut, count: int) -> dict[str, Any]:
    """Token accuracy, the share of tokens that are those without kept keys and values, and rows per token."""
    found: dict[str, Any] = {}
    for preset in ("exact", "greedy"):
        for length in (1, 4, 16):
            rng = random.Random(f"cache {length}")
            sums = [[0, 0, 0] for _ in CACHES]
            blocks = 0
            while blocks < count:
                start = rng.randrange(len(held_out.tokens) - MASKED_BLOCKS[0.15])
                tokens = held_out.tokens[start : start + MASKED_BLOCKS[0.15]]
                if held_out.eos in tokens or tokenizer.encode(text_of(tokenizer, tokens)).ids != tokens:
                    continue
                blocks += 1
                at = rng.randrange(80, 144)
                truth = [text_of(tokenizer, [token]) for token in tokens[at : at + length]]
                holes = [{"hole": str(number), "length": 1} for number in range(length)]
                segments = [text_of(tokenizer, tokens[:at]), *holes, text_of(tokenizer, tokens[at + length :])]
                first: list[str] = []
                for number, (name, refresh, near) in enumerate(CACHES):
                    kept = {"kv_cache": name, "refresh": refresh, "near": near} if name else {"kv_cache": "off"}
                    answer = server.ask("/fill", {"segments": segments, "temperature": 0, "seed": 0, "token_healing": False,
                                                  "diffusion": {"preset": preset, **kept}})
                    texts = [hole["text"] for hole in answer["choices"][0]["holes"]]
                    first = first or texts
                    sums[number][0] += sum(a == b for a, b in zip(texts, truth))
                    sums[number][1] += sum(a == b for a, b in zip(texts, first))
                    sums[number][2] += answer["diffusion"]["rows_computed"]
            asked = count * length
            for (name, refresh, near), (right, same, rows) in zip(CACHES, sums):
                kept = f"{name}, refresh {refresh}, near {near}" if name else "off"
                found[f"{length}, {preset}, {kept}"] = {"accuracy": right / asked, "same": same / asked, "rows": rows / asked}
    return found


def parses(source: str) -> bool:
    try:
        ast.parse(source)
        return True
    except (SyntaxError, ValueError):
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8080")
    add("--model", type=Path, default=Path(__file__).parent, help="the folder that is served, for its tokenizer")
    add("--ar", type=Path, help="the folder of a left-to-right model with the same tokenizer")
    add("--corpus", type=Path, default=Path(sysconfig.get_paths()["stdlib"]))
    add("--only", choices=["masked", "lines", "cuts", "lengths", "cache"])
    add("--blocks", type=int, default=150, help="blocks per mask rate")
    add("--lines", type=int, default=400)
    add("--cuts", type=int, default=400)
    add("--lengths", type=int, default=200)
    add("--holes", type=int, default=60, help="holes of each length, for --only cache")
    add("--json", type=Path, help="also write the numbers to this file")
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    files = read_held_out(args.corpus)
    held_out = HeldOut(files, tokenizer)
    reader = Reader(args.ar) if args.ar else None
    server = Server(args.url)
    positions = json.loads((args.model / "config.json").read_text())["n_positions"]
    numbers: dict[str, Any] = {}
    if args.only in (None, "masked"):
        numbers |= masked_tokens(server, tokenizer, held_out, reader, args.blocks)
    if args.only in (None, "lines"):
        numbers |= lines(server, tokenizer, files, held_out.eos, reader, positions - 16, args.lines)
    if args.only in (None, "cuts"):
        found = cuts(server, tokenizer, files, positions - 16, args.cuts)
        print("| held-out files | healing on | healing off | asked |\n| --- | --- | --- | --- |")
        for name, shares in found.items():
            cells = [f"{shares[who]['share']:.3f} ± {shares[who]['standard_error']:.3f}" for who in ("on", "off")]
            print(f"| {name} | " + " | ".join(cells) + f" | {shares['on']['asked']} |")
        if args.only == "cuts":
            if args.json:
                args.json.write_text(json.dumps(found, indent=1) + "\n")
            return
    if args.only == "cache":
        found = cache(server, tokenizer, held_out, args.holes)
        print("| hole, rule, kept | token accuracy | same tokens | rows per token |\n| --- | --- | --- | --- |")
        for name, of in found.items():
            print(f"| {name} | {of['accuracy']:.3f} | {of['same']:.3f} | {of['rows']:.0f} |")
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")
        return
    if args.only in (None, "lengths"):
        found = lengths(server, tokenizer, files, positions - 32, args.lengths)
        print("| held-out lines of 1 to 12 tokens | true length | found | /infill |\n| --- | --- | --- | --- |")
        for name in ("exact", "parses"):
            cells = [f"{found[name][who]['share']:.3f} ± {found[name][who]['standard_error']:.3f}" for who in ("true", "found", "infill")]
            print(f"| {name} | " + " | ".join(cells) + " |")
        print("milliseconds of /infill:", found["milliseconds of /infill"])
        if args.only == "lengths":
            if args.json:
                args.json.write_text(json.dumps(found, indent=1) + "\n")
            return
    contestants = ["server", *(["left to right"] if reader else []), "most frequent token"]
    print("| held-out files | " + " | ".join(contestants) + " | asked |")
    print("| --- |" + " --- |" * (len(contestants) + 1))
    for name, shares in numbers.items():
        cells = [f"{shares[who]['share']:.3f} ± {shares[who]['standard_error']:.3f}" for who in contestants]
        print(f"| {name} | " + " | ".join(cells) + f" | {shares['server']['asked']} |")
    if args.json:
        args.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
