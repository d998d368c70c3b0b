"""`python -m adapt.folder`: a base as a folder that names its mask token, for a server that adds an adapter to it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from .bases import BaseError, load_base
from .export import write_folder


def main() -> None:
    parser = argparse.ArgumentParser("adapt.folder", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--base", required=True, help="folder, name on the hub or .gguf file")
    parser.add_argument("--mask-token", help="text of the mask token (the base's, or a new entry)")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write; its weights are float16")
    args = parser.parse_args()
    base = load_base(args.base, args.mask_token)
    write_folder(base.network(torch.float32, torch.float32), base, args.out)


if __name__ == "__main__":
    try:
        main()
    except (BaseError, FileNotFoundError) as error:
        sys.exit(f"adapt.folder: {error}")
