"""Cases of the elementwise operators."""

from typing import Any

import torch
from torch.nn import functional

from support.cases import Case, Oracle, Tensor, one

POSITIVE, UNIT = (0.2, 3.0), (-0.9, 0.9)


def _rint(x: Tensor) -> Tensor:
    return torch.where(x - x.floor() <= x.ceil() - x, x.floor(), x.ceil())


def _round(x: Tensor) -> Tensor:
    return x.sign() * (x.abs() + 0.5).floor()


UNARY: tuple[tuple[str, Oracle, Any, bool], ...] = (
    ("abs", torch.abs, None, True),
    ("sign", torch.sign, None, False),
    ("negative", torch.neg, None, True),
    ("floor", torch.floor, None, False),
    ("ceil", torch.ceil, None, False),
    ("trunc", torch.trunc, None, False),
    ("round", _round, None, False),
    ("rint", _rint, None, False),
    ("exp", torch.exp, None, True),
    ("expm1", torch.expm1, None, True),
    ("log", torch.log, POSITIVE, True),
    ("log10", torch.log10, POSITIVE, True),
    ("log2", torch.log2, POSITIVE, True),
    ("log1p", torch.log1p, POSITIVE, True),
    ("sqrt", torch.sqrt, POSITIVE, True),
    ("rsqrt", torch.rsqrt, POSITIVE, True),
    ("cbrt", lambda x: x ** (1 / 3), POSITIVE, True),
    ("rcbrt", lambda x: x ** (-1 / 3), POSITIVE, True),
    ("square", torch.square, None, True),
    ("reciprocal", torch.reciprocal, POSITIVE, True),
    ("sin", torch.sin, None, True),
    ("cos", torch.cos, None, True),
    ("tan", torch.tan, UNIT, True),
    ("arcsin", torch.asin, UNIT, True),
    ("arccos", torch.acos, UNIT, True),
    ("arctan", torch.atan, None, True),
    ("sinh", torch.sinh, None, True),
    ("cosh", torch.cosh, None, True),
    ("tanh", torch.tanh, None, True),
    ("arcsinh", torch.asinh, None, True),
    ("arccosh", torch.acosh, (1.1, 3.0), True),
    ("arctanh", torch.atanh, UNIT, True),
    ("degrees", torch.rad2deg, None, True),
    ("radians", torch.deg2rad, None, True),
    ("erf", torch.erf, None, True),
    ("relu", torch.relu, None, True),
    ("sigmoid", torch.sigmoid, None, True),
    ("softsign", functional.softsign, None, True),
    ("gelu", functional.gelu, None, True),
    ("logical_not", lambda x: (x == 0).double(), 2, False),
    ("_copy", torch.clone, None, True),
    ("zeros_like", torch.zeros_like, None, False),
    ("ones_like", torch.ones_like, None, False),
)


def unary_cases() -> list[Case]:
    cases = [
        one(name, (3, 5), oracle, draw=draw, gradient=gradient) for name, oracle, draw, gradient in UNARY
    ]
    cases += [
        one("clip", (3, 5), lambda x: x.clamp(-0.5, 0.75), a_min=-0.5, a_max=0.75),
        one("hard_sigmoid", (3, 5), lambda x: (0.2 * x + 0.5).clamp(0, 1)),
        one("hard_sigmoid", (3, 5), lambda x: (0.7 * x + 0.1).clamp(0, 1), alpha=0.7, beta=0.1),
        one("smooth_l1", (3, 5), lambda x: functional.smooth_l1_loss(x, 0 * x, reduction="none")),
        one(
            "smooth_l1",
            (3, 5),
            lambda x: torch.where(x.abs() < 1 / 4, 2 * x * x, x.abs() - 1 / 8),
            scalar=2.0,
        ),
        one("Cast", (3, 5), lambda x: x, dtype="float64"),
        one("Cast", (3, 5), lambda x: x.to(torch.int32), gradient=False, dtype="int32"),
    ]
    activations = {
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "log_sigmoid": functional.logsigmoid,
        "tanh": torch.tanh,
        "softrelu": functional.softplus,
        "softsign": functional.softsign,
        "mish": functional.mish,
        "swish": functional.silu,
    }
    cases += [one("Activation", (3, 5), oracle, act_type=name) for name, oracle in activations.items()]
    cases += [
        one("LeakyReLU", (3, 5), lambda x: functional.leaky_relu(x, 0.25)),
        one("LeakyReLU", (3, 5), lambda x: functional.leaky_relu(x, 0.1), act_type="leaky", slope=0.1),
        one("LeakyReLU", (3, 5), lambda x: functional.elu(x, 0.7), act_type="elu", slope=0.7),
        one("LeakyReLU", (3, 5), functional.gelu, act_type="gelu"),
        one("LeakyReLU", (3, 5), functional.gelu, act_type="gelu_erf"),
        one("LeakyReLU", (3, 5), lambda x: functional.gelu(x, approximate="tanh"), act_type="gelu_tanh"),
        one("LeakyReLU", (3, 5), functional.selu, act_type="selu"),
        one("LeakyReLU", (3, 5), lambda x: functional.leaky_relu(x, 0.2295), act_type="rrelu"),
        Case(
            "LeakyReLU",
            {"data": (2, 3, 4), "gamma": (3,)},
            lambda x, gamma: functional.prelu(x, gamma),
            {"act_type": "prelu"},
        ),
    ]
    return cases


