"""Fused kernels on an NVIDIA GPU: generated Triton beside torch eager and torch.compile.

    python benchmarks/gpu_fused.py [--only NAME] [--rounds N] [--json]      needs a GPU
    python benchmarks/gpu_fused.py --dry-run                                checks rows and report at tiny sizes, no GPU

Every candidate is captured as a CUDA graph, so that Python's launch overhead counts for none of them, and all run in
alternating rounds between CUDA events; the median of the rounds counts. A copy on the same device is timed in every
round: bandwidths are given as a share of it. Every result is checked against float64 first.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import click
import torch
from fused import graphs
from fused.rows import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON
from harness.row import relative_error
from torch.nn import functional

from graphc.codegen.triton import TritonProgram, generate
from graphc.driver.compile import lower
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.primitives.builder import Builder
from graphc.runtime.gpu.interpreter import Interpreter
from graphc.types import DType, TensorType, evaluate

Tensors = dict[str, torch.Tensor]
Function = Callable[..., Sequence[torch.Tensor]]
COPY_BYTES = 512 << 20
CALLS = 20
"""Calls captured in one graph, so that the events stand far apart."""


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One kernel: its graph and inputs for given sizes, the same in torch, the bytes and operations it needs."""

    name: str
    sizes: tuple[int, ...]
    tiny: tuple[int, ...]
    graph: Callable[..., Graph]
    inputs: Callable[..., Tensors]
    torch_function: Function
    nbytes: Callable[..., int]
    flops: Callable[..., int]
    tolerance: float = 1e-5
    updates: bool = False
    """Whether the results are the graph's updates in place of its outputs."""


def matmul_epilogue(m: int, n: int, k: int) -> Graph:
    """relu(x @ w.T + bias) in bf16, accumulated in f32."""
    b = Builder("dense_relu")
    x, w = (b.input(name, TensorType(DType.BF16, shape)) for name, shape in (("x", (m, k)), ("w", (n, k))))
    bias = b.input("bias", TensorType(DType.BF16, (n,)))
    product = b.add(b.emit("dot", x, w, transpose_b=True), b.broadcast(bias, (m, n), [1]))
    return b.finish({"y": b.maximum(product, 0.0)})


def _gelu_inputs(rows: int, columns: int) -> Tensors:
    x, residual = torch.randn(2, rows, columns).unbind()
    return {"x": x.contiguous(), "bias": torch.randn(columns), "residual": residual.contiguous()}


def _torch_gelu(x: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor) -> Sequence[torch.Tensor]:
    return (functional.gelu(x + bias, approximate="tanh") + residual,)


def _rows_inputs(rows: int, columns: int) -> Tensors:
    return {"x": 3 * torch.randn(rows, columns)}


def _torch_softmax(x: torch.Tensor) -> Sequence[torch.Tensor]:
    return (torch.softmax(x, dim=-1),)


def _norm_inputs(rows: int, columns: int) -> Tensors:
    return {
        "x": 3 * torch.randn(rows, columns) + 1,
        "gamma": torch.randn(columns),
        "beta": torch.randn(columns),
    }


