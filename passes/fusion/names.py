"""Readable names: C identifiers from the user's names, unique in their scope."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Iterable, Sequence

from graphc.ir.graph import Node

LONGEST = 60

_KEYWORDS = """
    alignas alignof and asm auto bool break case catch char class const constexpr continue default
    delete do double else enum explicit export extern false float for friend goto if inline int long
    mutable namespace new noexcept not operator or private protected public register return short signed
    sizeof static struct switch template this throw true try typedef typeid typename union unsigned
    using virtual void volatile while xor tl triton main None
"""
"""Words of C++ and Triton that cannot be names there."""

_RESERVED = frozenset(_KEYWORDS.split())


def identifier(name: str) -> str:
    """A C identifier close to a name."""
    text = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "v"
    if text[0].isdigit() or text in _RESERVED or keyword.iskeyword(text):
        text = f"v_{text}"
    return text[:LONGEST]


class Scope:
    """Hands out identifiers that differ from all given before."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._counters: dict[str, itertools.count[int]] = {}

    def unique(self, name: str) -> str:
        stem = identifier(name)
        if stem not in self._taken:
            self._taken.add(stem)
            return stem
        counter = self._counters.setdefault(stem, itertools.count(1))
        result = next(text for k in counter if (text := f"{stem}_{k}") not in self._taken)
        self._taken.add(result)
        return result


def group_name(nodes: Sequence[Node], fallback: str) -> str:
    """The names of the user's operators in order, as many as fit: fc1_relu1, fc1_backward, fc1_weight_update."""
    words: list[str] = []
    for node in nodes:
        word = identifier(node.origins[0].name) if node.origins else ""
        if word and word not in words:
            words.append(word)
    if not words:
        return identifier(fallback)
    text, suffix = words[0], _suffix(nodes)
    for word in words[1:]:
        longer = f"{text}_{word}"
        if len(longer) > LONGEST - 20:
            return f"{text}_etc{suffix}"
        text = longer
    return f"{text[: LONGEST - 12]}{suffix}"


def _suffix(nodes: Sequence[Node]) -> str:
    """What part of a training step nodes belong to, told by the names that gradients and optimizers give values."""
    names = [node.outputs[0].name.partition(".")[0] for node in nodes]
    if any(name.endswith("_update") for name in names):
        return "_update"
    gradients = sum(name.endswith("_grad") for name in names)
    return "_backward" if 2 * gradients >= len(names) else ""
