#!/usr/bin/env python3
"""Trains the small code model that the binary carries.

The recipe is the one by which DiffuGPT was made from GPT-2 (arXiv 2410.17891):

1. a byte-level BPE tokenizer is learned from the training files;
2. a GPT-2 is trained as usual, left to right (this one is kept: it is the baseline);
3. the same weights go on as a masked diffusion model: the causal mask is annealed away, random
   tokens are masked, and the loss of the masked ones is weighted by 1/t. The shift stays: row i - 1
   of the head predicts the token at position i;
4. towards the end, examples "question -> code" made from the same files are mixed in.

The corpus is the standard library of the Python that runs this. One file in twenty is held out.
It needs torch, tokenizers, numpy and safetensors:

    python train.py --out run --minutes 100             # from nothing, resumable with --resume
    python train.py --out run --minutes 60 --base gpt2/ # adapts a GPT-2 checkpoint instead of step 2
    python train.py --out more --minutes 60 --base run/export --anneal-share 0 --t-grow 0 # goes on
    python train.py --evaluate run/export               # held-out numbers of an exported folder
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import random
import sysconfig
import textwrap
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

EOS_TOKEN, MASK_TOKEN = "<|endoftext|>", "<|mask|>"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
SPECIAL = [EOS_TOKEN, MASK_TOKEN, *ROLES]

# A line break with the indentation after it is one token, and a word carries at most one space
# before it. GPT-2's own rule gives the last space of an indentation to the word behind it, so that
# a text cut after its indentation, as editors cut it, would be split as the model never saw it.
SPLIT = r"[\r\n]+[ \t]*| ?_*\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"

# One line, and the line break written as an escape, so that every engine renders it the same.
# The document start at position 0 is put there by the server, as in front of any text.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\\n' }}{{ message['content'] }}{{ '<|endoftext|>' }}"
    "{% elif message['role'] == 'system' %}{{ '<|system|>' }}{{ message['content'] }}"
    "{% else %}{{ '<|user|>' }}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

# Folders without code worth learning: character tables, the pages of pydoc's help, and the
# (partly broken on purpose) data of test suites. `site-packages` is not the standard library.
LEFT_OUT = ("site-packages", "__pycache__", "encodings", "pydoc_data", "lib2to3/tests/data", "test/encoded_modules",
            "test/tokenizedata", "test/typinganndata", "test/dtracedata", "test/cjkencodings")


# ---------------------------------------------------------------------------------------------- data


def read_corpus(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The training files and the held-out ones, by relative path. A hash of the path decides."""
    train: dict[str, str] = {}
    held_out: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if any(f"/{part}/" in f"/{name}" for part in LEFT_OUT):
            continue
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if text.strip():
            (held_out if hashlib.sha256(name.encode()).digest()[0] % 20 == 0 else train)[name] = text
    return train, held_out


def learn_tokenizer(files: dict[str, str], entries: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=entries, special_tokens=SPECIAL, initial_alphabet=alphabet,
                                  show_progress=False)
    tokenizer.train_from_iterator(files.values(), trainer)
    return tokenizer


@dataclass
class Function:
    """A function of the corpus, moved to the left margin."""

    name: str
    source: str  # as written, docstring included
    question: str  # first line of the docstring, or the comment above; may be empty
    answer: str  # the source without its docstring


def functions_of(text: str) -> list[Function]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    lines = text.splitlines()
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        body = lines[node.lineno - 1 : node.end_lineno]
        doc = ast.get_docstring(node)
        code = body
        if doc is not None:
            if len(node.body) == 1:
                continue
            first = node.body[0]
            code = body[: first.lineno - node.lineno] + body[(first.end_lineno or first.lineno) - node.lineno + 1 :]
        question = doc.strip().split("\n")[0].strip() if doc and doc.strip() else ""
        top = node.lineno - 1 - len(node.decorator_list)
        if not question and top > 0 and lines[top - 1].strip().startswith("#"):
            question = lines[top - 1].strip().lstrip("#").strip()
        dedent = lambda part: textwrap.dedent("\n".join(part)).strip("\n")  # noqa: E731
        found.append(Function(node.name, dedent(body), question, dedent(code)))
    return found


