"""Initial values of parameters, chosen by name as in MXNet: weights by the rule, biases 0, gammas 1, moving variance 1.

init = Xavier(magnitude=2.0)
init("fc1_weight", array)          # writes in place
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from graphc.diagnostics import closest, fail
from graphc.driver import random
from graphc.driver.ndarray import NDArray

_BY_SUFFIX = {
    "bias": 0.0, "beta": 0.0, "moving_mean": 0.0, "running_mean": 0.0, "moving_avg": 0.0, "gamma": 1.0,
    "moving_var": 1.0, "running_var": 1.0, "moving_inv_var": 0.0,
}  # fmt: skip


class Initializer(ABC):
    """Fills an array in place, by its name."""

    @abstractmethod
    def __call__(self, name: str, array: NDArray | torch.Tensor) -> None: ...

    def dumps(self) -> str:
        """The JSON form that variables carry in `__init__`: [name, parameters]."""
        return json.dumps([type(self).__name__.lower(), dict(vars(self))])


class WeightRule(Initializer):
    """Biases, gammas and moving statistics get their usual constants; `draw` fills everything else."""

    def __call__(self, name: str, array: NDArray | torch.Tensor) -> None:
        target = array.tensor if isinstance(array, NDArray) else array
        for suffix, value in _BY_SUFFIX.items():
            if name.endswith(suffix):
                target.fill_(value)
                return
        # Drawn on the host in f32, so that every device and dtype starts from the same numbers.
        drawn = torch.empty(target.shape, dtype=torch.float32)
        self.draw(name, drawn)
        target.copy_(drawn)

    @abstractmethod
    def draw(self, name: str, array: torch.Tensor) -> None: ...


class Zero(WeightRule):
    """All zeros."""

    def draw(self, name: str, array: torch.Tensor) -> None:
        array.zero_()


class One(WeightRule):
    """All ones."""

    def draw(self, name: str, array: torch.Tensor) -> None:
        array.fill_(1.0)


class Constant(WeightRule):
    """One value everywhere."""

    def __init__(self, value: float) -> None:
        self.value = value

    def draw(self, name: str, array: torch.Tensor) -> None:
        array.fill_(self.value)


class Uniform(WeightRule):
    """Uniform in [-scale, scale]."""

    def __init__(self, scale: float = 0.07) -> None:
        self.scale = scale

    def draw(self, name: str, array: torch.Tensor) -> None:
        array.uniform_(-self.scale, self.scale, generator=random.generator())


class Normal(WeightRule):
    """Normal with mean 0 and standard deviation sigma."""

    def __init__(self, sigma: float = 0.01) -> None:
        self.sigma = sigma

    def draw(self, name: str, array: torch.Tensor) -> None:
        array.normal_(0.0, self.sigma, generator=random.generator())


class Orthogonal(WeightRule):
    """Orthogonal rows or columns times scale (Saxe et al. 2013, arXiv:1312.6120)."""

    def __init__(self, scale: float = 1.414, rand_type: str = "uniform") -> None:
        self.scale = scale
        self.rand_type = rand_type

    def draw(self, name: str, array: torch.Tensor) -> None:
        rows = array.shape[0]
        flat = torch.empty(rows, array.numel() // rows)
        if self.rand_type == "uniform":
            flat.uniform_(-1.0, 1.0, generator=random.generator())
        else:
            flat.normal_(0.0, 1.0, generator=random.generator())
        u, _, v = torch.linalg.svd(flat, full_matrices=False)
        array.copy_((self.scale * (u if u.shape == flat.shape else v)).reshape(array.shape))


class Xavier(WeightRule):
    """Variance magnitude / fan (Glorot and Bengio 2010); fan is in, out, or their average."""

    def __init__(self, rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3.0) -> None:
        if rnd_type not in ("uniform", "gaussian") or factor_type not in ("avg", "in", "out"):
            raise fail(
                "G104",
                f"Xavier(rnd_type={rnd_type!r}, factor_type={factor_type!r})",
                help="rnd_type is uniform or gaussian, factor_type is avg, in or out",
            )
        self.rnd_type = rnd_type
        self.factor_type = factor_type
        self.magnitude = magnitude

    def draw(self, name: str, array: torch.Tensor) -> None:
        if array.dim() < 2:
            raise fail(
                "G205",
                f"Xavier needs a weight of two or more dimensions, {name!r} has shape {tuple(array.shape)}",
                name=name,
                help="give such a parameter its own rule: Mixed([name, '.*'], [Constant(0.25), Xavier()])",
            )
        receptive = math.prod(array.shape[2:])
        fan_in, fan_out = array.shape[1] * receptive, array.shape[0] * receptive
        factor = {"avg": (fan_in + fan_out) / 2.0, "in": fan_in, "out": fan_out}[self.factor_type]
        scale = math.sqrt(self.magnitude / max(factor, 1.0))
        if self.rnd_type == "uniform":
            array.uniform_(-scale, scale, generator=random.generator())
        else:
            array.normal_(0.0, scale, generator=random.generator())


class MSRAPrelu(Xavier):
    """Gaussian with variance 2 / ((1 + slope^2) fan) (He et al. 2015, arXiv:1502.01852)."""

    def __init__(self, factor_type: str = "avg", slope: float = 0.25) -> None:
        super().__init__("gaussian", factor_type, 2.0 / (1.0 + slope**2))


class Bilinear(WeightRule):
    """Bilinear upsampling filters for a transposed convolution."""

    def draw(self, name: str, array: torch.Tensor) -> None:
        height, width = array.shape[-2:]
        factor = math.ceil(width / 2.0)
        center = (2 * factor - 1 - factor % 2) / (2.0 * factor)
        column = 1 - (torch.arange(width) / factor - center).abs()
        row = 1 - (torch.arange(height) / factor - center).abs()
        array.copy_((row[:, None] * column[None, :]).expand(array.shape))


class LSTMBias(Initializer):
    """Zero, but `forget_bias` for the forget gate, the second quarter of the rows."""

    def __init__(self, forget_bias: float = 1.0) -> None:
        self.forget_bias = forget_bias

    def __call__(self, name: str, array: NDArray | torch.Tensor) -> None:
        target = array.tensor if isinstance(array, NDArray) else array
        hidden = target.shape[0] // 4
        target.zero_()
        target[hidden : 2 * hidden] = self.forget_bias


class Load(Initializer):
    """Values from a mapping of names (a checkpoint, prefixes `arg:` and `aux:` ignored); the rest by default_init."""

    def __init__(
        self, param: Mapping[str, NDArray | torch.Tensor], default_init: Initializer | None = None
    ) -> None:
        self.param = {name.removeprefix("arg:").removeprefix("aux:"): value for name, value in param.items()}
        self.default_init = default_init

    def __call__(self, name: str, array: NDArray | torch.Tensor) -> None:
        target = array.tensor if isinstance(array, NDArray) else array
        source = self.param.get(name)
        if source is None:
            if self.default_init is None:
                raise fail("G106", f"no value for parameter {name!r}", help=closest(name, list(self.param)))
            self.default_init(name, array)
            return
        value = source.tensor if isinstance(source, NDArray) else source
        if value.shape != target.shape:
            raise fail(
                "G205", f"parameter {name!r} has shape {tuple(target.shape)}, loaded {tuple(value.shape)}"
            )
        target.copy_(value)


class Mixed(Initializer):
    """The first pattern (a regular expression) that matches a parameter's name chooses its rule."""

    def __init__(self, patterns: Sequence[str], initializers: Sequence[Initializer]) -> None:
        if len(patterns) != len(initializers):
            raise fail("G105", f"Mixed: {len(patterns)} patterns but {len(initializers)} initializers")
        self.map = [(re.compile(p), rule) for p, rule in zip(patterns, initializers, strict=True)]

    def __call__(self, name: str, array: NDArray | torch.Tensor) -> None:
        for pattern, rule in self.map:
            if pattern.match(name):
                rule(name, array)
                return
        raise fail("G106", f"no pattern of Mixed matches {name!r}", help="end the list with '.*'")


_RULES: tuple[type[Initializer], ...] = (
    Zero, One, Constant, Uniform, Normal, Orthogonal, Xavier, MSRAPrelu, Bilinear, LSTMBias, Load, Mixed,
)  # fmt: skip
_REGISTRY: dict[str, type[Initializer]] = {rule.__name__.lower(): rule for rule in _RULES}
_REGISTRY |= {"zeros": Zero, "ones": One, "gaussian": Normal}


def create(init: str | Initializer, **parameters: Any) -> Initializer:
    """An initializer from its name, or from the JSON that `dumps` gave."""
    if isinstance(init, Initializer):
        return init
    name = init
    if init.startswith("["):
        name, parameters = json.loads(init)
    rule = _REGISTRY.get(name.lower())
    if rule is None:
        raise fail("G101", f"there is no initializer {name!r}", help=closest(name.lower(), list(_REGISTRY)))
    return rule(**parameters)
