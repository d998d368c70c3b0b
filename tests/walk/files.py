"""The files whose functions ran between two exports of llvm-cov: `files.py BEFORE.json AFTER.json`."""

import json
import sys
from pathlib import Path


def counts(path: str) -> dict[tuple[str, str], tuple[int, set[int]]]:
    """How often each function ran, and the lines of it that ran, by its name and file."""
    functions = {}
    for function in json.load(open(path))["data"][0]["functions"]:
        file = function["filenames"][0]
        lines = {
            line
            for start, _, end, _, count, file_id, _, kind in function["regions"]
            if count and not file_id and not kind
            for line in range(start, end + 1)
        }
        functions[function["name"], file] = (function["count"], lines)
    return functions


def main() -> None:
    before, after = counts(sys.argv[1]), counts(sys.argv[2])
    root = Path.cwd()
    files: dict[Path, set[int]] = {}
    for key, (count, lines) in after.items():
        # A macro's code counts for its own crate, which may be another.
        if Path(key[1]).is_relative_to(root) and count > before.get(key, (0, set()))[0]:
            files.setdefault(Path(key[1]).relative_to(root), set()).update(lines)
    total = 0
    for file in sorted(files):
        length = len(file.read_text().splitlines())
        total += length
        print(f"{len(files[file]):5} of {length:4}  {file}")
    ran = sum(map(len, files.values()))
    print(f"{len(files)} files of {total} lines, {ran} of which ran")


if __name__ == "__main__":
    main()
