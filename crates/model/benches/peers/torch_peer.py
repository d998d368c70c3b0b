"""The same shapes in PyTorch: what `unmask bench` is compared with.

    python crates/model/benches/peers/torch_peer.py --arch diffugpt-s --rows 512 --dtype bf16

Random weights, the forward pass as the reference writes it (full attention through
`scaled_dot_product_attention`), on all cores. One line of JSON for each repetition, so that runs of two
programs can be interleaved:

    trunk_ms    all blocks and the final norm
    head_ms     the head for every row
    sampler_ms  temperature, sorted top-p and draw for every row, as the reference's sampler does them

With --loop, the reference's whole sampler instead: T rounds of trunk, dense head, sorted top-p and draw,
in each of which a masked position is committed with probability 1/(rounds left).
"""

import argparse
import json
import os
import time

import torch
import torch.nn.functional as F

ARCHS = {
    # layers, width, heads, MLP width, vocabulary, kind
    "diffugpt-s": (12, 768, 12, 3072, 50257, "gpt2"),
    "diffugpt-m": (24, 1024, 16, 4096, 50257, "gpt2"),
    "llama-124m": (12, 768, 12, 2048, 32000, "llama"),
    "diffullama-7b": (32, 4096, 32, 11008, 32000, "llama"),
}


class Network:
    def __init__(self, arch, dtype):
        self.layers, self.width, self.heads, inner, self.vocabulary, self.kind = ARCHS[arch]
        width = self.width

        def random(*shape):
            return (torch.randn(*shape) * 0.02).to(dtype)

        self.tokens = random(self.vocabulary, width)
        self.positions = random(4096, width)
        self.ones, self.zeros = torch.ones(width, dtype=dtype), torch.zeros(width, dtype=dtype)
        shapes = {"qkv": (3 * width, width), "out": (width, width)}
        if self.kind == "gpt2":
            shapes |= {"expand": (inner, width), "contract": (width, inner)}
        else:
            shapes |= {"gate": (inner, width), "up": (inner, width), "contract": (width, inner)}
        self.blocks = [{name: random(*shape) for name, shape in shapes.items()} for _ in range(self.layers)]
        self.biases = {name: torch.zeros(shape[0], dtype=dtype) for name, shape in shapes.items()}
        head_width = width // self.heads
        angles = torch.arange(4096)[:, None] * 10000 ** (-torch.arange(0, head_width, 2) / head_width)
        self.cos, self.sin = (torch.cat([f(angles)] * 2, -1).to(dtype) for f in (torch.cos, torch.sin))

    def norm(self, x):
        if self.kind == "gpt2":
            return F.layer_norm(x, (self.width,), self.ones, self.zeros)
        return F.rms_norm(x, (self.width,), self.ones, 1e-6)

    def linear(self, x, block, name):
        return F.linear(x, block[name], self.biases[name] if self.kind == "gpt2" else None)

    def rotate(self, x):
        length, half = x.shape[2], x.shape[3] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cos[:length] + turned * self.sin[:length]

    def trunk(self, ids):
        canvases, length = ids.shape
        x = F.embedding(ids, self.tokens)
        if self.kind == "gpt2":
            x = x + self.positions[:length]
        for block in self.blocks:
            fused = self.linear(self.norm(x), block, "qkv")
            q, k, v = (
                part.view(canvases, length, self.heads, -1).transpose(1, 2) for part in fused.chunk(3, -1)
            )
            if self.kind == "llama":
                q, k = self.rotate(q), self.rotate(k)
            mixed = F.scaled_dot_product_attention(q, k, v)
            x = x + self.linear(mixed.transpose(1, 2).reshape(canvases, length, self.width), block, "out")
            inner = self.norm(x)
            if self.kind == "gpt2":
                inner = F.gelu(self.linear(inner, block, "expand"), approximate="tanh")
            else:
                inner = F.silu(self.linear(inner, block, "gate")) * self.linear(inner, block, "up")
            x = x + self.linear(inner, block, "contract")
        return self.norm(x)

    def head(self, hidden):
        return F.linear(hidden, self.tokens)


def draw(logits, temperature, top_p):
    """The reference's filter and draw: sort every row, drop what lies beyond the mass, sample."""
    logits = logits / temperature
    ranked, order = torch.sort(logits, descending=True)
    beyond = torch.cumsum(F.softmax(ranked, -1), -1) > top_p
    beyond[..., 1:] = beyond[..., :-1].clone()
    beyond[..., 0] = False
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, order, beyond)
    logits = logits.masked_fill(dropped, torch.finfo(logits.dtype).min)
    return torch.distributions.Categorical(logits=logits).sample()


def memory_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def evaluation(network, ids, args):
    start = time.perf_counter()
    hidden = network.trunk(ids)
    trunk = time.perf_counter()
    line = {"trunk_ms": (trunk - start) * 1e3}
    if not args.trunk_only:
        logits = network.head(hidden)
        head = time.perf_counter()
        draw(logits, args.temperature, args.top_p)
        line |= {"head_ms": (head - trunk) * 1e3, "sampler_ms": (time.perf_counter() - head) * 1e3}
    return line


def loop(network, args):
    """One request: `masked` of `rows` positions, T rounds."""
    ids = torch.zeros(1, args.rows, dtype=torch.long)
    masked = torch.zeros(1, args.rows, dtype=torch.bool)
    masked[:, args.rows - args.masked :] = True
    start = time.perf_counter()
    rounds = min(args.steps, args.first_rounds or args.steps)
    for left in range(args.steps, args.steps - rounds, -1):
        logits = network.head(network.trunk(ids))
        drawn = draw(logits, args.temperature, args.top_p)
        commit = masked & (torch.rand(masked.shape) < 1 / left)
        ids = torch.where(commit, drawn, ids)
        masked &= ~commit
    # Every round does the same work, whatever is masked.
    seconds = (time.perf_counter() - start) * args.steps / rounds
    return {"seconds": seconds, "tokens_per_second": args.masked / seconds, "evaluations": args.steps}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHS, default="diffugpt-s")
    parser.add_argument("--rows", type=int, default=512, help="positions of a canvas")
    parser.add_argument("--canvases", type=int, default=1)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--trunk-only", action="store_true")
    parser.add_argument("--loop", action="store_true", help="the whole sampler")
    parser.add_argument("--masked", type=int, default=512)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--first-rounds", type=int, help="measure these, and scale to all")
    parser.add_argument("--temperature", type=float, default=0.95)
    parser.add_argument("--top-p", type=float, default=0.9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network = Network(args.arch, {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype])
    with torch.inference_mode():
        if args.loop:
            network.trunk(torch.zeros(1, args.rows, dtype=torch.long))
            print(json.dumps(loop(network, args) | {"peak_mb": memory_mb()}), flush=True)
            return
        ids = torch.zeros(args.canvases, args.rows, dtype=torch.long)
        network.trunk(ids)
        for _ in range(args.repetitions):
            print(json.dumps(evaluation(network, ids, args) | {"peak_mb": memory_mb()}), flush=True)


if __name__ == "__main__":
    main()
