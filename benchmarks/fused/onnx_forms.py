"""One ONNX model a row, for ONNX Runtime and OpenVINO; weights of a product are constants, which they pack."""

# ruff: noqa: D103 - rows.py says what each function computes
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from harness.onnx_graph import OnnxGraph
from harness.onnx_sessions import onnxruntime_job, openvino_job
from harness.row import Arrays, Job, Row

from fused.rows import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, EPSILON, SCALE

Outputs = dict[str, str]


def gelu(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    return {"y": g.Add(g.Gelu(g.Add("x", "bias"), approximate="tanh"), "residual")}


def softmax(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    return {"y": g.Softmax("x", axis=-1)}


def layer_norm(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    return {"y": g.LayerNormalization(g.Add("x", "residual"), "gamma", "beta", axis=-1, epsilon=EPSILON)}


def cross_entropy(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    rows = inputs["logits"].shape[0]
    log_probability = g.LogSoftmax("logits", axis=-1)
    places = g.Unsqueeze("labels", g.constant([1], np.int64))
    picked = g.GatherElements(log_probability, places, axis=1)
    loss = g.Neg(g.ReduceMean(picked, keepdims=0))
    shares = g.Mul(g.Exp(log_probability), g.constant(1 / rows))
    hits = g.constant(np.full((rows, 1), -1 / rows))
    return {"loss": loss, "gradient": g.ScatterElements(shares, places, hits, axis=1, reduction="add")}


def adam(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    def mix(old: str, new: str, beta: float) -> str:
        return g.Add(g.Mul(old, g.constant(beta)), g.Mul(new, g.constant(1 - beta)))

    mean = mix("mean", "gradient", ADAM_BETA1)
    variance = mix("variance", g.Mul("gradient", "gradient"), ADAM_BETA2)
    divisor = g.Add(g.Mul(g.Sqrt(variance), "root_correction"), g.constant(ADAM_EPSILON))
    weight = g.Sub("weight", g.Div(g.Mul("step_size", mean), divisor))
    return {"new_weight": weight, "new_mean": mean, "new_variance": variance}


def rms_norm(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    gated = g.Mul(g.Mul("a", g.Sigmoid("a")), "b")
    square = g.ReduceMean(g.Pow(gated, g.constant(2.0)), g.constant([-1], np.int64), keepdims=1)
    normal = g.Mul(gated, g.Div(g.constant(1.0), g.Sqrt(g.Add(square, g.constant(EPSILON)))))
    return {"y": g.Mul(normal, "gamma")}


def chain(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    mixed = g.Add(g.Mul("x", "y"), "x")
    bent = g.Tanh(mixed)
    ratio = g.Div("x", g.Add(g.Sqrt(g.Abs(g.Mul(bent, "y"))), g.constant(1.0)))
    return {"z": g.Sub(g.Max(g.Mul(g.Sigmoid(ratio), mixed), "y"), bent)}


def reductions(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    axes = g.constant([row.options["axis"]], np.int64)
    return {
        "sum": g.ReduceSum("x", axes, keepdims=0),
        "mean": g.ReduceMean("x", axes, keepdims=0),
        "max": g.ReduceMax("x", axes, keepdims=0),
    }


def batch_norm(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    normal = g.BatchNormalization("x", "gamma", "beta", "mean", "variance", epsilon=EPSILON)
    return {"y": g.Add(g.Relu(normal), "residual")}


def layer_norm_backward(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    columns, rows = g.constant([1], np.int64), g.constant([0], np.int64)
    normal, scaled = g.Mul(g.Sub("x", "mean"), "rstd"), g.Mul("dy", "gamma")
    projected = g.Mul(normal, g.ReduceMean(g.Mul(scaled, normal), columns, keepdims=1))
    inner = g.Sub(g.Sub(scaled, g.ReduceMean(scaled, columns, keepdims=1)), projected)
    return {
        "dx": g.Mul("rstd", inner),
        "dgamma": g.ReduceSum(g.Mul("dy", normal), rows, keepdims=0),
        "dbeta": g.ReduceSum("dy", rows, keepdims=0),
    }


def transpose(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    return {"y": g.Add(g.Mul(g.Transpose("x", perm=[0, 2, 1, 3]), g.constant(SCALE)), "residual")}


def gemm(g: OnnxGraph, row: Row, inputs: Arrays) -> Outputs:
    return {"y": g.Relu(g.Gemm("x", "weight", "bias"))}


CONSTANTS = {"gemm": ("weight", "bias"), "batch_norm": ("gamma", "beta", "mean", "variance")}


def _model(row: Row, inputs: Arrays) -> bytes:
    kernel = row.options["kernel"]
    graph = OnnxGraph(inputs, CONSTANTS.get(kernel, ()))
    return graph.model(globals()[kernel](graph, row, inputs))


def onnxruntime(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The model with bound inputs and outputs."""
    return {"model": onnxruntime_job(_model(row, inputs), inputs)}


def openvino(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The same model."""
    return {"model": openvino_job(_model(row, inputs), inputs)}
