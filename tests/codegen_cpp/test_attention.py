"""Attention from the C++ templates: odd shapes, strides, masks, threads, special values."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from graphc.codegen.cpp.attention import forward_scratch, gradient_scratch
from graphc.codegen.cpp.target import detect
from graphc.driver.compile import lower
from graphc.ir.graph import Graph
from graphc.types import DType
from support.attention_graphs import FORMS, N, with_gradient
from support.graphs import random_inputs
from support.native import FLAGS, HEADERS, compiler
from support.native_graphs import NativeGraphs, compare

SHAPES = {
    "odd": with_gradient((2, 3), 33, 70, 16, 24),
    "ones": with_gradient((1,), 1, 1, 1, 1),
    "several blocks of keys": with_gradient((2,), 50, 1100, 40, 33, causal=True, offset=1050),
    "several blocks of queries": with_gradient((), 600, 70, 8, 5, causal=True, offset=-500),
    "bias": with_gradient((5,), 17, 13, 7, 5, bias=True),
    "f64": with_gradient((2,), 150, 140, 12, 9, causal=True, bias=True, dtype=DType.F64),
    "rows that see nothing": with_gradient((3,), 20, 11, 5, 3, causal=True, offset=-4),
    "no keys": with_gradient((2,), 5, 0, 4, 3),
    "no queries": with_gradient((2,), 0, 5, 4, 3),
    "no features": with_gradient((2,), 5, 6, 0, 3),
    "no values": with_gradient((2,), 5, 6, 3, 0),
    "dropout": with_gradient((2, 3), 33, 70, 16, 24, keep=0.7),
    "dropout in blocks": with_gradient((2,), 130, 600, 8, 5, causal=True, bias=True, offset=470, keep=0.25),
    "dropout of named sizes in f64": with_gradient((), N, 7, 3, 2, keep=0.9, dtype=DType.F64),
    "one query": with_gradient((2, 3), 1, 70, 40, 24),
    "one query of many keys": with_gradient((3,), 1, 1000, 64, 80, causal=True, offset=999, keep=0.8),
    "three queries of an odd width": with_gradient((2,), 3, 45, 7, 5, causal=True, bias=True, offset=42),
    "two queries in f64": with_gradient((), 2, 17, 9, 3, dtype=DType.F64),
    "many items": with_gradient((20, 4), 19, 21, 4, 6, causal=True, offset=2),
    "no items": with_gradient((0,), 5, 6, 3, 2),
    "named sizes": with_gradient((2,), N, N + 3, 8, 8, causal=True),
}


def given_to(graph: Graph, seed: int) -> dict[str, torch.Tensor]:
    """Inputs in their declared types."""
    found = random_inputs(graph, seed, {"N": 61})
    return {i.name: found[i.name].to(i.value.type.dtype.torch) for i in graph.inputs}


def test_shapes_and_forms_against_float64() -> None:
    cases = {**SHAPES, **{name: graph for name, (graph, _) in FORMS.items() if name != "named sizes"}}
    native = NativeGraphs([lower(graph).program for graph in cases.values()])
    assert sum("gc_attention<" in text for _, text in native.generated.files) >= 1
    inputs = [given_to(graph, k) for k, graph in enumerate(cases.values())]
    results = native.run(inputs, {"N": 61})
    for (name, graph), given, got in zip(cases.items(), inputs, results, strict=True):
        compare(graph, given, got, name)


def test_special_values_stay_in_their_row() -> None:
    graph = with_gradient((2,), 20, 30, 8, 8, bias=True)
    given = given_to(graph, 0)
    given["q"][0, 3, 0], given["q"][1, 5, 0] = torch.nan, torch.inf
    given["bias"][7] = -torch.inf
    given["bias"][9, :15] = -torch.inf
    (got,) = NativeGraphs([lower(graph).program]).run([given], {})
    broken = torch.isnan(got["out"]).all(-1)
    assert broken.nonzero().tolist() == [[0, 3], [0, 7], [1, 5], [1, 7]]
    assert torch.isfinite(got["out"][~broken]).all()
    assert torch.isnan(got["dq"]).any(-1).nonzero().tolist() == [[0, 3], [0, 7], [1, 5], [1, 7]]


ONE_RESULT = """
import torch
from graphc.driver.compile import compile
from support.attention_graphs import with_gradient
for lead, causal in (((3,), True), ((), False), ((8,), True)):
    graph = with_gradient(lead, 300, 280, 16, 16, causal=causal)
    torch.manual_seed(0)
    inputs = {i.name: torch.randn(i.value.type.shape) for i in graph.inputs}
    for value in compile(graph, target="cpu")(**inputs):
        print(hash(value.numpy().tobytes()))
"""


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    def run(count: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": count, "PYTHONHASHSEED": "0", "PYTHONPATH": "tests"}
        done = subprocess.run(
            [sys.executable, "-c", ONE_RESULT], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    one = run("1")
    assert len(one.splitlines()) == 15
    assert run("2") == one == run("3")


def test_an_unwanted_result_is_not_computed() -> None:
    graph = with_gradient((2,), 30, 30, 8, 8)
    kept = replace(graph, outputs=graph.outputs[2:3], output_names=("dq",))
    given = given_to(graph, 0)
    (got,) = NativeGraphs([lower(kept).program]).run([given], {})
    compare(kept, given, got, "dq only")
    gradient = next(k.anchor for k in lower(kept).program.kernels if k.anchor and len(k.anchor.results) == 3)
    assert [bool(name) for name in gradient.results] == [True, False, False]


SIZES = [(1, 1, 1, 1), (128, 128, 64, 64), (600, 900, 40, 33), (2048, 2048, 128, 256), (50, 7, 300, 5)]
ASK = """
#include <stdio.h>
#include "attention_gradient.h"
template <class T> void say(int64_t queries, int64_t keys, int64_t depth, int64_t width) {
  const gc_attention_shape s = {1, queries, keys, depth, width, 1.0, false, 0};
  const int64_t rows = gc_attention_shares(s, 1, 36 * GC_TILE_ROWS).rows;
  const int64_t forward = gc_attention_block<T>::bytes(s, rows);
  const int64_t backward = gc_gradient_block<T>::bytes(s, gc_max_of<int64_t>(queries, GC_GRADIENT_ROWS));
  printf("%lld %lld\\n", (long long)forward, (long long)backward);
}
"""


def test_the_planned_scratch_is_enough_and_not_much_more(tmp_path: Path) -> None:
    calls = "".join(f"say<{t}>({', '.join(map(str, size))});" for size in SIZES for t in ("float", "double"))
    source = tmp_path / "size.cpp"
    source.write_text(ASK + f"int main() {{ {calls} }}\n")
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC", "-Werror")]
    for number, machine in enumerate((["-march=native"], [])):
        program = tmp_path / f"size{number}"
        subprocess.run(
            [compiler(), *flags, *machine, f"-I{HEADERS}", str(source), "-o", str(program), "-lm"], check=True
        )
        said = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(said) == 2 * len(SIZES)
        for line, (size, itemsize) in zip(said, [(s, b) for s in SIZES for b in (4, 8)], strict=True):
            queries, _, depth, width = size
            forward, backward = map(int, line.split())
            assert forward <= forward_scratch(queries, depth, width, itemsize)
            assert backward <= gradient_scratch(queries, depth, width, itemsize)
            if number == 0 and detect().isa == "avx512" and depth >= 40:
                assert forward_scratch(queries, depth, width, itemsize) <= 2.5 * forward
                assert gradient_scratch(queries, depth, width, itemsize) <= 2.5 * backward
