"""Torch twins of the networks for words; attributes are named so that `exchange` finds graphc's layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[batch, length, units] as [batch, heads, length, width]."""
    batch, length, units = x.shape
    return x.view(batch, length, heads, units // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """The way back."""
    return x.transpose(1, 2).flatten(2)


class CausalAttention(nn.Module):
    """Queries, keys and values in one layer; nobody looks ahead."""

    def __init__(self, units: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(units, 3 * units)
        self.out = nn.Linear(units, units)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=2))
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        result: Tensor = self.out(join_heads(mixed))
        return result


class PreNormBlock(nn.Module):
    """Attention and two dense layers, each over normalised data."""

    def __init__(self, units: int, heads: int, approximate: str) -> None:
        super().__init__()
        self.approximate = approximate
        self.ln1 = nn.LayerNorm(units)
        self.attention = CausalAttention(units, heads)
        self.ln2 = nn.LayerNorm(units)
        self.wide = nn.Linear(units, 4 * units)
        self.narrow = nn.Linear(4 * units, units)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))
        wide = functional.gelu(self.wide(self.ln2(x)), approximate=self.approximate)
        result: Tensor = x + self.narrow(wide)
        return result


class Transformer(nn.Module):
    """examples/zoo/transformer.py and gpt2.py without dropout: logits [batch, length, vocabulary]."""

    def __init__(
        self,
        layers: int = 2,
        units: int = 256,
        heads: int = 4,
        vocabulary: int = 1000,
        positions: int = 64,
        approximate: str = "none",
    ) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, units)
        self.position = nn.Embedding(positions, units)
        self.names = [f"block{number}" for number in range(1, layers + 1)]
        for name in self.names:
            self.add_module(name, PreNormBlock(units, heads, approximate))
        self.last_ln = nn.LayerNorm(units)

    def forward(self, data: Tensor) -> Tensor:
        x = self.word(data) + self.position.weight[: data.shape[1]]
        for name in self.names:
            x = self.get_submodule(name)(x)
        return functional.linear(self.last_ln(x), self.word.weight)


class PostNormBlock(nn.Module):
    """Attention under a mask and two dense layers, normalised after each."""

    def __init__(self, units: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(units, units)
        self.key = nn.Linear(units, units)
        self.value = nn.Linear(units, units)
        self.out = nn.Linear(units, units)
        self.ln1 = nn.LayerNorm(units, eps=1e-12)
        self.wide = nn.Linear(units, 4 * units)
        self.narrow = nn.Linear(4 * units, units)
        self.ln2 = nn.LayerNorm(units, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        queries, keys, values = (
            split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        x = self.ln1(x + self.out(join_heads(mixed)))
        result: Tensor = self.ln2(x + self.narrow(functional.gelu(self.wide(x))))
        return result


class Bert(nn.Module):
    """examples/zoo/bert.py without dropout."""

    def __init__(
        self,
        layers: int = 12,
        units: int = 768,
        heads: int = 12,
        vocabulary: int = 30522,
        positions: int = 512,
    ) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, units)
        self.segment = nn.Embedding(2, units)
        self.position = nn.Embedding(positions, units)
        self.embedding_ln = nn.LayerNorm(units, eps=1e-12)
        self.names = [f"layer{number}" for number in range(1, layers + 1)]
        for name in self.names:
            self.add_module(name, PostNormBlock(units, heads))
        self.pooler = nn.Linear(units, units)

    def forward(self, data: Tensor, token_types: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        places = self.position.weight[: data.shape[1]]
        x = self.embedding_ln(self.word(data) + self.segment(token_types) + places)
        bias = (mask[:, None, None, :].to(x.dtype) - 1) * 1e9
        for name in self.names:
            x = self.get_submodule(name)(x, bias)
        return x, torch.tanh(self.pooler(x[:, 0]))


class LstmModel(nn.Module):
    """examples/zoo/lstm_lm.py without dropout: logits [steps * batch, vocabulary], the last state and cell."""

    def __init__(self, layers: int = 2, units: int = 650, vocabulary: int = 10000) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, units)
        self.lstm = nn.LSTM(units, units, layers)
        self.decoder = nn.Linear(units, vocabulary)

    def forward(
        self, data: Tensor, lstm_state: Tensor, lstm_state_cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        states, (last, cell) = self.lstm(self.word(data), (lstm_state, lstm_state_cell))
        return self.decoder(states.flatten(0, 1)), last, cell
