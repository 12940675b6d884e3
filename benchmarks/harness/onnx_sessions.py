"""ONNX Runtime and OpenVINO on one ONNX file, each as its documentation advises for the least latency."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from harness.peers import SCRATCH
from harness.row import Array, Arrays, Job

Model = bytes | Path


def exported(name: str, make: Callable[[Path], object]) -> Path:
    """build/bench/onnx/<name>.onnx, written by `make(path)` by whichever process comes first."""
    path = SCRATCH / "onnx" / f"{name}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            aside = path.with_suffix(".part.onnx")
            make(aside)
            os.replace(aside, path)
    return path


def onnxruntime_job(model: Model, inputs: Arrays) -> Job:
    """ONNX Runtime with all optimizations; inputs and outputs are bound, so that a call allocates neither."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    given = {
        item.name: onnxruntime.OrtValue.ortvalue_from_numpy(inputs[item.name])
        for item in session.get_inputs()
    }
    names = [item.name for item in session.get_outputs()]
    first = session.run_with_ort_values(names, given)
    binding = session.io_binding()
    for name, value in given.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in zip(names, first, strict=True):
        binding.bind_ortvalue_output(name, value)

    def results() -> list[Array]:
        session.run_with_iobinding(binding)
        return [value.numpy() for value in first]

    return Job(lambda: session.run_with_iobinding(binding), results)


def openvino_job(model: Model, inputs: Arrays) -> Job:
    """OpenVINO for latency, in f32; inputs and outputs are tensors of the request."""
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    request = compiled.create_infer_request()
    for port in compiled.inputs:
        array = inputs[port.any_name]
        tensor = openvino.Tensor(port.element_type, openvino.Shape(list(array.shape)))
        tensor.data[...] = array
        request.set_tensor(port, tensor)

    def results() -> list[Array]:
        request.infer()
        return [np.array(request.get_tensor(port).data) for port in compiled.outputs]

    return Job(request.infer, results)
