"""The network: GPT-2, LLaMA, Qwen2 and Qwen3 decoders without a causal mask of their own.

`forward` computes hidden states; `logits_before` reads the head only where logits are wanted. The shift of
autoregressive models stays: the row at position i - 1 predicts the token at position i.

Weights of linear layers are (outputs, inputs) for every family; `bases.py` transposes GPT-2's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes and variants of a decoder."""

    family: str  # gpt2, llama, qwen2 or qwen3
    vocabulary: int  # rows of the embedding
    positions: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    epsilon: float
    theta: float = 10_000.0
    tied: bool = True

    @property
    def linear_bias(self) -> bool:
        return self.family == "gpt2"

    @property
    def qkv_bias(self) -> bool:
        return self.family in ("gpt2", "qwen2")

    @property
    def head_norms(self) -> bool:
        return self.family == "qwen3"


class Linear(nn.Module):
    """A linear layer, with a trainable product of two thin matrices beside it once `add_lora` was called."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.lora_a: nn.Parameter | None = None
        self.lora_b: nn.Parameter | None = None
        self.scale = 1.0

    def add_lora(self, rank: int, alpha: float, generator: torch.Generator) -> None:
        """A starts random and B zero, as in PEFT, so that the first step sees the base unchanged."""
        outputs, inputs = self.weight.shape
        bound = inputs**-0.5
        start = torch.empty(rank, inputs, dtype=torch.float32)
        self.lora_a = nn.Parameter(start.uniform_(-bound, bound, generator=generator))
        self.lora_b = nn.Parameter(torch.zeros(outputs, rank, dtype=torch.float32))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        y = F.linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))
        if self.lora_a is None:
            return y
        thin = F.linear(x, self.lora_a.to(x.dtype))
        return y + F.linear(thin, (self.scale * self.lora_b).to(x.dtype))


class RmsNorm(nn.Module):
    """Divides by the root mean square; computed in float32, returned in the network's dtype."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.epsilon)


class LayerNorm(nn.Module):
    """GPT-2's norm, in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.weight.shape, self.weight.float(), self.bias.float(), self.epsilon)


def rotation(shape: Shape, first: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions from `first` on, (length, head width): the two halves of a head rotate together."""
    half = torch.arange(0, shape.head_width, 2, dtype=torch.float32, device=device) / shape.head_width
    places = torch.arange(first, first + length, dtype=torch.float32, device=device)
    angles = places[:, None] * shape.theta**-half
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * turn[0].to(x.dtype) + torch.cat([-second, first], -1) * turn[1].to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention, (batch, heads, length, head width)."""
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
    # On processors the plain products are faster, above all backwards.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores.float() if bias is None else scores + bias
    return scores.softmax(-1).to(v.dtype) @ v


class Past:
    """Keys and values of the tokens so far, for writing left to right."""

    def __init__(self) -> None:
        self.parts: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @property
    def length(self) -> int:
        return next((k.shape[2] for k, _ in self.parts.values()), 0)

    def extend(self, block: nn.Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if block in self.parts:
            k, v = (torch.cat(pair, 2) for pair in zip(self.parts[block], (k, v)))
        self.parts[block] = k, v
        return k, v

    def keep(self, rows: Tensor) -> None:
        """Leaves out all rows of the batch but these."""
        self.parts = {block: (k[rows], v[rows]) for block, (k, v) in self.parts.items()}


class Block(nn.Module):
    """Attention and feed-forward part, each behind a norm and added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, bias = shape.width, shape.linear_bias
        queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        norm = LayerNorm if shape.family == "gpt2" else RmsNorm
        self.attention_norm, self.mlp_norm = norm(width, shape.epsilon), norm(width, shape.epsilon)
        if shape.family == "gpt2":
            self.qkv = Linear(width, queries + 2 * keys, True)
            self.up = Linear(width, shape.mlp_width, bias)
        else:
            self.q, self.k, self.v = (Linear(width, size, shape.qkv_bias) for size in (queries, keys, keys))
            self.gate, self.up = Linear(width, shape.mlp_width, bias), Linear(width, shape.mlp_width, bias)
        if shape.head_norms:
            self.q_norm, self.k_norm = (RmsNorm(shape.head_width, shape.epsilon) for _ in range(2))
        self.o, self.down = Linear(queries, width, bias), Linear(shape.mlp_width, width, bias)

    def attention(self, x: Tensor, bias: Tensor | None, turn: tuple[Tensor, Tensor] | None, past: Past | None) -> Tensor:
        shape, (batch, length, _) = self.shape, x.shape
        if shape.family == "gpt2":
            parts = self.qkv(x).split(shape.heads * shape.head_width, -1)
        else:
            parts = (self.q(x), self.k(x), self.v(x))
        q, k, v = (part.view(batch, length, -1, shape.head_width).transpose(1, 2) for part in parts)
        if shape.head_norms:
            q, k = self.q_norm(q).to(x.dtype), self.k_norm(k).to(x.dtype)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        if past is not None:
            k, v = past.extend(self, k, v)
        if shape.kv_heads < shape.heads:
            k, v = (part.repeat_interleave(shape.heads // shape.kv_heads, 1) for part in (k, v))
        mixed = attend(q, k, v, bias)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, -1))

    def mlp(self, x: Tensor) -> Tensor:
        if self.shape.family == "gpt2":
            return self.down(F.gelu(self.up(x), approximate="tanh"))
        return self.down(F.silu(self.gate(x)) * self.up(x))

    def forward(self, x: Tensor, bias: Tensor | None, turn: tuple[Tensor, Tensor] | None, dtype: torch.dtype,
                past: Past | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x).to(dtype), bias, turn, past)
        return x + self.mlp(self.mlp_norm(x).to(dtype))


class Network(nn.Module):
    """A decoder. The residual stream and the norms are float32, the products in `dtype`."""

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.place = nn.Embedding(shape.positions, shape.width) if shape.family == "gpt2" else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        norm = LayerNorm if shape.family == "gpt2" else RmsNorm
        self.norm = norm(shape.width, shape.epsilon)
        self.head = None if shape.tied else Linear(shape.width, shape.vocabulary, False)

    def forward(self, tokens: Tensor, bias: Tensor | None = None, past: Past | None = None) -> Tensor:
        """Hidden states (batch, length, width) of tokens (batch, length); `bias` is added to attention scores.

        With `past`, the tokens stand behind those that it holds, and are added to it.
        """
        x, turn, first, length = self.embed(tokens).float(), None, past.length if past else 0, tokens.shape[1]
        if self.place is None:
            turn = rotation(self.shape, first, length, tokens.device)
        else:
            x = x + self.place.weight[first : first + length]
        for block in self.blocks:
            x = block(x, bias, turn, self.dtype, past)
        return self.norm(x).to(self.dtype)

    def read(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocabulary) in float32."""
        weight = self.embed.weight if self.head is None else self.head.weight
        return F.linear(hidden, weight.to(hidden.dtype)).float()

    def logits_before(self, tokens: Tensor, bias: Tensor | None, wanted: Tensor) -> Tensor:
        """Logits for the tokens at the wanted positions (batch, length), from the rows one to the left."""
        return self.read(self.forward(tokens, bias)[:, :-1][wanted[:, 1:]])


def add_lora(network: Network, rank: int, alpha: float, seed: int) -> list[nn.Parameter]:
    """Freezes the network and adds thin matrices to every linear layer of its blocks; returns these."""
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    trained = []
    for layer in network.blocks.modules():
        if isinstance(layer, Linear):
            layer.add_lora(rank, alpha, generator)
            trained += [layer.lora_a, layer.lora_b]
    return trained
