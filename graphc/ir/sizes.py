"""Sizes of named dimensions, solved from the shapes of the arrays that a caller passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.diagnostics import GraphcError, Operand, fail
from graphc.ir.graph import Value
from graphc.types import Dim, dim_symbols, evaluate, format_dim


def bind_sizes(values: Sequence[Value], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The size of each named dimension, given the shape of each value by name.

    A dimension that is a bare name takes its size from the first value that has it; expressions are checked, and
    solved where they hold one unknown name. Error G601 for a value without a shape; G602, with the declared and the
    given shape, for another rank, another size, a named size below 1, or one that follows from nothing.
    """
    sizes: dict[str, int] = {}
    later: list[tuple[Value, Dim, int]] = []
    for value in values:
        given = shapes.get(value.name)
        if given is None:
            raise fail(
                "G601",
                f"no value was given for the input {value.name!r} of type {value.type}",
                name=value.name,
            )
        declared = value.type.shape
        if len(given) != len(declared):
            raise _mismatch(value, given, f"it has {len(declared)} dimensions, not {len(given)}")
        for dim, size in zip(declared, given, strict=True):
            if isinstance(dim, int):
                if dim != size:
                    raise _mismatch(value, given, f"{dim} expected, not {size}")
            elif dim.is_Symbol:
                known = sizes.setdefault(dim.name, int(size))
                if known < 1:
                    # Expressions were simplified, and indices clipped, on that promise.
                    raise _mismatch(value, given, f"{dim} must be at least 1")
                if known != size:
                    raise _mismatch(value, given, f"{dim} is {known} elsewhere, {size} here")
            else:
                later.append((value, dim, int(size)))
    for value, dim, size in later:
        _check_expression(value, dim, size, sizes, shapes[value.name])
    return sizes


def _check_expression(value: Value, dim: Dim, size: int, sizes: dict[str, int], given: Sequence[int]) -> None:
    unknown = [name for name in dim_symbols([dim]) if name not in sizes]
    if unknown:
        sizes[unknown[0]] = _solve(value, dim, size, sizes, unknown, given)
    actual = evaluate(dim, sizes)
    if actual != size:
        named = ", ".join(f"{name} = {sizes[name]}" for name in dim_symbols([dim]))
        raise _mismatch(value, given, f"{format_dim(dim)} is {actual} for {named}, not {size}")


def _solve(
    value: Value, dim: Dim, size: int, sizes: dict[str, int], unknown: list[str], given: Sequence[int]
) -> int:
    import sympy

    from graphc.types import symbol

    problem = f"{', '.join(unknown)} cannot be found from {format_dim(dim)} = {size}"
    if len(unknown) > 1:
        raise _mismatch(value, given, problem)
    name = symbol(unknown[0])
    equation = sympy.sympify(dim).subs({symbol(known): number for known, number in sizes.items()}) - size
    try:
        solutions = [root for root in sympy.solve(equation, name) if root.is_Integer]
    except NotImplementedError:
        solutions = []
    if len(solutions) != 1:
        raise _mismatch(value, given, problem)
    return int(solutions[0])


def _mismatch(value: Value, given: Sequence[int], rule: str) -> GraphcError:
    shape = f"{value.type.dtype}[{','.join(map(str, given))}]"
    return fail(
        "G602",
        f"the shape of {value.name!r} does not fit: {rule}",
        name=value.name,
        operands=[Operand(value.name, shape, expected=str(value.type))],
    )
