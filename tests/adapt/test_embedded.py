"""The embedded model's recipe: its base, its training data, and the questions of its card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from adapt.data import is_held_out
from bases import write_texts

EMBEDDED = Path(__file__).parents[2] / "crates" / "model" / "embedded"
sys.path.insert(0, str(EMBEDDED))

from evaluate import kind_of_cut, read_held_out  # noqa: E402
from functions import functions_of  # noqa: E402

SOURCE = '''\
class Stack:
    def push(self, item):
        """Puts an item on top.

        It is kept."""
        self.items.append(item)

    # Takes the item on top.
    @checked
    def pop(self):
        return self.items.pop()

    def empty(self):
        """Only this."""
'''


def test_a_base_is_made_and_adapted(tmp_path):
    texts = write_texts(tmp_path / "texts")
    config = tmp_path / "adapt.toml"
    config.write_text(f'matrix-rate = 0.01\nlength = 64\nrows = 4\ntokens = 512\n[[data]]\npath = "{texts}"\nstarts = 0.5\n')
    small = ["--tokens", "1024", "--vocabulary", "300", "--length", "64", "--width", "32", "--layers", "2", "--heads", "2"]
    run([str(EMBEDDED / "start.py"), "--config", config, "--out", tmp_path / "base", *small])
    made = run(["-m", "adapt", "--config", config, "--base", tmp_path / "base", "--out", tmp_path / "out", "--verify", ""])
    assert "written" in made
    settings = json.loads((tmp_path / "out" / "model" / "tokenizer_config.json").read_text())
    assert settings["mask_token"] == "<|mask|>" and "assistant" in settings["chat_template"]


def run(arguments):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=EMBEDDED.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_functions_have_questions_and_answers():
    push, pop = sorted(functions_of(SOURCE), key=lambda function: function.question, reverse=False)
    assert (push.name, push.question) == ("push", "Puts an item on top.")
    assert push.answer == "def push(self, item):\n    self.items.append(item)"
    assert '"""Puts' in push.source
    assert (pop.name, pop.question, pop.answer) == ("pop", "Takes the item on top.", "def pop(self):\n    return self.items.pop()")
    assert functions_of("def (") == []


def test_held_out_files_give_no_function(tmp_path):
    names = [f"file{number}.py" for number in range(60)]
    assert any(map(is_held_out, names))
    for name in names:
        (tmp_path / name).write_text(f'def {name[:-3]}():\n    """Returns the number of it."""\n    return 1\n')
    run([EMBEDDED / "functions.py", "--out", tmp_path / "made", tmp_path])
    lines = [json.loads(line)["text"] for line in (tmp_path / "made" / "functions.jsonl").read_text().splitlines()]
    assert {f"{line.split('(')[0][4:]}.py" for line in lines} == {name for name in names if not is_held_out(name)}
    talks = [json.loads(line)["messages"] for line in (tmp_path / "made" / "questions.jsonl").read_text().splitlines()]
    assert len(talks) == len(lines) and all("Returns the number of it." in question["content"] for question, _ in talks)
    assert set(read_held_out(tmp_path)) == {name for name in names if is_held_out(name)}


def test_cuts_are_told_apart():
    cases = [("return ", "x"), ("ret", "urn"), ("x", " = 1"), ("f(", "x)")]
    assert [kind_of_cut(*case) for case in cases] == ["behind a blank", "inside a word", "behind a word", "elsewhere"]
