"""templates/cpp/vector_math.h against float64: errors in ulp, NaN, infinity, and every target's instructions."""

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from support.native import build, call, targets

Array = NDArray[np.float64]


def _of_torch(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Array], Array]:
    return lambda x: function(torch.from_numpy(x)).numpy()


# Function, oracle in float64, largest error in ulp for f32.
OURS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp": (np.exp, 1.5),
    "expm1": (np.expm1, 2.0),
    "log": (np.log, 1.5),
    "log1p": (np.log1p, 1.5),
    "tanh": (np.tanh, 3.0),
    "erf": (_of_torch(torch.erf), 2.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 3.0),
    "softplus": (lambda x: np.logaddexp(0, x), 3.0),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 2.0),
}
LIBM: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp2": (np.exp2, 4.0),
    "log2": (np.log2, 4.0),
    "log10": (np.log10, 4.0),
    "sin": (np.sin, 4.0),
    "cos": (np.cos, 4.0),
    "tan": (np.tan, 4.0),
    "asin": (np.arcsin, 4.0),
    "acos": (np.arccos, 4.0),
    "atan": (np.arctan, 4.0),
    "sinh": (np.sinh, 4.0),
    "cosh": (np.cosh, 4.0),
    "asinh": (np.arcsinh, 4.0),
    "acosh": (np.arccosh, 4.0),
    "atanh": (np.arctanh, 4.0),
    "cbrt": (np.cbrt, 4.0),
    "erfc": (_of_torch(torch.special.erfc), 4.0),
    "lgamma": (_of_torch(torch.lgamma), 8.0),
}
FLUSHES = {"exp", "sigmoid", "softplus"}  # results below 2^-126 become zero
EXP_BORDERS = [88.72283, 88.72284, -87.33654, -87.33655, -103.0, 709.0]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, *EXP_BORDERS]


def _inputs(count: int) -> NDArray[np.float32]:
    """Every exponent, the ranges where the functions bend, and the special values."""
    random = np.random.default_rng(1)
    patterns = random.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ranges = [random.uniform(-limit, limit, count).astype(np.float32) for limit in (1.1, 5.0, 100.0)]
    return np.concatenate(
        [patterns, *ranges, np.array([*SPECIAL, 3.4e38, -3.4e38, 1e-45, 2**-126], np.float32)]
    )


def _apply(name: str, x: NDArray[np.floating], target: str = "native") -> NDArray[np.floating]:
    y = np.empty_like(x)
    suffix = "f32" if x.dtype == np.float32 else "f64"
    call(getattr(build("vector_math", target), f"{name}_{suffix}"), x, y, x.size)
    return y


def _check_ulp(name: str, oracle: Callable[[Array], Array], limit: float, target: str, count: int) -> None:
    x = _inputs(count)
    y = _apply(name, x, target)
    with np.errstate(all="ignore"):
        exact = oracle(x.astype(np.float64))
        rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded) & np.isfinite(y)
    assert np.array_equal(y[~finite], rounded[~finite], equal_nan=True), name
    tiny = finite & (np.abs(rounded) < 2.0**-126)
    finite &= ~tiny
    error = np.abs(y[finite].astype(np.float64) - exact[finite]) / np.spacing(np.abs(rounded[finite]))
    worst = int(np.argmax(error))
    assert error[worst] <= limit, f"{name}({x[finite][worst]!r}) is off by {error[worst]:.2f} ulp"
    absolute = 2.0**-126 if name in FLUSHES else 2.0**-148
    assert np.all(np.abs(y[tiny] - exact[tiny]) <= absolute), name


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("name", OURS)
def test_our_f32_functions_are_within_ulp(name: str, target: str) -> None:
    oracle, limit = OURS[name]
    slack = 0.0 if target == "native" else 1.0  # without fused multiply-add each step rounds twice
    _check_ulp(name, oracle, limit + slack, target, 400_000 if target == "native" else 50_000)


@pytest.mark.parametrize("name", LIBM)
def test_libm_f32_functions_are_within_ulp(name: str) -> None:
    _check_ulp(name, *LIBM[name], "native", 100_000)


