"""Kernels with an anchor: a product or a scatter from a template, with the nest as its epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.codegen.triton import scatter
from graphc.codegen.triton.attention import print_attention
from graphc.codegen.triton.collapse import collapse, substitute
from graphc.codegen.triton.contraction import Operand, Place, Product, is_product, product_of
from graphc.codegen.triton.expressions import (
    TRITON_TYPES,
    affine_text,
    dim_text,
    without_parentheses,
)
from graphc.codegen.triton.kernel import KernelNames, KernelSource, ir_lines
from graphc.codegen.triton.printer import Scope, call_lines, linear_text, within
from graphc.codegen.triton.schedule import GpuTarget, Group
from graphc.codegen.triton.split_sum import SPLIT, plan_of
from graphc.ir.kernel import (
    Anchor,
    AnchorOperation,
    Axis,
    Kernel,
)
from graphc.templates import render
from graphc.types import Dim, DType

SWIZZLE = 8
TEMPLATE_NAMES = (
    "row_blocks", "column_blocks", "slice", "band", "height", "within", "m", "n", "k", "a", "b", "length", "first",
    "last", "start", "accumulator", "m_inside", "n_inside", "k_inside",
)  # fmt: skip


def print_anchor(kernel: Kernel, function: str, target: GpuTarget) -> KernelSource:
    """The source of a kernel with an anchor."""
    assert kernel.anchor is not None
    if kernel.anchor.results:
        return print_attention(kernel, kernel.anchor, function, target)
    if is_product(kernel.anchor):
        return ProductPrinter(kernel, kernel.anchor, target).source(function)
    return scatter.print_scatter(kernel, kernel.anchor, function)


class ProductPrinter:
    """Prints a matrix product with its epilogue."""

    def __init__(self, kernel: Kernel, anchor: AnchorOperation, target: GpuTarget) -> None:
        self.kernel, self.anchor, self.target = kernel, anchor, target
        self.types = {p.name: p.type for p in kernel.parameters}
        self.product: Product = product_of(anchor, self.types)
        self.plan = plan_of(kernel, target)
        if kernel.attributes.get("splits") is None:
            self.plan = replace(self.plan, splits=1)
        self.shared = KernelNames.of(kernel)
        for name in TEMPLATE_NAMES:
            self.shared.names.new(name)
        self.rows = Group("m", self.product.rows, self.plan.rows)
        self.columns = Group("n", self.product.columns, self.plan.columns)
        self.inner = Group("k", self.product.inner, self.plan.inner)
        outer = self.product.outer
        self.single: dict[str, str] = {}
        self.slice = (*([Axis(SPLIT, self.plan.splits)] if self.plan.splits > 1 else []), *outer)
        self.extents = {axis.name: axis.extent for axis in (*self.slice, *self.product.axes)}

    def source(self, function: str) -> KernelSource:
        operand_type = self.types[self.anchor.operands[0]].dtype
        tensor_cores = operand_type.is_float and operand_type is not DType.F64
        blocks = (("BLOCK_M", self.plan.rows), ("BLOCK_N", self.plan.columns), ("BLOCK_K", self.plan.inner))
        tile_lines, loop_lines = self._tile_lines(), self._loop_lines()
        epilogue, helpers = self._epilogue()
        wide = self.shared.index_type != "tl.int32"
        few = any(isinstance(g.extent, int) and g.extent <= 2 * g.block for g in (self.rows, self.columns))
        text = render(
            "triton/contraction.py.j2",
            ir=ir_lines(self.kernel),
            function=function,
            shared=self.shared,
            parameters=list(self.shared.pointers.values()),
            blocks=blocks,
            wide=bool(self.shared.wide),
            comment=self._comment(),
            rows=self._extent(self.rows),
            columns=self._extent(self.columns),
            inner=self._extent(self.inner),
            outer=bool(self.slice),
            swizzle=0 if few else SWIZZLE,
            tile_lines=tile_lines,
            splits=self.plan.splits,
            split=self._variable(self.slice[0]) if self.plan.splits > 1 else "",
            accumulator=TRITON_TYPES[self.anchor.accumulator],
            wide_cast=f".to({self.shared.index_type})" if wide else "",
            loop_lines=loop_lines,
            tensor_cores=tensor_cores,
            precision="tf32" if self.target.tf32 and operand_type is DType.F32 else "ieee",
            epilogue=epilogue,
        )
        slices = tuple((axis.extent, 1) for axis in self.slice)
        return KernelSource(
            function=function,
            text=text,
            pointers=tuple(self.shared.pointers.values()),
            symbols=self.shared.symbols,
            blocks=blocks,
            grid=((*slices, (self.rows.extent, self.plan.rows), (self.columns.extent, self.plan.columns)),),
            warps=self.plan.warps,
            stages=self.plan.stages,
            wide=self.shared.wide,
            helpers=frozenset(helpers),
        )

    def _comment(self) -> str:
        origins = "; ".join(map(str, self.anchor.origins))
        return f"{self.anchor.primitive} {origins}".rstrip()

    def _extent(self, group: Group) -> str:
        return without_parentheses(dim_text(group.extent))

    # Indices: one-dimensional here; where they are used they get the shape of a row or a column.

    def _tile_lines(self) -> list[str]:
        lines = self._decode("slice", self.slice)
        for group in (self.rows, self.columns):
            lines += self._decode(group.name, group.axes)
            if not group.exact:
                lines.append(f"{group.name}_inside = {group.name} < {self._extent(group)}")
        return lines

    def _decode(self, index: str, axes: Sequence[Axis]) -> list[str]:
        """Define each axis from the index that walks them all; the last axis is the fastest."""
        if len(axes) == 1:
            self.single[axes[0].name] = index
            return []
        lines: list[str] = []
        inner: Dim = 1
        for position in range(len(axes) - 1, -1, -1):
            text = index if inner == 1 else f"{index} // {dim_text(inner)}"
            if position > 0:
                text = f"{text} % {dim_text(axes[position].extent)}"
            lines.append(f"{self._variable(axes[position])} = {text}")
            inner = inner * axes[position].extent
        return lines

    def _variable(self, axis: Axis) -> str:
        return self.single.get(axis.name) or self.shared.names.of("axis", axis.name.lstrip("@"))

    def _variables(self, places: dict[str, tuple[Axis, ...]]) -> dict[str, str]:
        """The text of every axis, with the subscript that the block of its place has."""
        return {
            axis.name: f"{self._variable(axis)}{subscript}"
            for subscript, axes in places.items()
            for axis in axes
        }

    def _loop_lines(self) -> list[str]:
        lines = self._decode("k", self.product.inner)
        if not self.inner.exact:
            lines.append(f"k_inside = k < {self._extent(self.inner)}")
        a = {"": self.slice, "[:, None]": self.product.rows, "[None, :]": self.product.inner}
        b = {"": self.slice, "[:, None]": self.product.inner, "[None, :]": self.product.columns}
        lines += self._load("a", self.product.a, self._variables(a), (self.rows, self.inner))
        lines += self._load("b", self.product.b, self._variables(b), (self.inner, self.columns))
        accumulator = self.anchor.accumulator
        if not accumulator.is_float:
            lines += [f"{name} = {name}.to({TRITON_TYPES[accumulator]})" for name in "ab"]
        return lines

    def _load(
        self, name: str, operand: Operand, variables: dict[str, str], tile: tuple[Group, Group]
    ) -> list[str]:
        lines, conditions = [], []
        for group, subscript in zip(tile, ("[:, None]", "[None, :]"), strict=True):
            if not group.exact:
                conditions.append(f"{group.name}_inside{subscript}")
        for place in operand.places:
            defined, checks = self._place(place, variables)
            lines += defined
            conditions += checks
        linear = {
            f"{group.name}{subscript}": group
            for group, subscript in zip(tile, ("[:, None]", "[None, :]"), strict=True)
            if len(group.axes) > 1
        }
        address = linear_text(operand.address, variables, linear)
        arguments = [f"{self.shared.pointers[operand.buffer]} + {address}"]
        if conditions:
            arguments += [f"mask={' & '.join(conditions)}", "other=0.0"]
        return [*lines, *call_lines(f"{name} = tl.load", arguments)]

    def _place(self, place: Place, variables: dict[str, str]) -> tuple[list[str], list[str]]:
        """The definition of a place, which joins the variables, and the conditions under which it is one."""
        variable = self.shared.names.of("place", place.name.replace("@", ""))
        reach = affine_text(place.expression, variables)
        variables[place.name] = variable
        scope = Scope.of_extents(self.extents, variables)
        least, greatest = scope.bounds(place.expression)
        if place.divisor == 1:
            return [f"{variable} = {reach}"], within(variable, least, greatest, 0, place.extent)
        whole = self.shared.names.of("reach", f"reach_{variable[-1]}")
        lines = [f"{whole} = {reach}", f"{variable} = {whole} // {place.divisor}"]
        conditions = [f"({variable} * {place.divisor} == {whole})"]
        return lines, [*conditions, *within(variable, None, None, 0, place.extent)]

    # Epilogue

    def _epilogue(self) -> tuple[list[str], set[str]]:
        (nest,) = self.kernel.nests
        flat = collapse(nest, self.types, keep_axes=True)
        axes = [axis for axis in nest.axes if axis.name != SPLIT]
        table = {axis.name: place for axis, place in zip(axes, self.product.result, strict=True)}
        body = [substitute(statement, table) for statement in flat.body]
        places = {"": self.slice, "[:, None]": self.product.rows, "[None, :]": self.product.columns}
        tile = (self.rows, self.columns)
        masks = {
            group.name: f"{group.name}_inside{subscript}"
            for group, subscript in zip(tile, ("[:, None]", "[None, :]"), strict=True)
            if not group.exact
        }
        varies = {axis.name: frozenset((group.name,)) for group in tile for axis in group.axes}
        scope = Scope(
            names=self.shared.names,
            pointers=self.shared.pointers,
            dtypes=self.shared.dtypes,
            extents=self.extents,
            variables=self._variables(places),
            varies=varies | {axis.name: frozenset() for axis in self.slice},
            masks=masks,
            tile=tile,
            block_names={"m": "BLOCK_M", "n": "BLOCK_N"},
        )
        for group, subscript in zip(tile, ("[:, None]", "[None, :]"), strict=True):
            if len(group.axes) > 1:
                scope.linear[f"{group.name}{subscript}"] = group
        for statement in body:
            if isinstance(statement, Anchor):
                scope.declare(statement.name, statement.dtype, frozenset(("m", "n")))
                scope.text[statement.name] = "accumulator"
        return scope.lines([s for s in body if not isinstance(s, Anchor)]), scope.helpers
