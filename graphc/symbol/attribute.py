"""AttrScope: attributes for every symbol made inside a `with`.

For example,

    with mx.AttrScope(ctx_group="stage1"):
        x = mx.sym.Variable("x")                    # x.attr("ctx_group") == "stage1"
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any

from graphc.diagnostics import fail, user_location

# Stored as __key__ in model files and readable both ways.
HIDDEN_KEYS = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage")


def stored_key(key: str) -> str:
    """The key under which an attribute is kept."""
    return f"__{key}__" if key in HIDDEN_KEYS else key


def check_attributes(attributes: Mapping[Any, object] | None, name: str = "") -> dict[str, str]:
    """The attributes under their stored keys; error G112 when a key or value is no string."""
    result: dict[str, str] = {}
    for key, value in (attributes or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise fail(
                "G112",
                f"attribute {key!r} is {value!r}, and attributes are strings",
                name=name,
                operator="symbol" if name else "",
                location=user_location(),
                help=f"write {key}={str(value)!r}",
            )
        result[stored_key(key)] = value
    return result


class AttrScope:
    """Attributes given to every symbol made inside; an inner scope adds to the outer one and overrides it."""

    def __init__(self, **attributes: str) -> None:
        self._own = check_attributes(attributes)
        self._tokens: list[Token[Mapping[str, str]]] = []

    def __enter__(self) -> AttrScope:
        self._tokens.append(_CURRENT.set({**_CURRENT.get(), **self._own}))
        return self

    def __exit__(self, *exception: object) -> None:
        _CURRENT.reset(self._tokens.pop())


_NOTHING: Mapping[str, str] = {}
_CURRENT: ContextVar[Mapping[str, str]] = ContextVar("attributes", default=_NOTHING)


def in_scope(attributes: Mapping[str, object] | None, name: str = "") -> dict[str, str]:
    """These attributes over those of the scopes around."""
    return {**_CURRENT.get(), **check_attributes(attributes, name)}
