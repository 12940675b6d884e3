"""Gradient construction: reverse accumulation over the graph with each primitive's own gradient rule.

The gradient of a graph is an ordinary graph that holds the forward nodes too, so it can be differentiated again.
Source: A. Griewank, A. Walther, Evaluating Derivatives, 2nd edition (2008), chapter 3, reverse mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from graphc.diagnostics import GraphcError, Operand, closest, fail
from graphc.ir.graph import Graph, InputKind, Node, Origin, Value
from graphc.passes.prune import Prune
from graphc.primitives.builder import Builder
from graphc.primitives.declare import primitive

ONES = "ones"
SUFFIX = "_grad"
"""What gradient outputs and accumulated gradient states are called: `<name>_grad`."""

REQUESTS = ("write", "add", "null")


@dataclass(frozen=True, slots=True)
class Gradient:
    """The pass that adds gradients; its fields are the arguments of `gradient`."""

    name: ClassVar[str] = "gradient"
    needs: ClassVar[tuple[str, ...]] = ()
    wrt: tuple[str, ...]
    heads: tuple[tuple[str, str | None], ...] | None = None
    grad_req: tuple[tuple[str, str], ...] = ()

    def __call__(self, graph: Graph) -> Graph:
        heads = None if self.heads is None else dict(self.heads)
        return gradient(graph, self.wrt, heads, dict(self.grad_req))


def gradient(
    graph: Graph,
    wrt: Sequence[str],
    heads: Mapping[str, str | None] | None = None,
    grad_req: Mapping[str, str] | None = None,
) -> Graph:
    """The graph that also computes the gradients of its outputs' weighted sum with respect to `wrt`.

    `wrt` names inputs or inner values. `heads` maps an output's name to the gradient that comes in there: "ones",
    the name of an input (made, as data of the output's type, when the graph lacks it), or None for nothing; then
    only loss primitives, which ignore their head, send gradients. Default: ones at every output.
    `grad_req` maps a name of `wrt` to "write" (default: one more output `<name>_grad`), "add" (a state input
    `<name>_grad` that is updated with its sum with the gradient) or "null" (none). A value on which no head depends
    has a gradient of zeros, as behind a primitive that is constant between steps. Nodes that nothing reads are pruned.

    Errors: G402 the derivative of a primitive on the path is not known; G403 an unknown name, an integer value or a
    wrong request.
    """
    requests = _requests(graph, wrt, grad_req or {})
    heads = dict.fromkeys(graph.output_names, ONES) if heads is None else dict(heads)
    if not requests:
        return graph
    builder = Builder.extend(graph)
    table = {value.name: value for value in graph.values()}
    sums = {
        name: builder.input(_unused(name, table), table[name].type, InputKind.STATE)
        for name, request in requests.items()
        if request == "add"
    }
    sweep = _Sweep(builder, graph, requests)
    sweep.start(heads)
    sweep.run()
    outputs = dict(zip(graph.output_names, graph.outputs, strict=True))
    for name, request in requests.items():
        value = sweep.total(name, table[name])
        if request == "add":
            with builder.at(sweep.origins_of(name), hint=name + SUFFIX):
                builder.update(sums[name], builder.add(sums[name], value))
        else:
            outputs[_unused(name, outputs)] = value
    return Prune()(builder.finish(outputs))


def model_outputs(graph: Graph) -> frozenset[str]:
    """The names of the outputs that are no gradients: all but those that `gradient` added."""
    values = {value.name for value in graph.values()} | set(graph.output_names)
    return frozenset(
        name
        for name in graph.output_names
        if not (name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in values)
    )


class _Sweep:
    """One walk over the nodes in reverse; `pending` holds the contributions to each value's gradient."""

    def __init__(self, builder: Builder, graph: Graph, wrt: Iterable[str]) -> None:
        self.builder = builder
        self.graph = graph
        self.visits = 0
        self._pending: dict[str, list[Value]] = {}
        self._totals: dict[str, Value] = {}
        self._dependent = _dependents(graph, wrt)
        self._reached: set[str] = set()

    def start(self, heads: Mapping[str, str | None]) -> None:
        """Seed the outputs' gradients and find the values from which a head can be reached."""
        outputs = dict(zip(self.graph.output_names, self.graph.outputs, strict=True))
        for name, head in heads.items():
            if name not in outputs:
                raise _unknown("output", name, tuple(outputs))
            value = outputs[name]
            if value.name not in self._dependent:
                continue
            self._reached.add(value.name)
            if head is not None:
                self._pending.setdefault(value.name, []).append(self._head(name, value, head))
        for node in reversed(self.graph.nodes):
            if any(value.name in self._reached for value in node.outputs):
                self._reached.update(value.name for value in _differentiable(node))

    def _head(self, output: str, value: Value, head: str) -> Value:
        if head == ONES:
            with self.builder.at(self.origins_of(value.name), hint=value.name + SUFFIX):
                return self.builder.full(1, value.type)
        existing = next((item.value for item in self.builder.inputs if item.name == head), None)
        given = existing or self.builder.input(head, value.type)
        if given.type != value.type:
            raise fail(
                "G403",
                f"the head gradient {head!r} does not have the type of its output",
                name=output,
                operands=[Operand(head, str(given.type), expected=str(value.type))],
                help="give a head gradient of the output's type",
            )
        return given

    def run(self) -> None:
        for node in reversed(self.graph.nodes):
            if any(value.name in self._reached and value.name in self._dependent for value in node.outputs):
                self.visits += 1
                self._visit(node)

    def _at(self, node: Node) -> AbstractContextManager[None]:
        """What is made here comes from the node's operator, and is named after it."""
        stem = node.origins[0].name if node.origins else node.outputs[0].name
        return self.builder.at(node.origins, hint=stem + SUFFIX)

    def _visit(self, node: Node) -> None:
        declared = primitive(node.primitive)
        with self._at(node):
            gradients = tuple(self._sum(value) for value in node.outputs)
        if all(value is None for value in gradients) and not declared.ignores_head(node):
            return
        if declared.gradient is None:
            raise _no_gradient(node)
        with self._at(node):
            contributions = declared.gradient(self.builder, node, gradients)
        for operand, contribution in zip(node.inputs, contributions, strict=True):
            if contribution is not None and operand.name in self._dependent:
                self._pending.setdefault(operand.name, []).append(contribution)

    def _sum(self, value: Value) -> Value | None:
        """Add up the contributions, in the order in which they came; all readers have been visited by now."""
        pending = self._pending.pop(value.name, None)
        if pending is None:
            return self._totals.get(value.name)
        total = pending[0]
        for contribution in pending[1:]:
            total = self.builder.add(total, contribution)
        self._totals[value.name] = total
        return total

    def total(self, name: str, value: Value) -> Value:
        """The whole gradient of a value; zeros when no contribution came."""
        with self.builder.at(self.origins_of(name), hint=name + SUFFIX):
            total = self._sum(value)
            return self.builder.full(0, value.type) if total is None else total

    def origins_of(self, name: str) -> tuple[Origin, ...]:
        node = self.graph.producers.get(name)
        return node.origins if node else ()


def _differentiable(node: Node) -> tuple[Value, ...]:
    """The operands that can receive a gradient through this node; none where its derivative is zero."""
    declared = primitive(node.primitive)
    if declared.gradient is None and not declared.derivative_unknown:
        return ()
    positions = declared.differentiable_inputs
    return tuple(
        value
        for position, value in enumerate(node.inputs)
        if value.type.dtype.is_float and (positions is None or position in positions)
    )


def _dependents(graph: Graph, wrt: Iterable[str]) -> set[str]:
    """Names of the floating-point values that depend on `wrt` through differentiable operands."""
    dependent = set(wrt)
    for node in graph.nodes:
        if any(value.name in dependent for value in _differentiable(node)):
            dependent.update(value.name for value in node.outputs if value.type.dtype.is_float)
    return dependent


def _requests(graph: Graph, wrt: Sequence[str], grad_req: Mapping[str, str]) -> dict[str, str]:
    """What is asked for each name of `wrt`, without the nulls; error G403 for what makes no sense."""
    types = {value.name: value.type for value in graph.values()}
    for name in grad_req:
        if name not in types:
            raise _unknown("value", name, tuple(types))
    requests: dict[str, str] = {}
    for name in dict.fromkeys(wrt):
        request = grad_req.get(name, "write")
        if request not in REQUESTS:
            raise fail(
                "G403", f"there is no gradient request {request!r}", name=name, help="use write, add or null"
            )
        if name not in types:
            raise _unknown("value", name, tuple(types))
        if request == "null":
            continue
        if not types[name].dtype.is_float:
            raise fail(
                "G403",
                f"{name!r} has no gradient: its element type {types[name].dtype} is not a floating-point one",
                name=name,
                operands=[Operand(name, str(types[name]))],
                help=f"leave {name!r} out, or give it grad_req 'null'",
            )
        requests[name] = request
    return requests


def _unused(name: str, taken: Mapping[str, object]) -> str:
    """`<name>_grad`, with one more suffix for each derivative that already has the name."""
    result = name + SUFFIX
    while result in taken:
        result += SUFFIX
    return result


def _unknown(what: str, name: str, known: tuple[str, ...]) -> GraphcError:
    return fail("G403", f"the graph has no {what} {name!r}", name=name, help=closest(name, known))


def _no_gradient(node: Node) -> GraphcError:
    reason = primitive(node.primitive).no_gradient
    origin = node.origins[0] if node.origins else None
    return fail(
        "G402",
        f"the primitive {node.primitive} has no gradient: {reason}",
        operator=origin.operator if origin else node.primitive,
        name=origin.name if origin else node.outputs[0].name,
        location=origin.location if origin else None,
        operands=[Operand(value.name, str(value.type)) for value in node.inputs],
        help="wrap it in BlockGrad to let no gradient through, or leave out what lies before it",
    )
