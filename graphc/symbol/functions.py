"""Every operator as a function of graphc.symbol: mx.sym.FullyConnected(data, num_hidden=10, name="fc")."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from graphc.operators.declare import Operator, operator
from graphc.symbol.compose import apply_function
from graphc.symbol.symbol import Symbol


def operator_function(name: str) -> Callable[..., Symbol]:
    """The function that applies the operator of that name or alias, with its signature and documentation."""
    declared = operator(name)

    def function(*args: Any, **kwargs: Any) -> Symbol:
        return apply_function(name, args, kwargs)

    function.__name__ = function.__qualname__ = name
    function.__module__ = "graphc.symbol"
    function.__doc__ = documentation(declared)
    function.__signature__ = _signature(declared)  # type: ignore[attr-defined]
    return function


def _signature(declared: Operator) -> inspect.Signature:
    kind = inspect.Parameter
    parameters = [kind("args", kind.VAR_POSITIONAL)] if declared.counted else []
    inputs = kind.KEYWORD_ONLY if declared.counted else kind.POSITIONAL_OR_KEYWORD
    parameters += [kind(name, inputs, default=None) for name in declared.usual_inputs]
    for parameter in declared.parameters:
        default = kind.empty if parameter.required else parameter.default
        parameters.append(kind(parameter.name, kind.KEYWORD_ONLY, default=default))
    parameters += [kind(name, kind.KEYWORD_ONLY, default=None) for name in ("name", "attr")]
    return inspect.Signature(parameters, return_annotation=Symbol)


def documentation(declared: Operator) -> str:
    """The docstring: what it computes, its arguments, its parameters with their defaults."""
    lines = [declared.doc, ""]
    names = "any number of symbols" if declared.counted else ", ".join(declared.usual_inputs) or "none"
    lines += [f"Inputs: {names}", ""]
    if declared.parameters:
        lines.append("Parameters:")
        for parameter in (item for item in declared.parameters if not item.ignored):
            default = "required" if parameter.required else f"default {parameter.default}"
            lines.append(f"    {parameter.name}: {parameter.allowed}, {default}. {parameter.doc}")
    return "\n".join(lines)