class Corpus:
    """Token streams to cut blocks from, and the examples of the instruction part."""

    def __init__(self, files: dict[str, str], tokenizer: Tokenizer, seed: int) -> None:
        self.random = random.Random(seed)
        self.eos = tokenizer.token_to_id(EOS_TOKEN)
        names = sorted(files)
        self.random.shuffle(names)
        tokenizer.encode_special_tokens = True  # the text of a special token is text here
        encode = lambda texts: [e.ids for e in tokenizer.encode_batch(texts)]  # noqa: E731
        self.files = self._join(encode([files[name] for name in names]))[0]
        # Single functions at the left margin, so that the model also knows short texts. Those of
        # test suites are left out: most are lists of assertions.
        functions = [(name, f) for name in names for f in functions_of(files[name])]
        library = [f for name, f in functions if "test" not in name]
        self.snippets, self.snippet_starts = self._join(encode([f.source + "\n" for f in library]))
        # Instruction examples: (prompt, answer).
        asked = [f for _, f in functions if 12 <= len(f.question) <= 120]
        prompts = encode([self._prompt(f) for f in asked])
        answers = encode([f.answer for f in asked])
        role = tokenizer.token_to_id
        break_ids = tokenizer.encode("\n").ids
        self.examples = [
            ([self.eos, role("<|user|>"), *p, role("<|assistant|>"), *break_ids], a)
            for p, a in zip(prompts, answers) if len(p) + len(a) < 200
        ]
        strings = [tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())]
        self.breaks_line = torch.tensor([s[:1] in ("\n", "\r") for s in strings])

    def _prompt(self, function: Function) -> str:
        return self.random.choice([
            function.question,
            f"Write a Python function. {function.question}",
            f"Write a function `{function.name}`: {function.question}",
            f"{function.name}: {function.question}",
        ])

    def _join(self, documents: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Documents with an end-of-text before each and after the last, and where each begins."""
        joined, starts = [], []
        for document in documents:
            starts.append(len(joined))
            joined += [self.eos, *document]
        return torch.tensor([*joined, self.eos], dtype=torch.int32), torch.tensor(starts)

    def blocks(self, count: int, length: int) -> Tensor:
        starts = [self.random.randrange(len(self.files) - length) for _ in range(count)]
        return torch.stack([self.files[s : s + length] for s in starts]).long()

    def snippet_blocks(self, count: int, length: int) -> Tensor:
        starts = [int(self.snippet_starts[self.random.randrange(len(self.snippet_starts))]) for _ in range(count)]
        starts = [min(s, len(self.snippets) - length) for s in starts]
        return torch.stack([self.snippets[s : s + length] for s in starts]).long()

    def instructions(self, count: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Blocks filled up with end-of-text; which positions may be masked; the loss weight of each.

        The fill is learned too, because a server opens more positions than the answer needs. Only
        its first token counts in full, or the fill would drown the code.
        """
        blocks = torch.full((count, length), self.eos)
        open_, weight = torch.ones(count, length, dtype=torch.bool), torch.ones(count, length)
        for row in range(count):
            prompt, answer = self.random.choice(self.examples)
            tokens = (prompt + answer)[:length]
            blocks[row, : len(tokens)] = torch.tensor(tokens)
            open_[row, : len(prompt)] = False
            weight[row, len(tokens) + 1 :] = 0.05
        return blocks, open_, weight


# --------------------------------------------------------------------------------------------- model


@dataclass
class Shape:
    rows: int
    positions: int
    width: int
    layers: int
    heads: int


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.attn_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if x.is_cuda:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:  # on processors the plain products are faster, above all backwards
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            attended = (scores if bias is None else scores + bias).softmax(-1).to(v.dtype) @ v
        x = x + self.attn_out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.ln_2(x)), approximate="tanh"))


