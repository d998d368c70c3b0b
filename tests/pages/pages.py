"""The pages (every Markdown file of the project) as lists of fenced blocks."""

import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "crates/api/docs/examples"

# Languages of blocks that are run, and of blocks that show what the block before them prints.
SHELL = "sh"
PROGRAMS = {"python": "python", "js": "node"}
OUTPUTS = ("text", "json")

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it is, its info string (`sh no-run: why`) and its text."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def language(self):
        return self.info.split(" ")[0]

    @property
    def words(self):
        """Everything after the language."""
        return self.info.partition(" ")[2]

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Step:
    """A block that is run, and the block that shows its output, if there is one."""

    block: Block
    shown: Block | None

    @property
    def skipped(self):
        """The reason why it is not run, or None."""
        return self.block.words.removeprefix("no-run:").strip() if self.block.words.startswith("no-run") else None

    @property
    def background(self):
        """Whether it starts a server, for the commands below it."""
        return self.block.words == "background"

    @property
    def fails(self):
        """Whether it must end with an error, whose message the page shows."""
        return self.block.words == "fails"


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @cached_property
    def text(self):
        return self.path.read_text()

    @cached_property
    def blocks(self):
        found = []
        for match in FENCE.finditer(self.text):
            lines = match["text"].split("\n")
            text = "\n".join(line.removeprefix(match["indent"]) for line in lines)
            found.append(Block(self.path, self.text.count("\n", 0, match.start()) + 1, match["info"].strip(), text))
        return found

    @property
    def steps(self):
        """The blocks to run, in order, each with the output that the next block shows."""
        following = [*self.blocks[1:], None]
        return [
            Step(block, after if after and after.language in OUTPUTS else None)
            for block, after in zip(self.blocks, following)
            if block.language == SHELL or block.language in PROGRAMS
        ]

    @property
    def prose(self):
        """The text without its fenced blocks and inline code."""
        return re.sub(r"`[^`\n]*`", "``", FENCE.sub("", self.text))

    @cached_property
    def anchors(self):
        """The anchors of its headings, as code hosts make them."""
        headings = re.findall(r"^#+ +(.*)$", FENCE.sub("", self.text), re.MULTILINE)
        kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
        return {heading.strip().replace(" ", "-") for heading in kept}


def pages():
    """All pages of the project, also those that are not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [Page(ROOT / name) for name in sorted(listed) if (ROOT / name).exists()]


def example_of(block):
    """The file of the examples that holds a block of Python or JavaScript."""
    endings = {"python": (".py",), "js": (".mjs", ".js")}[block.language]
    holding = [
        path
        for path in sorted(EXAMPLES.rglob("*"))
        if path.suffix in endings and block.text.strip() in path.read_text()
    ]
    return holding[0] if len(holding) == 1 else None
