"""One step of llama.cpp's diffusion example beside one evaluation of `unmask bench`, in turns.

    python crates/model/benches/peers/llama_peer.py target/release/unmask BUILD/bin/llama-diffusion-cli --turns 5

The shape is `llama-124m`: 12 blocks of width 768, 32,000 tokens, random weights. A file of each type is
written once, into --folder, by the package `gguf`. Both programs pass a canvas of --rows positions through
all blocks and the head; llama.cpp's does it for every row, so here every position is asked for as well. Its
random order (algorithm 0) is the reference's; sampling is at temperature 0, which costs it least. Printed are
the shortest time and the median of each, in milliseconds, and their ratios.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
from pathlib import Path

import gguf
import numpy as np

LAYERS, WIDTH, HEADS, INNER, TOKENS = 12, 768, 12, 2048, 32000
TYPES = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
# What of ours stands beside each: a float format of 16 bits, and 8-bit integers.
OURS = {"f16": ["f32", "bf16"], "q8_0": ["int8"]}


def write(path, name):
    """A file that llama.cpp takes for a mask diffusion model with shifted logits."""
    random = np.random.default_rng(1)
    out = gguf.GGUFWriter(path, "llada")
    out.add_block_count(LAYERS)
    out.add_context_length(2048)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(TOKENS)
    out.add_bool("diffusion.shift_logits", True)
    out.add_causal_attention(False)
    out.add_tokenizer_model("llama")
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    pieces += [f"▁w{i}" for i in range(TOKENS - len(pieces))]
    kinds += [gguf.TokenType.NORMAL] * (TOKENS - len(kinds))
    out.add_token_list(pieces)
    out.add_token_scores([-float(i) for i in range(TOKENS)])
    out.add_token_types(kinds)
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_mask_token_id(TOKENS - 1)

    def add(tensor, *shape):
        values = (random.standard_normal(shape) * 0.02).astype(np.float32)
        kind = TYPES[name]
        out.add_tensor(tensor, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def ones(tensor):
        out.add_tensor(tensor, np.ones(WIDTH, np.float32))

    add("token_embd.weight", TOKENS, WIDTH)
    add("output.weight", TOKENS, WIDTH)
    ones("output_norm.weight")
    for block in range(LAYERS):
        ones(f"blk.{block}.attn_norm.weight")
        ones(f"blk.{block}.ffn_norm.weight")
        for part in "attn_q", "attn_k", "attn_v", "attn_output":
            add(f"blk.{block}.{part}.weight", WIDTH, WIDTH)
        add(f"blk.{block}.ffn_gate.weight", INNER, WIDTH)
        add(f"blk.{block}.ffn_up.weight", INNER, WIDTH)
        add(f"blk.{block}.ffn_down.weight", WIDTH, INNER)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def theirs(program, path, rows, threads):
    command = [program, "-m", path, "-p", "w1 w2", "-t", str(threads), "-ub", str(rows), "-b", str(rows)]
    command += ["-c", str(rows), "--temp", "0", "--diffusion-steps", "8", "--diffusion-algorithm", "0"]
    command += ["--diffusion-eps", "0.001", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    found = re.search(r"time per step:\s*([0-9.]+)\s*ms", done.stdout + done.stderr)
    if not found:
        raise SystemExit(f"{' '.join(map(str, command))} printed no time per step:\n{done.stderr[-2000:]}")
    return float(found[1])


def ours(program, dtype, rows, threads):
    command = [program, "bench", "--json", "--arch", "llama-124m", "--rows", str(rows), "--dtype", dtype]
    command += ["--asked", str(rows - 1), "--repetitions", "8", "--temperature", "0", "--threads", str(threads)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(report)["median_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unmask", help="our program")
    parser.add_argument("llama", help="llama-diffusion-cli")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/unmask-peers"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    times = {}
    for name in TYPES:
        path = args.folder / f"llama-124m-{name}.gguf"
        if not path.exists():
            write(path, name)
    for _ in range(args.turns):
        for name, dtypes in OURS.items():
            path = args.folder / f"llama-124m-{name}.gguf"
            took = theirs(args.llama, path, args.rows, args.threads)
            times.setdefault(f"llama.cpp {name}", []).append(took)
            for dtype in dtypes:
                times.setdefault(f"unmask {dtype}", []).append(ours(args.unmask, dtype, args.rows, args.threads))
    for name, values in times.items():
        print(f"{name:<16} {min(values):8.1f} ms shortest {statistics.median(values):8.1f} ms median")
    for name, dtypes in OURS.items():
        for dtype in dtypes:
            a, b = times[f"unmask {dtype}"], times[f"llama.cpp {name}"]
            shortest, middle = min(a) / min(b), statistics.median(a) / statistics.median(b)
            print(f"unmask {dtype} / llama.cpp {name}: {shortest:.3f} of shortest, {middle:.3f} of medians")


if __name__ == "__main__":
    main()