def _torch_norm(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> Sequence[torch.Tensor]:
    return (functional.layer_norm(x, (x.shape[-1],), gamma, beta, 1e-5),)


def _adam_inputs(count: int) -> Tensors:
    vectors = {name: torch.randn(count) for name in ("weight", "mean", "gradient")}
    scalars = {"step_size": torch.tensor(0.01), "root_correction": torch.tensor(1.5)}
    return vectors | scalars | {"variance": torch.rand(count)}


def _torch_adam(
    weight: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    gradient: torch.Tensor,
    step_size: torch.Tensor,
    root_correction: torch.Tensor,
) -> Sequence[torch.Tensor]:
    new_mean = mean * ADAM_BETA1 + gradient * (1 - ADAM_BETA1)
    new_variance = variance * ADAM_BETA2 + gradient * gradient * (1 - ADAM_BETA2)
    divisor = new_variance.sqrt() * root_correction + ADAM_EPSILON
    mean.copy_(new_mean)
    variance.copy_(new_variance)
    weight.copy_(weight - new_mean * step_size / divisor)
    return mean, variance, weight


def _entropy_inputs(rows: int, classes: int) -> Tensors:
    return {"logits": 3 * torch.randn(rows, classes), "labels": torch.randint(0, classes, (rows,))}


def _torch_entropy(logits: torch.Tensor, labels: torch.Tensor) -> Sequence[torch.Tensor]:
    log_probability = torch.log_softmax(logits, dim=-1)
    loss = functional.nll_loss(log_probability, labels)
    hit = torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
    return loss, (log_probability.exp() - hit.to(logits.dtype)) / logits.shape[0]


def _matmul_inputs(m: int, n: int, k: int) -> Tensors:
    shapes = {"x": (m, k), "w": (n, k), "bias": (n,)}
    return {name: torch.randn(shape).bfloat16() for name, shape in shapes.items()}


def _torch_matmul(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor) -> Sequence[torch.Tensor]:
    return (torch.relu(functional.linear(x, w, bias)),)


def _no_flops(*sizes: int) -> int:
    return 0


ROWS = (
    GpuRow(
        "bias + tanh-GELU + residual", (16384, 4096), (5, 40), graphs.bias_gelu_residual, _gelu_inputs, _torch_gelu,
        lambda r, c: 4 * (3 * r * c + c), _no_flops,
    ),
    GpuRow(
        "softmax, wide rows", (4096, 16384), (3, 300), graphs.softmax, _rows_inputs, _torch_softmax,
        lambda r, c: 8 * r * c, _no_flops,
    ),
    GpuRow(
        "softmax, narrow rows", (262144, 256), (40, 20), graphs.softmax, _rows_inputs, _torch_softmax,
        lambda r, c: 8 * r * c, _no_flops,
    ),
    GpuRow(
        "layer norm", (16384, 4096), (5, 40), lambda r, c: graphs.layer_norm(r, c, residual=False), _norm_inputs,
        _torch_norm, lambda r, c: 8 * (r * c + c), _no_flops,
    ),
    GpuRow(
        "Adam update", (1 << 26,), (1000,), graphs.adam, _adam_inputs, _torch_adam,
        lambda n: 4 * 7 * n, _no_flops, updates=True,
    ),
    GpuRow(
        "cross-entropy with gradient", (16384, 8192), (5, 40), graphs.cross_entropy, _entropy_inputs, _torch_entropy,
        lambda r, c: 8 * r * c + 8 * r, _no_flops,
    ),
    GpuRow(
        "dense + bias + ReLU, bf16", (8192, 8192, 8192), (20, 24, 40), matmul_epilogue, _matmul_inputs, _torch_matmul,
        lambda m, n, k: 2 * (m * k + n * k + m * n + n), lambda m, n, k: 2 * m * n * k, tolerance=2e-2,
    ),
)  # fmt: skip


# Candidates


def flat_tensors(
    program: TritonProgram, given: Mapping[str, torch.Tensor], device: str
) -> list[torch.Tensor]:
    """One flat tensor a buffer; inputs hold copies of what is given."""
    tensors = [
        torch.zeros(evaluate(b.type.size, {}), dtype=b.type.dtype.torch, device=device)
        for b in program.buffers
    ]
    for name, index in program.program.inputs:
        tensors[index].copy_(given[name].reshape(-1))
    return tensors


def results_of(row: GpuRow, program: Program, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What a run left: outputs by name, or the updated states in the order of the graph's updates."""
    if row.updates:
        places = dict(program.inputs)
        return [tensors[places[update.target]] for update in program.graph.updates]
    return [tensors[index] for _, index in program.outputs]


def reference(row: GpuRow, given: Tensors) -> list[torch.Tensor]:
    """The results in float64, flat."""
    wide = {name: t.double() if t.is_floating_point() else t.clone() for name, t in given.items()}
    return [result.reshape(-1) for result in row.torch_function(**wide)]


def in_place_order(row: GpuRow, program: Program) -> list[int]:
    """Where each result of the torch function (mean, variance, weight) stands among the graph's updates."""
    names = [update.target for update in program.graph.updates]
    return [names.index(name) for name in ("mean", "variance", "weight")] if row.updates else []


def ordered(row: GpuRow, program: Program, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The results of a run in the order of the torch function's."""
    results = results_of(row, program, tensors)
    return [results[position] for position in in_place_order(row, program)] if row.updates else results


def error_of(results: Sequence[torch.Tensor], references: Sequence[torch.Tensor]) -> float:
    """The largest relative error, on the host."""
    arrays = [[tensor.double().cpu().numpy() for tensor in tensors] for tensors in (results, references)]
    return relative_error(*arrays)


def captured(call: Callable[[], object]) -> Callable[[], None]:
    """CALLS calls as one CUDA graph; calling the result replays it."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    return graph.replay


def gpu_candidates(row: GpuRow) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """Each way to do the row's work, and its error against float64."""
    from graphc.runtime.gpu import load

    given = row.inputs(*row.sizes)
    want = reference(row, {name: t.cuda() for name, t in given.items()})
    program = generate(lower(row.graph(*row.sizes)).program)
    loaded = load(program)
    tensors = flat_tensors(program, given, "cuda")
    loaded.run(tensors)
    errors = {"graphc": error_of(ordered(row, program.program, tensors), want)}
    calls: dict[str, Callable[[], object]] = {"graphc": lambda: loaded.run(tensors)}
    for name, function in (("eager", row.torch_function), ("compile", torch.compile(row.torch_function))):
        inputs = {key: t.cuda() for key, t in given.items()}
        errors[name] = error_of([r.reshape(-1) for r in function(**inputs)], want)
        calls[name] = lambda function=function, inputs=inputs: function(**inputs)
    return calls, errors


def event_seconds(replay: Callable[[], object], calls: int = CALLS) -> float:
    """Seconds a call between two CUDA events around one replay."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def measure(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: Callable[[Callable[[], object]], float] = event_seconds,
) -> dict[str, float]:
    """Median seconds a call of every candidate; all of them run in every round, in an order that turns."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(rounds):
        for name in order:
            times[name].append(seconds(candidates[name]))
        order = [*order[1:], order[0]]
    return {name: statistics.median(values) for name, values in times.items()}


def records(
    row: GpuRow, medians: Mapping[str, float], errors: Mapping[str, float]
) -> list[dict[str, object]]:
    """One record a candidate; `share` is the bandwidth as a part of that of the device copy of the same rounds."""
    copy_bandwidth = 2 * COPY_BYTES / medians["copy"]
    nbytes, flops = row.nbytes(*row.sizes), row.flops(*row.sizes)
    return [
        {
            "row": row.name,
            "sizes": list(row.sizes),
            "candidate": name,
            "us": 1e6 * seconds,
            "gigabytes_per_second": nbytes / seconds / 1e9,
            "share": nbytes / seconds / copy_bandwidth,
            "teraflops": flops / seconds / 1e12,
            "error": errors[name],
            "right": errors[name] <= row.tolerance,
        }
        for name, seconds in medians.items()
        if name != "copy"
    ]


def line_of(record: Mapping[str, object]) -> str:
    """A record for people to read."""
    speed = (
        f"{record['teraflops']:7.1f} TFLOP/s" if record["teraflops"] else f"{record['share']:7.1%} of a copy"
    )
    verdict = "" if record["right"] else f"   WRONG: error {record['error']:.1e}"
    return (
        f"{record['row']:<30} {record['candidate']:<8} {record['us']:9.1f} us "
        f"{record['gigabytes_per_second']:8.0f} GB/s {speed}{verdict}"
    )


def dry_run(row: GpuRow, interpreter: Interpreter) -> float:
    """The error of the generated program against float64 at tiny sizes, in Triton's interpreter."""
    given = row.inputs(*row.tiny)
    program = generate(lower(row.graph(*row.tiny)).program)
    tensors = interpreter.run(program, flat_tensors(program, given, "cpu"))
    return error_of(ordered(row, program.program, tensors), reference(row, given))


def run_on_gpu(row: GpuRow, rounds: int) -> list[dict[str, object]]:
    """Measure one row with the device copy beside it."""
    calls, errors = gpu_candidates(row)
    source, target = (torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda") for _ in range(2))
    replays = {name: captured(call) for name, call in {**calls, "copy": lambda: target.copy_(source)}.items()}
    return records(row, measure(replays, rounds), errors)


@click.command()
@click.option("--only", default="", help="rows whose name contains this")
@click.option("--rounds", default=15, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="records as JSON")
@click.option("--dry-run", "dry", is_flag=True, help="tiny sizes in Triton's interpreter; no GPU, no times")
def main(only: str, rounds: int, as_json: bool, dry: bool) -> None:
    """Measure fused kernels on the GPU."""
    torch.manual_seed(0)
    chosen = [row for row in ROWS if only.lower() in row.name.lower()]
    if dry:
        with Interpreter() as interpreter:
            for row in chosen:
                error = dry_run(row, interpreter)
                click.echo(f"{row.name:<30} error {error:.1e}")
                if error > row.tolerance:
                    raise SystemExit(3)
        return
    if not torch.cuda.is_available():
        raise click.ClickException("torch sees no NVIDIA GPU; --dry-run needs none")
    found = []
    for row in chosen:
        found += run_on_gpu(row, rounds)
        if not as_json:
            for record in found[-3:]:
                click.echo(line_of(record))
    if as_json:
        click.echo(json.dumps({"device": torch.cuda.get_device_name(), "records": found}, indent=2))
    if not all(record["right"] for record in found):
        raise SystemExit(3)


if __name__ == "__main__":
    main()
