"""Operators between symbols and numbers, under MXNet's names: a + b is named _plus0, as its users expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.diagnostics import Diagnostic, user_location
from graphc.symbol.errors import OperandError

if TYPE_CHECKING:
    from graphc.symbol.symbol import Symbol

Number = bool | int | float


class Arithmetic:
    """Mixin for Symbol: every Python operator applies an operator of the registry."""

    __slots__ = ()

    # numpy would otherwise apply an operator to each of its elements.
    __array_ufunc__ = None

    def _binary(self, tensors: str, scalar: str, other: Any) -> Symbol:
        from graphc.symbol.compose import apply
        from graphc.symbol.symbol import Symbol

        if isinstance(other, Symbol):
            return apply(tensors, (self, other), {})
        if isinstance(other, (int, float)):
            return apply(scalar, (self,), {"scalar": other + 0})
        if hasattr(other, "__float__") and not getattr(other, "shape", ()):
            return apply(scalar, (self,), {"scalar": float(other)})
        message = f"a symbol stands beside {type(other).__name__}, which is neither a symbol nor a number"
        help = "make a Variable, and give its content when the graph runs"
        raise OperandError(Diagnostic("G109", message, tensors, location=user_location(), help=help))

    def __add__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_Plus", "_PlusScalar", other)

    __radd__ = __add__

    def __sub__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_Minus", "_MinusScalar", other)

    def __rsub__(self, other: Number) -> Symbol:
        return self._binary("_Minus", "_RMinusScalar", other)

    def __mul__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_Mul", "_MulScalar", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_Div", "_DivScalar", other)

    def __rtruediv__(self, other: Number) -> Symbol:
        return self._binary("_Div", "_RDivScalar", other)

    def __mod__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_Mod", "_ModScalar", other)

    def __rmod__(self, other: Number) -> Symbol:
        return self._binary("_Mod", "_RModScalar", other)

    def __pow__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_Power", "_PowerScalar", other)

    def __rpow__(self, other: Number) -> Symbol:
        return self._binary("_Power", "_RPowerScalar", other)

    def __neg__(self) -> Symbol:
        return self.__mul__(-1.0)

    def __abs__(self) -> Symbol:
        from graphc.symbol.compose import apply

        return apply("abs", (self,), {})

    __hash__ = object.__hash__

    def __eq__(self, other: Symbol | Number) -> Symbol:  # type: ignore[override]
        return self._binary("_equal", "_equal_scalar", other)

    def __ne__(self, other: Symbol | Number) -> Symbol:  # type: ignore[override]
        return self._binary("_not_equal", "_not_equal_scalar", other)

    def __gt__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_greater", "_greater_scalar", other)

    def __ge__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_greater_equal", "_greater_equal_scalar", other)

    def __lt__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_lesser", "_lesser_scalar", other)

    def __le__(self, other: Symbol | Number) -> Symbol:
        return self._binary("_lesser_equal", "_lesser_equal_scalar", other)