class Model(nn.Module):
    """GPT-2. The head is the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.rows, shape.width)
        self.position = nn.Embedding(shape.positions, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scale = 0.02 / math.sqrt(2 * shape.layers) if "_out" in name else 0.02
                nn.init.normal_(parameter, std=scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def trunk(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        x = self.embed(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)

    def logits_before(self, tokens: Tensor, bias: Tensor | None, wanted: Tensor) -> Tensor:
        """Logits for the tokens at the wanted positions (batch, length): the rows one to the left."""
        hidden = self.trunk(tokens, bias)
        return F.linear(hidden[:, :-1][wanted[:, 1:]], self.embed.weight).float()


def attention_bias(length: int, full_share: float, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    """Causal, or a Bernoulli draw of what lies to the right; one draw for the whole batch."""
    if full_share >= 1:
        return None
    allowed = torch.rand(length, length, device=device) < full_share
    allowed |= torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return torch.zeros(length, length, dtype=dtype, device=device).masked_fill(~allowed, -30000.0)


# The names of the DiffuGPT files. GPT-2 stores the weights of its linear layers transposed.
LINEAR = {"qkv": "attn.c_attn", "attn_out": "attn.c_proj", "mlp_in": "mlp.c_fc", "mlp_out": "mlp.c_proj"}


def to_file_names(model: Model) -> dict[str, Tensor]:
    named = {"embed_tokens.weight": model.embed.weight, "denoise_model.wpe.weight": model.position.weight}
    for name, tensor in model.norm.named_parameters():
        named[f"denoise_model.ln_f.{name}"] = tensor
    for i, block in enumerate(model.blocks):
        for name, tensor in block.named_parameters():
            part, kind = name.split(".")
            turned = tensor.T if part in LINEAR and kind == "weight" else tensor
            named[f"denoise_model.h.{i}.{LINEAR.get(part, part)}.{kind}"] = turned
    return named


def from_folder(folder: Path, new_rows: int = 0) -> Model:
    """A model in the layout of DiffuGPT or of plain GPT-2, with `new_rows` rows added to the embedding."""
    config = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "model.safetensors")
    plain = {"wte.weight": "embed_tokens.weight"}
    tensors = {}
    for name, tensor in stored.items():
        short = name.removeprefix("denoise_model.").removeprefix("transformer.")
        named = plain.get(short, short if short == "embed_tokens.weight" else f"denoise_model.{short}")
        tensors[named] = tensor.float()
    embed = tensors["embed_tokens.weight"]
    tensors["embed_tokens.weight"] = torch.cat([embed, embed.mean(0, keepdim=True).repeat(new_rows, 1)])
    model = Model(Shape(len(embed) + new_rows, len(tensors["denoise_model.wpe.weight"]), config["n_embd"],
                        config["n_layer"], config["n_head"]))
    with torch.no_grad():
        for name, parameter in to_file_names(model).items():
            parameter.copy_(tensors[name])
    return model


def export(model: Model, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shape = model.shape
    tensors = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in to_file_names(model).items()}
    metadata = {"format": "pt", "lm_head.weight": "embed_tokens.weight"}
    save_file(tensors, folder / "model.safetensors.new", metadata)
    (folder / "model.safetensors.new").replace(folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    eos = tokenizer.token_to_id(EOS_TOKEN)
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": shape.rows,
        "n_positions": shape.positions, "n_ctx": shape.positions, "n_embd": shape.width,
        "hidden_size": shape.width, "n_layer": shape.layers, "n_head": shape.heads, "n_inner": None,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "bos_token_id": eos,
        "eos_token_id": eos, "tie_word_embeddings": True,
        "task_specific_params": {"text-generation": {"max_length": shape.positions}},
    }
    special = {"bos_token": EOS_TOKEN, "eos_token": EOS_TOKEN, "unk_token": EOS_TOKEN, "mask_token": MASK_TOKEN}
    settings = {"tokenizer_class": "GPT2Tokenizer", **special, "additional_special_tokens": ROLES,
                "model_max_length": shape.positions, "add_bos_token": False, "chat_template": CHAT_TEMPLATE}
    special_map = {**special, "additional_special_tokens": ROLES}
    for name, content in (("config", config), ("tokenizer_config", settings), ("special_tokens_map", special_map)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


# -------------------------------------------------------------------------------------------- training


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz steps. A fused q, k, v is three matrices."""

    def __init__(self, matrices: list[Tensor], lr: float, momentum: float = 0.95, steps: int = 5) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "steps": steps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"])
                parts = update.split(p.shape[1]) if p.shape[0] == 3 * p.shape[1] else [update]
                turned = torch.cat([orthogonal(part, group["steps"]) for part in parts])
                p.mul_(1 - 0.01 * group["lr"]).add_(turned, alpha=-group["lr"])


