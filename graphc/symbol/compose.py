"""Composition: an operator over symbols becomes a node; missing arguments become variables <name>_<argument>."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphc.diagnostics import GraphcError, Location, closest, fail, user_location
from graphc.operators.declare import Operator, operator
from graphc.operators.parameters import Parameters
from graphc.symbol import name as names
from graphc.symbol.attribute import in_scope
from graphc.symbol.hints import format_dtype_hint, format_shape_hint, read_dtype, read_shape
from graphc.symbol.node import Entry, SymbolNode

if TYPE_CHECKING:
    from graphc.symbol.symbol import Symbol


def apply(
    called: str,
    inputs: Sequence[Any],
    given: Mapping[str, Any],
    name: str | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Symbol:
    """Apply the operator of that name or alias.

    `given` holds inputs by argument name, parameters, and attributes whose key is __dunder__. Errors G101 to G109.
    """
    from graphc.symbol.symbol import Symbol

    location = user_location()
    declared = operator(called)
    full_name = names.current().get(name, called.lower())

    def broken(code: str, message: str, help: str = "") -> GraphcError:
        return fail(code, message, operator=declared.name, name=full_name, location=location, help=help)

    keywords = {key: value for key, value in given.items() if isinstance(value, Symbol)}
    extra = {key: value for key, value in given.items() if key.startswith("__") and key.endswith("__")}
    # None is how scripts write "not given", for arguments and parameters alike.
    plain = {
        key: value
        for key, value in given.items()
        if key not in keywords and key not in extra and value is not None
    }
    plain, inputs = _sort_out(declared, plain, inputs, keywords, broken)
    parameters, texts = declared.read_parameters(plain, full_name, location)
    attributes = in_scope({**(attributes or {}), **extra}, full_name)
    for key in attributes:
        if declared.parameter(key) is not None:
            raise broken("G106", f"attribute {key!r} has the name of a parameter", f"give {key}= directly")
    entries = _arguments(declared, parameters, inputs, keywords, full_name, attributes, location, broken)
    node = SymbolNode(full_name, declared, entries, parameters, texts, attributes, location)
    return Symbol(tuple(Entry(node, index) for index in range(len(node.output_names))))


def _sort_out(
    declared: Operator,
    plain: dict[str, Any],
    inputs: Sequence[Any],
    keywords: Mapping[str, Symbol],
    broken: Callable[..., GraphcError],
) -> tuple[dict[str, Any], tuple[Symbol, ...]]:
    """Positional inputs are symbols and then parameters in their order; the count of counted inputs is known here."""
    from graphc.symbol.symbol import Symbol

    if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)) and declared.counted:
        inputs = inputs[0]
    for key in keywords:
        if declared.parameter(key) is not None:
            raise broken("G109", f"parameter {key!r} is a symbol", "parameters are plain values")
    for key, value in plain.items():
        if declared.parameter(key) is None and key in declared.usual_inputs:
            raise broken(
                "G109", f"argument {key!r} is {value!r}, and arguments are symbols", "wrap it in a Variable"
            )
    symbols = [value for value in inputs if isinstance(value, Symbol)]
    rest = [value for value in inputs if not isinstance(value, Symbol)]
    free = [item.name for item in declared.parameters if item.name not in plain and not item.ignored]
    late = any(isinstance(value, Symbol) for value in inputs[len(symbols) :])
    if late or len(rest) > len(free) or (rest and not symbols and not keywords and declared.takes_inputs):
        message = f"an input is {type(rest[0]).__name__} {rest[0]!r}, and inputs are symbols"
        raise broken("G109", message, "wrap it in a Variable")
    plain = {**plain, **dict(zip(free, rest, strict=False))}
    if declared.counted and declared.counted not in plain:
        plain[declared.counted] = len(symbols) + len(keywords)
        if not plain[declared.counted]:
            raise broken("G105", "it has no input", "give it one symbol or more")
    return plain, tuple(symbols)


def _arguments(
    declared: Operator,
    parameters: Parameters,
    inputs: Sequence[Symbol],
    keywords: Mapping[str, Symbol],
    name: str,
    attributes: Mapping[str, str],
    location: Location | None,
    broken: Callable[..., GraphcError],
) -> tuple[Entry, ...]:
    """The entry of each input: given by position, given by name, or a new variable."""
    wanted = declared.input_names(parameters)
    if len(inputs) > len(wanted):
        raise broken(
            "G106", f"it has {len(inputs)} inputs and takes {len(wanted)}", f"it takes {', '.join(wanted)}"
        )
    for key in keywords:
        if key not in wanted:
            known = (*wanted, *(parameter.name for parameter in declared.parameters))
            help = closest(key, known) or f"it takes {', '.join(wanted)}"
            raise broken("G106", f"there is no argument {key!r}", help)
    given = dict(zip(wanted, inputs, strict=False))
    for key, symbol in keywords.items():
        if key in given:
            raise broken(
                "G106", f"argument {key!r} is given by position and by name", "leave one of them out"
            )
        given[key] = symbol
    entries: list[Entry] = []
    for argument in wanted:
        if argument in given:
            entries.append(_single(given[argument], argument, broken))
        elif declared.counted:
            raise broken("G105", f"input {argument!r} is missing", f"it needs {len(wanted)} inputs")
        else:
            entries.append(
                Entry(SymbolNode(f"{name}_{argument}", attributes=attributes, location=location), 0)
            )
    for argument, entry in zip(
        declared.auxiliaries, entries[len(entries) - len(declared.auxiliaries) :], strict=True
    ):
        if entry.node.operator is not None:
            raise broken(
                "G106", f"auxiliary state {argument!r} is computed", "give it a variable, or leave it out"
            )
    return tuple(entries)


def _single(symbol: Symbol, argument: str, broken: Callable[..., GraphcError]) -> Entry:
    if len(symbol.entries) != 1:
        outputs = ", ".join(symbol.list_outputs())
        raise broken(
            "G108",
            f"argument {argument!r} is one tensor, and the symbol given has {len(symbol.entries)}: {outputs}",
            "choose one by index or by name, as in s[0]",
        )
    return symbol.entries[0]


def apply_function(called: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Symbol:
    """Apply an operator as a function call writes it: name= and attr= among the keywords."""
    given = dict(kwargs)
    name, attributes = given.pop("name", None), given.pop("attr", None)
    return apply(called, args, given, name, attributes)


def variable(
    name: Any,
    attr: Mapping[str, str] | None = None,
    shape: Sequence[Any] | None = None,
    lr_mult: float | None = None,
    wd_mult: float | None = None,
    dtype: Any = None,
    init: Any = None,
    **attributes: str,
) -> Symbol:
    """A variable: an input of the graph that is given when it runs.

    shape: a hint for inference, 0 or a word for dimensions that are not known yet. lr_mult, wd_mult: factors of
    the learning rate and the weight decay. init: the initializer or its name. Other attributes are __dunder__.
    """
    from graphc.symbol.symbol import Symbol

    location = user_location()
    if not isinstance(name, str) or not name:
        raise fail(
            "G112", f"a variable's name is a word, not {name!r}", operator="Variable", location=location
        )
    hidden = dict(attributes)
    for key, value in (
        ("shape", shape),
        ("lr_mult", lr_mult),
        ("wd_mult", wd_mult),
        ("dtype", dtype),
        ("init", init),
    ):
        if value is not None:
            hidden[f"__{key}__"] = _hint(key, value, name, location)
    node = SymbolNode(name, attributes=in_scope({**(attr or {}), **hidden}, name), location=location)
    return Symbol((Entry(node, 0),))


def _hint(key: str, value: Any, name: str, location: Location | None) -> str:
    """The text of a variable's hint."""
    if key == "shape":
        return format_shape_hint(read_shape(value, "shape", name, location))
    if key == "dtype":
        return format_dtype_hint(read_dtype(value, name, location))
    if key == "init":
        return value if isinstance(value, str) else str(value.dumps() if hasattr(value, "dumps") else value)
    return str(value)
