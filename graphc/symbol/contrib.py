"""MXNet's contributed operators by their short names: mx.sym.contrib.div_sqrt_dim is `_contrib_div_sqrt_dim`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graphc.diagnostics import GraphcError, user_location
from graphc.operators import operator_names
from graphc.symbol.errors import UnknownOperatorError
from graphc.symbol.functions import operator_function

PREFIX = "_contrib_"


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        function = operator_function(PREFIX + name)
    except GraphcError as error:
        raise UnknownOperatorError(replace(error.diagnostic, location=user_location())) from None
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *(n.removeprefix(PREFIX) for n in operator_names() if n.startswith(PREFIX))})