def orthogonal(g: Tensor, steps: int) -> Tensor:
    x = (g if g.shape[0] <= g.shape[1] else g.T).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    x = x if g.shape[0] <= g.shape[1] else x.T
    return x.to(g.dtype) * max(1.0, g.shape[0] / g.shape[1]) ** 0.5


def draw_mask(tokens: Tensor, breaks_line: Tensor, span_share: float, t_min: float, t_max: float) -> tuple[Tensor, Tensor]:
    """Which positions are masked and the weight of each.

    Most rows are masked as in the paper: t uniform on [t_min, t_max) (stratified over the batch), every
    position with probability t, weight 1/t. The others lose one to three stretches instead, half of them whole
    lines, because that is what editors ask for; their weight is 1 / (share masked), at most 8.
    """
    count, length = tokens.shape
    t = t_min + (t_max - t_min) * (((torch.arange(count) + torch.rand(1)) / count) % 1)
    t = t[torch.randperm(count)]
    masked = torch.rand(count, length) < t[:, None]
    weight = (1 / t)[:, None].repeat(1, length)
    for row in range(count):
        if random.random() >= span_share:
            continue
        masked[row] = False
        breaks = breaks_line[tokens[row]].nonzero()[:, 0].tolist()
        for _ in range(random.randint(1, 3)):
            if random.random() < 0.5 and len(breaks) > 1:
                first = random.randrange(len(breaks) - 1)
                last = min(first + random.choice([1, 1, 1, 2, 3, 5]), len(breaks) - 1)
                start, end = breaks[first] + 1, breaks[last]
            else:
                size = int(math.exp(random.uniform(0, math.log(length / 5))))
                start = random.randrange(1, length - size)
                end = start + size
            masked[row, start:end] = True
        weight[row] = min(8.0, length / max(1, int(masked[row].sum())))
    masked[:, 0] = False  # no row predicts position 0
    return masked, weight


def share_of(progress: float, end: float) -> float:
    """How much of a change that is over at `end` has happened; all of it when it takes no time."""
    return min(1.0, progress / end) if end > 0 else 1.0


