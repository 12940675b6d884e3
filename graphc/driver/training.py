"""training_step: forward pass, gradients and optimizer update of a Symbol as one executable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphc.driver.compile import Options, compile
from graphc.driver.executable import Executable
from graphc.optimizer import Optimizer
from graphc.runtime.context import Context
from graphc.symbol import Symbol
from graphc.training import training_graph


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
    graph = training_graph(symbol, optimizer, shapes=shapes, dtypes=dtypes)
    step = compile(graph, target=target, memory_budget=memory_budget, options=options)
    if any(item.name == "learning_rate" for item in step.data_inputs):
        step.set_defaults(learning_rate=optimizer.learning_rate)
    return step
