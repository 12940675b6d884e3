"""A call with its arrays fixed: for loops that write each batch where the last one lay.

    step = executable.bind(data=x, softmax_label=y)
    for batch in batches:
        x.copy_(batch.data); y.copy_(batch.label)
        probabilities = step()

Nothing is checked, looked up or allocated on a run: the inputs are read where they lay when they were bound, and the
outputs are the same arrays each time, written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy
import torch

from graphc.diagnostics import fail
from graphc.driver.ndarray import NDArray


class BoundCall:
    """Runs a program on fixed arrays; `outputs` are the results of the last run, by name.

    Made by `Executable.bind`. One thread at a time may run it: it has one arena.
    """

    def __init__(
        self,
        execute: Callable[[], None],
        outputs: Mapping[str, torch.Tensor],
        wrap: Callable[[torch.Tensor], Any],
    ) -> None:
        self._execute = execute
        self._outputs = outputs
        self._wrap = wrap

    @property
    def outputs(self) -> dict[str, Any]:
        """The arrays that every run writes, by name."""
        return {name: self._wrap(tensor) for name, tensor in self._outputs.items()}

    def __call__(self) -> Any:
        """Run once; the output, or a tuple of them in the graph's order, as arrays that the next run overwrites."""
        self._execute()
        results = [self._wrap(tensor) for tensor in self._outputs.values()]
        return results[0] if len(results) == 1 else tuple(results)


def read_in_place(name: str, value: Any, tensor: torch.Tensor) -> None:
    """Refuse an array that is not read where it lies, but from a copy made once; a number is fixed by intention."""
    address: int | None = None
    if isinstance(value, torch.Tensor):
        address = value.data_ptr()
    elif isinstance(value, NDArray):
        address = value.tensor.data_ptr()
    elif isinstance(value, numpy.ndarray):
        address = value.__array_interface__["data"][0]
    if address is not None and address != tensor.data_ptr():
        raise fail(
            "G602",
            f"input {name!r} would be read from a copy, not where it lies",
            name=name,
            help="bind a dense, writable array on the program's device, for example x.contiguous()",
        )
