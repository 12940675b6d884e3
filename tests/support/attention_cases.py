"""Cases of attention: as one operator, and as MXNet's products of interleaved projections."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from support.cases import Case, Tensor


def _whole(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    if query.dim() > 2 and (repeats := query.shape[-3] // key.shape[-3]) > 1:
        key, value = (x.repeat_interleave(repeats, -3) for x in (key, value))
    if causal:
        rows, columns = query.shape[-2], key.shape[-2]
        hidden = torch.ones(rows, columns).triu(1 + columns - rows).bool()
        shown = torch.zeros(rows, columns, dtype=query.dtype).masked_fill(hidden, -math.inf)
        mask = shown if mask is None else mask + shown
    scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    return (scores if mask is None else scores + mask).softmax(-1) @ value


def _case(query: Any, key: Any, value: Any, mask: Any = None, **parameters: Any) -> Case:
    shapes: Mapping[str, tuple[int, ...]] = {"query": query, "key": key, "value": value}
    masked = {"use_mask": True} if mask else {}
    return Case(
        "scaled_dot_product_attention",
        {**shapes, "mask": mask} if mask else shapes,
        lambda *x: _whole(*x, **parameters),
        {**parameters, **masked},
        symbolic=False,
    )


def _heads(x: Tensor, heads: int, parts: int) -> list[Tensor]:
    """Projections [T, N, heads * parts * D] as [N * heads, T, D] each."""
    steps, batch, _ = x.shape
    apart = x.reshape(steps, batch, heads, parts, -1).permute(3, 1, 2, 0, 4)
    return [part.reshape(batch * heads, steps, -1) for part in apart]


def _scores(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT / math.sqrt(query.shape[-1])


def _side_by_side(mixed: Tensor, heads: int) -> Tensor:
    return mixed.reshape(-1, heads, *mixed.shape[1:]).permute(2, 0, 1, 3).flatten(2)


def _interleaved(name: str, shapes: Mapping[str, tuple[int, ...]], oracle: Any, heads: int) -> Case:
    return Case(
        f"_contrib_interleaved_matmul_{name}",
        shapes,
        lambda *x: oracle(*x, heads),
        {"heads": heads},
        symbolic=False,
    )


def interleaved_cases(steps: int, queries: int, batch: int, heads: int, width: int) -> list[Case]:
    """The four products for one set of sizes."""
    joint = {"queries_keys_values": (steps, batch, heads * 3 * width)}
    query, pair = (queries, batch, heads * width), (steps, batch, heads * 2 * width)
    square, wide = (batch * heads, steps, steps), (batch * heads, queries, steps)
    return [
        _interleaved("selfatt_qk", joint, lambda x, h: _scores(*_heads(x, h, 3)[:2]), heads),
        _interleaved(
            "selfatt_valatt",
            {**joint, "attention": square},
            lambda x, a, h: _side_by_side(a @ _heads(x, h, 3)[2], h),
            heads,
        ),
        _interleaved(
            "encdec_qk",
            {"queries": query, "keys_values": pair},
            lambda q, x, h: _scores(_heads(q, h, 1)[0], _heads(x, h, 2)[0]),
            heads,
        ),
        _interleaved(
            "encdec_valatt",
            {"keys_values": pair, "attention": wide},
            lambda x, a, h: _side_by_side(a @ _heads(x, h, 2)[1], h),
            heads,
        ),
    ]


def attention_cases() -> list[Case]:
    return [
        _case((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)),
        _case((1, 1), (1, 1), (1, 1)),
        _case((5, 17, 8), (5, 17, 8), (5, 17, 8), causal=True),
        _case((2, 7, 3, 5), (2, 7, 11, 5), (2, 7, 11, 2), causal=True, scale=0.3),
        _case((2, 6, 4, 8), (2, 2, 9, 8), (2, 2, 9, 3), causal=True),
        _case((3, 4, 5, 2), (3, 1, 6, 2), (3, 1, 6, 2)),
        _case((2, 6, 1, 8), (2, 2, 9, 8), (2, 2, 9, 3), causal=True),
        _case((2, 4, 1, 5), (2, 1, 33, 5), (2, 1, 33, 17), (2, 4, 1, 33)),
        _case((3, 1, 64), (3, 100, 64), (3, 100, 40), causal=True),
        _case((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6), (2, 1, 1, 7), scale=1.0),
        _case((2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 4), (5, 5), causal=True),
        _case((4, 3, 2), (4, 3, 2), (4, 3, 2), (4, 3, 3)),
        *interleaved_cases(5, 3, 2, 3, 4),
        *interleaved_cases(1, 7, 1, 1, 1),
        Case("_contrib_div_sqrt_dim", {"data": (3, 5)}, lambda x: x / math.sqrt(5)),
    ]
