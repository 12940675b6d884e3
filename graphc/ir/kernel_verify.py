"""Checks of Kernel IR: what a printer may rely on."""

from __future__ import annotations

from collections.abc import Iterable

from graphc.diagnostics import GraphcError, fail
from graphc.ir.kernel import (
    Access,
    Affine,
    Anchor,
    AnchorOperation,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Kernel,
    Load,
    Nest,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
)
from graphc.types import DType, TensorType, same_dim

_TRUTH = frozenset(
    ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not")
)
_POSITIONS = (Reduction.ARGMAX, Reduction.ARGMIN)


def verify_kernel(kernel: Kernel) -> None:
    """Error G405 names the kernel, the statement and the broken rule."""
    names = [parameter.name for parameter in kernel.parameters]
    if len(set(names)) != len(names):
        raise _broken(kernel, "parameters must have different names")
    if kernel.anchor is not None:
        _verify_anchor(kernel)
    written: set[str] = set(kernel.anchor.results if kernel.anchor is not None else ()) - {""}
    for nest in kernel.nests:
        stores = {s.buffer for s in nest.body if isinstance(s, Store)}
        reads = {s.buffer for s in nest.body if isinstance(s, (Load, Random))}
        _NestCheck(kernel, nest).run()
        others = [n for n in kernel.nests if n is not nest]
        for other in others:
            touched = {s.buffer for s in other.body if isinstance(s, (Load, Random))}
            if touched & stores:
                raise _broken(kernel, f"a nest reads {min(touched & stores)}, which another nest writes")
        written |= stores
        for name in reads & stores:
            if kernel.parameter(name).access is not Access.INOUT:
                raise _broken(kernel, f"{name} is read and written, so it must be inout")
    for parameter in kernel.parameters:
        if (parameter.access is Access.IN) == (parameter.name in written):
            raise _broken(kernel, f"{parameter.name} is declared {parameter.access.value} but used otherwise")


def _broken(kernel: Kernel, rule: str, statement: Statement | None = None) -> GraphcError:
    origins = statement.origins if statement is not None else kernel.origins
    where = ""
    if statement is not None:
        where = f" (store {statement.buffer})" if isinstance(statement, Store) else f" ({statement.name})"
    return fail(
        "G405",
        f"{rule}{where}",
        operator="kernel",
        name=kernel.name,
        location=origins[0].location if origins else None,
    )


def _verify_views(kernel: Kernel, anchor: AnchorOperation) -> None:
    names = (*anchor.operands, *anchor.results)
    if len(anchor.views) != len(names):
        raise _broken(kernel, "there is a view for each operand and result, or none")
    for name, view in zip(names, anchor.views, strict=True):
        if view is None or not name:
            continue
        axes = {axis.name for axis in view.axes}
        if len(axes) != len(view.axes) or any(axis.reduction for axis in view.axes):
            raise _broken(kernel, f"the axes of the view of {name} must be parallel and have different names")
        if len(view.index) != kernel.parameter(name).type.rank:
            raise _broken(kernel, f"the view of {name} has an index for each of its dimensions")
        if any(variable not in axes for place in view.index for variable in place.variables):
            raise _broken(kernel, f"the index of the view of {name} is made of its own axes")


def _verify_anchor(kernel: Kernel) -> None:
    anchor = kernel.anchor
    assert anchor is not None
    for name in anchor.operands:
        if kernel.parameter(name).access is not Access.IN:
            raise _broken(kernel, f"the anchor's operand {name} must be read only")
    if anchor.results:
        if kernel.nests:
            raise _broken(kernel, "an anchor that writes its results has no nest")
        for name in anchor.results:
            if name and kernel.parameter(name).access is not Access.OUT:
                raise _broken(kernel, f"the anchor's result {name} must be an out parameter")
        if anchor.views:
            _verify_views(kernel, anchor)
        return
    if len(kernel.nests) != 1:
        raise _broken(kernel, "an anchor has one epilogue nest")
    (nest,) = kernel.nests
    extents = [axis.extent for axis in nest.axes]
    shape = anchor.result.shape
    if nest.reductions or len(extents) != len(shape):
        raise _broken(kernel, "the epilogue's axes must be the dimensions of the anchor's result")
    if not all(same_dim(a, b) for a, b in zip(extents, shape, strict=True)):
        raise _broken(kernel, "the epilogue's axes must be the dimensions of the anchor's result")


