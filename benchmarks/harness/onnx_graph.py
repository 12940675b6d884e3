"""Writes ONNX models node by node: `g.Relu(g.Add(x, y))`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.row import Arrays

OPSET, IR_VERSION = 20, 10


class OnnxGraph:
    """A model under way. Names of operators are methods: operands and attributes in, the result's name out."""

    def __init__(self, inputs: Arrays, constants: Sequence[str] = ()) -> None:
        """`inputs` named in `constants` become initializers, which a runtime may pack; the others are inputs."""
        self._nodes: list[Any] = []
        self._constants = [numpy_helper.from_array(inputs[name], name) for name in constants]
        self._inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
            if name not in constants
        ]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a constant."""
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def __getattr__(self, operator: str) -> Callable[..., str]:
        def emit(*operands: str, **attributes: Any) -> str:
            result = f"{operator}_{len(self._nodes)}"
            self._nodes.append(helper.make_node(operator, operands, [result], **attributes))
            return result

        return emit

    def model(self, outputs: Mapping[str, str]) -> bytes:
        """The checked model whose outputs are named by the keys, in order."""
        nodes = [
            *self._nodes,
            *(helper.make_node("Identity", [result], [name]) for name, result in outputs.items()),
        ]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(nodes, "row", self._inputs, results, self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        # Shapes of the outputs come from the inputs'.
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data