class Run:
    """Everything that changes while training, and the batches it trains on."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.out: Path = args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        random.seed(args.seed)
        torch.manual_seed(args.seed)
        train, held_out = read_corpus(args.corpus)
        self.tokenizer, model = self._start(train)
        self.model = model.to(self.device)
        self.corpus = Corpus(train, self.tokenizer, args.seed)
        self.held_out = Corpus(held_out, self.tokenizer, 1)
        matrices = [p for n, p in model.blocks.named_parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if all(p is not m for m in matrices)]
        self.optimizers = [Muon(matrices, args.muon_lr), torch.optim.AdamW(rest, args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]
        self.state = {"seconds": 0.0, "steps": 0, "tokens": 0, "phase_steps": 0, "phase": "diffusion" if args.base and not args.causal else "ar"}
        size = sum(p.numel() for p in model.parameters())
        print(f"{len(train)} files, {len(self.corpus.files):,} tokens ({len(self.corpus.snippets):,} in functions, "
              f"{len(self.corpus.examples):,} instructions); held out {len(held_out)} files, "
              f"{len(self.held_out.files):,} tokens; {size:,} parameters on {self.device}", flush=True)
        if args.resume and (self.out / "checkpoint.pt").exists():
            saved = torch.load(self.out / "checkpoint.pt", map_location="cpu", weights_only=True)
            self.model.load_state_dict(saved["model"])
            for optimizer, state in zip(self.optimizers, saved["optimizers"]):
                optimizer.load_state_dict(state)
            self.state = saved["state"]
            self.corpus.random.seed(self.state["steps"])
            random.seed(self.state["steps"])
            torch.manual_seed(self.state["steps"])
            print(f"resumed at {self.state}", flush=True)

    def _start(self, train: dict[str, str]) -> tuple[Tokenizer, Model]:
        """A tokenizer and an untrained model, or those of the checkpoint to adapt with rows for new tokens."""
        args = self.args
        if args.base:
            tokenizer = Tokenizer.from_file(str(args.base / "tokenizer.json"))
            added = tokenizer.add_special_tokens(SPECIAL)
            return tokenizer, from_folder(args.base, added)
        path = self.out / "tokenizer.json"
        if args.resume and path.exists():
            tokenizer = Tokenizer.from_file(str(path))
        else:
            tokenizer = learn_tokenizer(train, args.vocab)
            tokenizer.save(str(path))
        return tokenizer, Model(Shape(tokenizer.get_vocab_size(), args.length, args.width, args.layers, args.heads))

    def batch(self, diffusion: bool, instruct: bool, span_share: float, t_max: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Input, labels, which labels count, and their weights: long blocks, short functions, or instructions."""
        args = self.args
        tokens_per_batch = args.batch * args.length
        kind = random.random()
        open_ = weight = None
        if instruct and kind < args.instruct_share:
            tokens, open_, weight = self.corpus.instructions(args.batch, args.length)
        elif kind > 1 - args.snippet_share:
            length = random.choice([args.length // 4, args.length // 2])
            tokens = self.corpus.snippet_blocks(tokens_per_batch // length, length)
        else:
            tokens = self.corpus.blocks(args.batch, args.length)
        if not diffusion:
            wanted = torch.ones_like(tokens, dtype=torch.bool)
            wanted[:, 0] = False
            return tokens, tokens, wanted, torch.ones(tokens.shape)
        span_share = 0.0 if open_ is not None else span_share
        masked, by_t = draw_mask(tokens, self.corpus.breaks_line, span_share, args.t_min, t_max)
        if open_ is not None:
            masked, by_t = masked & open_, by_t * weight
        mask_id = self.tokenizer.token_to_id(MASK_TOKEN)
        return tokens.masked_fill(masked, mask_id), tokens, masked, by_t

    def rate(self, progress: float, steps: int) -> float:
        """Warm-up over the first steps, flat, then straight down to 2 %: a run can be made longer while it is flat."""
        return min(1.0, (steps + 1) / self.args.warm_up, max(0.02, (1 - progress) / self.args.decay_share))

    def step(self, diffusion: bool, instruct: bool, full_share: float, span_share: float, t_max: float) -> tuple[float, int]:
        inputs, labels, wanted, weight = (x.to(self.device) for x in self.batch(diffusion, instruct, span_share, t_max))
        bias = attention_bias(inputs.shape[1], full_share, self.device, torch.bfloat16)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model.logits_before(inputs, bias, wanted)
        loss = F.cross_entropy(logits, labels[wanted], reduction="none")
        (loss * weight[wanted]).sum().div(max(1, len(loss))).backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach().mean().item(), inputs.numel()

    def save(self) -> None:
        saved = {"model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers], "state": self.state}
        torch.save(saved, self.out / "checkpoint.new")
        (self.out / "checkpoint.new").replace(self.out / "checkpoint.pt")

    def train(self) -> None:
        args, state = self.args, self.state
        total = args.minutes * 60
        ar_end = total if args.causal else 0.0 if args.base else total * args.ar_share
        last_print = last_save = last_evaluation = time.monotonic()
        previous, shown_loss, shown_tokens = time.monotonic(), [], 0
        while state["seconds"] < total:
            seconds = state["seconds"]
            if state["phase"] == "ar" and seconds >= ar_end:
                self.report(evaluate(self.model, self.tokenizer, self.held_out, causal=True))
                export(self.model, self.tokenizer, self.out / "ar")
                state.update(phase="diffusion", phase_steps=0)
                self.save()
                previous = time.monotonic()
            diffusion = state["phase"] == "diffusion"
            progress = (seconds - ar_end) / (total - ar_end) if diffusion else seconds / ar_end
            full_share = share_of(progress, args.anneal_share) if diffusion else 0.0
            rate = self.rate(progress, state["phase_steps"])
            for optimizer, lr in zip(self.optimizers, (args.muon_lr, args.adam_lr)):
                for group in optimizer.param_groups:
                    group["lr"] = lr * rate
            # Mostly intact text first, which the left-to-right model can already read; then more and
            # more masks, up to the paper's t < 1. Stretches come in over the first half.
            t_max = 0.3 + 0.7 * share_of(progress, args.t_grow)
            span_share = args.span_share * min(1.0, 2 * progress)
            instruct = diffusion and seconds > total * (1 - args.instruct_last)
            loss, tokens = self.step(diffusion, instruct, full_share, span_share, t_max)
            now = time.monotonic()
            state["seconds"] += min(60.0, now - previous)  # a stopped process does not age
            previous = now
            state["steps"] += 1
            state["phase_steps"] += 1
            state["tokens"] += tokens
            shown_loss.append(loss)
            shown_tokens += tokens
            if now - last_print > 20:
                speed = shown_tokens / (now - last_print)
                print(f"{state['phase']:9} {state['seconds'] / 60:6.1f} min, {(total - state['seconds']) / 60:5.1f} left  "
                      f"step {state['steps']:6}  {state['tokens'] / 1e6:6.2f} M tokens  {speed:6.0f} tokens/s  "
                      f"loss {sum(shown_loss) / len(shown_loss):.3f}  lr x{rate:.3f}  visible right {full_share:.2f}", flush=True)
                last_print, shown_loss, shown_tokens = now, [], 0
            if now - last_save > 180:
                self.save()
                last_save = now
            if diffusion and now - last_evaluation > args.evaluate_every * 60:
                self.report(evaluate(self.model, self.tokenizer, self.held_out))
                export(self.model, self.tokenizer, self.out / "export")
                last_evaluation = time.monotonic()
                previous = last_print = last_evaluation  # not counted as training
                shown_loss, shown_tokens = [], 0
        self.save()
        export(self.model, self.tokenizer, self.out / ("ar" if args.causal else "export"))
        self.report(evaluate(self.model, self.tokenizer, self.held_out, args.causal))

    def report(self, numbers: dict[str, float]) -> None:
        line = {"phase": self.state["phase"], "minutes": round(self.state["seconds"] / 60, 1), "tokens": self.state["tokens"], **numbers}
        print("held out", json.dumps(line), flush=True)
        with (self.out / "held_out.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")


# ------------------------------------------------------------------------------------------ evaluation


@torch.no_grad()
def evaluate(model: Model, tokenizer: Tokenizer, held_out: Corpus, causal: bool = False, blocks: int = 96) -> dict[str, float]:
    """Numbers on held-out files; the draws are the same each time.

    Diffusion: accuracy and loss of masked tokens at three rates (one evaluation), and of holes of 1, 3
    and 8 tokens filled one at a time, the surest first. Causal: the next token, and the same holes
    filled from the left, seeing only what stands before them.
    """
    device = model.embed.weight.device
    length = min(model.shape.positions, 256)
    generator = torch.Generator().manual_seed(7)
    starts = torch.randint(len(held_out.files) - length, (blocks,), generator=generator).tolist()
    tokens = torch.stack([held_out.files[s : s + length] for s in starts]).long().to(device)
    sizes = torch.tensor([len(tokenizer.decode([i]).encode()) for i in range(tokenizer.get_vocab_size())], device=device)
    mask_id = tokenizer.token_to_id(MASK_TOKEN)
    bias = attention_bias(length, 0.0, device, torch.float32) if causal else None
    numbers: dict[str, float] = {}

    def score(name: str, wanted: Tensor, inputs: Tensor) -> None:
        logits = model.logits_before(inputs, bias, wanted)
        truth = tokens[wanted]
        loss = F.cross_entropy(logits, truth, reduction="sum").item()
        numbers[f"{name} accuracy"] = round((logits.argmax(-1) == truth).float().mean().item(), 4)
        numbers[f"{name} nats/token"] = round(loss / len(truth), 4)
        numbers[f"{name} nats/byte"] = round(loss / int(sizes[truth].sum()), 4)

    if causal:
        wanted = torch.ones_like(tokens, dtype=torch.bool)
        wanted[:, 0] = False
        score("next token", wanted, tokens)
    else:
        for rate in (0.15, 0.5, 0.9):
            wanted = torch.rand(tokens.shape, generator=generator).to(device) < rate
            wanted[:, 0] = False
            score(f"masked {rate}", wanted, tokens.masked_fill(wanted, mask_id))
    for size in (1, 3, 8):
        first = torch.randint(length // 4, length - length // 4, (blocks,), generator=generator).to(device)
        column = torch.arange(length, device=device)[None]
        hole = (column >= first[:, None]) & (column < first[:, None] + size)
        filled = tokens.masked_fill(hole, mask_id)
        for _ in range(size):
            still_open = hole & (filled == mask_id)
            logits = torch.full((*tokens.shape, 1), -math.inf, device=device)
            best = logits[..., 0].clone()
            choice = torch.zeros_like(tokens)
            row_logits = model.logits_before(filled, bias, still_open)
            row_logits[:, mask_id] = -math.inf
            chances, picks = row_logits.log_softmax(-1).max(-1)
            best[still_open], choice[still_open] = chances, picks
            where = still_open.int().argmax(1) if causal else best.argmax(1)
            rows = torch.arange(blocks, device=device)
            filled[rows, where] = choice[rows, where]
        right = (filled == tokens)[hole].view(blocks, size)
        numbers[f"hole {size} accuracy"] = round(right.float().mean().item(), 4)
        numbers[f"hole {size} exact"] = round(right.all(1).float().mean().item(), 4)
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("run"), help="checkpoints, logs and the exported model (export/, ar/)")
    add("--corpus", type=Path, default=Path(sysconfig.get_paths()["stdlib"]), help="folder of Python files")
    add("--base", type=Path, help="folder of a GPT-2 checkpoint to adapt (config.json, model.safetensors, tokenizer.json)")
    add("--minutes", type=float, default=100.0, help="training time, all phases; evaluations come on top")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--evaluate", type=Path, metavar="DIR", help="print the held-out numbers of an exported folder and stop")
    add("--causal", action="store_true", help="left to right only: with --evaluate, the folder holds such a model; otherwise no diffusion follows")
    add("--device", default="auto")
    add("--seed", type=int, default=0)
    for name, value in (("vocab", 4096), ("length", 256), ("width", 256), ("layers", 5), ("heads", 4), ("batch", 16),
                        ("warm-up", 100)):
        add(f"--{name}", type=int, default=value)
    for name, value, text in (
        ("ar-share", 0.24, "share of the time for the left-to-right phase"),
        ("decay-share", 0.4, "share of a phase, at its end, in which the learning rates fall to 2 %"),
        ("anneal-share", 0.1, "share of the diffusion phase in which attention opens to the right"),
        ("span-share", 0.3, "share of the rows that lose stretches instead of single tokens, from half of the phase on"),
        ("snippet-share", 0.25, "share of the batches that hold short functions"),
        ("instruct-share", 0.25, "share of the batches that hold instructions, once they are mixed in"),
        ("instruct-last", 0.2, "share of the time, at the end, in which instructions are mixed in"),
        ("t-min", 0.1, "smallest masking rate (the paper's 0.001 gives single tokens weights up to 1000)"),
        ("t-grow", 0.4, "share of the diffusion phase in which the largest masking rate grows from 0.3 to 1"),
        ("muon-lr", 0.012, "peak learning rate of the matrices"),
        ("adam-lr", 0.002, "peak learning rate of everything else"),
        ("evaluate-every", 6.0, "minutes between held-out evaluations"),
    ):
        add(f"--{name}", type=float, default=value, help=f"{text} ({value})")
    args = parser.parse_args()
    if args.evaluate:
        tokenizer = Tokenizer.from_file(str(args.evaluate / "tokenizer.json"))
        held_out = Corpus(read_corpus(args.corpus)[1], tokenizer, 1)
        print(json.dumps(evaluate(from_folder(args.evaluate), tokenizer, held_out, args.causal), indent=1))
    else:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        print(json.dumps(settings), flush=True)
        Run(args).train()


if __name__ == "__main__":
    main()
