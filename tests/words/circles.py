#!/usr/bin/env python3
"""Circles of modules in crates/api/src: sets of files each of which can be reached from every other by `use` lines. Fails
if there are any.

    tests/words/circles.py [FOLDER]

Files are the modules right below the folder; what lies in a subfolder counts as the module of that folder. Imports in tests
do not count. Without dependencies.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USE = re.compile(r"\b(?:pub(?:\([^)]*\))? )?use (crate|super)::(.*?);", re.DOTALL)
INLINE = re.compile(r"(?<!use )\bcrate::(\w+)")
TESTS = re.compile(r"#\[cfg\(test\)\]\s*mod \w+ \{.*\Z", re.DOTALL)


def code_of(path):
    """A file without its tests and comments."""
    text = TESTS.sub("", path.read_text(encoding="utf-8"))
    return re.sub(r"//[^\n]*", "", text)


def first_names(tree):
    """The first names of a use tree: `a::b` is a, `{a::b, c}` is a and c."""
    tree = tree.strip()
    if not tree.startswith("{"):
        return [re.match(r"\w*", tree).group(0)]
    names, depth, name = [], 0, ""
    for char in tree[1:-1] + ",":
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            names.append(re.match(r"\s*(\w*)", name).group(1))
            name = ""
        else:
            name += char
    return names


def graph_of(folder):
    modules = {path.stem for path in folder.glob("*.rs")} | {path.name for path in folder.iterdir() if path.is_dir()}
    modules -= {"main", "lib", "mod", "tests"}
    arrows = {module: set() for module in modules}
    for path in folder.rglob("*.rs"):
        parts = path.relative_to(folder).with_suffix("").parts
        module = parts[0]
        if module not in modules or parts[-1] == "tests":
            continue
        text = code_of(path)
        used = set(INLINE.findall(text))
        # From a module's own file `super` is the crate; from deeper files it is the module itself.
        top = len(parts) == 1 or parts[1:] == ("mod",)
        for where, tree in USE.findall(text):
            if where == "crate" or top:
                used.update(first_names(tree))
        arrows[module] |= (used & modules) - {module}
    return arrows


def circles(arrows):
    """Strongly connected sets of more than one module, by Tarjan's algorithm."""
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for other in sorted(arrows[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            circle = []
            while not circle or circle[-1] != node:
                circle.append(stack.pop())
                on.discard(circle[-1])
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def main(arguments):
    folder = Path(arguments[0]) if arguments else ROOT / "crates/api/src"
    arrows = graph_of(folder)
    found = circles(arrows)
    for circle in found:
        print(f"{len(circle):5} modules of {len(arrows)} in {folder.name} form a circle: {' '.join(circle)}")
    if not found:
        print(f"      no circles among {len(arrows)} modules of {folder.name}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
