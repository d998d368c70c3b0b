"""The pages hold together: links lead somewhere, skipped commands say why, examples are shown and run."""

import re

import pytest

from compare import differences
from pages import EXAMPLES, OUTPUTS, PROGRAMS, ROOT, SHELL, example_of, pages

PAGES = pages()
KNOWN_WORDS = ("", "background", "fails")
# Pages that a visitor reads first, and their most lines.
LONGEST = {"README.md": 170}


def name(page):
    return str(page.path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", page.prose):
        target = "".join(target)
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        assert path.exists(), target
        if anchor:
            there = next(each for each in PAGES if each.path == path)
            assert anchor in there.anchors, f"{target}: {sorted(there.anchors)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_are_marked_as_the_runner_reads_them(page):
    for step in page.steps:
        words = step.block.words
        if words.startswith("no-run"):
            assert re.fullmatch(r"no-run: \S.{3,}", words), f"{step.block}: a command that is not run says why"
        else:
            assert words in KNOWN_WORDS, f"{step.block}: {words}"
        if step.fails:
            assert step.shown, f"{step.block}: the message that it prints is shown"
        if step.block.language in PROGRAMS and not step.skipped:
            assert example_of(step.block), f"{step.block}: no example, or more than one, holds this text"
    for block in page.blocks:
        assert block.language not in ("bash", "shell", "console", "javascript"), f"{block}: write {SHELL} or js"


def test_every_example_is_shown_or_run_by_a_page():
    steps = [step for page in PAGES for step in page.steps if not step.skipped]
    shown = {example_of(step.block) for step in steps if step.block.language in PROGRAMS}
    commands = "\n".join(step.block.text for step in steps if step.block.language == SHELL)
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and path.suffix != ".md":
            assert path in shown or str(path.relative_to(ROOT)) in commands, path


@pytest.mark.parametrize("path", LONGEST)
def test_the_first_page_stays_short(path):
    assert len((ROOT / path).read_text().splitlines()) <= LONGEST[path]


def test_most_commands_are_run():
    steps = [step for page in PAGES for step in page.steps]
    skipped = [step for step in steps if step.skipped]
    assert len(skipped) < len(steps) / 2, [str(step.block) for step in skipped]
    with_output = [step for step in steps if step.shown and not step.skipped]
    assert len(with_output) > 20 and {step.shown.language for step in with_output} == set(OUTPUTS)


@pytest.mark.parametrize(
    ("language", "shown", "printed", "same"),
    [
        ("json", '{"a": 1}', '{"a": 1, "b": 2}', True),
        ("json", '{"a": 1}', '{"b": 2}', False),
        ("json", '{"a": 1}', '{"a": true}', False),
        ("json", '{"a": 1}', '{"a": 2}', False),
        ("json", '{"a": {"b": "x…"}}', '{"a": {"b": "xyz"}}', True),
        ("json", '{"a": {"b": "x…"}}', '{"a": {"b": "zyx"}}', False),
        ("json", '[1, "…"]', "[1, 2, 3]", True),
        ("json", "[1, 2]", "[1, 2, 3]", False),
        ("json", "[1, 2, 3]", "[1, 2]", False),
        ("json", '{"p": 0.93}', '{"p": 0.9391}', True),
        ("json", '{"p": 0.93}', '{"p": 0.9513}', False),
        ("json", '{"p": null}', '{"p": null}', True),
        ("json", '{"p": null}', '{"p": 0}', False),
        ("json", "{}", "an error", False),
        ("text", "a\nb", "a\nb\n", True),
        ("text", "a\nb", "a\nc\n", False),
        ("text", "a\n…\nd", "a\nb\nc\nd\n", True),
        ("text", "a\n…\nd", "a\nb\nc\n", False),
        ("text", "took … ms", "took 12 ms", True),
        ("text", "took … ms", "took 12 s", False),
        ("text", 'data: {"a": 1}\n…', 'data: {"a": 1, "b": 2}\n\ndata: [DONE]', True),
        ("text", 'data: {"a": 1}\n…', 'data: {"a": 2, "b": 2}\n\ndata: [DONE]', False),
        ("text", "a", "a\nb", False),
    ],
)
def test_comparison(language, shown, printed, same):
    assert (differences(language, shown, printed) == []) is same
