"""Writes the adapters in this folder, and what PEFT computes with each of them.

    pip install torch transformers peft && python record.py

Every adapter is trained-looking: its factors are random. `expected.safetensors` holds, by the adapter's name, the
token ids of one canvas and the logits of base and adapter together, with full attention.
"""

import json
import shutil
import warnings
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, GPT2LMHeadModel, LlamaForCausalLM

HERE = Path(__file__).parent
GOLDEN = HERE / "../../../../tests/golden"
ALL_GPT2 = ["c_attn", "c_proj", "c_fc"]

# Name: base, and the settings of the adapter.
ADAPTERS = {
    "gpt2": ("diffugpt-s", dict(r=4, lora_alpha=8, target_modules=ALL_GPT2, fan_in_fan_out=True)),
    "gpt2-all-linear": ("diffugpt-s", dict(r=2, lora_alpha=3, target_modules="all-linear", use_rslora=True)),
    "gpt2-head": ("diffugpt-s", dict(r=2, lora_alpha=8, target_modules=["c_attn", "lm_head"])),
    "gpt2-embedding": ("diffugpt-s", dict(r=2, lora_alpha=8, target_modules=["wte", "c_fc"])),
    "gpt2-saved": ("diffugpt-s", dict(r=2, lora_alpha=2, target_modules=["c_attn"], modules_to_save=["wte", "ln_f"])),
    "llama-patterns": (
        "diffullama",
        dict(
            r=4,
            lora_alpha=8,
            target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
            rank_pattern={"up_proj": 2, r"layers\.[01]\.self_attn\.q_proj": 3},
            alpha_pattern={"v_proj": 24, "model.layers.2.mlp.down_proj": 1},
        ),
    ),
    "llama-head": ("diffullama", dict(r=4, lora_alpha=8, target_modules=["lm_head", "k_proj"])),
    "llama-saved": ("diffullama", dict(r=2, lora_alpha=4, target_modules=["o_proj"], modules_to_save=["lm_head", "embed_tokens"])),
    "llama-orthogonal": ("diffullama", dict(r=4, lora_alpha=8, target_modules=["q_proj"], init_lora_weights="orthogonal")),
}


def base(name):
    """The golden checkpoint in transformers, which has no name for the reference's wrapper."""
    config = AutoConfig.from_pretrained(GOLDEN / name)
    config._attn_implementation = "eager"
    tensors = load_file(GOLDEN / name / "model.safetensors")
    if config.model_type == "gpt2":
        model = GPT2LMHeadModel(config)
        tensors = {key.replace("denoise_model.", "transformer."): value for key, value in tensors.items()}
        tensors["transformer.wte.weight"] = tensors["lm_head.weight"] = tensors.pop("embed_tokens.weight")
    else:
        model = LlamaForCausalLM(config)
    missing = model.load_state_dict(tensors, strict=False)
    assert not missing.missing_keys and not missing.unexpected_keys, missing
    return model.eval()


def logits(model, ids):
    length = ids.shape[1]
    everywhere = torch.zeros(1, 1, length, length)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=everywhere, use_cache=False).logits


def check_base(name):
    """The same numbers as the authors' code, so that attention is full and all weights are where they belong."""
    golden = load_file(GOLDEN / name / "golden-logits.safetensors")
    ids = golden["0.input_ids"][:1]
    difference = (logits(base(name), ids) - golden["0.logits"][:1]).abs().max().item()
    assert difference < 5e-4, (name, difference)


def record(name, model_name, settings, seed):
    torch.manual_seed(seed)
    plain = base(model_name)
    wrapped = get_peft_model(plain, LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=model_name, **settings))
    with torch.no_grad():
        for key, value in wrapped.named_parameters():
            if "lora_" in key:
                value.normal_(std=0.2)
            elif "modules_to_save" in key:
                value.add_(torch.randn_like(value) * 0.1)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = model_name
    config["target_modules"] = sorted(config["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    ids = torch.randint(5, 590, (1, 10))
    # What a user of PEFT gets: the base again, and the adapter from its files.
    loaded = peft.PeftModel.from_pretrained(base(model_name), folder).eval()
    found = logits(loaded, ids)
    change = (found - logits(base(model_name), ids)).abs().max().item()
    assert change > 0.1, (name, change)
    return {f"{name}.input_ids": ids, f"{name}.logits": found.float()}


def main():
    warnings.simplefilter("ignore")
    check_base("diffugpt-s")
    check_base("diffullama")
    expected = {}
    for seed, (name, (model_name, settings)) in enumerate(ADAPTERS.items()):
        expected |= record(name, model_name, settings, seed)
    save_file(expected, HERE / "expected.safetensors")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    (HERE / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


main()
