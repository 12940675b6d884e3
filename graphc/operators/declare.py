"""How an operator that users call is declared: one record, its composition of primitives, and the registry.

    declare(Operator("FullyConnected", "...", compose=..., parameters=(...), arguments=..., shapes=...))

An operator's type rule, gradient, oracle and cost are those of the primitives that it is composed of. The few whose
gradient is not that of their forward say so with the primitives `with_gradient` and `stop_gradient`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphc.diagnostics import GraphcError, Location, closest, fail
from graphc.ir.graph import InputKind, Value
from graphc.operators.inference import DTypeRule, ShapeRule, forward_only, same_dtype_rule
from graphc.operators.parameters import Parameter, Parameters, format_value
from graphc.primitives.builder import Builder
from graphc.types import Dim, DType, TensorType

RANDOM_STATE = "random_state"


@dataclass(frozen=True, slots=True)
class Composition:
    """What an operator computes: its outputs, and the new contents of its auxiliary states by their names."""

    outputs: tuple[Value, ...]
    updates: Mapping[str, Value] = field(default_factory=dict)


class Context:
    """What a composition may ask of the graph around it: training or not, and random numbers.

    The random state is an input i64[2] = (seed, step) that appears in the graph when it is first needed; each use
    has a stream number of its own.
    """

    def __init__(self, is_train: bool = False) -> None:
        self.is_train = is_train
        self.random_state: Value | None = None
        self._streams = itertools.count()

    def random_uniform(self, builder: Builder, shape: tuple[Dim, ...]) -> Value:
        """f32 in [0, 1), independent of all other uses."""
        state, stream = self.random_stream(builder)
        return builder.emit("random_uniform", state, stream=stream, shape=shape)

    def random_stream(self, builder: Builder) -> tuple[Value, int]:
        """The random state and the number of a stream that nobody else draws from."""
        if self.random_state is None:
            self.random_state = builder.input(RANDOM_STATE, TensorType(DType.I64, (2,)), InputKind.STATE)
        return self.random_state, next(self._streams)


Compose: TypeAlias = Callable[[Builder, Parameters, tuple[Value, ...], Context], Value | Composition]
Names: TypeAlias = tuple[str, ...] | Callable[[Parameters], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    `arguments` and `outputs` are names, or a function from the parameters to names. Where `counted` names a
    parameter, the operator takes any number of inputs, arg0, arg1 ..., and that parameter is their number.
    `auxiliaries` are states that training updates; they follow the arguments among the inputs.
    """

    name: str
    doc: str
    compose: Compose
    parameters: tuple[Parameter, ...] = ()
    arguments: Names = ("data",)
    auxiliaries: tuple[str, ...] = ()
    outputs: Names = ("output",)
    counted: str = ""
    shapes: ShapeRule = forward_only
    dtypes: DTypeRule = same_dtype_rule
    aliases: tuple[str, ...] = ()

    def argument_names(self, parameters: Parameters) -> tuple[str, ...]:
        if self.counted:
            return tuple(f"arg{index}" for index in range(parameters[self.counted]))
        return self.arguments(parameters) if callable(self.arguments) else self.arguments

    def input_names(self, parameters: Parameters) -> tuple[str, ...]:
        """Arguments, then auxiliary states."""
        return self.argument_names(parameters) + self.auxiliaries

    @property
    def usual_inputs(self) -> tuple[str, ...]:
        """The inputs that it has when its parameters have their defaults; none where they are counted."""
        if self.counted:
            return ()
        return self.input_names(Parameters({item.name: item.default for item in self.parameters}))

    @property
    def takes_inputs(self) -> bool:
        return bool(self.counted or self.arguments)

    def output_names(self, parameters: Parameters) -> tuple[str, ...]:
        return self.outputs(parameters) if callable(self.outputs) else self.outputs

    def parameter(self, name: str) -> Parameter | None:
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def apply(
        self, builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Composition:
        """Add the operator's primitives to a graph."""
        result = self.compose(builder, parameters, inputs, context)
        return Composition((result,)) if isinstance(result, Value) else result

    def read_parameters(
        self, given: Mapping[str, Any], name: str = "", location: Location | None = None
    ) -> tuple[Parameters, dict[str, str]]:
        """All parameter values, and the given ones as text for model files.

        Raises G102 for an unknown parameter, G103 for a missing one, G104 for a value that is not allowed.
        """

        def broken(code: str, message: str, help: str) -> GraphcError:
            return fail(code, message, operator=self.name, name=name, location=location, help=help)

        known = tuple(parameter.name for parameter in self.parameters)
        for key in given:
            if key not in known:
                help = closest(key, known) or f"it has {', '.join(known)}" if known else "it has none"
                raise broken("G102", f"there is no parameter {key!r}", help)
        values: dict[str, Any] = {}
        texts: dict[str, str] = {}
        for parameter in self.parameters:
            if parameter.name not in given:
                if parameter.required:
                    raise broken(
                        "G103", f"parameter {parameter.name!r} is missing", f"it is {parameter.allowed}"
                    )
                values[parameter.name] = parameter.default
                continue
            value = given[parameter.name]
            try:
                values[parameter.name] = parameter.parse(value)
            except ValueError:
                message = f"parameter {parameter.name!r} cannot be {value!r}"
                raise broken("G104", message, f"it is {parameter.allowed}") from None
            texts[parameter.name] = format_value(values[parameter.name], value)
        return Parameters(values), texts


_REGISTRY: dict[str, Operator] = {}
_NAMES: dict[str, Operator] = {}


def declare(operator: Operator) -> Operator:
    """Add an operator to the registry; ValueError when one of its names is taken or its docstring is empty."""
    if not operator.doc.strip():
        raise ValueError(f"operator {operator.name} has no docstring")
    for name in (operator.name, *operator.aliases):
        if name in _NAMES:
            raise ValueError(f"operator {operator.name}: the name {name} is taken by {_NAMES[name].name}")
        _NAMES[name] = operator
    _REGISTRY[operator.name] = operator
    return operator


def operator(name: str) -> Operator:
    """The operator of that name or alias; error G101 with close matches when there is none."""
    found = _NAMES.get(name)
    if found is None:
        raise fail("G101", f"there is no operator {name!r}", help=closest(name, tuple(_NAMES)))
    return found


def operators() -> tuple[Operator, ...]:
    """All operators, by name."""
    return tuple(_REGISTRY[name] for name in sorted(_REGISTRY))


def operator_names() -> tuple[str, ...]:
    """All names and aliases, sorted."""
    return tuple(sorted(_NAMES))
