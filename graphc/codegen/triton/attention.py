"""Attention and its gradient from Triton templates: addresses of rows, block sizes, and the kernels of a gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphc.codegen.triton.expressions import TRITON_TYPES, affine_text, dim_text, without_parentheses
from graphc.codegen.triton.kernel import KernelNames, KernelSource, ir_lines
from graphc.codegen.triton.schedule import GpuTarget, next_power_of_2
from graphc.ir.graph import Node
from graphc.ir.kernel import AnchorOperation, Kernel, View
from graphc.primitives.attention import named
from graphc.templates import render
from graphc.types import Dim, DType, product

MOST_FEATURES = 256
_Place: TypeAlias = tuple[str, View] | None
"""A parameter and how an operand or a result lies in it; None for what is not there."""
TEMPLATE_NAMES = (
    "row_blocks", "key_blocks", "item", "m_first", "n_first", "m", "n", "d", "e", "m_inside", "n_inside", "d_inside",
    "e_inside", "q", "k", "v", "g", "greatest", "total", "accumulator", "whole", "stop", "start", "first", "seen",
    "scores", "now", "shift", "powers", "keep", "share", "log_sum", "row_delta", "slopes", "to_key", "to_value",
    "place", "factor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tiles:
    """Rows of queries and of keys that a program holds, and how it runs."""

    queries: int
    keys: int
    stages: int
    warps: int


def has_attention(node: Node) -> bool:
    """True where the templates do: products on tensor cores or in f32, few enough features for registers."""
    types = {name: v.type for name, v in named(node.primitive, node.attributes, node.inputs).items()}
    floats = [type for name, type in types.items() if name != "state"]
    features = [types[name].shape[-1] for name in "qv"]
    return all(type.dtype in (DType.F16, DType.BF16, DType.F32) for type in floats) and all(
        isinstance(count, int) and 1 <= count <= MOST_FEATURES for count in features
    )


def template_stages(kernel: Kernel) -> tuple[Kernel, ...]:
    """Attention as it is; its gradient as one kernel for the query, which walks over keys, and one for the rest."""
    anchor = kernel.anchor
    assert anchor is not None
    if anchor.primitive == "attention":
        return (kernel,)
    d_query, d_key, d_value = anchor.results
    wanted = [(d_query, "", ""), ("", d_key, d_value)]
    return tuple(_with_results(kernel, anchor, results) for results in wanted if any(results))


def _with_results(kernel: Kernel, anchor: AnchorOperation, results: tuple[str, ...]) -> Kernel:
    used = {*anchor.operands, *results}
    parameters = tuple(p for p in kernel.parameters if p.name in used)
    return replace(kernel, parameters=parameters, anchor=replace(anchor, results=results))


def tiles(dtype: DType, features: int, rows: Dim, gradient: bool) -> Tiles:
    """Sizes that fit Hopper's registers for products on tensor cores; small ones for plain f32, and for few rows."""
    if dtype is DType.F32:
        found = Tiles(32, 32, 2, 4) if features <= 64 else Tiles(16, 16, 2, 4)
    elif features <= 64:
        found = Tiles(64, 64, 2, 4) if gradient else Tiles(128, 64, 3, 4)
    elif features <= 128:
        found = Tiles(64, 64, 2, 8) if gradient else Tiles(128, 64, 3, 8)
    else:
        found = Tiles(32, 32, 2, 8) if gradient else Tiles(64, 32, 2, 8)
    if isinstance(rows, int) and rows < found.queries:
        found = replace(found, queries=max(16, next_power_of_2(max(1, rows))))
    return found


def print_attention(
    kernel: Kernel, anchor: AnchorOperation, function: str, target: GpuTarget
) -> KernelSource:
    """The source of attention, or of one of its gradient's kernels."""
    return _Printer(kernel, anchor, target).source(function)


