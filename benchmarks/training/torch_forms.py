"""torch's ways to train: eager with fused optimizers; the loss compiled; the whole step compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from harness.row import Array, Arrays, Job, Row

from training.rows import (
    BETA1,
    BETA2,
    EPSILON,
    MOMENTUM,
    TIMED_RATE,
    Recipe,
    batches,
    moved,
    parameters,
)  # fmt: skip
from training.torch_networks import LOSSES, state_of

Tensor = torch.Tensor
Parameters = dict[str, Tensor]
Slots = dict[str, Parameters]


def float64(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The reference: eager, in double."""
    return {"float64": _eager(row.options["recipe"], inputs, torch.float64)}


def eager(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """Loss, backward, fused optimizer."""
    return {"eager": _eager(row.options["recipe"], inputs)}


def compiled(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """torch.compile of the loss under autograd, and of loss, gradients and updates in one."""
    recipe: Recipe = row.options["recipe"]
    forms = {"loss": _eager(recipe, inputs, compile=torch.compile)}
    if recipe.network.key != "lstm":
        # torch.func has no rule for torch.lstm.
        forms["whole step"] = _whole(recipe, inputs)
    return forms


def _tensors(
    recipe: Recipe, inputs: Arrays, dtype: torch.dtype
) -> tuple[Parameters, list[tuple[Tensor, Tensor]]]:
    def convert(array: Array) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.to(dtype, copy=True) if tensor.is_floating_point() else tensor.clone()

    held = {name: convert(value) for name, value in parameters(recipe, inputs).items()}
    return held, [(convert(data), convert(labels)) for data, labels in batches(inputs)]


def optimizer_of(recipe: Recipe, held: Sequence[Tensor]) -> torch.optim.Optimizer:
    """Torch's fused optimizer; in double it is the plain one."""
    if recipe.kind in ("sgd", "momentum"):
        momentum = MOMENTUM if recipe.kind == "momentum" else 0.0
        return torch.optim.SGD(held, lr=recipe.rate, momentum=momentum, fused=True)
    kind = torch.optim.AdamW if recipe.kind == "adamw" else torch.optim.Adam
    betas = BETA1, BETA2
    return kind(held, lr=recipe.rate, betas=betas, eps=EPSILON, weight_decay=recipe.decay, fused=True)


def _eager(
    recipe: Recipe,
    inputs: Arrays,
    dtype: torch.dtype = torch.float32,
    compile: Callable[..., Callable[..., Tensor]] | None = None,
) -> Job:
    values, given = _tensors(recipe, inputs, dtype)
    held = {name: value.requires_grad_() for name, value in values.items()}
    state = state_of({name: value.detach() for name, value in held.items()})
    optimizer = optimizer_of(recipe, list(held.values()))
    loss = LOSSES[recipe.network.key]
    compute = compile(loss) if compile else loss

    def step(data: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        compute(held, state, data, labels).backward()
        optimizer.step()

    def results() -> Sequence[Array]:
        for data, labels in given:
            step(data, labels)
        trained = {name: value.detach().numpy().copy() for name, value in held.items()}
        for group in optimizer.param_groups:
            group["lr"] = TIMED_RATE
        return moved(recipe, inputs, trained)

    return Job(lambda: step(*given[0]), results)


def _whole(recipe: Recipe, inputs: Arrays) -> Job:
    """One compiled function; the rate and the number of the step are tensors, so that nothing compiles again."""
    held, given = _tensors(recipe, inputs, torch.float32)
    state, loss = state_of(held), LOSSES[recipe.network.key]
    names = {"sgd": (), "momentum": ("momentum",)}.get(recipe.kind, ("mean", "variance"))
    slots: Slots = {slot: {n: torch.zeros_like(v) for n, v in held.items()} for slot in names}

    @torch.compile
    def step(
        held: Parameters,
        slots: Slots,
        state: Parameters,
        data: Tensor,
        labels: Tensor,
        rate: Tensor,
        count: Tensor,
    ) -> None:
        def of(weights: Parameters) -> tuple[Tensor, Parameters]:
            fresh = {name: value.clone() for name, value in state.items()}
            return loss(weights, fresh, data, labels), fresh

        gradients, fresh = torch.func.grad(of, has_aux=True)(held)
        for name, value in fresh.items():
            state[name].copy_(value)
        for name, gradient in gradients.items():
            _update(recipe, held[name], gradient, {s: slots[s][name] for s in slots}, rate, count)

    count = torch.zeros(())
    rates = {"rate": torch.tensor(recipe.rate)}

    def call(data: Tensor, labels: Tensor) -> None:
        count.add_(1)
        step(held, slots, state, data, labels, rates["rate"], count)

    def results() -> Sequence[Array]:
        for data, labels in given:
            call(data, labels)
        trained = {name: value.numpy().copy() for name, value in held.items()}
        rates["rate"] = torch.tensor(TIMED_RATE)
        return moved(recipe, inputs, trained)

    return Job(lambda: call(*given[0]), results)


def _update(
    recipe: Recipe, weight: Tensor, gradient: Tensor, slots: Parameters, rate: Tensor, count: Tensor
) -> None:
    """The optimizer's formula, in place."""
    if recipe.kind == "sgd":
        weight.sub_(rate * gradient)
        return
    if recipe.kind == "momentum":
        slots["momentum"].mul_(MOMENTUM).add_(gradient)
        weight.sub_(rate * slots["momentum"])
        return
    mean, variance = slots["mean"], slots["variance"]
    mean.mul_(BETA1).add_(gradient, alpha=1 - BETA1)
    variance.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    root = (variance / (1 - BETA2**count)).sqrt() + EPSILON
    weight.sub_(rate * (mean / (1 - BETA1**count) / root + recipe.decay * weight))
