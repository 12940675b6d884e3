"""Automatic names: a counter for each operator, and scopes that set a prefix.

For example,

    with mx.name.Prefix("encoder_"):
        mx.sym.Activation(x, act_type="relu")       # encoder_activation0
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from graphc.diagnostics import fail, user_location


class NameManager:
    """Gives automatic names inside a `with`: the hint and a counter of its own."""

    def __init__(self) -> None:
        self._counters: dict[str, int] = {}
        self._tokens: list[Token[NameManager]] = []

    def get(self, name: Any, hint: str) -> str:
        """The user's name when there is one, else hint0, hint1 ..."""
        if name is not None:
            if not isinstance(name, str) or not name:
                raise fail(
                    "G112",
                    f"a name is a word, not {name!r}",
                    location=user_location(),
                    help="give name= a string, or leave it out",
                )
            return name
        number = self._counters.get(hint, 0)
        self._counters[hint] = number + 1
        return f"{hint}{number}"

    def __enter__(self) -> NameManager:
        self._tokens.append(_CURRENT.set(self))
        return self

    def __exit__(self, *exception: object) -> None:
        _CURRENT.reset(self._tokens.pop())


class Prefix(NameManager):
    """A NameManager that puts a prefix before every operator's name, the user's own too."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def get(self, name: Any, hint: str) -> str:
        return self._prefix + super().get(name, hint)


_DEFAULT = NameManager()
_CURRENT: ContextVar[NameManager] = ContextVar("name_manager", default=_DEFAULT)


def current() -> NameManager:
    """The manager of the innermost `with`."""
    return _CURRENT.get()
