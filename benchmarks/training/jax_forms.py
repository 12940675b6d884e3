"""JAX's way to train: one jitted function of loss, gradients and updates, which donates what it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax as jax_
import jax.numpy as jnp
import numpy as np
from harness.row import Array, Arrays, Job, Row

from training.jax_networks import LOSSES, Value
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

Values = dict[str, Value]


def jax(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The whole step."""
    recipe: Recipe = row.options["recipe"]
    held = {name: jnp.array(value) for name, value in parameters(recipe, inputs).items()}
    given = [(jnp.array(data), jnp.array(labels)) for data, labels in batches(inputs)]
    names = {"sgd": (), "momentum": ("momentum",)}.get(recipe.kind, ("mean", "variance"))
    slots = {slot: {name: jnp.zeros_like(value) for name, value in held.items()} for slot in names}
    loss = LOSSES[recipe.network.key]

    def step(
        held: Values,
        slots: dict[str, Values],
        state: Values,
        count: Value,
        data: Value,
        labels: Value,
        rate: Value,
    ) -> Any:
        (_, state), gradients = jax_.value_and_grad(loss, has_aux=True)(held, state, data, labels)
        fresh: Values = {}
        kept: dict[str, Values] = {slot: {} for slot in slots}
        for name, gradient in gradients.items():
            old = {slot: slots[slot][name] for slot in slots}
            fresh[name], new = _updated(recipe, held[name], gradient, old, rate, count + 1)
            for slot, value in new.items():
                kept[slot][name] = value
        return fresh, kept, state, count + 1

    jitted = jax_.jit(step, donate_argnums=(0, 1, 2, 3))
    carried: list[Any] = [held, slots, _state_of(held), jnp.zeros(())]
    rates = {"rate": jnp.array(recipe.rate, jnp.float32)}

    def call(data: Value, labels: Value) -> None:
        carried[:] = jax_.block_until_ready(jitted(*carried, data, labels, rates["rate"]))

    def results() -> list[Array]:
        for data, labels in given:
            call(data, labels)
        trained = {name: np.array(value) for name, value in carried[0].items()}
        rates["rate"] = jnp.array(TIMED_RATE, jnp.float32)
        return moved(recipe, inputs, trained)

    return {"step": Job(lambda: call(*given[0]), results)}


def _state_of(held: Values) -> Values:
    state = {}
    for name, gamma in held.items():
        if name.endswith("_bn_gamma"):
            stem = name.removesuffix("_bn_gamma")
            state[f"{stem}_mean"], state[f"{stem}_variance"] = jnp.zeros_like(gamma), jnp.ones_like(gamma)
    return state


def _updated(
    recipe: Recipe, weight: Value, gradient: Value, slots: Values, rate: Value, count: Value
) -> tuple[Value, Values]:
    """The optimizer's formula."""
    if recipe.kind == "sgd":
        return weight - rate * gradient, {}
    if recipe.kind == "momentum":
        momentum = MOMENTUM * slots["momentum"] + gradient
        return weight - rate * momentum, {"momentum": momentum}
    mean = BETA1 * slots["mean"] + (1 - BETA1) * gradient
    variance = BETA2 * slots["variance"] + (1 - BETA2) * gradient * gradient
    root = jnp.sqrt(variance / (1 - BETA2**count)) + EPSILON
    change = mean / (1 - BETA1**count) / root + recipe.decay * weight
    return weight - rate * change, {"mean": mean, "variance": variance}
