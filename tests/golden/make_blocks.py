#!/usr/bin/env python3
"""Makes the folders `fast-dllm-v2` and `stable-diffcoder`: make_blocks.py (with torch, transformers, safetensors).

The networks are transformers' own Qwen2 and LLaMA in float32 with a mask of attention that is causal between blocks. The
samplers are written here from what the authors' code does; every forward computes the whole text, without kept keys and
values. README.md beside this file says what the tensors are.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen2TokenizerFast

HERE = Path(__file__).parent
ROWS, END, TURN_END, MASK = 576, 560, 562, 564
SHAPE = dict(hidden_size=48, intermediate_size=136, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=160, vocab_size=ROWS, tie_word_embeddings=False, attn_implementation="eager")


class Network:
    """A network in blocks, with the shift of its head."""

    def __init__(self, config, kind, shift):
        torch.manual_seed(7)
        self.model, self.shift = kind(config).eval(), shift
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if name.endswith("norm.weight"):
                    weight.uniform_(0.7, 1.3)
                elif name.endswith("bias"):
                    weight.normal_(0, 0.5)
                else:
                    weight.normal_(0, 1.3 / weight.shape[-1] ** 0.5)
            self.model.model.embed_tokens.weight.normal_(0, 1)
            self.model.lm_head.weight.mul_(2.2)

    @torch.no_grad()
    def logits(self, ids, block):
        """(B, L, V), straight from the head."""
        place = torch.arange(ids.shape[1]) // block
        hidden = place[:, None] < place[None]
        bias = torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min)
        return self.model(ids, attention_mask=bias.expand(len(ids), 1, -1, -1)).logits


def draw(logits, temperature, top_p, uniform):
    """A token and the distribution that it is drawn from; at temperature 0 the most probable one, of the softmax."""
    if temperature == 0:
        p = logits.softmax(-1)
        return int(p.argmax()), p
    p = (logits / temperature).softmax(-1)
    sorted_, order = p.sort(descending=True)
    p[order[sorted_.cumsum(-1) - sorted_ > top_p]] = 0
    p /= p.sum()
    return int((p.cumsum(-1) <= uniform).sum().clamp(max=len(p) - 1)), p


class Run:
    """A run and what is recorded of it."""

    def __init__(self, network, seed, prompt, length, block, temperature=0.0, top_p=1.0, stop=None, **rule):
        self.network, self.block, self.stop = network, block, stop
        self.temperature, self.top_p, self.rule = temperature, top_p, rule
        self.generator = torch.Generator().manual_seed(seed)
        self.prompt = torch.randint(0, END - 1, (prompt,), generator=self.generator).tolist()
        total = -(-(prompt + length) // block) * block
        self.text = self.prompt + [MASK] * (total - prompt)
        self.states, self.blocks, self.uniforms, self.shown = [], [], [], []

    def rows(self, block, shown):
        """The logits of each position of a block, in a forward over what is shown."""
        logits = self.network.logits(torch.tensor([self.text[:shown]]), self.block)[0]
        uniform = torch.rand(self.block, generator=self.generator)
        self.states.append(list(self.text)), self.blocks.append(block), self.uniforms.append(uniform)
        self.shown.append(shown)
        first = block * self.block
        if self.network.shift:
            logits = torch.cat([logits[:1], logits[:-1]])
        return logits[first:], uniform

    def ended(self):
        """True if the end is there and nothing before it is open."""
        after = self.text[len(self.prompt):]
        return self.stop in after and MASK not in after[: after.index(self.stop)]

    def fast_dllm(self):
        """Fast-dLLM v2: the first token of a block from the block before; then parts from left to right, each until it
        is full: what is more probable than the threshold, and the most probable one."""
        part, threshold = self.rule["part"], self.rule["threshold"]
        for block in range(len(self.prompt) // self.block, len(self.text) // self.block):
            first = block * self.block
            if first >= max(len(self.prompt), 1):
                self.text[first] = int(self.rows(block, first + 1)[0][0].argmax())
            for start in range(first, first + self.block, part):
                while MASK in self.text[start : start + part] and not self.ended():
                    self.commit(block, range(start, start + part), threshold)
            if self.ended():
                return self

    def commit(self, block, places, threshold):
        """One forward of Fast-dLLM v2."""
        logits, uniforms = self.rows(block, (block + 1) * self.block)
        found = []
        for place in places:
            if self.text[place] == MASK:
                inside = place - block * self.block
                token, p = draw(logits[inside].clone(), self.temperature, self.top_p, uniforms[inside])
                found.append((float(p[token]), -place, token))
        for p, place, token in found:
            if p > threshold or (p, place, token) == max(found):
                self.text[-place] = token

    def diffcoder(self):
        """Stable-DiffCoder: even parts of a block's open positions by forward, or all of a probability of at least the
        threshold, under the model itself. Ends after the block with the end of the text."""
        steps, threshold = self.rule["steps"], self.rule["threshold"]
        for block in range(len(self.prompt) // self.block, len(self.text) // self.block):
            span = range(block * self.block, (block + 1) * self.block)
            masked = sum(self.text[place] == MASK for place in span)
            for step in range(steps):
                count = masked // steps + (step < masked % steps)
                if count and MASK in [self.text[place] for place in span]:
                    self.rank(block, span, count, threshold)
            if self.ended():
                return self

    def rank(self, block, span, count, threshold):
        """One forward of Stable-DiffCoder."""
        logits, uniforms = self.rows(block, (block + 1) * self.block)
        found = []
        for inside, place in enumerate(span):
            if self.text[place] == MASK:
                token, _ = draw(logits[inside].clone(), self.temperature, self.top_p, uniforms[inside])
                found.append((float(logits[inside].softmax(-1)[token]), -place, token))
        found.sort(reverse=True)
        kept = found[:count] if threshold is None else found[:1] + [best for best in found[1:] if best[0] >= threshold]
        for _, place, token in kept:
            self.text[-place] = token

    def tensors(self):
        return {"prompt": torch.tensor([self.prompt]), "xt": torch.tensor(self.states), "block": torch.tensor(self.blocks),
                "shown": torch.tensor(self.shown), "u_category": torch.stack(self.uniforms), "final": torch.tensor([self.text])}


def write(folder, network, config, mask, family, runs):
    folder.mkdir(exist_ok=True)
    tokenizer = {name: (HERE / "sdar" / name).read_text().replace("<|MASK|>", mask)
                 for name in ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]}
    for name, text in tokenizer.items():
        (folder / name).write_text(text)
    for name in ["vocab.json", "merges.txt", "chat_template.jinja"]:
        shutil.copy(HERE / "sdar" / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({name: weight.contiguous() for name, weight in network.model.state_dict().items()}, folder / "model.safetensors")
    generator = torch.Generator().manual_seed(3)
    cases, logits = [(1, 1), (1, 7), (3, 16), (2, 33)], {}
    for number, (batch, length) in enumerate(cases):
        ids = torch.randint(0, ROWS, (batch, length), generator=generator)
        ids[torch.rand(ids.shape, generator=generator) < 0.3] = MASK
        logits[f"{number}.input_ids"] = ids
        logits[f"{number}.logits"] = network.logits(ids, family["block_length"])
    save_file(logits, folder / "golden-logits.safetensors")
    family["forward"] = [{"batch": b, "length": n, "block_length": family["block_length"]} for b, n in cases]
    recorded = {}
    for parameters, run in runs:
        recorded |= {f"{parameters['name']}.{part}": tensor.contiguous() for part, tensor in run.tensors().items()}
    save_file(recorded, folder / "golden-runs.safetensors")
    family |= {"rows": ROWS, "mask_token_id": MASK, "eos_token_id": END, "turn_end_token_id": TURN_END,
               "attention": "block-causal", "runs": [parameters | {"evaluations": len(run.states)} for parameters, run in runs]}
    (folder / "family.json").write_text(json.dumps(family, indent=1) + "\n")


def parameters(name, run, **more):
    said = {"name": name, "prompt": len(run.prompt), "length": len(run.text) - len(run.prompt), "block": run.block,
            "temperature": run.temperature, "filters": "k, p", "top_p": run.top_p}
    if run.stop is not None:
        said |= {"stop": True, "stop_ids": [run.stop]}
    return said | more


def fast_dllm():
    shape = SHAPE | dict(rope_theta=1000000.0, rms_norm_eps=1e-6)
    network = Network(Qwen2Config(**shape), Qwen2ForCausalLM, shift=True)
    config = {key: value for key, value in shape.items() if key != "attn_implementation"} | {
        "architectures": ["Fast_dLLM_QwenForCausalLM"], "model_type": "Fast_dLLM_Qwen", "bd_size": 8, "hidden_act": "silu",
        "bos_token_id": END, "eos_token_id": TURN_END, "torch_dtype": "float32", "use_sliding_window": False}
    runs = []
    for name, seed, prompt, length, settings in [
        ("default", 1, 9, 23, {}), ("block-start", 2, 16, 24, {"threshold": 0.3}), ("short-prompt", 3, 3, 13, {"threshold": 0.1}),
        ("sampled", 4, 13, 19, {"temperature": 0.8, "top_p": 0.95, "threshold": 0.4}), ("stop", 1, 9, 23, {"stop": True})]:
        settings = {"part": 4, "threshold": 0.9, "temperature": 0.0, "top_p": 0.95} | settings
        if settings.pop("stop", False):
            settings["stop"] = runs[0][1].text[18]
        run = Run(network, seed, prompt, length, 8, **settings)
        run.fast_dllm()
        more = {"early_stop": True} if run.stop is not None else {}
        runs.append((parameters(name, run, part=4, steps=4, threshold=run.rule["threshold"], **more), run))
    write(HERE / "fast-dllm-v2", network, config, "|<MASK>|",
          {"model": "fast-dllm-v2", "family": "fast-dllm-v2", "shift": True, "block_length": 8}, runs)


def diffcoder():
    shape = SHAPE | dict(rope_theta=500000.0, rms_norm_eps=1e-6)
    network = Network(LlamaConfig(**shape), LlamaForCausalLM, shift=False)
    config = {key: value for key, value in shape.items() if key != "attn_implementation"} | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": False,
        "auto_map": {"AutoModelForCausalLM": "modeling_seed_diffcoder.SeedDiffcoderForCausalLM"},
        "mlp_bias": False, "bos_token_id": END, "eos_token_id": END, "torch_dtype": "float32"}
    runs = []
    for name, seed, prompt, length, settings in [
        ("even", 1, 9, 19, {}), ("threshold", 2, 8, 16, {"threshold": 0.08}), ("sampled", 3, 6, 14, {"temperature": 0.7}),
        ("stop", 1, 9, 19, {"stop": True})]:
        settings = {"steps": 4, "threshold": None} | settings
        if settings.pop("stop", False):
            settings["stop"] = runs[0][1].text[17]
        run = Run(network, seed, prompt, length, 4, **settings)
        run.diffcoder()
        threshold = {} if run.rule["threshold"] is None else {"threshold": run.rule["threshold"]}
        runs.append((parameters(name, run, steps=4, confidence="model", **threshold), run))
    write(HERE / "stable-diffcoder", network, config, "<[MASK_TOKEN]>",
          {"model": "stable-diffcoder", "family": "stable-diffcoder", "shift": False, "block_length": 4}, runs)
    write_tokenizer(HERE / "stable-diffcoder")


def write_tokenizer(folder):
    """One file in place of its parts, as the release has it."""
    whole = Qwen2TokenizerFast.from_pretrained(folder)
    whole.backend_tokenizer.save(str(folder / "tokenizer.json"))
    for name in ["vocab.json", "merges.txt", "added_tokens.json"]:
        (folder / name).unlink()


if __name__ == "__main__":
    fast_dllm()
    diffcoder()
