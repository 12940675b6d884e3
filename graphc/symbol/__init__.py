"""Symbols: the graphs that users declare, with the names of MXNet's symbol module.

Every operator is a function here: `mx.sym.FullyConnected(data, num_hidden=10, name="fc1")`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graphc.diagnostics import GraphcError, user_location
from graphc.operators import operator_names
from graphc.symbol import attribute, contrib, name
from graphc.symbol.attribute import AttrScope
from graphc.symbol.compose import variable as Variable  # noqa: N812 - MXNet's name
from graphc.symbol.errors import UnknownOperatorError
from graphc.symbol.functions import operator_function
from graphc.symbol.serialize import load, load_json
from graphc.symbol.shortcuts import arange, full, hypot, maximum, minimum, ones, pow, power, zeros
from graphc.symbol.symbol import Group, Symbol

var = Variable

__all__ = [
    "AttrScope",
    "Group",
    "Symbol",
    "Variable",
    "arange",
    "attribute",
    "contrib",
    "full",
    "hypot",
    "load",
    "load_json",
    "maximum",
    "minimum",
    "name",
    "ones",
    "pow",
    "power",
    "var",
    "zeros",
]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        function = operator_function(name)
    except GraphcError as error:
        raise UnknownOperatorError(replace(error.diagnostic, location=user_location())) from None
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *operator_names()})
