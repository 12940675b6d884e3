"""training_step: forward pass, gradients and optimizer update of a Symbol as one executable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graphc.driver.compile import Options, compile_declared
from graphc.driver.executable import Executable
from graphc.driver.start import Declared
from graphc.ir.graph import Graph
from graphc.optimizer import Optimizer
from graphc.runtime.context import Context
from graphc.symbol import Symbol
from graphc.symbol.digest import digest_text


def training_step(
    symbol: Symbol,
    optimizer: Optimizer,
    *,
    shapes: Mapping[str, Any],
    dtypes: Mapping[str, Any] | None = None,
    target: str | Context | None = None,
    memory_budget: str | int | float | None = None,
    options: Options | None = None,
) -> Executable:
    """Compile one training step; a call takes the data inputs and gives the symbol's outputs.

    shapes: of every data input, labels too; names in them are symbolic dimensions. Parameters, optimizer states and
    moving statistics live in the executable: `initialize` them, read them from `states`. `learning_rate` may be given
    with each call (a scheduler's value); the optimizer's own is the default. memory_budget: as in `compile`.
    """
    declared = _declared(symbol, optimizer, dict(shapes), dict(dtypes or {}))
    step = compile_declared(declared, target=target, memory_budget=memory_budget, options=options)
    if any(item.name == "learning_rate" for item in step.data_inputs):
        step.set_defaults(learning_rate=optimizer.learning_rate)
    return step


def _declared(
    symbol: Symbol, optimizer: Optimizer, shapes: Mapping[str, Any], dtypes: Mapping[str, Any]
) -> Declared:
    """The step as it is declared: known by the symbol and the optimizer, before any gradient is built."""
    optimizer = replace(optimizer)
    texts = (digest_text(symbol, shapes, dtypes), optimizer.digest_text)
    key = None if None in texts else "\n".join(["training step", *map(str, texts)])

    def graph() -> Graph:
        from graphc.training import training_graph

        return training_graph(symbol, optimizer, shapes=shapes, dtypes=dtypes)

    return Declared(graph, key)
