"""Applications of every operator, each with an oracle in torch: what test_against_torch.py runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

Tensor = torch.Tensor
Oracle = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One application: shapes of its inputs in order, how they are drawn, and what torch gives for them.

    draw: a range (low, high) of numbers, or a count for whole numbers below it, by argument; others are normal.
    """

    operator: str
    shapes: Mapping[str, tuple[int, ...]]
    oracle: Oracle
    parameters: Mapping[str, Any] = field(default_factory=dict)
    draw: Mapping[str, Any] = field(default_factory=dict)
    gradient: bool = True
    symbolic: bool = True

    def __str__(self) -> str:
        words = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.operator}({words})".replace(" ", "")

    def inputs(self, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        result = {}
        for name, shape in self.shapes.items():
            draw = self.draw.get(name)
            if isinstance(draw, int):
                result[name] = torch.randint(draw, shape, generator=generator).double()
            elif draw is not None:
                low, high = draw
                result[name] = (
                    torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
                )
            else:
                result[name] = torch.randn(shape, generator=generator, dtype=torch.float64)
        return result


def _one(
    operator: str,
    shape: tuple[int, ...],
    oracle: Oracle,
    /,
    *,
    draw: Any = None,
    gradient: bool = True,
    symbolic: bool = True,
    **parameters: Any,
) -> Case:
    table = {} if draw is None else {"data": draw}
    return Case(operator, {"data": shape}, oracle, parameters, table, gradient, symbolic)


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


def _unary_cases() -> list[Case]:
    cases = [
        _one(name, (3, 5), oracle, draw=draw, gradient=gradient) for name, oracle, draw, gradient in UNARY
    ]
    cases += [
        _one("clip", (3, 5), lambda x: x.clamp(-0.5, 0.75), a_min=-0.5, a_max=0.75),
        _one("hard_sigmoid", (3, 5), lambda x: (0.2 * x + 0.5).clamp(0, 1)),
        _one("hard_sigmoid", (3, 5), lambda x: (0.7 * x + 0.1).clamp(0, 1), alpha=0.7, beta=0.1),
        _one("smooth_l1", (3, 5), lambda x: functional.smooth_l1_loss(x, 0 * x, reduction="none")),
        _one(
            "smooth_l1",
            (3, 5),
            lambda x: torch.where(x.abs() < 1 / 4, 2 * x * x, x.abs() - 1 / 8),
            scalar=2.0,
        ),
        _one("Cast", (3, 5), lambda x: x, dtype="float64"),
        _one("Cast", (3, 5), lambda x: x.to(torch.int32), gradient=False, dtype="int32"),
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
    cases += [_one("Activation", (3, 5), oracle, act_type=name) for name, oracle in activations.items()]
    cases += [
        _one("LeakyReLU", (3, 5), lambda x: functional.leaky_relu(x, 0.25)),
        _one("LeakyReLU", (3, 5), lambda x: functional.leaky_relu(x, 0.1), act_type="leaky", slope=0.1),
        _one("LeakyReLU", (3, 5), lambda x: functional.elu(x, 0.7), act_type="elu", slope=0.7),
        _one("LeakyReLU", (3, 5), functional.gelu, act_type="gelu"),
        _one("LeakyReLU", (3, 5), functional.selu, act_type="selu"),
        _one("LeakyReLU", (3, 5), lambda x: functional.leaky_relu(x, 0.2295), act_type="rrelu"),
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


def _binary_cases() -> list[Case]:
    cases = []
    for name, scalar, oracle, draw, gradient in BINARY:
        ranges = {} if draw is None else {"lhs": draw, "rhs": draw}
        broadcast = "broadcast_" + name.removeprefix("elemwise_").removeprefix("_")
        cases.append(Case(name, {"lhs": (3, 5), "rhs": (3, 5)}, oracle, {}, ranges, gradient))
        for left, right in (((3, 1, 5), (3, 4, 1)), ((2, 3), (3,))):
            shapes = {"lhs": left, "rhs": right}
            cases.append(Case(broadcast, shapes, oracle, {}, ranges, gradient, symbolic=len(right) > 1))
        cases.append(
            _one(scalar, (3, 5), _with_scalar(oracle, 1.0), draw=draw, gradient=gradient, scalar=1.0)
        )
        turned = scalar.replace("_", "_r", 1)
        if turned in REVERSED:
            cases.append(_one(turned, (3, 5), _with_scalar(oracle, 1.75, True), draw=POSITIVE, scalar=1.75))
    add = {f"arg{k}": (3, 5) for k in range(3)}
    cases.append(Case("add_n", add, lambda x, y, z: x + y + z))
    return cases


def _normed(x: Tensor, axes: tuple[int, ...] | None, order: int, keepdim: bool = False) -> Tensor:
    result = torch.linalg.vector_norm(x, order, axes, keepdim)
    return result.reshape(1) if result.dim() == 0 else result


def _reduction_cases() -> list[Case]:
    cases = []
    for name, oracle in (
        ("sum", torch.sum),
        ("mean", torch.mean),
        ("nansum", torch.nansum),
        ("max", torch.amax),
        ("min", torch.amin),
    ):
        cases += [
            _one(name, (3, 4, 5), lambda x, f=oracle: f(x, dim=(0, 1, 2)).reshape(1)),
            _one(name, (3, 4, 5), lambda x, f=oracle: f(x, dim=(1,)), axis=1),
            _one(
                name,
                (3, 4, 5),
                lambda x, f=oracle: f(x, dim=(0, 2), keepdim=True),
                axis=(0, -1),
                keepdims=True,
            ),
            _one(name, (3, 4, 5), lambda x, f=oracle: f(x, dim=(0, 2)), axis=1, exclude=True),
        ]
    cases += [
        _one("prod", (3, 4), lambda x: x.prod(1), axis=1),
        _one("prod", (3, 4), lambda x: x.prod().reshape(1)),
        _one("nanprod", (3, 4), lambda x: x.prod(0, keepdim=True), axis=0, keepdims=True),
        _one("norm", (3, 4, 5), lambda x: _normed(x, None, 2)),
        _one("norm", (3, 4, 5), lambda x: _normed(x, (1,), 1, True), ord=1, axis=1, keepdims=True),
        _one("argmax", (3, 4), lambda x: x.argmax(1).double(), gradient=False, axis=1),
        _one("argmax", (3, 4), lambda x: x.argmax().double().reshape(1), gradient=False),
        _one("argmin", (3, 4), lambda x: x.argmin(0, True).double(), gradient=False, axis=0, keepdims=True),
        _one("argmax_channel", (3, 4), lambda x: x.argmax(1).double(), gradient=False),
    ]
    return cases


def _shaping_cases() -> list[Case]:
    def shaped(*shape: int) -> Oracle:
        return lambda x: x.reshape(shape)

    return [
        _one("Reshape", (2, 3, 4), shaped(4, 6), symbolic=False, shape=(4, 6)),
        _one("Reshape", (2, 3, 4), shaped(2, 12), shape=(0, -1)),
        _one("Reshape", (2, 3, 4), shaped(2, 3, 4), shape=(-2,)),
        _one("Reshape", (2, 3, 4), shaped(6, 4), shape=(-3, 0)),
        _one("Reshape", (2, 12), shaped(2, 3, 4), shape=(0, -4, 3, -1)),
        _one("Reshape", (2, 3, 4), shaped(1, 2, 3, 4), symbolic=False, shape=(-4, 1, 2, -2)),
        _one("Reshape", (10, 5, 4), shaped(50, 4), shape=(-1, 0), reverse=True),
        _one("Reshape", (8, 3, 4), shaped(8, 3, 2, 2), shape=(0, 0, -4, 2, 2), reverse=True),
        _one("Flatten", (2, 3, 4), shaped(2, 12)),
        Case("reshape_like", {"lhs": (2, 6), "rhs": (2, 3, 2)}, lambda x, y: x.reshape(y.shape)),
        _one("transpose", (2, 3, 4), lambda x: x.permute(2, 1, 0)),
        _one("transpose", (2, 3, 4), lambda x: x.permute(1, 0, 2), axes=(1, 0, 2)),
        _one("SwapAxis", (2, 3, 4), lambda x: x.transpose(0, 2), dim1=0, dim2=2),
        _one("expand_dims", (2, 3), lambda x: x.unsqueeze(1), axis=1),
        _one("expand_dims", (2, 3), lambda x: x.unsqueeze(-1), axis=-1),
        _one("squeeze", (3, 1, 2, 1), lambda x: x.squeeze(), axis=None),
        _one("squeeze", (3, 1, 2, 1), lambda x: x.squeeze(1), axis=1),
    ]


def _joining_cases() -> list[Case]:
    two = {"arg0": (2, 3, 4), "arg1": (2, 5, 4)}
    same = {"arg0": (2, 3), "arg1": (2, 3)}
    return [
        Case("Concat", two, lambda x, y: torch.cat((x, y), 1)),
        Case("Concat", same, lambda x, y: torch.cat((x, y), 0), {"dim": 0}),
        Case("Concat", {"arg0": (2, 3)}, torch.clone, {"dim": -1}),
        Case("stack", same, lambda x, y: torch.stack((x, y), 1), {"axis": 1}),
        Case("stack", same, lambda x, y: torch.stack((x, y), -1), {"axis": -1}),
        _one("SliceChannel", (2, 6, 3), lambda x: x.split(2, 1), num_outputs=3),
        _one("SliceChannel", (3, 2), lambda x: x.unbind(1), num_outputs=2, axis=-1, squeeze_axis=True),
        _one("SliceChannel", (3, 2), torch.clone, num_outputs=1),
        _one("slice", (4, 5, 3), lambda x: x[1:3, 0:4], symbolic=False, begin=(1, 0), end=(3, 4)),
        _one("slice", (4, 6), lambda x: x[:, 1:-1], begin=(None, 1), end=(None, -1)),
        _one("slice", (4, 7), lambda x: x[:, 1:7:3], begin=(None, 1), end=(None, None), step=(None, 3)),
        _one("slice", (2, 7), lambda x: x.flip(1)[:, 1:6:2], begin=(None, 5), end=(None, 0), step=(None, -2)),
        _one("slice", (2, 7), lambda x: x.flip(1), begin=(None, None), end=(None, None), step=(None, -1)),
        _one("slice_axis", (2, 7), lambda x: x[:, 2:5], axis=1, begin=2, end=5),
        _one("slice_axis", (2, 7), lambda x: x[:, -3:], axis=-1, begin=-3),
        Case("slice_like", {"data": (4, 5), "shape_like": (2, 3)}, lambda x, y: x[:2, :3], symbolic=False),
        Case("slice_like", {"data": (4, 5), "shape_like": (2, 3)}, lambda x, y: x[:, :3], {"axes": (1,)}),
        _one("tile", (2, 3), lambda x: x.tile(2, 2), reps=(2, 2)),
        _one("tile", (2, 3), lambda x: x.tile(3, 1, 2), reps=(3, 1, 2)),
        _one("repeat", (2, 3), lambda x: x.repeat_interleave(2), repeats=2),
        _one("repeat", (2, 3), lambda x: x.repeat_interleave(3, 1), repeats=3, axis=1),
        _one("reverse", (2, 3), lambda x: x.flip(1), axis=1),
        _one("broadcast_to", (2, 1, 3), lambda x: x.expand(2, 4, 3), shape=(0, 4, 3)),
        _one("broadcast_axis", (2, 1, 3), lambda x: x.expand(2, 4, 3), axis=1, size=4),
        Case("broadcast_like", {"lhs": (2, 1), "rhs": (2, 3)}, lambda x, y: x.expand(2, 3)),
        _one(
            "Pad",
            (2, 3),
            lambda x: functional.pad(x, (1, 2), value=0.5),
            mode="constant",
            pad_width=(0, 0, 1, 2),
            constant_value=0.5,
        ),
        _one(
            "Pad",
            (2, 2, 4),
            lambda x: functional.pad(x, (2, 1), mode="replicate"),
            mode="edge",
            pad_width=(0, 0, 0, 0, 2, 1),
        ),
        _one(
            "Pad",
            (2, 2, 4),
            lambda x: functional.pad(x, (2, 1), mode="reflect"),
            mode="reflect",
            pad_width=(0, 0, 0, 0, 2, 1),
        ),
    ]


def _indexing_cases() -> list[Case]:
    def long(x: Tensor) -> Tensor:
        return x.long()

    rows, pairs = {"data": 3}, {"index": 4}
    return [
        Case(
            "Embedding",
            {"data": (2, 5), "weight": (3, 4)},
            lambda x, w: functional.embedding(long(x), w),
            {"input_dim": 3, "output_dim": 4},
            rows,
        ),
        Case(
            "take",
            {"a": (6, 2), "indices": (3, 2)},
            lambda x, i: x[long(i)],
            {},
            {"indices": 6},
            symbolic=False,
        ),
        Case(
            "take",
            {"a": (2, 3), "indices": (4,)},
            lambda x, i: x[:, long(i) % 3],
            {"axis": 1, "mode": "wrap"},
            {"indices": 9},
        ),
        Case(
            "pick",
            {"data": (3, 4), "index": (3,)},
            lambda x, i: x.gather(1, long(i)[:, None])[:, 0],
            {},
            pairs,
        ),
        Case(
            "pick",
            {"data": (4, 3), "index": (1, 3)},
            lambda x, i: x.gather(0, long(i)),
            {"axis": 0, "keepdims": True},
            pairs,
        ),
        Case(
            "pick",
            {"data": (3, 4), "index": (3,)},
            lambda x, i: x.gather(1, (long(i) % 4)[:, None])[:, 0],
            {"mode": "wrap"},
            {"index": 9},
        ),
        Case(
            "one_hot",
            {"indices": (2, 3)},
            lambda i: functional.one_hot(long(i), 5).double() * 3 - 1,
            {"depth": 5, "on_value": 2.0, "off_value": -1.0},
            {"indices": 5},
            gradient=False,
        ),
        Case(
            "where",
            {"condition": (3, 4), "x": (3, 4), "y": (3, 4)},
            lambda c, x, y: torch.where(c != 0, x, y),
            {},
            {"condition": 2},
        ),
        Case(
            "where",
            {"condition": (3,), "x": (3, 4), "y": (3, 4)},
            lambda c, x, y: torch.where(c[:, None] != 0, x, y),
            {},
            {"condition": 2},
        ),
    ]


def _linear_cases() -> list[Case]:
    linear = {"data": (2, 3, 4), "weight": (5, 12), "bias": (5,)}
    last = {"data": (2, 3, 4), "weight": (5, 4), "bias": (5,)}
    return [
        Case(
            "FullyConnected",
            linear,
            lambda x, w, b: functional.linear(x.flatten(1), w, b),
            {"num_hidden": 5},
        ),
        Case("FullyConnected", last, functional.linear, {"num_hidden": 5, "flatten": False}),
        Case(
            "FullyConnected",
            {"data": (3, 4), "weight": (1, 4)},
            functional.linear,
            {"num_hidden": 1, "no_bias": True},
        ),
        Case("dot", {"lhs": (3, 4), "rhs": (4, 2)}, torch.matmul),
        Case("dot", {"lhs": (4,), "rhs": (4,)}, lambda x, y: (x @ y).reshape(1), symbolic=False),
        Case("dot", {"lhs": (2, 3, 4), "rhs": (4, 5, 2)}, lambda x, y: torch.tensordot(x, y, 1)),
        Case("dot", {"lhs": (4, 3), "rhs": (4, 2)}, lambda x, y: x.T @ y, {"transpose_a": True}),
        Case("dot", {"lhs": (3, 4), "rhs": (2, 4)}, lambda x, y: x @ y.T, {"transpose_b": True}),
        Case("batch_dot", {"lhs": (2, 3, 4), "rhs": (2, 4, 5)}, torch.bmm),
        Case(
            "batch_dot",
            {"lhs": (2, 4, 3), "rhs": (2, 5, 4)},
            lambda x, y: x.mT @ y.mT,
            {"transpose_a": True, "transpose_b": True},
        ),
    ]


def _spatial_cases() -> list[Case]:
    def image(*shape: int) -> dict[str, tuple[int, ...]]:
        return {"data": shape}

    return [
        Case(
            "Convolution",
            {**image(2, 3, 7, 8), "weight": (4, 3, 3, 2), "bias": (4,)},
            functional.conv2d,
            {"kernel": (3, 2), "num_filter": 4},
        ),
        Case(
            "Convolution",
            {**image(2, 4, 9, 9), "weight": (6, 2, 3, 3)},
            lambda x, w: functional.conv2d(x, w, None, 2, 1, 2, 2),
            {
                "kernel": (3, 3),
                "num_filter": 6,
                "stride": (2, 2),
                "pad": (1, 1),
                "dilate": (2, 2),
                "num_group": 2,
                "no_bias": True,
            },
        ),
        Case(
            "Convolution",
            {**image(2, 3, 9), "weight": (4, 3, 3), "bias": (4,)},
            lambda x, w, b: functional.conv1d(x, w, b, 2),
            {"kernel": 3, "num_filter": 4, "stride": 2},
        ),
        Case(
            "Convolution",
            {**image(1, 2, 4, 5, 4), "weight": (3, 2, 2, 2, 2), "bias": (3,)},
            functional.conv3d,
            {"kernel": (2, 2, 2), "num_filter": 3},
        ),
        Case(
            "Deconvolution",
            {**image(2, 4, 5, 5), "weight": (4, 3, 3, 3)},
            lambda x, w: functional.conv_transpose2d(x, w, None, 2, 1, 1),
            {"kernel": (3, 3), "num_filter": 3, "stride": (2, 2), "pad": (1, 1), "adj": (1, 1)},
        ),
        Case(
            "Deconvolution",
            {**image(2, 4, 5), "weight": (4, 2, 4), "bias": (4,)},
            lambda x, w, b: functional.conv_transpose1d(x, w, b, 2, 1, 0, 2),
            {
                "kernel": (4,),
                "num_filter": 4,
                "stride": (2,),
                "target_shape": (10,),
                "num_group": 2,
                "no_bias": False,
            },
        ),
        _one("Pooling", (2, 3, 7, 7), lambda x: functional.max_pool2d(x, 2, 2), kernel=(2, 2), stride=(2, 2)),
        _one(
            "Pooling",
            (2, 3, 7, 6),
            lambda x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True),
            kernel=(3, 3),
            stride=(2, 2),
            pad=(1, 1),
            pooling_convention="full",
        ),
        _one(
            "Pooling",
            (2, 3, 8),
            lambda x: functional.max_pool1d(functional.pad(x, (0, 1), value=-math.inf), 3, 2),
            kernel=3,
            stride=2,
            pooling_convention="same",
        ),
        *(
            _one(
                "Pooling",
                (2, 3, 7, 6),
                lambda x, f=full, c=counted: functional.avg_pool2d(x, 3, 2, 1, f, c),
                kernel=(3, 3),
                stride=(2, 2),
                pad=(1, 1),
                pool_type="avg",
                pooling_convention="full" if full else "valid",
                count_include_pad=counted,
            )
            for full in (False, True)
            for counted in (False, True)
        ),
        _one(
            "Pooling",
            (2, 3, 4, 4),
            lambda x: 4 * functional.avg_pool2d(x, 2, 1),
            kernel=(2, 2),
            pool_type="sum",
        ),
        _one(
            "Pooling",
            (2, 3, 4, 4),
            lambda x: functional.lp_pool2d(x, 2, 2),
            kernel=(2, 2),
            stride=(2, 2),
            pool_type="lp",
        ),
        _one(
            "Pooling", (2, 3, 4, 5), lambda x: x.mean((2, 3), keepdim=True), global_pool=True, pool_type="avg"
        ),
        _one("Pooling", (2, 3, 4, 5), lambda x: x.amax((2, 3), keepdim=True), global_pool=True),
        _one(
            "Pooling", (2, 3, 4, 5), lambda x: x.sum((2, 3), keepdim=True), global_pool=True, pool_type="sum"
        ),
    ]


def _local_response(x: Tensor) -> Tensor:
    return functional.local_response_norm(x, 3, 0.3, 0.5, 1.5)


def _normalization_cases() -> list[Case]:
    vectors = {"gamma": (5,), "beta": (5,)}
    channels = {"gamma": (3,), "beta": (3,)}
    return [
        Case(
            "LayerNorm",
            {"data": (3, 4, 5), **vectors},
            lambda x, g, b: functional.layer_norm(x, (5,), g, b, 1e-5),
        ),
        Case(
            "LayerNorm",
            {"data": (2, 3, 4), **channels},
            lambda x, g, b: functional.layer_norm(x.mT, (3,), g, b, 0.1).mT,
            {"axis": 1, "eps": 0.1},
        ),
        Case(
            "InstanceNorm",
            {"data": (2, 3, 4, 5), **channels},
            lambda x, g, b: functional.instance_norm(x, None, None, g, b, eps=1e-3),
        ),
        _one("L2Normalization", (2, 3, 4), lambda x: x / x.square().sum((1, 2), True).add(1e-10).sqrt()),
        _one(
            "L2Normalization",
            (2, 3, 4),
            lambda x: x / x.square().sum(1, True).add(1e-10).sqrt(),
            mode="channel",
        ),
        _one(
            "L2Normalization",
            (2, 3, 4),
            lambda x: x / x.square().sum(2, True).add(1e-10).sqrt(),
            mode="spatial",
        ),
        _one("LRN", (2, 5, 3, 3), _local_response, nsize=3, alpha=0.3, beta=0.5, knorm=1.5),
        _one("softmax", (3, 4), lambda x: x.softmax(-1)),
        _one("softmax", (3, 4, 2), lambda x: (x / 2.5).softmax(1), axis=1, temperature=2.5),
        _one("softmin", (3, 4), lambda x: (-x).softmax(-1)),
        _one("log_softmax", (3, 4), lambda x: x.log_softmax(-1)),
        _one("log_softmax", (3, 4), lambda x: x.log_softmax(0), axis=0),
        _one("SoftmaxActivation", (3, 4, 2), lambda x: x.flatten(1).softmax(1).reshape(x.shape)),
        _one("SoftmaxActivation", (3, 4, 2), lambda x: x.softmax(1), mode="channel"),
        Case(
            "softmax_cross_entropy",
            {"data": (3, 4), "label": (3,)},
            lambda x, y: functional.cross_entropy(x, y.long(), reduction="sum").reshape(1),
            {},
            {"label": 4},
        ),
    ]


def _creation_cases() -> list[Case]:
    def numbers(*arguments: float) -> Oracle:
        return lambda: torch.arange(*arguments, dtype=torch.float64)

    return [
        Case("_zeros", {}, lambda: torch.zeros(2, 3), {"shape": (2, 3)}),
        Case("_ones", {}, lambda: torch.ones(2, 3), {"shape": (2, 3)}),
        Case("_full", {}, lambda: torch.full((2, 3), 1.5), {"shape": (2, 3), "value": 1.5}),
        Case("_arange", {}, numbers(5), {"start": 5}),
        Case("_arange", {}, numbers(1, 4, 0.5), {"start": 1, "stop": 4, "step": 0.5}),
        Case("_arange", {}, numbers(4, 0, -1.5), {"start": 4, "stop": 0, "step": -1.5}),
        Case("_arange", {}, lambda: torch.arange(3).repeat_interleave(2), {"start": 3, "repeat": 2}),
    ]


CASES = (
    *_unary_cases(),
    *_binary_cases(),
    *_reduction_cases(),
    *_shaping_cases(),
    *_joining_cases(),
    *_indexing_cases(),
    *_linear_cases(),
    *_spatial_cases(),
    *_normalization_cases(),
    *_creation_cases(),
)

# Tested by files of their own: their gradient is no derivative, or they are random, or keep state.
ELSEWHERE = {
    "SoftmaxOutput",
    "LinearRegressionOutput",
    "LogisticRegressionOutput",
    "MAERegressionOutput",
    "MakeLoss",
    "make_loss",
    "BlockGrad",
    "Dropout",
    "_random_uniform",
    "_random_normal",
    "BatchNorm",
}
