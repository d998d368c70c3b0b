#!/usr/bin/env python3
"""Counts what makes the sources hard to read, and fails above the bounds.

    tests/words/count.py            the counts and the bounds
    tests/words/count.py -v [NAME]  every place as well, or those of one measure

With TESTED_PROGRAM, the help of that program and of each of its subcommands is measured too. Without dependencies.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUST = ("crates", "loadtest", "tests")
# Folders whose files are data: recorded texts, vocabularies, locks.
DATA = re.compile(r"^tests/(golden|words)/|/(seeds|schemas)/|\.(lock|png|svg|safetensors|gguf|bin|jsonl|csv)$|(^|/)(vocab|tokenizer)\w*\.json$|^crates/model/embedded/.*\.json$")

QUESTION = re.compile(r"^(What|Who|Whose|Where|Which|Whether|How|As|Of)\b")
PEOPLE = re.compile(r"(?<![a-z])(nobody(?!:)|whoever|somebody)(?![a-z])", re.IGNORECASE)
TUPLE_LET = re.compile(r"\blet \([^()=]*(?:\([^()]*\)[^()=]*)*\) = \(")
TEST_FN = re.compile(r"#\[(?:tokio::)?test[^\]]*\]")
FUNCTION = re.compile(r"\bfn (\w+)")

HELP_COLUMNS = 100
TEST_NAME = 70


def tracked():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    return sorted(name for name in names.decode().split("\0") if name and (ROOT / name).is_file())


def text_of(name):
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def doc_comments(text):
    """(line number, first line) of each doc comment: a run of lines that begin with the same of `///` and `//!`."""
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"\s*(///|//!)(?!/)\s?(.*)", line)
        kind = found.group(1) if found else ""
        if kind and kind != before:
            yield number, found.group(2)
        before = kind


def tuple_lets(text):
    """A `let` that takes a tuple apart which stands right beside it. A tuple that is part of a longer expression is none."""
    for found in TUPLE_LET.finditer(text):
        depth, at, commas = 1, found.end(), 0
        while depth and at < len(text):
            char = text[at]
            depth += (char in "([{") - (char in ")]}")
            commas += char == "," and depth == 1
            at += 1
        if commas and text[at : at + 1] == ";":
            line = text.count("\n", 0, found.start()) + 1
            yield line, " ".join(text[found.start() : at + 1].split())


def test_names(text):
    for found in TEST_FN.finditer(text):
        function = FUNCTION.search(text, found.end())
        if function and len(function.group(1)) > TEST_NAME:
            yield text.count("\n", 0, function.start()) + 1, function.group(1)


def help_lines(program):
    """(subcommand, line) of each line that is too wide, with the width that a pipe gets."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UNMASK_") and k != "COLUMNS"}

    def ask(*words):
        return subprocess.run([program, *words], check=True, capture_output=True, text=True, env=environment).stdout

    short = ask("--help")
    listed = re.search(r"^Commands:\n((?: +.*\n|\n)*)", short, re.MULTILINE)
    names = re.findall(r"^  (\S+)", listed.group(1), re.MULTILINE) if listed else []
    for words in [(), *((name,) for name in names if name != "help")]:
        for flag in ("-h", "--help"):
            for number, line in enumerate(ask(*words, flag).splitlines(), 1):
                if len(line) > HELP_COLUMNS:
                    yield " ".join(("unmask", *words, flag)), number, line


def count():
    rust = [n for n in tracked() if n.endswith(".rs") and n.startswith(tuple(f + "/" for f in RUST))]
    found = {name: [] for name in ("openings", "people", "tuples", "tests")}
    documents = 0
    for name in rust:
        text = text_of(name)
        for line, first in doc_comments(text):
            documents += 1
            if QUESTION.match(first):
                found["openings"].append(f"{name}:{line}: {first}")
        found["tuples"] += [f"{name}:{line}: {shown}" for line, shown in tuple_lets(text)]
        found["tests"] += [f"{name}:{line}: {shown}" for line, shown in test_names(text)]
    for name in tracked():
        if not DATA.search(name):
            for line, shown in enumerate(text_of(name).splitlines(), 1):
                found["people"] += [f"{name}:{line}: {shown.strip()[:160]}" for _ in PEOPLE.findall(shown)]
    rows = [
        ("openings", f"doc comments (of {documents}) that open with a question word", 30),
        ("people", "“nobody”, “whoever”, “somebody”", 0),
        ("tuples", "tuple lets: let (a, b) = (x, y);", 30),
        ("tests", f"test names over {TEST_NAME} characters", 0),
    ]
    if program := os.environ.get("TESTED_PROGRAM"):
        found["help"] = [f"{command}: {number}: {line}" for command, number, line in help_lines(program)]
        rows.append(("help", f"help lines over {HELP_COLUMNS} columns", 0))
    return rows, found


def main(arguments):
    rows, found = count()
    failed = False
    for name, words, bound in rows:
        number = len(found[name])
        failed |= number > bound
        mark = "" if number <= bound else "   too many"
        print(f"{number:5} of at most {bound:3}  {words}{mark}")
        if arguments[:1] == ["-v"] and arguments[1:] in ([], [name]):
            print(*(f"      {place}" for place in found[name]), sep="\n")
    if failed:
        print("tests/words/count.py -v NAME lists the places (openings, people, tuples, tests, help)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
