"""Matrix products whose sum is taken apart: few tiles with long sums would leave most of the device idle."""

from __future__ import annotations

from dataclasses import replace

from graphc.codegen.triton.contraction import Product, is_product, product_of, size_of
from graphc.codegen.triton.schedule import GpuTarget, size_guess
from graphc.codegen.triton.tiles import TileSchedule, tile_schedule
from graphc.ir.graph import Attributes
from graphc.ir.kernel import (
    Access,
    Affine,
    Anchor,
    Axis,
    Kernel,
    Load,
    Nest,
    Parameter,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
)
from graphc.types import TensorType

SPLIT = "@split"
"""The axis over the parts of a sum."""


def split_sum(
    kernel: Kernel, target: GpuTarget
) -> tuple[tuple[Kernel, ...], tuple[tuple[str, TensorType], ...]]:
    """The kernel, or two: one that sums parts of the inner dimension into a workspace, one that adds them up.

    The parts and their order are fixed, so that every run gives the same bits.
    """
    anchor = kernel.anchor
    assert anchor is not None
    if not is_product(anchor):
        return (kernel,), ()
    plan = plan_of(kernel, target)
    if plan.splits == 1:
        return (kernel,), ()
    shape = (plan.splits, *anchor.result.shape)
    workspace = f"{kernel.name}_parts"
    type = TensorType(anchor.accumulator, shape)
    return (_part_kernel(kernel, workspace, type), _sum_kernel(kernel, workspace, type)), ((workspace, type),)


def _part_kernel(kernel: Kernel, workspace: str, type: TensorType) -> Kernel:
    anchor, (nest,) = kernel.anchor, kernel.nests
    assert anchor is not None
    operands = tuple(p for p in kernel.parameters if p.name in anchor.operands)
    index = (Affine.axis(SPLIT), *(Affine.axis(axis.name) for axis in nest.axes))
    body = (
        Anchor("part", anchor.accumulator, anchor.origins),
        Store(workspace, index, "part", (), anchor.origins),
    )
    return replace(
        kernel,
        name=f"{kernel.name}_parts",
        parameters=(
            *(replace(p, access=Access.IN) for p in operands),
            Parameter(workspace, type, Access.OUT),
        ),
        nests=(Nest((Axis(SPLIT, type.shape[0]), *nest.axes), body),),
        attributes=Attributes({**kernel.attributes, "splits": type.shape[0]}),
    )


def _sum_kernel(kernel: Kernel, workspace: str, type: TensorType) -> Kernel:
    (nest,) = kernel.nests
    index = (Affine.axis(SPLIT), *(Affine.axis(axis.name) for axis in nest.axes))
    body: list[Statement] = []
    for statement in nest.body:
        if isinstance(statement, Anchor):
            part = f"{statement.name}.part"
            body.append(Load(part, statement.dtype, workspace, index, origins=statement.origins))
            body.append(Reduce(statement.name, statement.dtype, Reduction.SUM, part, statement.origins))
        else:
            body.append(statement)
    used = {s.buffer for s in nest.body if isinstance(s, (Load, Store, Random))}
    parameters = (*(p for p in kernel.parameters if p.name in used), Parameter(workspace, type, Access.IN))
    axes = (*nest.axes, Axis(SPLIT, type.shape[0], reduction=True))
    return replace(kernel, parameters=parameters, nests=(Nest(axes, tuple(body)),), anchor=None)


def plan_of(kernel: Kernel, target: GpuTarget) -> TileSchedule:
    """The tile of a product, with the number of parts that its attributes fix, if they do."""
    anchor = kernel.anchor
    assert anchor is not None
    types = {p.name: p.type for p in kernel.parameters}
    product = product_of(anchor, types)
    rows, columns, inner, outer = (
        size_guess(size_of(axes)) for axes in (product.rows, product.columns, product.inner, product.outer)
    )
    plan = tile_schedule(
        types[anchor.operands[0]].dtype, rows, columns, inner, outer, target, _gathered(product)
    )
    splits = kernel.attributes.get("splits")
    return plan if splits is None else replace(plan, splits=splits)


def _gathered(product: Product) -> bool:
    """Whether an operand is gathered element by element, as the windows of a convolution are."""
    return bool(product.a.places or product.b.places)
