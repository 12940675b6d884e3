"""Axes as users write them: negative ones count from the end."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.operators.inference import BrokenRuleError


def normalize_axis(axis: int, rank: int, what: str = "axis") -> int:
    """The axis counted from the front; BrokenRuleError when there is none such."""
    if not -rank <= axis < rank:
        raise BrokenRuleError(
            f"{what} {axis} of a tensor with {rank} axes", help=f"choose one from {-rank} to {rank - 1}"
        )
    return axis % rank


def normalize_axes(axes: Sequence[int] | None, rank: int, exclude: bool = False) -> tuple[int, ...]:
    """Sorted axes from the front; all for None or none given, the others with `exclude`."""
    if not axes:
        return tuple(range(rank))
    chosen = {normalize_axis(axis, rank) for axis in axes}
    if len(chosen) < len(axes):
        raise BrokenRuleError(f"an axis is named twice in {tuple(axes)}")
    return tuple(axis for axis in range(rank) if (axis in chosen) != exclude)
