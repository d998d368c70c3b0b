#!/usr/bin/env python3
"""Writes the functions of Python files as training data for `adapt`.

    python functions.py --out FOLDER PATH...

`functions.jsonl` gets functions moved to the left margin, and `questions.jsonl` talks: the first line of a docstring, or
the comment above a function, asks for the code. Test suites are left out, and so are the files that `adapt` holds out of a
PATH.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapt.data import Source, documents, is_held_out

LEFT_OUT = ["/site-packages/", "/__pycache__/", "/lib2to3/", "/test", "/conftest", "/idle_test/", "/_vendor/"]
# Characters of a question, and of a question with its answer.
QUESTION, TALK = (12, 120), 700


@dataclass
class Function:
    """A function moved to the left margin."""

    name: str
    source: str  # as written, docstring included
    question: str  # first line of the docstring, or the comment above; may be empty
    answer: str  # the source without its docstring


def functions_of(text: str) -> list[Function]:
    """All functions and methods of a file; none of a file that does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    lines = text.splitlines()
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    made = (function_of(node, lines) for node in nodes)
    return [function for function in made if function]


def function_of(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> Function | None:
    """A function with something behind its docstring."""
    body = lines[node.lineno - 1 : node.end_lineno]
    doc, code = ast.get_docstring(node), body
    if doc is not None:
        if len(node.body) == 1:
            return None
        first = node.body[0]
        code = body[: first.lineno - node.lineno] + body[(first.end_lineno or first.lineno) - node.lineno + 1 :]
    question = doc.strip().split("\n")[0].strip() if doc and doc.strip() else ""
    top = node.lineno - 1 - len(node.decorator_list)
    if not question and top > 0 and lines[top - 1].strip().startswith("#"):
        question = lines[top - 1].strip().lstrip("#").strip()
    return Function(node.name, dedent(body), question, dedent(code))


def dedent(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n")


def question_of(function: Function, rng: random.Random) -> str:
    return rng.choice([
        function.question,
        f"Write a Python function. {function.question}",
        f"Write a function `{function.name}`: {function.question}",
        f"{function.name}: {function.question}",
    ])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="PATH")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng = random.Random(0)
    functions: dict[str, Function] = {}
    for path in args.paths:
        for name, text in documents(Source(path, glob=["**/*.py"], leave_out=LEFT_OUT)):
            if not is_held_out(name):
                functions |= {function.source: function for function in functions_of(text)}
    args.out.mkdir(parents=True, exist_ok=True)
    sources = [{"text": function.source + "\n"} for function in functions.values()]
    asked = [f for f in functions.values() if QUESTION[0] <= len(f.question) <= QUESTION[1] and len(f.answer) <= TALK]
    talks = [{"messages": [{"role": "user", "content": question_of(f, rng)}, {"role": "assistant", "content": f.answer}]}
             for f in asked]
    for name, lines in (("functions", sources), ("questions", talks)):
        (args.out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        print(f"{args.out / name}.jsonl: {len(lines):,} lines")


if __name__ == "__main__":
    main()
