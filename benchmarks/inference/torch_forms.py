"""torch: the twins in inference mode, as they are, in channels-last, and compiled with frozen weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from harness.row import Arrays, Job, Row
from networks.catalog import BY_KEY
from networks.twins import network

Tensors = Mapping[str, torch.Tensor]


def _tensors(inputs: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}


def _job(row: Row, module: Any, given: Tensors) -> Job:
    checked = BY_KEY[row.options["network"]].checked

    @torch.inference_mode()
    def call() -> Any:
        return module(**given)

    def results() -> Any:
        found = call()
        return [output.contiguous() for output in checked(found if isinstance(found, tuple) else (found,))]

    return Job(call, results)


def _channels_last(inputs: Tensors) -> dict[str, torch.Tensor]:
    return {name: value.to(memory_format=torch.channels_last) for name, value in inputs.items()}


def _is_vision(inputs: Arrays) -> bool:
    return inputs["data"].ndim == 4


def float64(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The reference."""
    exact = {
        name: value.double() if value.is_floating_point() else value
        for name, value in _tensors(inputs).items()
    }
    return {"module": _job(row, network(row.options["network"]).double(), exact)}


def eager(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The module; for pictures in both layouts."""
    given, module = _tensors(inputs), network(row.options["network"])
    jobs = {"module": _job(row, module, given)}
    if _is_vision(inputs):
        last = network(row.options["network"]).to(memory_format=torch.channels_last)
        jobs["channels last"] = _job(row, last, _channels_last(given))
    return jobs


def compiled(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """torch.compile with constants folded and weights packed, as is advised for inference on CPUs."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    given, module = _tensors(inputs), torch.compile(network(row.options["network"]))
    job = _job(row, module, given)
    # Compiles under the setting above, whatever else this process compiles later.
    job.call()
    return {"frozen": job}
