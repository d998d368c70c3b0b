"""The adapter that ships: it fits its configuration and its base."""

from __future__ import annotations

import json
from pathlib import Path

from adapt.names import LLAMA
from adapt.options import read
from safetensors.torch import load_file

FOLDER = Path(__file__).parents[2] / "crates" / "model" / "adapt" / "smollm2"


def test_it_adapts_every_linear_layer_of_the_base(monkeypatch):
    monkeypatch.setenv("SMOLLM2", "/models/smollm2.gguf")
    args, sources = read(["--config", str(FOLDER / "adapt.toml"), "--out", "run"])
    assert args.base == "/models/smollm2.gguf" and len(sources) == 5
    config = json.loads((FOLDER / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (args.rank, args.alpha, args.base_name)
    assert json.loads((FOLDER / "tokenizer_config.json").read_text())["mask_token"] == args.mask_token
    width, keys, inner = 576, 192, 1536
    shapes = {"q": (width, width), "k": (keys, width), "v": (keys, width), "o": (width, width), "gate": (inner, width),
              "up": (inner, width), "down": (width, inner)}
    expected = {}
    for layer in range(30):
        for module, (outputs, inputs) in shapes.items():
            stem = f"base_model.model.model.layers.{layer}.{LLAMA[module]}"
            expected |= {f"{stem}.lora_A.weight": (args.rank, inputs), f"{stem}.lora_B.weight": (outputs, args.rank)}
    stored = load_file(FOLDER / "adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == expected
    assert all(tensor.isfinite().all() and tensor.any() for tensor in stored.values())
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 20_000_000