@pytest.mark.parametrize("name", [*OURS, *LIBM])
def test_f64_functions_agree_with_numpy(name: str) -> None:
    oracle = {**OURS, **LIBM}[name][0]
    random = np.random.default_rng(2)
    x = np.concatenate([random.uniform(-30, 30, 20_001), random.uniform(-1, 1, 20_001), np.array(SPECIAL)])
    with np.errstate(all="ignore"):
        exact = oracle(x)
    rtol = 1e-12 if name == "lgamma" else 1e-14  # lgamma has zeros off the grid of numbers
    np.testing.assert_allclose(_apply(name, x), exact, rtol=rtol, atol=1e-300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_functions_are_exact(dtype: type[np.floating]) -> None:
    random = np.random.default_rng(3)
    halves = np.arange(-9, 10) / 2
    x = np.concatenate(
        [random.uniform(-1e3, 1e3, 5_001), halves, [np.nan, np.inf, -np.inf, 1e30, 0.49999997]]
    )
    x = x.astype(dtype)
    with np.errstate(all="ignore"):
        away = np.trunc(x) + np.where(np.abs(x - np.trunc(x)) >= 0.5, np.sign(x), 0)
    oracles = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "fabs": np.abs}
    for name, oracle in oracles.items():
        np.testing.assert_array_equal(_apply(name, x), oracle(x))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(_apply("round", x), np.where(np.isinf(x), x, away))
        np.testing.assert_array_equal(_apply("sign", x), np.where(np.isnan(x), 0, np.sign(x)))
        np.testing.assert_array_equal(_apply("sqrt", x), np.sqrt(x))


def _apply_two(name: str, x: NDArray[np.floating], z: NDArray[np.floating]) -> NDArray[np.floating]:
    y = np.empty_like(x)
    suffix = "f32" if x.dtype == np.float32 else "f64"
    call(getattr(build("vector_math"), f"{name}_{suffix}"), x, z, y, x.size)
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_two_arguments(dtype: type[np.floating]) -> None:
    random = np.random.default_rng(4)
    special = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0, np.inf, -np.inf, np.nan])
    first, second = (side.ravel() for side in np.meshgrid(special, special))
    x = np.concatenate([random.uniform(-4, 4, 5_001), first]).astype(dtype)
    z = np.concatenate([random.uniform(-4, 4, 5_001), second]).astype(dtype)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    with np.errstate(all="ignore"):
        for name, oracle in {"pow": np.power, "atan2": np.arctan2, "hypot": np.hypot}.items():
            exact = oracle(x.astype(np.float64), z.astype(np.float64))
            np.testing.assert_allclose(_apply_two(name, x, z), exact, rtol=tolerance, err_msg=name)
        np.testing.assert_array_equal(_apply_two("max", x, z), np.maximum(x, z))
        np.testing.assert_array_equal(_apply_two("min", x, z), np.minimum(x, z))
        np.testing.assert_allclose(_apply_two("mod", x, z), np.mod(x, z), rtol=tolerance, atol=tolerance)
        huge = np.array([1e30, -1e30, 1e15, 7.0], dtype)
        divisor = np.array([3.0, 3.0, -7.0, 1e-3], dtype)
        np.testing.assert_array_equal(_apply_two("mod", huge, divisor), np.mod(huge, divisor))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
def test_extreme_reductions_keep_nan(count: int) -> None:
    library = build("vector_math")
    library.reduce_max_f32.restype = ctypes.c_float
    library.reduce_min_f64.restype = ctypes.c_double
    x = np.random.default_rng(5).standard_normal(count).astype(np.float32)
    w = x.astype(np.float64)

    def largest() -> float:
        return float(library.reduce_max_f32(ctypes.c_void_p(x.ctypes.data), ctypes.c_int64(count)))

    def smallest() -> float:
        return float(library.reduce_min_f64(ctypes.c_void_p(w.ctypes.data), ctypes.c_int64(count)))

    assert largest() == x.max(initial=-np.inf)
    assert smallest() == w.min(initial=np.inf)
    for position in {0, count // 2, count - 1} if count else ():
        x[position] = w[position] = np.nan
        assert np.isnan(largest())
        assert np.isnan(smallest())
        x[position] = w[position] = 0.0