BINARY: tuple[tuple[str, str, Oracle, Any, bool], ...] = (
    ("elemwise_add", "_plus_scalar", torch.add, None, True),
    ("elemwise_sub", "_minus_scalar", torch.sub, None, True),
    ("elemwise_mul", "_mul_scalar", torch.mul, None, True),
    ("elemwise_div", "_div_scalar", torch.div, POSITIVE, True),
    ("_mod", "_mod_scalar", torch.remainder, POSITIVE, True),
    ("_power", "_power_scalar", torch.pow, POSITIVE, True),
    ("_maximum", "_maximum_scalar", torch.maximum, None, True),
    ("_minimum", "_minimum_scalar", torch.minimum, None, True),
    ("_hypot", "_hypot_scalar", torch.hypot, None, True),
    ("_equal", "_equal_scalar", torch.eq, 3, False),
    ("_not_equal", "_not_equal_scalar", torch.ne, 3, False),
    ("_greater", "_greater_scalar", torch.gt, 3, False),
    ("_greater_equal", "_greater_equal_scalar", torch.ge, 3, False),
    ("_lesser", "_lesser_scalar", torch.lt, 3, False),
    ("_lesser_equal", "_lesser_equal_scalar", torch.le, 3, False),
    ("_logical_and", "_logical_and_scalar", torch.logical_and, 2, False),
    ("_logical_or", "_logical_or_scalar", torch.logical_or, 2, False),
    ("_logical_xor", "_logical_xor_scalar", torch.logical_xor, 2, False),
)
REVERSED = ("_rminus_scalar", "_rdiv_scalar", "_rmod_scalar", "_rpower_scalar")


def _with_scalar(oracle: Oracle, scalar: float, is_reversed: bool = False) -> Oracle:
    def apply(x: Tensor) -> Tensor:
        y = torch.full_like(x, scalar)
        return oracle(y, x) if is_reversed else oracle(x, y)

    return apply


def binary_cases() -> list[Case]:
    cases = []
    for name, scalar, oracle, draw, gradient in BINARY:
        ranges = {} if draw is None else {"lhs": draw, "rhs": draw}
        broadcast = "broadcast_" + name.removeprefix("elemwise_").removeprefix("_")
        cases.append(Case(name, {"lhs": (3, 5), "rhs": (3, 5)}, oracle, {}, ranges, gradient))
        for left, right in (((3, 1, 5), (3, 4, 1)), ((2, 3), (3,))):
            shapes = {"lhs": left, "rhs": right}
            cases.append(Case(broadcast, shapes, oracle, {}, ranges, gradient, symbolic=len(right) > 1))
        cases.append(one(scalar, (3, 5), _with_scalar(oracle, 1.0), draw=draw, gradient=gradient, scalar=1.0))
        turned = scalar.replace("_", "_r", 1)
        if turned in REVERSED:
            cases.append(one(turned, (3, 5), _with_scalar(oracle, 1.75, True), draw=POSITIVE, scalar=1.75))
    add = {f"arg{k}": (3, 5) for k in range(3)}
    cases.append(Case("add_n", add, lambda x, y, z: x + y + z))
    return cases
