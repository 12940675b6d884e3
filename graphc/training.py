"""A whole training step as one graph: forward pass, gradients, optimizer updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphc.diagnostics import fail
from graphc.ir.graph import Graph, Input, InputKind, Origin, Value
from graphc.optimizer import Optimizer
from graphc.passes.attention import RecognizeAttention
from graphc.passes.gradient import gradient
from graphc.primitives.builder import Builder
from graphc.symbol.symbol import Symbol
from graphc.symbol.trace import trace
from graphc.types import DType, TensorType

LEARNING_RATE = "learning_rate"
COUNT = "optimizer_updates"
"""The i64 state that counts updates, for optimizers whose formula depends on it."""


def training_graph(
    model: Symbol | Graph,
    optimizer: Optimizer,
    *,
    shapes: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, Any] | None = None,
    wrt: Sequence[str] | None = None,
) -> Graph:
    """One training step of a Symbol, or of a Graph that was traced for training.

    Its outputs are the model's. Inputs: the model's; `learning_rate: f32[]`; as states, for parameter p, each state s
    of the optimizer as `p_s`, all of them zero at first, and the number of updates where the formula needs it.
    Updates: the model's own (moving statistics, random numbers), the parameters, the optimizer's states.
    wrt: the parameters to train; by default all floating-point ones. A Symbol's attributes `__lr_mult__` and
    `__wd_mult__` count where the optimizer has no factor of its own. Errors: G404 when there is nothing to train.
    """
    if isinstance(model, Symbol):
        optimizer = with_symbol_factors(optimizer, model)
        graph = trace(model, shapes or {}, dtypes, is_train=True, parameters=None)
    elif shapes or dtypes:
        raise fail("G105", "a Graph has its shapes and types; leave shapes= and dtypes= out")
    else:
        graph = model
    trained = _trained(graph) if wrt is None else tuple(dict.fromkeys(wrt))
    if not trained:
        raise fail("G404", f"{graph.name} has no parameters to train")
    graph = RecognizeAttention()(graph)
    joint = gradient(graph, trained)
    gradients = joint.outputs[len(graph.outputs) :]
    forward = replace(joint, outputs=graph.outputs, output_names=graph.output_names)
    return _with_updates(forward, dict(zip(trained, gradients, strict=True)), optimizer)


def _trained(graph: Graph) -> tuple[str, ...]:
    return tuple(
        item.name
        for item in graph.inputs
        if item.kind is InputKind.PARAMETER and item.value.type.dtype.is_float
    )


def _with_updates(graph: Graph, gradients: Mapping[str, Value], optimizer: Optimizer) -> Graph:
    builder = Builder.extend(graph)
    rate = builder.input(LEARNING_RATE, TensorType(DType.F32, ()))
    count: Value | None = None
    if optimizer.counts_updates:
        before = builder.input(COUNT, TensorType(DType.I64, ()), InputKind.STATE)
        with builder.at((Origin(COUNT, type(optimizer).__name__),), hint=COUNT):
            count = builder.add(before, 1)
        builder.update(before, count)
    for name, value in gradients.items():
        weight = graph.input_by_name[name].value
        states = {
            state: builder.input(f"{name}_{state}", weight.type, InputKind.STATE)
            for state in optimizer.states
        }
        with builder.at((Origin(name, type(optimizer).__name__),), hint=f"{name}_update"):
            new, changed = optimizer.update(builder, name, weight, value, states, rate, count)
        builder.update(weight, new)
        for key, content in changed.items():
            builder.update(states[key], content)
    inputs = [_as_parameter(item) if item.name in gradients else item for item in builder.inputs]
    outputs = dict(zip(graph.output_names, graph.outputs, strict=True))
    return replace(builder.finish(outputs), inputs=tuple(inputs))


def _as_parameter(item: Input) -> Input:
    return replace(item, kind=InputKind.PARAMETER) if item.kind is InputKind.DATA else item


def with_symbol_factors(optimizer: Optimizer, symbol: Symbol) -> Optimizer:
    """The optimizer with the factors that a symbol's variables carry; the optimizer's own come first."""
    attributes = symbol.attr_dict()

    def factors(key: str) -> dict[str, float]:
        return {name: float(found[key]) for name, found in attributes.items() if key in found}

    return replace(
        optimizer,
        lr_mult=factors("__lr_mult__") | optimizer.lr_mult,
        wd_mult=factors("__wd_mult__") | optimizer.wd_mult,
    )
