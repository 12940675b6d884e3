"""Warm starts: a program that was compiled before is found by what its user declared, and loaded.

No graph is traced, differentiated or fused, and what does so is not even imported. Whoever asks a program found for its
graph, its kernels or its sources has them made again then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from graphc.cpu_target import detect
from graphc.diagnostics import ToolchainError, fail
from graphc.driver.cpu_backend import CpuBackend, CpuStart
from graphc.driver.interface import Interface
from graphc.driver.options import Options
from graphc.driver.store import keep, recall
from graphc.ir import digest as graphs
from graphc.ir.graph import Graph
from graphc.primitives.verify import verify_graph
from graphc.runtime.toolchain import find_toolchain
from graphc.symbol import Symbol
from graphc.symbol import digest as symbols
from graphc.symbol.trace import trace

if TYPE_CHECKING:
    from graphc.codegen.cpp import CppProgram
    from graphc.driver.lowering import Made

_KIND = "start"


@dataclass(frozen=True, slots=True)
class Declared:
    """What gives a model's graph, and a `key` that tells it from other models, None where only its graph can."""

    graph: Callable[[], Graph]
    key: str | None = None


def declared(
    model: Symbol | Graph,
    shapes: Mapping[str, Any] | None,
    dtypes: Mapping[str, Any] | None,
    is_train: bool,
) -> Declared:
    """A model for `compile`; G105 for what is none."""
    if isinstance(model, Symbol):
        given, types = dict(shapes or {}), dict(dtypes or {})
        text = symbols.digest_text(model, given, types)
        key = None if text is None else f"{'training' if is_train else 'inference'} {text}"
        return Declared(lambda: trace(model, given, types, is_train), key)
    graph = as_graph(model, shapes, dtypes, verify=False)
    return Declared(lambda: graph, graphs.digest_text(graph))


def as_graph(
    model: Symbol | Graph,
    shapes: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, Any] | None = None,
    is_train: bool = False,
    verify: bool = True,
) -> Graph:
    """The Graph of a model: a Symbol is traced with these shapes, a Graph is verified and taken as it is."""
    if isinstance(model, Symbol):
        return trace(model, shapes or {}, dtypes, is_train)
    if not isinstance(model, Graph):
        raise fail("G105", f"compile takes a Symbol or a Graph, not {type(model).__name__}")
    if shapes or dtypes:
        raise fail("G105", "a Graph has its shapes and types; leave shapes= and dtypes= out")
    if verify:
        verify_graph(model)
    return model


@dataclass(frozen=True, slots=True)
class Found:
    """A program that was compiled before, loaded; `graphs` makes the declared and the optimized graph again."""

    interface: Interface
    backend: CpuBackend
    graphs: Callable[[], tuple[Graph, Graph]]


def find(model: Declared, options: Options) -> Found | None:
    """The program of this model and these options, when it was built on this machine before."""
    parts = _parts(model, options)
    kept = recall(_KIND, parts) if parts is not None else None
    if kept is None:
        return None
    interface, start = kept

    @functools.cache
    def made() -> Made:
        from graphc.driver.lowering import generate

        return generate(model.graph(), options, "cpu")[0]

    def sources() -> CppProgram:
        return cast("CppProgram", made().generated)

    backend = CpuBackend.find(start, sources, options.memory)
    if backend is None:
        return None
    return Found(interface, backend, lambda: (made().stages.graph, made().stages.optimized))


def remember(model: Declared, options: Options, interface: Interface, start: CpuStart) -> None:
    """Let `find` find it."""
    parts = _parts(model, options)
    if parts is not None:
        keep(_KIND, parts, (interface, start))


def _parts(model: Declared, options: Options) -> list[str] | None:
    """All that a built program depends on besides graphc's own sources; None where that is not known."""
    if model.key is None:
        return None
    try:
        toolchain = find_toolchain()
    except ToolchainError:
        return None
    return [model.key, repr(options), repr(detect()), toolchain.key]
