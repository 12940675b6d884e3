"""The rows of the benchmark: for each one graphc's program, torch's ways to do the same, and a float64 check.

torch is written as its documentation advises: fused optimizers, `torch.compile` of the function or module. Where a
formula written for one compiled graph is faster than the usual module and backward call, both are candidates
("compile" and "compile_whole"); the faster one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from candidate import Candidate, Outputs, Row, relative_error
from fused import graphs
from torch.nn import functional
from training import training_candidates
from updates import update_candidates

import graphc as mx
from graphc.ir.graph import Graph

Inputs = dict[str, torch.Tensor]

MI = 1 << 20


def function_row(
    name: str,
    nbytes: int,
    flops: int,
    graph: Callable[[], Graph],
    inputs: Callable[[], Inputs],
    torch_function: Callable[..., Outputs],
    whole: Callable[..., Outputs] | None = None,
    trained: bool = False,
) -> Row:
    """A row whose work is a function of its inputs; `torch_function` in float64 is the reference.

    `trained` tells that torch_function differentiates: then the compiled candidate compiles its forward part, which
    it takes as `forward`.
    """

    def make(peers: Sequence[str]) -> list[Candidate]:
        functions: dict[str, Callable[..., Outputs]] = {}
        if "graphc" in peers:
            executable = mx.compile(graph())
            functions["graphc"] = lambda **given: _as_sequence(executable(**given))
        if "eager" in peers:
            functions["eager"] = torch_function
        if "compile" in peers:
            functions["compile"] = torch_function if trained else torch.compile(torch_function)
            if trained:
                forward = torch.compile(functional.cross_entropy)
                functions["compile"] = lambda **given: torch_function(**given, forward=forward)
            if whole is not None:
                functions["compile_whole"] = torch.compile(whole)
        timed, fresh = inputs(), inputs()
        reference = torch_function(**{key: _in_double(value) for key, value in fresh.items()})

        def candidate(label: str, function: Callable[..., Outputs]) -> Candidate:
            return Candidate(
                label, lambda: function(**timed), lambda: relative_error(function(**fresh), reference)
            )

        return [candidate(label, function) for label, function in functions.items()]

    return Row("fused", name, nbytes, flops, make)


def _as_sequence(result: torch.Tensor | Outputs) -> Outputs:
    return (result,) if isinstance(result, torch.Tensor) else result


def _in_double(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value


# Fused kernels


def _gelu_inputs() -> Inputs:
    return {"x": torch.randn(8192, 1024), "bias": torch.randn(1024), "residual": torch.randn(8192, 1024)}


def _torch_gelu(x: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor) -> Outputs:
    return (functional.gelu(x + bias, approximate="tanh") + residual,)


def _torch_softmax(x: torch.Tensor) -> Outputs:
    return (torch.softmax(x, dim=-1),)


def _norm_inputs() -> Inputs:
    return {"x": 3 * torch.randn(8192, 1024) + 1, "gamma": torch.randn(1024), "beta": torch.randn(1024)}


def _torch_layer_norm(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> Outputs:
    return (functional.layer_norm(x, (x.shape[1],), gamma, beta, 1e-5),)


def _torch_layer_norm_residual(
    x: torch.Tensor, residual: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor
) -> Outputs:
    return (functional.layer_norm(x + residual, (x.shape[1],), gamma, beta, 1e-5),)


def _cross_entropy_inputs() -> Inputs:
    return {"logits": 3 * torch.randn(4096, 8192), "labels": torch.randint(0, 8192, (4096,))}


def _torch_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    forward: Callable[..., torch.Tensor] = functional.cross_entropy,
) -> Outputs:
    leaf = logits.detach().requires_grad_()
    loss = forward(leaf, labels)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def _explicit_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> Outputs:
    log_probability = torch.log_softmax(logits, dim=-1)
    hit = torch.arange(logits.shape[1]) == labels[:, None]
    loss = -log_probability.gather(1, labels[:, None]).mean()
    return loss, (log_probability.exp() - hit.to(logits.dtype)) / logits.shape[0]


FUSED = (
    function_row(
        "bias + tanh-GELU + residual (8192,1024)", 3 * 32 * MI, 14 * 8 * MI,
        lambda: graphs.bias_gelu_residual(8192, 1024), _gelu_inputs, _torch_gelu,
    ),
    function_row(
        "softmax (4096,4096)", 2 * 64 * MI, 5 * 16 * MI,
        lambda: graphs.softmax(4096, 4096), lambda: {"x": 3 * torch.randn(4096, 4096)}, _torch_softmax,
    ),
    function_row(
        "layer norm (8192,1024)", 2 * 32 * MI, 8 * 8 * MI,
        lambda: graphs.layer_norm(8192, 1024, residual=False), _norm_inputs, _torch_layer_norm,
    ),
    function_row(
        "layer norm + residual (8192,1024)", 3 * 32 * MI, 9 * 8 * MI,
        lambda: graphs.layer_norm(8192, 1024, residual=True),
        lambda: _norm_inputs() | {"residual": torch.randn(8192, 1024)}, _torch_layer_norm_residual,
    ),
    function_row(
        "softmax cross-entropy + gradient (4096,8192)", 2 * 128 * MI, 8 * 32 * MI,
        lambda: graphs.cross_entropy(4096, 8192), _cross_entropy_inputs, _torch_cross_entropy,
        whole=_explicit_cross_entropy, trained=True,
    ),
    Row("fused", "Adam update, 16 M parameters", 7 * 64 * MI, 12 * 16 * MI,
        lambda peers: update_candidates("adam", 16 * MI, peers)),
    Row("fused", "SGD-momentum update, 16 M parameters", 5 * 64 * MI, 4 * 16 * MI,
        lambda peers: update_candidates("sgd", 16 * MI, peers)),
)  # fmt: skip

# Contractions of forward, gradient of the weights and, but for the first layer, of the data: 2 operations each.
MLP_FLOPS = 2 * 64 * (2 * 784 * 64 + 3 * 64 * 10)
LENET_FLOPS = 2 * 64 * (2 * 24 * 24 * 20 * 25 + 3 * 8 * 8 * 50 * 500 + 3 * 800 * 500 + 3 * 500 * 10)

TRAINING = (
    Row("training", "MLP 784-64-10 batch 64, SGD momentum", 0, MLP_FLOPS,
        lambda peers: training_candidates("mlp", peers)),
    Row("training", "LeNet 28x28 batch 64, SGD momentum", 0, LENET_FLOPS,
        lambda peers: training_candidates("lenet", peers)),
)  # fmt: skip

ROWS: Mapping[str, tuple[Row, ...]] = {"fused": FUSED, "training": TRAINING}
