"""The pass manager: runs passes in order, verifies between them, times each, dumps on demand, explains failures."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from graphc.diagnostics import EXIT_BUG, Diagnostic, GraphcError
from graphc.ir.graph import Graph, Node
from graphc.passes.attention import RecognizeAttention
from graphc.passes.base import NodeError, Pass
from graphc.passes.cse import ShareCommon
from graphc.passes.fold import Fold
from graphc.passes.fold_scales import FoldScales
from graphc.passes.prune import Prune
from graphc.passes.simplify import Simplify
from graphc.passes.strip_markers import StripMarkers
from graphc.primitives.verify import verify_graph

Dump: TypeAlias = Callable[[int, str, Graph], None]
"""Called with a counter, the name of what made the graph ("input" or a pass), and the graph."""


class PassError(GraphcError):
    """A pass failed or made a graph that breaks a rule: a defect of graphc, not of the model."""

    exit_code = EXIT_BUG


@dataclass(frozen=True, slots=True)
class PassRun:
    """One pass of a run: how long it took, without verification, and how many nodes it left."""

    name: str
    seconds: float
    nodes_before: int
    nodes_after: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of the manager did, in order."""

    runs: tuple[PassRun, ...]
    verified: bool

    @property
    def seconds(self) -> float:
        return sum(run.seconds for run in self.runs)

    @property
    def nodes_before(self) -> int:
        return self.runs[0].nodes_before if self.runs else 0

    @property
    def nodes_after(self) -> int:
        return self.runs[-1].nodes_after if self.runs else 0


def default_pipeline(level: int = 2) -> tuple[Pass, ...]:
    """The passes before fusion, once all gradients are built.

    0: what lowering needs; 1: rewrites that keep every bit of the result; 2: also those that change rounding, the
    sign of zeros, or replace an overflow by the true value (see `passes/rules`).
    """
    if level not in (0, 1, 2):
        raise ValueError(f"the level of optimization is 0, 1 or 2, not {level!r}")
    needed: tuple[Pass, ...] = (StripMarkers(), Prune())
    if level == 0:
        return needed
    strict = level == 1
    first = needed if strict else (*needed, RecognizeAttention())
    swept: tuple[Pass, ...] = (*first, Fold(strict=strict), ShareCommon(), Simplify(strict=strict))
    return swept if strict else (*swept, FoldScales())


class PassManager:
    """Runs passes one after another.

    verify: check the graph before the first pass and after each one; "auto" does so when the environment variable
    GRAPHC_DEBUG is set and not 0. dump: a callable, or a folder that gets one numbered text file a graph.
    Raises ValueError when a pass comes before one that it needs.
    """

    def __init__(
        self,
        passes: Sequence[Pass],
        *,
        verify: bool | Literal["auto"] | str = "auto",
        dump: Dump | str | os.PathLike[str] | None = None,
    ) -> None:
        self.passes = tuple(passes)
        self.verify = (
            os.environ.get("GRAPHC_DEBUG", "0") not in ("", "0") if verify == "auto" else bool(verify)
        )
        self._dump = dump if dump is None or callable(dump) else dump_to(dump)
        before: set[str] = set()
        for step in self.passes:
            missing = [name for name in step.needs if name not in before]
            if missing:
                raise ValueError(f"the pass {step.name} needs {missing[0]} before it")
            before.add(step.name)

    def run(self, graph: Graph) -> tuple[Graph, Report]:
        """The graph after all passes, and what they did; error G401 when one fails."""
        if self.verify:
            verify_graph(graph)
        self._write(0, "input", graph)
        runs = []
        for index, step in enumerate(self.passes, 1):
            start = time.perf_counter()
            result = self._apply(step, graph)
            seconds = time.perf_counter() - start
            changed = result is not graph
            if self.verify and changed:
                self._check(step, result)
            self._write(index, step.name, result)
            runs.append(PassRun(step.name, seconds, len(graph.nodes), len(result.nodes), changed))
            graph = result
        return graph, Report(tuple(runs), self.verify)

    def _write(self, index: int, name: str, graph: Graph) -> None:
        if self._dump is not None:
            self._dump(index, name, graph)

    def _apply(self, step: Pass, graph: Graph) -> Graph:
        try:
            return step(graph)
        except GraphcError:
            raise  # about the model: a primitive without a gradient, for example
        except NodeError as failure:
            raise _failed(step, failure.node, failure.__cause__ or failure) from failure
        except Exception as error:
            raise _failed(step, None, error) from error

    def _check(self, step: Pass, graph: Graph) -> None:
        try:
            verify_graph(graph)
        except GraphcError as error:
            raise PassError(
                Diagnostic(
                    "G401",
                    f"the pass {step.name} made a graph that breaks a rule: {error.diagnostic.message}",
                    error.diagnostic.operator,
                    error.diagnostic.name,
                    error.diagnostic.location,
                    error.diagnostic.operands,
                    _HELP,
                )
            ) from error


_HELP = "this is a defect of graphc; optimization level 0 goes around it"


def _failed(step: Pass, node: Node | None, error: BaseException) -> PassError:
    origin = node.origins[0] if node is not None and node.origins else None
    where = "" if node is None else f" at {node}"
    what = error.diagnostic.message if isinstance(error, GraphcError) else f"{type(error).__name__}: {error}"
    return PassError(
        Diagnostic(
            "G401",
            f"the pass {step.name} failed{where}: {what}",
            origin.operator if origin else "",
            origin.name if origin else "",
            origin.location if origin else None,
            (),
            _HELP,
        )
    )


def dump_to(folder: str | os.PathLike[str]) -> Dump:
    """A dump that writes `00-input.txt`, `01-prune.txt` ... into a folder, which is made."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)

    def write(index: int, name: str, graph: Graph) -> None:
        file = target / f"{index:02d}-{re.sub(r'[^A-Za-z0-9_]+', '_', name)}.txt"
        file.write_text(str(graph), encoding="utf-8")

    return write
