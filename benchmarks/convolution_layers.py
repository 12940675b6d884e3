"""Every distinct convolution of the zoo's models, each direction, beside oneDNN (through torch) in alternating rounds.

`python benchmarks/convolution_layers.py MODEL... [--batch N] [--only forward,data,weight] [--json FILE]`; models are
the keys of LAYERS. Each line: microseconds of ours and of torch, arithmetic of a direct convolution a second (so a
fast algorithm may pass the machine's limit), ratio, and how often the model holds the layer. OMP_NUM_THREADS counts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_templates import build, native
from numpy.typing import NDArray

from graphc.codegen.cpp.target import detect
from graphc.codegen.cpp.winograd import winograd, winograd_gradient
from graphc.types import DType

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layer:
    """A square convolution and how many of it a model holds."""

    inputs: int
    side: int
    outputs: int
    kernel: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    count: int = 1

    @property
    def out(self) -> int:
        """Height and width of the result."""
        return (self.side + 2 * self.pad - self.kernel) // self.stride + 1

    def __str__(self) -> str:
        group = f" g{self.groups}" if self.groups > 1 else ""
        return f"{self.inputs}x{self.side} -> {self.outputs} k{self.kernel} s{self.stride}{group}"


def _bottlenecks() -> list[Layer]:
    layers = [Layer(3, 224, 64, 7, 2, 3)]
    for stage, (side, width, count) in enumerate([(56, 64, 3), (28, 128, 4), (14, 256, 6), (7, 512, 3)]):
        wide, before = 4 * width, 64 if stage == 0 else 2 * width
        stride, first = (1, side) if stage == 0 else (2, 2 * side)
        layers.append(Layer(before, first, width, 1))
        layers.append(Layer(before, first, wide, 1, stride))
        if stride == 2:
            layers.append(Layer(width, first, width, 3, 2, 1))
        layers.append(Layer(width, side, width, 3, 1, 1, count=count - (stride == 2)))
        layers.append(Layer(width, side, wide, 1, count=count))
        layers.append(Layer(wide, side, width, 1, count=count - 1))
    return layers


LAYERS: dict[str, list[Layer]] = {
    "lenet": [Layer(1, 28, 20, 5), Layer(20, 12, 50, 5)],
    "alexnet": [
        Layer(3, 224, 64, 11, 4, 2),
        Layer(64, 27, 192, 5, 1, 2),
        Layer(192, 13, 384, 3, 1, 1),
        Layer(384, 13, 256, 3, 1, 1),
        Layer(256, 13, 256, 3, 1, 1),
    ],
    "vgg16": [
        Layer(3, 224, 64, 3, 1, 1),
        Layer(64, 224, 64, 3, 1, 1),
        Layer(64, 112, 128, 3, 1, 1),
        Layer(128, 112, 128, 3, 1, 1),
        Layer(128, 56, 256, 3, 1, 1),
        Layer(256, 56, 256, 3, 1, 1, count=2),
        Layer(256, 28, 512, 3, 1, 1),
        Layer(512, 28, 512, 3, 1, 1, count=2),
        Layer(512, 14, 512, 3, 1, 1, count=3),
    ],
    "resnet18": [
        Layer(3, 32, 64, 3, 1, 1),
        Layer(64, 32, 64, 3, 1, 1, count=4),
        Layer(64, 32, 128, 3, 2, 1),
        Layer(64, 32, 128, 1, 2),
        Layer(128, 16, 128, 3, 1, 1, count=3),
        Layer(128, 16, 256, 3, 2, 1),
        Layer(128, 16, 256, 1, 2),
        Layer(256, 8, 256, 3, 1, 1, count=3),
        Layer(256, 8, 512, 3, 2, 1),
        Layer(256, 8, 512, 1, 2),
        Layer(512, 4, 512, 3, 1, 1, count=3),
    ],
    "resnet50": _bottlenecks(),
    "inception": [
        Layer(3, 224, 64, 7, 2, 3),
        Layer(64, 56, 64, 1),
        Layer(64, 56, 192, 3, 1, 1),
        Layer(192, 28, 64, 1, count=3),
        Layer(64, 28, 64, 3, 1, 1),
        Layer(64, 28, 96, 3, 1, 1, count=3),
        Layer(96, 28, 96, 3, 1, 1, count=2),
        Layer(320, 28, 128, 1),
        Layer(128, 28, 160, 3, 2, 1),
        Layer(576, 14, 224, 1),
        Layer(576, 14, 128, 1, count=4),
        Layer(64, 14, 96, 3, 1, 1),
        Layer(96, 14, 128, 3, 1, 1, count=2),
        Layer(128, 14, 128, 3, 1, 1),
        Layer(128, 14, 160, 3, 1, 1),
        Layer(160, 14, 160, 3, 1, 1),
        Layer(160, 14, 192, 3, 1, 1),
        Layer(192, 14, 192, 3, 1, 1),
        Layer(192, 14, 192, 3, 2, 1),
        Layer(1024, 7, 352, 1, count=2),
        Layer(192, 7, 320, 3, 1, 1, count=2),
        Layer(160, 7, 224, 3, 1, 1),
        Layer(224, 7, 224, 3, 1, 1),
    ],
    "depthwise": [
        Layer(32, 112, 32, 3, 1, 1, 32),
        Layer(64, 112, 64, 3, 2, 1, 64),
        Layer(128, 56, 128, 3, 1, 1, 128),
        Layer(256, 28, 256, 3, 1, 1, 256),
        Layer(512, 14, 512, 3, 1, 1, 512),
        Layer(1024, 7, 1024, 3, 1, 1, 1024),
    ],
    "groups": [
        Layer(128, 56, 128, 3, 1, 1, 32),
        Layer(256, 28, 256, 3, 1, 1, 32),
        Layer(96, 27, 256, 5, 1, 2, 2),
    ],
}


def alternate(*functions: Callable[[], object], rounds: int, round_seconds: float) -> list[float]:
    """Each function's least seconds a call over rounds in which they take turns."""
    repeats = []
    for function in functions:
        function()
        start = time.perf_counter()
        function()
        repeats.append(max(1, int(round_seconds / max(1e-7, time.perf_counter() - start))))
    seconds = [float("inf")] * len(functions)
    for _ in range(rounds):
        for number, (function, count) in enumerate(zip(functions, repeats, strict=True)):
            start = time.perf_counter()
            for _ in range(count):
                function()
            seconds[number] = min(seconds[number], (time.perf_counter() - start) / count)
    return seconds


