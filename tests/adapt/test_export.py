"""Exported folders and adapters: the server's log-probabilities equal transformers'."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from adapt.job import prepare
from adapt.options import read
from bases import FAMILIES, write_base, write_texts
from oracle import logits
from safetensors.torch import load_file
from test_training import options

UNMASK = os.environ.get("TESTED_PROGRAM", "unmask")
PROMPT = [0, 17, 90, 33, 250, 101, 17, 5, 60, 7, 121, 44]
# Architectures that the server computes.
SERVED = ("gpt2", "llama", "qwen2")


@contextmanager
def served(*arguments):
    """The address of a server of a folder."""
    command = [UNMASK, "serve", "--listen", "127.0.0.1:0", "--dtype", "f32", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                yield f"http://127.0.0.1:{found[1]}"
                return
        raise AssertionError("the server did not start: " + "".join(lines))
    finally:
        process.terminate()
        process.wait(30)


def served_logprobs(url):
    """The log-probability of each token of the prompt given all others."""
    body = {"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 0, "diffusion": {"score": {"mode": "pll"}}}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["choices"][0]["logprobs"]["token_logprobs"]


def expected_logprobs(folder, mask, change=None):
    tokens = torch.tensor([PROMPT] * (len(PROMPT) - 1))
    rows = torch.arange(len(PROMPT) - 1)
    tokens[rows, rows + 1] = mask
    found = logits(folder, tokens, change=change)[rows, rows].log_softmax(-1)
    return found[rows, torch.tensor(PROMPT[1:])].tolist()


def compare(found, expected):
    assert len(found) == len(PROMPT)
    for place, value in enumerate(expected, 1):
        assert abs(found[place] - value) < 5e-4, (place, found, expected)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("data") / "texts")


def trained(tmp_path, texts, family, *more):
    base = write_base(tmp_path / "base", family)
    made = prepare(*read(options(base, texts, tmp_path / "out", "--learning-rate", "5e-3", "--verify", UNMASK, *more)))
    for _ in range(3):
        made.run.step()
    return made


def test_an_adapter_names_its_mask_token(tmp_path, texts):
    adapter = trained(tmp_path, texts, "llama", "--rank", "4").export()
    assert json.loads((adapter / "tokenizer_config.json").read_text()) == {"mask_token": "<|mask|>"}


def mask_id(folder):
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    return next(token["id"] for token in tokens if token["content"] == "<|mask|>")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_folder_is_what_was_trained(tmp_path, texts, family):
    made = trained(tmp_path, texts, family)
    folder = made.export()
    tokens = torch.tensor([PROMPT])
    with torch.no_grad():
        own = made.network.read(made.network(tokens))
    torch.testing.assert_close(logits(folder, tokens), own, rtol=0, atol=2e-2)  # float16 weights
    if family in SERVED:
        assert made.verify(folder) == 0
        with served("--model", folder) as url:
            compare(served_logprobs(url), expected_logprobs(folder, mask_id(folder)))


def change_of(adapter):
    """Changes of the weights by the factors of a PEFT file."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    factors = {name: value.float() for name, value in load_file(adapter / "adapter_model.safetensors").items()}
    change = {}
    for name, a in factors.items():
        if name.endswith(".lora_A.weight"):
            product = config["lora_alpha"] / config["r"] * factors[name.replace("lora_A", "lora_B")] @ a
            turned = product.T if config["fan_in_fan_out"] else product
            change[name.removeprefix("base_model.model.").replace(".lora_A", "")] = turned
    return change


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_adapter_is_what_was_trained(tmp_path, texts, family):
    made = trained(tmp_path, texts, family, "--rank", "4")
    adapter, tokens = made.export(), torch.tensor([PROMPT])
    base, change = tmp_path / "base", change_of(adapter)
    assert max(value.abs().max().item() for value in change.values()) > 1e-3
    with torch.no_grad():
        own = made.network.read(made.network(tokens))
    torch.testing.assert_close(logits(base, tokens, change=change), own, rtol=0, atol=2e-2)  # bfloat16 factors
    if family in SERVED:
        assert made.verify(adapter) == 0
        with served("--model", base, "--adapter", adapter) as url:
            compare(served_logprobs(url), expected_logprobs(base, mask_id(base), change))


def test_an_adapter_is_gone_on_from(tmp_path, texts):
    first = trained(tmp_path, texts, "llama", "--rank", "4")
    adapter, base = first.export(), tmp_path / "base"
    more = ["--rank", "4", "--adapter", str(adapter)]
    second = prepare(*read(options(base, texts, tmp_path / "more", *more)))
    assert second.run.state.step == 0
    for name, parameter in second.trained.items():
        assert torch.equal(parameter, first.trained[name].bfloat16().float()), name
    with pytest.raises(ValueError, match="has rank and alpha 4 and 8.0; --rank and --alpha say 8 and 16.0"):
        prepare(*read(options(base, texts, tmp_path / "other", *more, "--rank", "8")))


def test_the_command_trains_exports_writes_a_card_and_verifies(tmp_path, texts):
    base = write_base(tmp_path / "base", "llama", mask=None)
    command = [sys.executable, "-m", "adapt", *options(base, texts, tmp_path / "out", "--tokens", "1536", "--verify", UNMASK)]
    crate = Path(__file__).parents[2] / "crates" / "model"
    done = subprocess.run(command, cwd=crate, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ok$", done.stdout, re.M) and "mask " in done.stdout
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    numbers = [json.loads(line) for line in (tmp_path / "out" / "held_out.jsonl").read_text().splitlines()]
    assert numbers[-1]["tokens"] == 1536 and {"masked 0.15", "hole 3", "prefix only 3", "next token"} <= numbers[-1].keys()
    assert f"{numbers[-1]['masked 0.15']:.3f}" in card and "`<|mask|>`" in card and "texts" in card


def test_a_missing_base_is_one_line(tmp_path, texts):
    command = [sys.executable, "-m", "adapt", *options("no-such-folder", texts, tmp_path / "out", "--verify", "")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2] / "crates" / "model", capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().startswith("adapt: --base no-such-folder is no folder")
    assert "\n" not in done.stderr.strip()