class _Printer:
    def __init__(self, kernel: Kernel, anchor: AnchorOperation, target: GpuTarget) -> None:
        self.kernel, self.anchor, self.target = kernel, anchor, target
        self.shared = KernelNames.of(kernel)
        for name in TEMPLATE_NAMES:
            self.shared.names.new(name)
        self.gradient = anchor.primitive == "attention_gradient"
        names = (*anchor.operands, *anchor.results)
        views = anchor.views or (None,) * len(names)
        self.types = {p.name: p.type for p in kernel.parameters}
        self.places = [
            (name, view or View.whole(self.types[name].shape)) if name else None
            for name, view in zip(names, views, strict=True)
        ]
        count = len(anchor.operands)
        self.operands, self.results = self.places[:count], self.places[count:]
        found = named(anchor.primitive, anchor.attributes, self.operands)
        self.query, self.key, self.value = (found[name] for name in "qkv")
        self.bias, self.state = found.get("bias"), found.get("state")
        assert self.query is not None and self.value is not None
        self.batch = self.query[1].axes[:-2]
        self.queries, self.depth = self.query[1].shape[-2:]
        self.keys, self.width = self.value[1].shape[-2:]
        self.dtype = self.types[self.query[0]].dtype
        self.indices = [
            self.shared.names.of("axis", axis.name) if len(self.batch) > 1 else "item" for axis in self.batch
        ]

    def source(self, function: str) -> KernelSource:
        by_key = self.gradient and not self.anchor.results[0]
        template = "attention" if not self.gradient else f"attention_gradient_{'key' if by_key else 'query'}"
        assert isinstance(self.depth, int) and isinstance(self.width, int)
        chosen = tiles(self.dtype, max(self.depth, self.width), self.queries, self.gradient)
        if self.bias is not None or self.state is not None:  # a tile more in registers beside the scores
            chosen = replace(chosen, warps=8)
        blocks = (
            ("BLOCK_M", chosen.queries),
            ("BLOCK_N", chosen.keys),
            ("BLOCK_D", max(16, next_power_of_2(self.depth))),
            ("BLOCK_E", max(16, next_power_of_2(self.width))),
        )
        shared = self.shared
        text = render(
            f"triton/{template}.py.j2",
            ir=ir_lines(self.kernel),
            function=function,
            shared=shared,
            parameters=list(shared.pointers.values()),
            blocks=blocks,
            wide=bool(shared.wide),
            comment=f"{self.anchor.primitive} {'; '.join(map(str, self.anchor.origins))}".rstrip(),
            lines=self._decode(),
            **self._sizes(blocks),
            **(self._gradient_loads(by_key) if self.gradient else self._loads(dict(blocks))),
        )
        slices: tuple[tuple[Dim, int], ...] = ((product(axis.extent for axis in self.batch), 1),)
        rows = (self.keys, chosen.keys) if by_key else (self.queries, chosen.queries)
        return KernelSource(
            function=function,
            text=text,
            pointers=tuple(shared.pointers.values()),
            symbols=shared.symbols,
            blocks=blocks,
            grid=((*slices, rows),),
            warps=chosen.warps,
            stages=chosen.stages,
            wide=shared.wide,
            helpers=frozenset(("uniform",) if self.state else ()),
        )

    def _sizes(self, blocks: Sequence[tuple[str, int]]) -> dict[str, Any]:
        attributes, size = self.anchor.attributes, dict(blocks)
        keys = self.keys
        tf32 = self.target.tf32 and self.dtype is DType.F32
        return {
            "queries": without_parentheses(dim_text(self.queries)),
            "keys": dim_text(keys),
            "depth": self.depth,
            "width": self.width,
            "depth_exact": self.depth == size["BLOCK_D"],
            "width_exact": self.width == size["BLOCK_E"],
            "keys_exact": isinstance(keys, int) and keys % size["BLOCK_N"] == 0,
            "causal": attributes["causal"],
            "offset": dim_text(attributes["offset"]),
            "scale": repr(attributes["scale"] * math.log2(math.e)),
            "plain_scale": repr(attributes["scale"]),
            "log2e": repr(math.log2(math.e)),
            "ln2": repr(math.log(2.0)),
            "precision": "tf32" if tf32 else "ieee",
            "type": TRITON_TYPES[self.dtype],
            "state": self.state and self.address(self.state, "0"),
            "stream": attributes["stream"],
            "kept": repr(attributes["keep"]),
            "factor": repr(1 / attributes["keep"]),
            "wide_cast": "" if self.shared.index_type == "tl.int32" else f".to({self.shared.index_type})",
        }

    def _decode(self) -> list[str]:
        """The axes of the batch from the item's number; the last is the fastest."""
        if len(self.batch) <= 1:
            return []
        lines: list[str] = []
        inner: Dim = 1
        for place in range(len(self.batch) - 1, -1, -1):
            text = "item" if inner == 1 else f"item // {dim_text(inner)}"
            text = f"{text} % {dim_text(self.batch[place].extent)}" if place > 0 else text
            lines.append(f"{self.indices[place]} = {text}")
            inner = product((inner, self.batch[place].extent))
        return lines

    # Addresses

    def address(self, place: _Place, *variables: str) -> str:
        """Where the elements lie whose own axes have these values."""
        assert place is not None
        name, view = place
        table = dict(zip([axis.name for axis in view.axes], (*self.indices, *variables), strict=True))
        address = view.address(self.types[name])
        text = affine_text(address, table)
        # A tile has both axes even where every row or column is the same.
        missing = [v for v in variables if v not in text and "[" in v]
        return f"{self.shared.pointers[name]} + {' + '.join([text, *(f'{v} * 0' for v in missing)])}"

    def load(self, place: _Place, variables: tuple[str, ...], conditions: Sequence[str]) -> str:
        text = self.address(place, *variables)
        return (
            f"tl.load({text}, mask={' & '.join(conditions)}, other=0.0)" if conditions else f"tl.load({text})"
        )

    def _loads(self, size: dict[str, int]) -> dict[str, Any]:
        d = [] if self.depth == size["BLOCK_D"] else ["d_inside"]
        e = [] if self.width == size["BLOCK_E"] else ["e_inside"]
        rows, columns = "[:, None]", "[None, :]"

        def both(place: _Place, variables: tuple[str, ...], other: list[str], n: str) -> dict[bool, str]:
            return {
                masked: self.load(place, variables, [*other, *([f"n_inside{n}"] if masked else [])])
                for masked in (False, True)
            }

        out, log_sum_exp = self.results
        return {
            "load_query": self.load(
                self.query, (f"m{rows}", f"d{columns}"), [f"m_inside{rows}", *(f"{x}{columns}" for x in d)]
            ),
            "load_key": both(self.key, (f"n{columns}", f"d{rows}"), [f"{x}{rows}" for x in d], columns),
            "load_value": both(self.value, (f"n{rows}", f"e{columns}"), [f"{x}{columns}" for x in e], rows),
            "load_bias": self.bias
            and both(self.bias, (f"m{rows}", f"n{columns}"), [f"m_inside{rows}"], columns),
            "out": out and self.address(out, f"m{rows}", f"e{columns}"),
            "out_mask": " & ".join([f"m_inside{rows}", *(f"{x}{columns}" for x in e)]),
            "log_sum_exp": log_sum_exp and self.address(log_sum_exp, "m"),
        }

    def _gradient_loads(self, by_key: bool) -> dict[str, Any]:
        log_sum_exp, delta, d_out = self.operands[:3]
        d_query, d_key, d_value = self.results
        rows, columns = "[:, None]", "[None, :]"

        def tile(place: _Place, row: str, column: str) -> str:
            conditions = (f"{row}_inside{rows}", f"{column}_inside{columns}")
            return self.load(place, (f"{row}{rows}", f"{column}{columns}"), conditions)

        m, n = (columns, rows) if by_key else (rows, columns)
        bias = self.bias and self.load(self.bias, (f"m{m}", f"n{n}"), (f"m_inside{m}", f"n_inside{n}"))
        return {
            "load_query": tile(self.query, "m", "d"),
            "load_key": tile(self.key, "n", "d"),
            "load_value": tile(self.value, "n", "e"),
            "load_d_out": tile(d_out, "m", "e"),
            "load_bias": bias,
            "log_sum_exp": self.address(log_sum_exp, "m"),
            "delta": self.address(delta, "m"),
            "d_query": d_query and self.address(d_query, f"m{rows}", f"d{columns}"),
            "d_key": d_key and self.address(d_key, f"n{rows}", f"d{columns}"),
            "d_value": d_value and self.address(d_value, f"n{rows}", f"e{columns}"),
        }
