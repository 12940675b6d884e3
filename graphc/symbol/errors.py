"""Errors of symbols that Python knows by a name of its own too, so that hasattr, for loops and == behave as ever."""

from __future__ import annotations

from graphc.diagnostics import GraphcError


class UnknownOperatorError(GraphcError, AttributeError):
    """G101: the module graphc.symbol has no operator of that name."""


class UnknownOutputError(GraphcError, IndexError):
    """G108: a symbol has no output at that position."""


class OperandError(GraphcError, TypeError):
    """G109: something beside a symbol is neither a symbol nor a number."""
