"""Symbol: an immutable handle on outputs of declared operators, with the names and behaviour of MXNet's.

For example,

    data = mx.sym.Variable("data")
    fc1 = mx.sym.FullyConnected(data, num_hidden=128, name="fc1")
    fc1.list_arguments()                            # ['data', 'fc1_weight', 'fc1_bias']
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from graphc.diagnostics import GraphcError, closest, fail, user_location
from graphc.files import write_text
from graphc.symbol import name as names
from graphc.symbol.arithmetic import Arithmetic
from graphc.symbol.attribute import HIDDEN_KEYS, stored_key
from graphc.symbol.compose import apply_function
from graphc.symbol.errors import UnknownOutputError
from graphc.symbol.node import Entry, SymbolNode, rewrite, topological, variables

# Operators that are methods too, by the method's name.
_SAME_NAME = (
    "abs argmax argmin batch_dot broadcast_to clip cos dot exp expand_dims expm1 flatten log log1p log_softmax "
    "max mean min nansum norm one_hot ones_like pick prod relu repeat reshape reshape_like rsqrt sigmoid sign "
    "sin slice slice_axis slice_like softmax split sqrt square squeeze sum swapaxes take tanh tile transpose "
    "zeros_like"
)
METHODS = {"astype": "Cast", **{name: name for name in _SAME_NAME.split(" ")}}


class Symbol(Arithmetic):
    """One or more outputs of a declared graph.

    Comparison operators build graphs too, so a symbol has no truth value and hashes by identity.
    """

    __slots__ = ("__weakref__", "entries")

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries

    # Names and structure

    @property
    def name(self) -> str | None:
        """The node's name; None for a group."""
        nodes = {entry.node for entry in self.entries}
        return self.entries[0].node.name if len(nodes) == 1 else None

    def list_arguments(self) -> list[str]:
        """Names of the variables that must be given, in depth-first order."""
        return [node.name for node in variables(self.entries)[0]]

    def list_auxiliary_states(self) -> list[str]:
        """Names of the states that training updates (BatchNorm's moving mean and variance)."""
        return [node.name for node in variables(self.entries)[1]]

    def list_inputs(self) -> list[str]:
        """Names of all variables, arguments and auxiliary states, in depth-first order."""
        return [node.name for node in topological(self.entries) if node.operator is None]

    def list_outputs(self) -> list[str]:
        return [entry.name for entry in self.entries]

    @property
    def num_outputs(self) -> int:
        return len(self.entries)

    def get_internals(self) -> Symbol:
        """A group of all outputs of all nodes below: choose one with internals['fc1_output']."""
        return Symbol(
            tuple(
                Entry(node, index)
                for node in topological(self.entries)
                for index in range(len(node.output_names))
            )
        )

    def get_children(self) -> Symbol | None:
        """A group of the inputs of this symbol's nodes; None when they have none."""
        nodes = dict.fromkeys(entry.node for entry in self.entries)
        inputs = tuple(entry for node in nodes for entry in node.inputs)
        return Symbol(inputs) if inputs else None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Symbol]:
        return (Symbol((entry,)) for entry in self.entries)

    def __getitem__(self, index: int | str | slice) -> Symbol:
        """An output by position or by name, several by slice; error G108 when there is none."""
        if isinstance(index, slice):
            return Group([Symbol((entry,)) for entry in self.entries[index]])
        if isinstance(index, str):
            return Symbol((self._find(index),))
        try:
            return Symbol((self.entries[index],))
        except TypeError:
            raise self._error("G108", f"an output is chosen by position or name, not by {index!r}") from None
        except IndexError:
            error = self._error("G108", f"there is no output {index}", self._outputs_help())
            raise UnknownOutputError(error.diagnostic) from None

    def _find(self, name: str) -> Entry:
        found = [entry for entry in self.entries if entry.name == name]
        if not found and not name.endswith("_output"):
            found = [entry for entry in self.entries if entry.node.name == name]
        if len(found) == 1:
            return found[0]
        problem = f"{len(found)} outputs are named {name!r}" if found else f"there is no output {name!r}"
        raise self._error("G108", problem, closest(name, self.list_outputs()) or self._outputs_help())

    def _outputs_help(self) -> str:
        outputs = self.list_outputs()
        return f"it has {', '.join(outputs[:8])}" + (
            f" and {len(outputs) - 8} more" if len(outputs) > 8 else ""
        )

    def _error(self, code: str, message: str, help: str = "") -> GraphcError:
        node = self.entries[0].node
        kind = node.kind if self.name else "Group"
        return fail(code, message, operator=kind, name=self.name or "", location=user_location(), help=help)

    def __repr__(self) -> str:
        if self.name is not None:
            return f"<Symbol {self.name}>"
        return f"<Symbol group [{', '.join(dict.fromkeys(entry.node.name for entry in self.entries))}]>"

    # Attributes

    def attr(self, key: str) -> str | None:
        """The user's attribute or the operator's parameter of that name, as text; None when there is none."""
        return self.list_attr().get(stored_key(key))

    def list_attr(self) -> dict[str, str]:
        """All attributes and given parameters of this symbol's node."""
        return _attributes(self.entries[0].node) if self.name is not None else {}

    def attr_dict(self) -> dict[str, dict[str, str]]:
        """The attributes of every node below that has some, by name."""
        found = {node.name: _attributes(node) for node in topological(self.entries)}
        return {name: attributes for name, attributes in found.items() if attributes}

    # Composition

    def __call__(self, *args: Symbol, name: str | None = None, **kwargs: Symbol) -> Symbol:
        """A copy with variables replaced: by name, or in the order of list_arguments()."""
        for value in (*args, *kwargs.values()):
            if not isinstance(value, Symbol):
                raise self._error("G109", f"an input is {value!r}, and inputs are symbols")
            if len(value.entries) != 1:
                raise self._error("G108", f"an input has {len(value.entries)} outputs", "choose one by index")
        if args and kwargs:
            raise self._error("G106", "inputs are given by position and by name", "use one way or the other")
        known = self.list_inputs()
        if len(args) > len(known):
            raise self._error(
                "G106", f"{len(args)} inputs are given, it has {len(known)}", f"it has {', '.join(known)}"
            )
        given = dict(zip(known, args, strict=False)) or kwargs
        for key in given:
            if key not in known:
                raise self._error(
                    "G106",
                    f"there is no argument {key!r}",
                    closest(key, known) or f"it has {', '.join(known)}",
                )
        entries = rewrite(
            self.entries, lambda node: given[node.name].entries[0] if node.name in given else None
        )
        if name is not None:
            entries = _renamed(entries, name)
        return Symbol(entries)

    def __copy__(self) -> Symbol:
        return Symbol(self.entries)

    def __deepcopy__(self, memo: object) -> Symbol:
        return Symbol(self.entries)  # nodes never change

    def __reduce__(self) -> tuple[Callable[..., Symbol], tuple[object, ...]]:
        from graphc.symbol.serialize import freeze, thaw

        return thaw, freeze(self)

    def __bool__(self) -> bool:
        raise self._error(
            "G110",
            "a symbol has no truth value: it stands for numbers that do not exist yet",
            "compare names, or use where(condition, x, y) in the graph",
        )

    # Inference

    def infer_shape(self, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """Shapes of (arguments, outputs, auxiliary states); three None when what is given does not suffice.

        Shapes are given in the order of list_arguments() or by name; 0 stands for an unknown dimension, a word such as
        "N" for a symbolic one. Raises G203 and its like when shapes contradict each other.
        """
        from graphc.symbol.queries import infer_shape

        return infer_shape(self, args, kwargs, partial=False)

    def infer_shape_partial(self, *args: Any, **kwargs: Any) -> tuple[list[Any], list[Any], list[Any]]:
        """As infer_shape, with 0 for unknown dimensions and () for unknown shapes in the result."""
        from graphc.symbol.queries import infer_shape

        return infer_shape(self, args, kwargs, partial=True)

    def infer_type(self, *args: Any, **kwargs: Any) -> tuple[list[Any], list[Any], list[Any]]:
        """Element types of (arguments, outputs, auxiliary states) as numpy types.

        Variables that nothing speaks of are float32.
        """
        from graphc.symbol.queries import infer_type

        return infer_type(self, args, kwargs)

    # Text

    def tojson(self) -> str:
        """The model file's text, in MXNet's format."""
        from graphc.symbol.serialize import to_json

        return to_json(self)

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Write the model file; an old one is replaced only when the new one is complete."""
        write_text(fname, self.tojson())

    def debug_str(self) -> str:
        """The graph as text: one node a paragraph with its inputs and attributes."""
        from graphc.symbol.describe import describe

        return describe(self)

    # Binding belongs to the driver, which stands above: it is looked up by name when it is asked for.

    def simple_bind(
        self, ctx: Any = None, grad_req: Any = "write", type_dict: Any = None, **kwargs: Any
    ) -> Any:
        """Allocate arrays for these shapes and compile; see graphc.driver.executor.simple_bind."""
        return _driver().simple_bind(self, ctx, grad_req=grad_req, type_dict=type_dict, **kwargs)

    def bind(self, ctx: Any, args: Any, args_grad: Any = None, grad_req: Any = "write", **kwargs: Any) -> Any:
        """Compile over the arrays given; see graphc.driver.executor.bind."""
        return _driver().bind(self, ctx, args, args_grad=args_grad, grad_req=grad_req, **kwargs)

    def eval(self, ctx: Any = None, **kwargs: Any) -> Any:
        """The outputs for these arrays, as a list."""
        return self.bind(ctx, kwargs, grad_req="null").forward()

    # Arithmetic lives in the mixin, and comparison with it, which takes hashing away unless it is kept.

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        """Operators of one input as methods: x.reshape((0, -1)), x.sum(axis=1), x.astype("float16")."""
        called = METHODS.get(name)
        if called is None:
            raise AttributeError(f"a Symbol has no attribute {name!r}")
        return lambda *args, **kwargs: apply_function(called, (self, *args), kwargs)


def _attributes(node: SymbolNode) -> dict[str, str]:
    """Parameters and attributes; those of MXNet's own keys under both of their names."""
    attributes = dict(node.attributes or {})
    plain = {key: attributes[stored_key(key)] for key in HIDDEN_KEYS if stored_key(key) in attributes}
    return {**(node.texts or {}), **attributes, **plain}


def _renamed(entries: tuple[Entry, ...], name: str) -> tuple[Entry, ...]:
    new: dict[SymbolNode, SymbolNode] = {}
    for entry in entries:
        if entry.node.operator is not None:
            new.setdefault(entry.node, replace(entry.node, name=names.current().get(name, "")))
    return tuple(Entry(new.get(entry.node, entry.node), entry.output) for entry in entries)


def _driver() -> ModuleType:
    return importlib.import_module("graphc.driver.executor")


def Group(symbols: Sequence[Any]) -> Symbol:  # noqa: N802 - MXNet's name
    """One symbol with the outputs of all; error G111 when there is none, G109 when one is no symbol."""
    chosen = list(symbols)
    if not chosen:
        raise fail(
            "G111",
            "a group of no symbols has no outputs",
            location=user_location(),
            help="give it one or more",
        )
    for value in chosen:
        if not isinstance(value, Symbol):
            message = f"a group takes symbols, not {type(value).__name__} {value!r}"
            raise fail("G109", message, operator="Group", location=user_location())
    return Symbol(tuple(entry for symbol in chosen for entry in symbol.entries))
