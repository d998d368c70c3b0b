"""Log-probabilities of a GGUF file that others made, by transformers, with full attention.

    pip install torch transformers gguf accelerate
    python foreign.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2.json
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

MOST = 20


def main() -> None:
    path = Path(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, torch_dtype=torch.float32, attn_implementation="eager"
    ).eval()
    cases = []
    for length in (1, 13, 40):
        ids = [(number * 7919 + 504) % model.config.vocab_size for number in range(length)]
        # The last position is masked.
        ids[-1] = 4
        seen = torch.zeros(1, 1, length, length)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), attention_mask=seen, use_cache=False).logits[0]
        best = torch.log_softmax(logits.double(), -1).topk(MOST)
        cases.append({"ids": ids, "tokens": best.indices.tolist(), "logprobs": best.values.tolist()})
    json.dump({"file": path.name, "cases": cases}, sys.stdout)


if __name__ == "__main__":
    main()
