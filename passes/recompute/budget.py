"""A memory budget as users write it: bytes of the whole executable, or a fraction of the plain plan's arena."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from graphc.diagnostics import GraphcError, fail

_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}
_UNITS |= {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)}
_SIZE = re.compile(r"\s*([0-9][0-9_,]*\.?[0-9]*|\.[0-9]+)\s*([a-zA-Z]*|%)\s*")
_HELP = 'write bytes (2_000_000_000), a size ("2GB", "512MiB") or a fraction of the plain plan (0.25, "25%")'


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `nbytes` for parameters, states, outputs and the arena together, or `fraction` of the plain arena.

    sizes: of the symbolic dimensions, for which the budget holds.
    """

    nbytes: int = 0
    fraction: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, value: str | int | float, sizes: Mapping[str, int] | None = None) -> Budget:
        """Read a budget; error G608 for what is none.

        A number of at most 1 with a decimal point, or a percentage, is a fraction; KB is 1000 bytes, KiB 1024.
        """
        chosen = dict(sizes or {})
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise _wrong(value)
        number, unit = _split(value) if isinstance(value, str) else (value, "")
        if unit == "%":
            number, unit = float(number) / 100, ""
        elif unit.lower() not in _UNITS:
            raise _wrong(value)
        if not number > 0 or number == float("inf"):
            raise _wrong(value)
        if isinstance(number, float) and number <= 1 and not unit:
            return cls(fraction=number, sizes=chosen)
        nbytes = int(number * _UNITS[unit.lower()])
        if (isinstance(value, str) and "%" in value) or nbytes < 1:
            raise _wrong(value)
        return cls(nbytes=nbytes, sizes=chosen)

    def arena(self, plain: int, held: int) -> int:
        """Bytes that the arena may take, next to `held` ones of parameters, states and outputs."""
        return int(self.fraction * plain) if self.fraction else self.nbytes - held


def _split(text: str) -> tuple[float | int, str]:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise _wrong(text)
    digits = found[1].replace("_", "").replace(",", "")
    return (float(digits) if "." in digits else int(digits)), found[2]


def _wrong(value: object) -> GraphcError:
    return fail("G608", f"{value!r} is no memory budget", help=_HELP)
