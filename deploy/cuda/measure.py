"""Figures of `unmask bench` on a GPU beside PyTorch's in the same run, as one table with the goals.

    measure.py PROGRAM

Needs 14 GB of disk beside PROGRAM, for a checkpoint that is loaded. PyTorch runs the reference's sampler of random order
on a network of DiffuLLaMA-7B's shape with random weights: bf16, `scaled_dot_product_attention`, one forward pass for each
of T steps, nucleus by a sort of all rows.
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

LAYERS, WIDTH, HEADS, INNER, VOCABULARY = 32, 4096, 32, 11008, 32000
MASK, STEPS, TEMPERATURE, TOP_P = 811, 64, 0.9, 0.9
# A tokenizer for a checkpoint of random weights: the vocabulary is small and everything else is not.
TOKENIZER = pathlib.Path(__file__).parents[2] / "tests/golden/diffullama"
# Weights in the products of the blocks.
WEIGHTS = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)


def best(action, repetitions=10):
    """The shortest time of an action, in seconds, after two to warm up."""
    times = []
    for _ in range(repetitions + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def matrix_rate(side=8192):
    """Multiplications and additions per second of a large bf16 product."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / best(lambda: a @ b)


class Llama:
    """LLaMA with full attention over canvases of one length."""

    def __init__(self):
        def random(*shape):
            return torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * 0.02

        self.embedding, self.head = random(VOCABULARY, WIDTH), random(VOCABULARY, WIDTH)
        self.gain = torch.ones(WIDTH, device="cuda", dtype=torch.bfloat16)
        square, up = (WIDTH, WIDTH), (INNER, WIDTH)
        shapes = [square, square, square, square, up, up, (WIDTH, INNER)]
        self.blocks = [[random(*shape) for shape in shapes] for _ in range(LAYERS)]

    def norm(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * self.gain

    def __call__(self, ids):
        count, length = ids.shape
        half = WIDTH // HEADS // 2
        frequencies = 10000.0 ** (-torch.arange(half, device="cuda") / half)
        angles = torch.outer(torch.arange(length, device="cuda").float(), frequencies).repeat(1, 2)
        cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()

        def heads(x):
            return x.view(count, length, HEADS, -1).transpose(1, 2)

        def rotate(x):
            left, right = x.chunk(2, -1)
            return x * cos + torch.cat((-right, left), -1) * sin

        x = F.embedding(ids, self.embedding)
        for query, key, value, output, gate, up, down in self.blocks:
            normed = self.norm(x)
            q, k = rotate(heads(F.linear(normed, query))), rotate(heads(F.linear(normed, key)))
            mixed = F.scaled_dot_product_attention(q, k, heads(F.linear(normed, value)))
            x = x + F.linear(mixed.transpose(1, 2).reshape(count, length, WIDTH), output)
            normed = self.norm(x)
            x = x + F.linear(F.silu(F.linear(normed, gate)) * F.linear(normed, up), down)
        return F.linear(self.norm(x), self.head)


def candidates(model, canvas, still_open):
    """A draw for every open position; row i speaks of position i + 1."""
    logits = model(canvas) / TEMPERATURE
    ordered, order = logits.sort(-1, descending=True)
    shares = ordered.softmax(-1)
    dropped = shares.cumsum(-1) - shares > TOP_P
    lowest = torch.finfo(logits.dtype).min
    logits = logits.masked_fill(dropped.scatter(-1, order, dropped), lowest)
    drawn = torch.distributions.Categorical(logits=logits.log_softmax(-1)).sample()
    drawn = torch.cat((canvas[:, :1], drawn[:, :-1]), 1)
    return torch.where(still_open, drawn, canvas)


@torch.inference_mode()
def reference_loop(model, length):
    """Fills one canvas; T forward passes, whatever they commit."""
    canvas = torch.full((1, length), MASK, device="cuda")
    canvas[:, 0] = 1
    still_open = torch.ones_like(canvas, dtype=torch.bool)
    still_open[:, 0] = False
    found = candidates(model, canvas, still_open)
    for step in range(STEPS - 1, 0, -1):
        commits = still_open & (torch.rand(canvas.shape, device="cuda") < 1 / (step + 1))
        canvas = torch.where(commits, found, canvas)
        still_open = still_open & ~commits
        found = candidates(model, canvas, still_open)
    return found


def write_checkpoint(folder, layers, width, heads, inner):
    """A checkpoint of random weights in bf16; returns its safetensors file."""
    config = json.loads((TOKENIZER / "config.json").read_text())
    shape = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    heads = {"num_attention_heads": heads, "num_key_value_heads": heads}
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(TOKENIZER / name, folder)
    (folder / "config.json").write_text(json.dumps(config | shape | heads))
    rows = config["vocab_size"]
    shapes = {"model.embed_tokens.weight": (rows, width), "lm_head.weight": (rows, width), "model.norm.weight": (width,)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        shapes |= {f"{block}.self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{block}.mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")}
        shapes[f"{block}.mlp.down_proj.weight"] = (width, inner)
        shapes |= {f"{block}.{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    header, end = {}, 0
    for name, shape in shapes.items():
        first, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [first, end]}
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            numbers = torch.randn(shape, dtype=torch.bfloat16) * 0.02
            file.write(numbers.view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
    return folder / "model.safetensors"


def seconds(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def loading(program, device, shape):
    """Seconds to load a checkpoint that main memory does not hold yet, and to read its file alone."""
    # A folder for temporary files may be in memory.
    with tempfile.TemporaryDirectory(dir=pathlib.Path(program).resolve().parent) as folder:
        file = write_checkpoint(pathlib.Path(folder), *shape)

        def forget():
            with open(file, "rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def read():
            buffer = bytearray(16 << 20)
            with open(file, "rb", buffering=0) as opened:
                while opened.readinto(buffer):
                    pass

        def verify(model):
            command = [program, "verify", model, "--device", device, "--dtype", "bf16"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        # What a program needs to start and to evaluate once.
        start = seconds(lambda: verify(TOKENIZER))
        forget()
        alone = seconds(read)
        forget()
        return seconds(lambda: verify(folder)) - start, alone


def main(program):
    def bench(*arguments, arch="diffullama-7b"):
        shape = [program, "bench", "--json", "--device", "cuda", "--dtype", "bf16", "--arch", arch]
        output = subprocess.run(shape + [str(argument) for argument in arguments], check=True, capture_output=True)
        return json.loads(output.stdout)

    rate = matrix_rate()
    model = Llama()
    loop = (512 - 1) / best(lambda: reference_loop(model, 512), repetitions=3)
    del model
    torch.cuda.empty_cache()

    def floor(rows, length):
        """Seconds of arithmetic of an evaluation."""
        return 2 * rows * (WEIGHTS + LAYERS * 2 * length * WIDTH) / rate

    one = bench("--rows", 512, "--asked", 8, "--repetitions", 50)
    eight = bench("--rows", 512, "--canvases", 8, "--asked", 8, "--repetitions", 20)
    same_bits = [bench("--rows", 512, "--canvases", count, "--asked", 8, "--repetitions", 20, "--deterministic") for count in (1, 8)]
    read = bench("--rows", 512, "--asked", 511, "--repetitions", 50)
    head = 2 * (511 - 8) * WIDTH * VOCABULARY / rate
    # What the last block computes for the rows that are read.
    block = 2 * (511 - 8) * (WIDTH * WIDTH + 3 * WIDTH * INNER) / rate
    readout = (read["median_ms"] - one["median_ms"]) / 1e3 - head - block
    fill, balanced = (bench("--rows", 512, "--policy", policy) for policy in ("reference", "balanced"))
    # One canvas as often as there are many in the other run.
    many = {rows: (bench("--rows", rows, "--canvases", 64), bench("--rows", rows, "--repetitions", 64)) for rows in (32, 256)}
    small = bench("--rows", 512, "--canvases", 16, "--asked", 8, "--repetitions", 20, arch="diffugpt-s")

    loaded, disk = loading(program, "cuda", (LAYERS, WIDTH, HEADS, INNER))

    speed = "tokens_per_second"
    ratio = {rows: together[speed] / alone[speed] for rows, (together, alone) in many.items()}
    lines = [
        ("large bf16 product", "", f"{rate / 1e12:.0f} TFLOP/s"),
        ("one evaluation, 512 rows", "<= 1.25 of the floor", f"{one['median_ms']:.2f} ms, {one['median_ms'] / 1e3 / floor(512, 512):.2f}"),
        ("one evaluation, 4096 rows", ">= 80 % of the rate", f"{eight['median_ms']:.2f} ms, {1e5 * floor(4096, 512) / eight['median_ms']:.0f} %"),
        ("one canvas of 512, T = 64, reference", ">= 720 tokens/s", f"{fill[speed]:.0f}, {100 * fill[speed] * STEPS * floor(512, 512) / 511:.0f} % of the floor's"),
        ("the same, balanced", "", f"{balanced[speed]:.0f} tokens/s in {balanced['evaluations']} evaluations"),
        ("against the loop in PyTorch", ">= 3", f"{fill[speed] / loop:.2f} ({loop:.0f} tokens/s)"),
        ("readout of 511 rows", "<= 5 % of the evaluation", f"{1e5 * readout / read['median_ms']:.1f} %"),
        ("64 fills of 32 against one by one", ">= 5", f"{ratio[32]:.2f}"),
        ("64 fills of 256 against one by one", ">= 1.5", f"{ratio[256]:.2f}"),
        ("one evaluation with --deterministic, 512 and 4096 rows", "", " and ".join(f"{own['median_ms'] / other['median_ms']:.2f}" for own, other in zip(same_bits, (one, eight))) + " of the time"),
        ("loading 13 GB", "the disk's time", f"{loaded:.1f} s; reading the file alone {disk:.1f} s"),
        ("DiffuGPT-S, 16 canvases of 512", ">= 60 % of the rate", f"{100 * small['gflops'] * 1e9 / rate:.0f} %"),
    ]
    print(f"\n{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    print("| DiffuLLaMA-7B's shape, random weights, bf16 | goal | measured |\n| --- | --- | --- |")
    for line in lines:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main(sys.argv[1])
