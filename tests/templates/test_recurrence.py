"""templates/cpp/recurrence.h against the oracles: every instruction set, odd sizes, one result on any threads."""

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import primitive
from graphc.types import DType, TensorType
from support.native import build, call, targets

MODES = {"rnn_relu": 1, "rnn_tanh": 1, "lstm": 4, "gru": 3}
# steps, rows, units: one of each; less than, exactly and more than a block of units; more rows than a tile has
SIZES = ((3, 2, 5), (1, 1, 1), (2, 1, 16), (2, 29, 33), (4, 15, 70))
NOTHING = np.zeros(0)


@dataclass
class Scan:
    """Random operands of one recurrence, its results in float64, and what the template gives."""

    mode: str
    sizes: tuple[int, int, int]
    dtype: type[np.floating] = np.float32
    reverse: bool = False
    clip: float = 0.0
    target: str = "native"
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (steps, rows, units), gates = self.sizes, MODES[self.mode]
        random = np.random.default_rng(7)
        shapes = {
            "x": (steps, rows, gates * units), "weight": (gates * units, units), "first": (rows, units),
            "cell": (rows, units), "bias": (units,), "dh": (steps, rows, units), "dc": (steps, rows, units),
        }  # fmt: skip
        for name, shape in shapes.items():
            scale = units**-0.5 if name == "weight" else 1.0
            self.arrays[name] = (scale * random.standard_normal(shape)).astype(self.dtype)
        wide = -(-units // 32) * 32
        self.packed = np.full(wide * units * max(gates, 2), np.nan, self.dtype)
        self.carried = np.full(rows * wide, np.nan, self.dtype)

    @property
    def attributes(self) -> Attributes:
        clip = (-self.clip, self.clip) if self.clip else None
        return Attributes({"mode": self.mode, "reverse": self.reverse, "clip": clip})

    def expected(self, name: str, operands: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Results by the oracle in float64."""
        tensors = tuple(torch.tensor(operand, dtype=torch.float64) for operand in operands)
        types = tuple(TensorType(DType.F64, tuple(tensor.shape)) for tensor in tensors)
        found = primitive(name).infer(types, self.attributes)
        values = tuple(Value(f"y{k}", type) for k, type in enumerate(found))
        node = Node(name, (), values, self.attributes)
        results = primitive(name).oracle(tensors, node, tuple(type.concrete_shape({}) for type in found))
        return [result.numpy() for result in results]

    def empty(self, *shape: int) -> np.ndarray[Any, Any]:
        return np.full(shape, np.nan, self.dtype)

    def run(self, name: str, *arguments: Any) -> None:
        suffix = "f32" if self.dtype is np.float32 else "f64"
        plain = [int(self.mode == "rnn_relu")] if self.mode.startswith("rnn") else []
        function = getattr(build("recurrence", self.target), f"{self.mode.partition('_')[0]}{name}_{suffix}")
        call(function, *self.sizes, int(self.reverse), *plain, *arguments)

    def forward(self, keep: bool = True, packed: bool = False) -> list[np.ndarray[Any, Any]]:
        """The template's results; without `keep` only the states; `packed`: the weight lies packed from before."""
        steps, rows, units = self.sizes
        a, h = self.arrays, self.empty(steps, rows, units)
        c = self.empty(steps, rows, units) if keep else NOTHING
        gates = self.empty(steps, rows, 4 * units) if keep else NOTHING
        head = [a["x"], 0 if packed else a["weight"], self.packed, a["first"]]
        if self.mode == "lstm":
            held = NOTHING if keep else self.empty(rows, units)
            self.run("", *head, a["cell"], h, *map(_or_null, (c, held, gates)), self.clip)
            return [h, c, gates] if keep else [h]
        if self.mode == "gru":
            self.run("", *head, a["bias"], h, _or_null(gates))
            return [h, gates] if keep else [h]
        self.run("", *head, h)
        return [h]

    def forward_operands(self) -> list[np.ndarray[Any, Any]]:
        more = {"lstm": ["cell"], "gru": ["bias"]}.get(self.mode, [])
        return [self.arrays[name] for name in ("x", "weight", "first", *more)]

    def backward(self, saved: list[np.ndarray[Any, Any]]) -> tuple[list[Any], list[Any]]:
        """The template's gradients and the oracle's, from the same saved values."""
        steps, rows, units = self.sizes
        a, dh0 = self.arrays, self.empty(rows, units)
        dx = self.empty(steps, rows, MODES[self.mode] * units)
        head = [a["dh"], a["weight"], self.packed]
        if self.mode == "lstm":
            dc0 = self.empty(rows, units)
            given = [a["cell"], saved[1], saved[2], a["dc"]]
            self.run("_gradient", *head, *given, self.carried, dx, dh0, dc0, self.clip)
            return [dx, dh0, dc0], self.expected("recurrence_gradient", [*head[:2], *given])
        if self.mode == "gru":
            ds, given = np.full_like(dx, np.nan), [a["first"], saved[0], saved[1]]
            self.run("_gradient", *head, *given, self.carried, dx, ds, dh0)
            return [dx, ds, dh0], self.expected("recurrence_gradient", [*head[:2], *given])
        self.run("_gradient", *head, saved[0], self.carried, dx, dh0)
        return [dx, dh0], self.expected("recurrence_gradient", [*head[:2], saved[0]])


def _or_null(array: np.ndarray[Any, Any]) -> Any:
    return array if array.size else 0


def close(found: list[Any], expected: list[Any], dtype: type[np.floating]) -> None:
    limit = 3e-5 if dtype is np.float32 else 1e-12
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=limit, atol=limit)


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("mode", MODES)
def test_both_directions_of_the_scan(mode: str, target: str) -> None:
    for sizes in SIZES:
        for dtype in (np.float32, np.float64):
            for reverse in (False, True):
                scan = Scan(mode, sizes, dtype, reverse, 0.5 if mode == "lstm" and reverse else 0.0, target)
                saved = scan.forward()
                close(saved, scan.expected("recurrence", scan.forward_operands()), dtype)
                close(*scan.backward(saved), dtype)


@pytest.mark.parametrize("mode", MODES)
def test_states_alone_are_the_same(mode: str) -> None:
    scan = Scan(mode, (5, 3, 37))
    assert np.array_equal(scan.forward()[0], scan.forward(keep=False)[0])


@pytest.mark.parametrize("mode", MODES)
def test_a_packed_weight_serves_again(mode: str) -> None:
    """A null weight: the packed one of an earlier call."""
    scan = Scan(mode, (3, 2, 21))
    first = scan.forward()
    again = scan.forward(packed=True)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_no_steps_and_no_rows(mode: str) -> None:
    for sizes in ((0, 3, 4), (3, 0, 4)):
        scan = Scan(mode, sizes)
        found, expected = scan.backward(scan.forward())
        close(found, expected, np.float32)


@pytest.mark.parametrize("rows", [7, 33])
@pytest.mark.parametrize("mode", MODES)
def test_the_number_of_threads_changes_no_bit(mode: str, rows: int) -> None:
    """Of few rows threads share out the units; of more, one block of units between two of them by rows."""
    library = build("recurrence")
    results = []
    for threads in (1, 2, 3, 5):
        library.threads(ctypes.c_int64(threads))
        scan = Scan(mode, (3, rows, 421))
        saved = scan.forward()
        results.append([*saved, *scan.backward(saved)[0]])
    library.threads(ctypes.c_int64(2))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_nan_and_infinity_stay_in_their_sequence(mode: str) -> None:
    scan = Scan(mode, (4, 3, 18))
    scan.arrays["x"][1, 0, 2] = np.nan
    scan.arrays["x"][2, 2, 5] = -np.inf
    saved = scan.forward()
    close(saved, scan.expected("recurrence", scan.forward_operands()), np.float32)
    assert np.isnan(saved[0][3, 0]).any() and not np.isnan(saved[0][:, 1]).any()
