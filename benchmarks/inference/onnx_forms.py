"""ONNX Runtime and OpenVINO: one file a row, exported from the torch twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.onnx_sessions import exported, onnxruntime_job, openvino_job
from harness.row import Arrays, Job, Row
from networks.catalog import BY_KEY


def _exported(row: Row, inputs: Arrays) -> Path:
    def make(path: Path) -> None:
        import torch
        from networks.twins import network

        module = network(row.options["network"])
        given = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
        with torch.inference_mode():
            torch.onnx.export(
                module,
                (),
                str(path),
                kwargs=given,
                input_names=list(given),
                dynamo=True,
                external_data=False,
                optimize=True,
            )

    return exported(f"inference_{row.key}", make)


def _jobs(row: Row, inputs: Arrays, session: Callable[[Any, Arrays], Job]) -> Mapping[str, Job]:
    job = session(_exported(row, inputs), inputs)
    checked = BY_KEY[row.options["network"]].checked
    return {"session": replace(job, results=lambda: checked(tuple(job.results())))}


def onnxruntime(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """ONNX Runtime."""
    return _jobs(row, inputs, onnxruntime_job)


def openvino(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """OpenVINO."""
    return _jobs(row, inputs, openvino_job)