class _NestCheck:
    """Checks statements in order."""

    def __init__(self, kernel: Kernel, nest: Nest) -> None:
        self.kernel = kernel
        self.nest = nest
        self.types: dict[str, TensorType] = {p.name: p.type for p in kernel.parameters}
        self.axes = {axis.name for axis in nest.axes}
        self.dtypes: dict[str, DType] = {}
        self.inner: dict[str, bool] = {}
        self.statement: Statement | None = None

    def fail(self, rule: str) -> GraphcError:
        return _broken(self.kernel, rule, self.statement)

    def run(self) -> None:
        if len(self.axes) != len(self.nest.axes):
            raise self.fail("axes must have different names")
        flags = [axis.reduction for axis in self.nest.axes]
        if flags != sorted(flags):
            raise self.fail("parallel axes come before reduction axes")
        for statement in self.nest.body:
            self.statement = statement
            if isinstance(statement, Store):
                self.store(statement)
                continue
            if statement.name in self.dtypes or statement.name in self.axes or statement.name in self.types:
                raise self.fail("a scalar's name is taken")
            self.inner[statement.name] = self.definition(statement)
            self.dtypes[statement.name] = statement.dtype

    def definition(self, statement: Statement) -> bool:
        """Check a definition and tell whether it is inner."""
        match statement:
            case Load():
                if self.buffer(statement.buffer).dtype is not statement.dtype:
                    raise self.fail("a load has the buffer's element type")
                return self.access(statement.buffer, statement.index, statement.guards)
            case Constant() | Anchor():
                if isinstance(statement, Anchor) and self.kernel.anchor is None:
                    raise self.fail("the kernel has no anchor")
                return False
            case IndexValue():
                return self.affine([statement.expression])
            case Random():
                if self.buffer(statement.buffer).dtype is not DType.I64 or statement.dtype is not DType.F32:
                    raise self.fail("random reads i64[2] and gives f32")
                return self.affine([statement.index])
            case Compute():
                return self.compute(statement)
            case Reduce():
                return self.reduce(statement)
        raise self.fail("no definition")

    def scalar(self, name: str) -> DType:
        if name not in self.dtypes:
            raise self.fail(f"{name} is used before it is defined")
        return self.dtypes[name]

    def buffer(self, name: str) -> TensorType:
        if name not in self.types:
            raise self.fail(f"there is no parameter {name}")
        return self.types[name]

    def affine(self, expressions: Iterable[Affine]) -> bool:
        """Check the variables of expressions and tell whether one is inner."""
        reduction = {axis.name for axis in self.nest.reductions}
        inner = False
        for expression in expressions:
            for name in expression.variables:
                if name not in self.axes and self.scalar(name) is not DType.I64:
                    raise self.fail(f"the index variable {name} must be an axis or an i64 scalar")
                inner = inner or name in reduction or self.inner.get(name, False)
        return inner

    def access(self, buffer: str, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> bool:
        if len(index) != self.buffer(buffer).rank:
            raise self.fail(f"{buffer} has {self.buffer(buffer).rank} dimensions, its index {len(index)}")
        return self.affine([*index, *(guard.expression for guard in guards)])

    def compute(self, statement: Compute) -> bool:
        dtypes = [self.scalar(name) for name in statement.arguments]
        operation, operands = statement.operation, dtypes
        if operation == "where":
            if dtypes[0] is not DType.BOOL:
                raise self.fail("where takes a bool first")
            operands = dtypes[1:]
        if len(set(operands)) > 1:
            raise self.fail("arguments must have one element type")
        if operation == "cast":
            return self.inner[statement.arguments[0]]
        if any(dtype.compute is not dtype for dtype in dtypes):
            raise self.fail("16-bit floats are cast to f32 before arithmetic")
        expected = DType.BOOL if operation in _TRUTH or operation == "is_nan" else operands[0]
        if statement.dtype is not expected:
            raise self.fail(f"the result must be {expected}")
        return any(self.inner[name] for name in statement.arguments)

    def reduce(self, statement: Reduce) -> bool:
        dtype = self.scalar(statement.argument)
        if not self.nest.reductions:
            raise self.fail("there is no reduction axis")
        if statement.dtype is not (DType.I64 if statement.operation in _POSITIONS else dtype):
            raise self.fail("a reduce has its argument's element type, argmax and argmin have i64")
        return False

    def store(self, statement: Store) -> None:
        if self.scalar(statement.value) is not self.buffer(statement.buffer).dtype:
            raise self.fail("a store's value has the buffer's element type")
        inner = self.access(statement.buffer, statement.index, statement.guards)
        if self.inner[statement.value] and not inner:
            raise self.fail("an inner value must be stored at an index over the reduction axes")
