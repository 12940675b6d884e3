"""Random graphs for tests: seeded, broad, and tame enough that f32 agrees with float64 to about 1e-4.

    graph = random_graph(7)
    inputs = random_inputs(graph, 7)

Every value carries a bound on its magnitude, and productions scale what would grow. Inputs are multiples of 1/16, and
values made of them by exact arithmetic alone are known as such: only these are compared, rounded or searched for a
maximum's position, so no decision hangs on the last bit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from graphc.diagnostics import Location
from graphc.ir.graph import Graph, Origin
from graphc.types import DType, TensorType
from support.graph_pool import ELEMENTS
from support.graph_productions import Productions

DEFAULT_KINDS = (
    "elementwise", "reduction", "normalization", "shape", "join", "indexing", "dot", "convolution", "pool", "logic",
    "integer", "random", "duplicate",
)  # fmt: skip
KINDS = (*DEFAULT_KINDS, "markers")


def random_graph(
    seed: int, size: int = 12, kinds: Collection[str] = DEFAULT_KINDS, symbolic: bool | None = None
) -> Graph:
    """A graph of about `size` productions (two to ten nodes each) of the given kinds.

    symbolic: whether the leading dimension is the symbolic N; None decides by chance. Some graphs have state updates,
    all have dead nodes.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise ValueError(f"no such kinds: {sorted(unknown)}; there are {', '.join(KINDS)}")
    return _Maker(seed, symbolic).make(size, [kind for kind in KINDS if kind in kinds])


def random_inputs(graph: Graph, seed: int, sizes: Mapping[str, int] | None = None) -> dict[str, torch.Tensor]:
    """A tensor for every input in its declared type; sizes of symbolic dimensions are 1 to 9 unless given."""
    generator = torch.Generator().manual_seed(seed)
    chosen = {name: int(torch.randint(1, 10, (), generator=generator)) for name in graph.symbols} | dict(
        sizes or {}
    )
    return {item.name: _random_tensor(item.value.type, chosen, generator) for item in graph.inputs}


def _random_tensor(type: TensorType, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
    shape = type.concrete_shape(sizes)
    if type.dtype is DType.BOOL:
        return torch.randint(0, 2, shape, generator=generator, dtype=torch.bool)
    if type.dtype.is_float:
        return (torch.randint(-32, 33, shape, generator=generator) / 16).to(type.dtype.torch)
    # Also below 0 and past the end of most axes: indices are clipped.
    low = 0 if type.dtype is DType.U8 else -2
    return torch.randint(low, 10, shape, generator=generator).to(type.dtype.torch)


class _Maker(Productions):
    def make(self, size: int, kinds: list[str]) -> Graph:
        rng = self.rng
        for _ in range(rng.randint(1, 3)):
            shape = [self.batch, *(self.size() for _ in range(rng.choice((1, 1, 2, 3))))]
            self.input(shape if self.count(shape) <= ELEMENTS else [self.batch, *(2, 5, 6)[: len(shape) - 1]])
        for line in range(1, size + 1):
            kind = rng.choices(kinds, [5 if kind == "elementwise" else 1 for kind in kinds])[0]
            origin = Origin(f"{kind}{line}", kind.capitalize(), Location("model.py", line))
            with self.b.at((origin,)):
                getattr(self, kind)()
        if rng.random() < 0.4:
            self.optimizer()
        made = [v for v in (*self.floats, *self.others) if v.name not in {i.name for i in self.b.inputs}]
        outputs = rng.sample(made, min(len(made), rng.randint(1, 4))) or self.floats[:1]
        if self.floats[-1] not in outputs:
            outputs.append(self.floats[-1])
        return self.b.finish({f"out{k}": value for k, value in enumerate(outputs)})
