"""What scalars cost, in vector additions."""

from __future__ import annotations

from graphc.codegen.cpp.expressions import OPERATIONS
from graphc.ir.kernel import Compute, Load, Random, Reduce, Reduction, Statement, Store

KEEP_COST = 4  # a dearer value is kept between passes rather than computed again


def statement_cost(statement: Statement) -> float:
    """Vector additions a statement costs."""
    match statement:
        case Load():
            return 2.0 + len(statement.guards)
        case Store():
            return 2.0 + len(statement.guards)
        case Compute():
            return 1.0 if statement.operation == "cast" else OPERATIONS[statement.operation].cost
        case Random():
            return 60.0
        case Reduce():
            return 3.0 if statement.operation in (Reduction.ARGMAX, Reduction.ARGMIN) else 1.5
        case _:
            return 0.0
