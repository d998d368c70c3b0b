"""Log-probabilities of a GGUF file that others made, by transformers in float64, with full attention.

    pip install torch transformers gguf accelerate
    python foreign.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2.json
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MOST = 20
TEXT = "def mean(values):\n    return sum(values) / len(values)\n\nThe mean of some numbers is their sum over their count."


def main() -> None:
    path = Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, torch_dtype=torch.float32, attn_implementation="eager"
    ).double().eval()
    text = tokenizer(TEXT)["input_ids"]
    cases = []
    for length in (1, 13, len(text)):
        ids = text[:length]
        # The last position is masked.
        ids[-1] = 4
        seen = torch.zeros(1, 1, length, length, dtype=torch.float64)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), attention_mask=seen, use_cache=False).logits[0]
        best = torch.log_softmax(logits, -1).topk(MOST)
        logprobs = [[round(value, 6) for value in row] for row in best.values.tolist()]
        cases.append({"ids": ids, "tokens": best.indices.tolist(), "logprobs": logprobs})
    print(json.dumps({"file": path.name, "cases": cases}, separators=(",", ":")))


if __name__ == "__main__":
    main()