class Templates:
    """The drivers of tests/templates/drivers; ours is the template that generated code would call."""

    def __init__(self, folder: Path, direct: bool) -> None:
        self.conv, self.winograd, self.depthwise = (
            build(driver, folder) for driver in ("conv", "winograd", "depthwise")
        )
        self.direct = direct

    def ours(self, layer: Layer, arrays: Sequence[Array], constant: bool) -> dict[str, Callable[[], object]]:
        """Forward, to the data, to the weight; `constant`: the forward pass has its weight packed."""
        shape, x, w, dy, y, dx, dw = arrays
        steps = {
            "stride": (layer.stride,) * 2,
            "pad": (layer.pad,) * 2,
            "dilate": (1, 1),
            "groups": layer.groups,
        }
        lanes, kernel = detect().lanes(4), w.shape[2:]
        depthwise = layer.groups == layer.inputs == layer.outputs and not self.direct
        library = self.depthwise if depthwise else self.conv
        calls = {
            "forward": native(library.forward_f32, shape, x, w, y),
            "data": native(library.data_gradient_f32, shape, dy, w, dx),
            "weight": native(library.weight_gradient_f32, shape, x, dy, dw),
        }
        if self.direct:
            return calls
        f32, alone = DType.F32, self.winograd
        if plan := winograd(x.shape, y.shape, kernel, steps, f32, constant):
            cut, packed = _plan(plan), _aligned(plan.packed_elements(constant))
            if constant:
                native(alone.pack_weight, shape, w, packed)()
                bias = np.zeros(layer.outputs, np.float32)
                call = native(alone.packed_bias_relu, shape, cut, x, packed, bias, y)
                calls["forward"] = _keeping(call, cut, packed, bias)
            else:
                calls["forward"] = _keeping(native(alone.forward, shape, cut, x, w, packed, y), cut, packed)
        if plan := winograd(y.shape, x.shape, kernel, steps, f32):
            cut, packed = _plan(plan), _aligned(plan.packed_elements(False))
            calls["data"] = _keeping(native(alone.data_gradient, shape, cut, dy, w, packed, dx), cut, packed)
        if sums := winograd_gradient(x.shape, y.shape, kernel, steps, f32):
            cut, shared = _plan(sums), _aligned(sums.shared_elements(lanes))
            calls["weight"] = _keeping(
                native(alone.weight_gradient, shape, cut, x, dy, shared, dw), cut, shared
            )
        return calls


