"""graphc: the Symbols of examples/zoo, compiled with their parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from harness.row import Arrays, Job, Row
from networks.catalog import BY_KEY
from networks.symbols import SYMBOLS

import graphc as mx


def graphc(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """One native call an inference."""
    key = row.options["network"]
    network = BY_KEY[key]
    given = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
    executable = mx.compile(
        SYMBOLS[key](),
        shapes={name: array.shape for name, array in inputs.items()},
        dtypes={name: str(array.dtype) for name, array in inputs.items()},
    )
    executable.set_states(
        {name: network.value(name, tuple(state.shape)) for name, state in executable.states.items()}
    )

    def outputs() -> tuple[torch.Tensor, ...]:
        found = executable(**given)
        return found if isinstance(found, tuple) else (found,)

    return {"compiled": Job(lambda: executable(**given), lambda: network.checked(outputs()))}
