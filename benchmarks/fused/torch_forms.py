"""torch's ways: the usual calls, eager and compiled; in float64 they are the reference."""

# ruff: noqa: D103 - rows.py says what each function computes
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from harness.row import Array, Arrays, Job, Row
from torch.nn import functional

from fused.rows import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, ADAM_RATE, ADAM_STEP, EPSILON, SCALE

Tensor = torch.Tensor
Outputs = tuple[Tensor, ...]
Function = Callable[..., Outputs]


def gelu(x: Tensor, bias: Tensor, residual: Tensor) -> Outputs:
    return (functional.gelu(x + bias, approximate="tanh") + residual,)


def softmax(x: Tensor) -> Outputs:
    return (torch.softmax(x, dim=-1),)


def layer_norm(x: Tensor, residual: Tensor, gamma: Tensor, beta: Tensor) -> Outputs:
    return (functional.layer_norm(x + residual, (x.shape[1],), gamma, beta, EPSILON),)


def cross_entropy(
    logits: Tensor, labels: Tensor, loss: Callable[..., Tensor] = functional.cross_entropy
) -> Outputs:
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, labels)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def explicit_cross_entropy(logits: Tensor, labels: Tensor) -> Outputs:
    log_probability = torch.log_softmax(logits, dim=-1)
    hit = torch.arange(logits.shape[1]) == labels[:, None]
    value = -log_probability.gather(1, labels[:, None]).mean()
    return value, (log_probability.exp() - hit.to(logits.dtype)) / logits.shape[0]


def adam(
    weight: Tensor,
    mean: Tensor,
    variance: Tensor,
    gradient: Tensor,
    step_size: Tensor,
    root_correction: Tensor,
) -> Outputs:
    """In place."""
    mean.mul_(ADAM_BETA1).add_(gradient, alpha=1 - ADAM_BETA1)
    variance.mul_(ADAM_BETA2).addcmul_(gradient, gradient, value=1 - ADAM_BETA2)
    weight.sub_(step_size * mean / (variance.sqrt() * root_correction + ADAM_EPSILON))
    return weight, mean, variance


def rms_norm(a: Tensor, b: Tensor, gamma: Tensor) -> Outputs:
    return (functional.rms_norm(functional.silu(a) * b, (a.shape[1],), gamma, EPSILON),)


def chain(x: Tensor, y: Tensor) -> Outputs:
    mixed = x * y + x
    bent = torch.tanh(mixed)
    ratio = x / (torch.sqrt(torch.abs(bent * y)) + 1)
    return (torch.maximum(torch.sigmoid(ratio) * mixed, y) - bent,)


def reductions_0(x: Tensor) -> Outputs:
    return x.sum(0), x.mean(0), x.amax(0)


def reductions_1(x: Tensor) -> Outputs:
    return x.sum(1), x.mean(1), x.amax(1)


def batch_norm(
    x: Tensor, residual: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor
) -> Outputs:
    normal = functional.batch_norm(x, mean, variance, gamma, beta, training=False, eps=EPSILON)
    return (functional.relu(normal) + residual,)


def layer_norm_backward(x: Tensor, dy: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> Outputs:
    normal, scaled = (x - mean) * rstd, dy * gamma
    inner = scaled - scaled.mean(1, keepdim=True) - normal * (scaled * normal).mean(1, keepdim=True)
    return rstd * inner, (dy * normal).sum(0), dy.sum(0)


def native_layer_norm_backward(x: Tensor, dy: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> Outputs:
    shape, wanted = [x.shape[1]], [True, True, True]
    result: Outputs = torch.ops.aten.native_layer_norm_backward(
        dy, x, shape, mean, rstd, gamma, gamma, wanted
    )
    return result


def transpose(x: Tensor, residual: Tensor) -> Outputs:
    return (x.permute(0, 2, 1, 3) * SCALE + residual,)


def gemm(x: Tensor, weight: Tensor, bias: Tensor) -> Outputs:
    return (torch.addmm(bias, x, weight).relu_(),)


def _function(row: Row) -> Function:
    kernel = row.options["kernel"]
    found: Function = globals()[f"{kernel}_{row.options['axis']}" if "axis" in row.options else kernel]
    return found


def float64(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The reference."""
    tensors = _tensors(inputs, torch.float64)
    return {"float64": _job(_function(row), tensors)}


def eager(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The calls that torch's documentation advises, and oneDNN's product beside MKL's."""
    tensors, kernel = _tensors(inputs), row.options["kernel"]
    if kernel == "adam":
        return {"Adam(fused=True)": _fused_adam(tensors)}
    if kernel == "layer_norm_backward":
        return {"native": _job(native_layer_norm_backward, tensors)}
    forms = {kernel: _job(_function(row), tensors)}
    if kernel == "gemm" and torch.backends.mkldnn.is_available():
        forms["oneDNN"] = _packed_product(tensors)
    return forms


def compiled(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """torch.compile of the function; of the loss alone beside the whole with its gradient."""
    tensors, function = _tensors(inputs), _function(row)
    if row.options["kernel"] == "cross_entropy":
        loss = torch.compile(functional.cross_entropy)
        return {
            "loss": _job(lambda logits, labels: cross_entropy(logits, labels, loss), tensors),
            "whole": _job(torch.compile(explicit_cross_entropy), tensors),
        }
    return {"function": _job(torch.compile(function), tensors)}


def _tensors(inputs: Arrays, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Copies in torch's own memory."""

    def convert(array: Array) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.to(dtype, copy=True) if tensor.is_floating_point() else tensor.clone()

    return {name: convert(array) for name, array in inputs.items()}


def _job(function: Function, tensors: Mapping[str, Tensor]) -> Job:
    def results() -> Sequence[Array]:
        return [output.numpy().copy() for output in function(**tensors)]

    return Job(lambda: function(**tensors), results)


def _fused_adam(tensors: Mapping[str, Tensor]) -> Job:
    weight = torch.nn.Parameter(tensors["weight"])
    weight.grad = tensors["gradient"]
    betas = ADAM_BETA1, ADAM_BETA2
    optimizer = torch.optim.Adam([weight], lr=ADAM_RATE, betas=betas, eps=ADAM_EPSILON, fused=True)
    optimizer.state[weight] = {
        "step": torch.tensor(float(ADAM_STEP - 1)),
        "exp_avg": tensors["mean"],
        "exp_avg_sq": tensors["variance"],
    }

    def results() -> Sequence[Array]:
        optimizer.step()
        return [value.detach().numpy().copy() for value in (weight, tensors["mean"], tensors["variance"])]

    return Job(optimizer.step, results)


def _packed_product(tensors: Mapping[str, Tensor]) -> Job:
    """OneDNN's product with its epilogue; the weight is packed once."""
    x, bias = tensors["x"], tensors["bias"]
    operations = torch.ops.mkldnn
    packed = operations._reorder_linear_weight(tensors["weight"].t().contiguous(), x.shape[0])

    def call() -> Tensor:
        result: Tensor = operations._linear_pointwise(x, packed, bias, "relu", [], "")
        return result

    return Job(call, lambda: [call().numpy().copy()])