def _plan(plan: object) -> Array:
    """The plan's integers, and zeros for those that are left out."""
    words = [int(word) for word in str(plan).strip("{}").split(",")]
    return np.array(words + [0] * 2, np.int64)


def _aligned(count: int) -> Array:
    whole = np.zeros(count * 4 + 64, np.uint8)
    begin = -whole.ctypes.data % 64
    return whole[begin : begin + count * 4].view(np.float32)


def _keeping(call: Callable[[], object], *arrays: Array) -> Callable[[], object]:
    """The call with the arrays that it has addresses of."""
    return lambda: (call(), arrays)


def calls(
    templates: Templates, layer: Layer, batch: int, constant: bool
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """For each direction: ours and torch's call on the same arrays."""
    n, out, k = batch, layer.out, layer.kernel
    window = (k, k, layer.stride, layer.stride, layer.pad, layer.pad, 1, 1, *(1, 1, 1, 1, 0, 1))
    sides = (layer.side, layer.side, out, out)
    shape = np.array([n, layer.groups, layer.inputs, layer.outputs, *sides, *window], np.int64)
    generator = np.random.default_rng(1)
    x = generator.standard_normal((n, layer.inputs, layer.side, layer.side), np.float32)
    w = generator.standard_normal((layer.outputs, layer.inputs // layer.groups, k, k), np.float32)
    dy = generator.standard_normal((n, layer.outputs, out, out), np.float32)
    arrays = (shape, x, w, dy, np.empty_like(dy), np.empty_like(x), np.empty_like(w))
    image, weight, gradient = (torch.from_numpy(array) for array in (x, w, dy))
    stride, pad = [layer.stride] * 2, [layer.pad] * 2
    steps = (stride, pad, [1, 1], False, [0, 0], layer.groups)
    backward = partial(torch.ops.aten.convolution_backward, gradient, image, weight, None, *steps)
    theirs = {
        "forward": partial(torch.conv2d, image, weight, None, stride, pad, 1, layer.groups),
        "data": partial(backward, [True, False, False]),
        "weight": partial(backward, [False, True, False]),
    }
    ours = templates.ours(layer, arrays, constant)
    return {direction: (_keeping(ours[direction], *arrays), theirs[direction]) for direction in ours}


def main() -> None:
    """Measure the models asked for and print a line for each layer and direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", choices=[[], *LAYERS], default=[])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--only", default="forward,data,weight")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.01, help="of a round")
    parser.add_argument("--direct", action="store_true", help="direct sums only")
    parser.add_argument("--training", action="store_true", help="weights are packed in each call")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alone", action="store_true", help="without torch")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        templates = Templates(Path(name), options.direct)
        for model in options.models or LAYERS:
            total = {direction: [0.0, 0.0] for direction in options.only.split(",")}
            for layer in LAYERS[model]:
                pairs = calls(templates, layer, options.batch, not options.training)
                for direction, taken in total.items():
                    pair = pairs[direction][:1] if options.alone else pairs[direction]
                    seconds = alternate(*pair, rounds=options.rounds, round_seconds=options.seconds)
                    ours, theirs = seconds[0], seconds[-1]
                    flops = 2.0 * options.batch * layer.outputs * layer.out**2
                    flops *= layer.inputs // layer.groups * layer.kernel**2
                    taken[0] += ours * layer.count
                    taken[1] += theirs * layer.count
                    rows.append([model, options.batch, direction, str(layer), layer.count, ours, theirs])
                    print(
                        f"{model:9s} b{options.batch:<3d} {direction:8s}{layer!s:28s} {ours * 1e6:9.1f} us"
                        f" {flops / ours * 1e-9:6.0f} GF  torch {theirs * 1e6:9.1f} us"
                        f" {flops / theirs * 1e-9:6.0f} GF  {theirs / ours:5.2f} x  times {layer.count}",
                        flush=True,
                    )
            for direction, (ours, theirs) in total.items():
                print(
                    f"{model:9s} b{options.batch:<3d} {direction:8s} all: {ours * 1e3:8.2f} ms, torch"
                    f" {theirs * 1e3:8.2f} ms, {theirs / ours:5.2f} x",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
