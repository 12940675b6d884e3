"""Parameters of operators: typed, read from Python values or from the text of a model file, written as text.

For every kind and every value,

    kind.parse(value) -> the canonical Python value, ValueError when it is none of the kind
    format_value(value) -> the text that a model file holds; parse(format_value(v)) == v
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.types import DType

REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a parameter takes, in words for messages, and how they are read."""

    words: str
    parse: Callable[[Any], Any]


def format_value(value: Any, given: Any = None) -> str:
    """The text form in model files: True, 0.9, (3, 3), None, float32; a number as it was `given`, 2 for 2."""
    if isinstance(value, (float, tuple)) and isinstance(given, (int, float)):
        return str(given)
    if isinstance(given, str) and (isinstance(value, float) or re.fullmatch(r"\s*-?\d+\s*", given)):
        return given.strip()
    if isinstance(value, DType):
        return value.long_name
    return str(value)


def _literal(value: Any) -> Any:
    """The Python value of a text such as "(3L, 3)" or "1e-3"; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value.strip().replace("L", ""))
    except (SyntaxError, ValueError):
        raise ValueError(value) from None


def _integer(value: Any) -> int:
    value = _literal(value)
    if isinstance(value, bool):
        raise ValueError(value)
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(value) from None


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    try:
        return float(value)
    except TypeError:
        raise ValueError(value) from None


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0"):
        raise ValueError(value)
    return text in ("true", "1")


def _integers(value: Any) -> tuple[int, ...]:
    value = _literal(value)
    if isinstance(value, (str, bytes, Mapping)):
        raise ValueError(value)
    try:
        items = list(value)
    except TypeError:
        items = [value]
    return tuple(_integer(item) for item in items)


def _partial_integers(value: Any) -> tuple[int | None, ...]:
    value = _literal(value)
    items = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(None if item is None else _integer(item) for item in items)


def _dtype(value: Any) -> DType:
    try:
        return DType.of(value)
    except TypeError:
        raise ValueError(value) from None


def optional(kind: Kind) -> Kind:
    """`kind` or None."""

    def parse(value: Any) -> Any:
        return None if value is None or value == "None" else kind.parse(value)

    return Kind(f"{kind.words} or None", parse)


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


INTEGER = Kind("an integer", _integer)
NUMBER = Kind("a number", _number)
BOOLEAN = Kind("True or False", _boolean)
INTEGERS = Kind("a tuple of integers", _integers)
PARTIAL_INTEGERS = Kind("a tuple of integers or None", _partial_integers)
DTYPE = Kind("an element type", _dtype)
WORD = Kind("a word", _word)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operator; required when it has no default.

    `choices` are the words allowed; `minimum` and `maximum` bound each number (both inclusive). `ignored`
    parameters are read for the sake of existing programs and model files and change nothing.
    """

    name: str
    kind: Kind
    doc: str
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    ignored: bool = False

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        bounds = [f">= {self.minimum:g}"] if self.minimum > -math.inf else []
        bounds += [f"<= {self.maximum:g}"] if self.maximum < math.inf else []
        return " ".join([self.kind.words, *([" and ".join(bounds)] if bounds else [])])

    def parse(self, value: Any) -> Any:
        """The canonical value; ValueError when it is not allowed."""
        result = self.kind.parse(value)
        if self.choices and result is not None and result not in self.choices:
            raise ValueError(value)
        for item in result if isinstance(result, tuple) else (result,):
            if isinstance(item, (int, float)) and not self._within(item):
                raise ValueError(value)
        return result

    def _within(self, number: float) -> bool:
        unbounded = self.minimum == -math.inf and self.maximum == math.inf
        return unbounded or self.minimum <= number <= self.maximum


class Parameters(Mapping[str, Any]):
    """The values of an operator's parameters, read as attributes: parameters.num_hidden."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_values":
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Parameters({self._values!r})"


# Short forms for declarations.


def integer(name: str, doc: str, default: Any = REQUIRED, *, minimum: float = -math.inf) -> Parameter:
    """A whole number."""
    return Parameter(name, INTEGER, doc, default, minimum=minimum)


def number(
    name: str, doc: str, default: Any = REQUIRED, *, minimum: float = -math.inf, maximum: float = math.inf
) -> Parameter:
    """A number."""
    return Parameter(name, NUMBER, doc, default, minimum=minimum, maximum=maximum)


def boolean(name: str, doc: str, default: Any = REQUIRED) -> Parameter:
    """True or False."""
    return Parameter(name, BOOLEAN, doc, default)


def integers(name: str, doc: str, default: Any = REQUIRED, *, minimum: float = -math.inf) -> Parameter:
    """A tuple of whole numbers, such as a kernel."""
    return Parameter(name, INTEGERS, doc, default, minimum=minimum)


def choice(name: str, doc: str, choices: tuple[str, ...], default: Any = REQUIRED) -> Parameter:
    """One of some words; None too where that is the default."""
    return Parameter(name, WORD if default is not None else optional(WORD), doc, default, choices=choices)


def ignored(name: str, doc: str = "Read for compatibility; changes nothing.") -> Parameter:
    """A parameter of other systems that has no meaning here."""
    return Parameter(name, Kind("anything", str), doc, "", ignored=True)


COUNT = integer("num_args", "Number of inputs; counted where it is not given.", minimum=1)
