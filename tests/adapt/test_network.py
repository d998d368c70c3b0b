"""The network and the bases against transformers and llama.cpp's file format."""

from __future__ import annotations

import json

import gguf
import pytest
import torch
from adapt.bases import BaseError, load_base
from adapt.masking import attention_bias
from adapt.model import Past
from bases import FAMILIES, write_base
from oracle import logits
from safetensors.torch import load_file

TOKENS = torch.tensor([[0, 17, 90, 33, 250, 101, 17, 5, 60, 3], [0, 9, 8, 7, 6, 5, 200, 100, 50, 25]])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers(tmp_path, family, tied):
    base = load_base(str(write_base(tmp_path / "base", family, tied=tied)), None)
    network = base.network(torch.float32, torch.float32)
    causal = attention_bias(TOKENS.shape[1], 0.0, torch.Generator())
    with torch.no_grad():
        for bias in (None, causal):
            expected = logits(tmp_path / "base", TOKENS, causal=bias is not None)
            torch.testing.assert_close(network.read(network(TOKENS, bias)), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_one_by_one_equal_all_at_once(tmp_path, family):
    network = load_base(str(write_base(tmp_path / "base", family)), None).network(torch.float32, torch.float32)
    past = Past()
    with torch.no_grad():
        together = network(TOKENS, attention_bias(TOKENS.shape[1], 0.0, torch.Generator()))
        single = torch.cat([network(TOKENS[:, i : i + 1], None, past) for i in range(TOKENS.shape[1])], 1)
    torch.testing.assert_close(single, together, rtol=1e-5, atol=1e-5)


def test_a_new_mask_token_gets_the_mean_row(tmp_path):
    base = load_base(str(write_base(tmp_path / "base", "llama", mask=None)), None)
    network = base.network(torch.float32, torch.float32)
    mask = base.token_id("mask_token")
    assert base.settings["mask_token"] == "<|mask|>" and mask == len(network.embed.weight) - 1
    torch.testing.assert_close(network.embed.weight[mask], network.embed.weight[:-1].mean(0))


def test_an_unused_entry_serves_as_mask(tmp_path):
    folder = write_base(tmp_path / "base", "llama", mask=None)
    base = load_base(str(folder), "<|user|>")
    assert base.token_id("mask_token") == 1
    assert base.shape.vocabulary == json.loads((folder / "config.json").read_text())["vocab_size"]


def interleaved(weight, heads):
    """llama.cpp's order of the rows of q and k: the halves of each head alternate."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(folder, path):
    """A GGUF file of a LLaMA folder, by llama.cpp's own writer."""
    config, tokenizer = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json"))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        value = tensor.numpy()
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                value = interleaved(value, config[heads])
        writer.add_tensor(names.get_name(name, (".weight",)), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_equals_the_folder_it_was_made_of(tmp_path):
    folder = write_base(tmp_path / "base", "llama")
    write_gguf(folder, tmp_path / "base.gguf")
    base = load_base(str(tmp_path / "base.gguf"), "<|mask|>")
    network = base.network(torch.float32, torch.float32)
    with torch.no_grad():
        found = network.read(network(TOKENS))
    torch.testing.assert_close(found, logits(folder, TOKENS), rtol=1e-5, atol=2e-5)
    text = "def add_1(value):\n    return value + 1 <|user|> é"
    assert base.tokenizer.encode(text).ids == load_base(str(folder), None).tokenizer.encode(text).ids


def test_other_architectures_are_refused(tmp_path):
    folder = write_base(tmp_path / "base", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    with pytest.raises(BaseError, match="model_type is mamba; supported: gpt2, llama, qwen2, qwen3"):
        load_base(str(folder), None)
