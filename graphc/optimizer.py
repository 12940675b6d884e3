"""Optimizers with MXNet's names and formulas, written in primitives: an update is part of the training graph.

    g = clip(rescale_grad * gradient, clip_gradient)          what every formula below calls g
    lr = learning_rate * lr_mult, decay = wd * wd_mult        of the parameter

Formulas are those of MXNet 1.9.1, with two repairs: Adamax cannot divide by zero, and NAG's momentum decays the weight
from before the update (MXNet reads it after it was overwritten). All states start at zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, ClassVar

from graphc.diagnostics import closest, fail
from graphc.ir.graph import Value
from graphc.primitives.builder import Builder

States = dict[str, Value]
_RATES = ("learning_rate", "lr_scheduler")


@dataclass
class Optimizer:
    """What all optimizers share; a subclass gives `states` and `step`.

    learning_rate: the rate when no scheduler is given. wd: factor of weight decay. rescale_grad: factor of every
    gradient, usually 1 / batch size. clip_gradient: bound of its elements. lr_mult, wd_mult: factors by parameter
    name; without an entry weight decay applies to names that end in _weight or _gamma only, as in MXNet.
    """

    counts_updates: ClassVar[bool] = False
    """True when the formula depends on the number of updates."""

    learning_rate: float = 0.01
    _: KW_ONLY
    wd: float = 0.0
    rescale_grad: float = 1.0
    clip_gradient: float | None = None
    lr_scheduler: Callable[[int], float] | None = None
    lr_mult: dict[str, float] = field(default_factory=dict)
    wd_mult: dict[str, float] = field(default_factory=dict)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the tensors that are kept for each parameter, of its shape and type."""
        return ()

    @property
    def digest_text(self) -> str | None:
        """A text that two optimizers share only when their updates are the same, whatever the rate, which is an input.

        None for a formula that is not graphc's own.
        """
        if type(self).__module__ != __name__:
            return None
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _RATES}
        for name in ("lr_mult", "wd_mult"):
            values[name] = sorted(values[name].items())
        return f"{type(self).__qualname__} {values}"

    def set_lr_mult(self, args_lr_mult: Mapping[str, float]) -> None:
        self.lr_mult = dict(args_lr_mult)

    def set_wd_mult(self, args_wd_mult: Mapping[str, float]) -> None:
        self.wd_mult = dict(args_wd_mult)

    def rate_at(self, num_update: int) -> float:
        """The learning rate of update `num_update`, counted from 1."""
        return self.learning_rate if self.lr_scheduler is None else self.lr_scheduler(num_update)

    def update(
        self,
        builder: Builder,
        name: str,
        weight: Value,
        gradient: Value,
        states: Mapping[str, Value],
        learning_rate: Value,
        count: Value | None = None,
    ) -> tuple[Value, States]:
        """Add one update of parameter `name`; return the new weight and the new states.

        learning_rate is a scalar tensor; count, where `counts_updates` asks for it, the i64 number of this update
        from 1 on.
        """
        rate = builder.cast(learning_rate, weight.type.dtype)
        multiplier = self.lr_mult.get(name, 1.0)
        if multiplier != 1.0:
            rate = builder.mul(rate, multiplier)
        decay = self.wd * self.wd_mult.get(name, 1.0 if name.endswith(("_weight", "_gamma")) else 0.0)
        if self.rescale_grad != 1.0:
            gradient = builder.mul(gradient, self.rescale_grad)
        numbers = None if count is None else builder.cast(count, weight.type.dtype)
        return self.step(_Update(builder, weight, gradient, dict(states), rate, decay, numbers))

    def step(self, u: _Update) -> tuple[Value, States]:
        """The formula."""
        raise NotImplementedError

    def _clip(self, b: Builder, value: Value) -> Value:
        if self.clip_gradient is None:
            return value
        return b.minimum(b.maximum(value, -self.clip_gradient), self.clip_gradient)

    def _clip_then_decay(self, u: _Update) -> Value:
        """Clipped gradient + decay * weight."""
        return u.decayed(self._clip(u.b, u.gradient))

    def _decay_then_clip(self, u: _Update) -> Value:
        """Gradient + decay * weight, clipped."""
        return self._clip(u.b, u.decayed(u.gradient))


@dataclass(frozen=True)
class _Update:
    """What a formula reads."""

    b: Builder
    weight: Value
    gradient: Value
    states: States
    rate: Value
    decay: float
    count: Value | None

    def decayed(self, value: Value) -> Value:
        return self.b.add(value, self.b.mul(self.weight, self.decay)) if self.decay else value

    def average(self, state: str, value: Value, keep: float) -> Value:
        """Moving average: keep * state + (1 - keep) * value."""
        return self.b.add(self.b.mul(self.states[state], keep), self.b.mul(value, 1.0 - keep))

    def missing(self, beta: float) -> Value:
        """What beta ** count lacks to 1, without the digits that f32 loses for beta near 1."""
        assert self.count is not None
        return self.b.neg(self.b.expm1(self.b.mul(self.count, math.log(beta))))


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent.

    m = momentum * m - lr * (g + decay * w); w = w + m, or w - lr * (g + decay * w) without momentum.
    """

    momentum: float = 0.0

    @property
    def states(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def step(self, u: _Update) -> tuple[Value, States]:
        b = u.b
        change = b.mul(u.rate, self._clip_then_decay(u))
        if not self.momentum:
            return b.sub(u.weight, change), {}
        momentum = b.sub(b.mul(u.states["momentum"], self.momentum), change)
        return self._moved(u, momentum, change), {"momentum": momentum}

    def _moved(self, u: _Update, momentum: Value, change: Value) -> Value:
        return u.b.add(u.weight, momentum)


@dataclass
class NAG(SGD):
    """Nesterov's accelerated gradient: w = w + momentum * m - lr * (g + decay * w), m as in SGD.

    Source: Y. Nesterov, A method of solving a convex programming problem with convergence rate O(1/k^2) (1983).
    """

    def _moved(self, u: _Update, momentum: Value, change: Value) -> Value:
        return u.b.sub(u.b.add(u.weight, u.b.mul(momentum, self.momentum)), change)


@dataclass
class Adam(Optimizer):
    """Adam (D. Kingma, J. Ba, ICLR 2015).

    g = clip(gradient + decay * w); m, v = averages of g, g * g; w = w - lr * c * m / (sqrt(v) + epsilon) with
    c = sqrt(1 - beta2 ** t) / (1 - beta1 ** t) for update number t.
    """

    counts_updates = True
    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @property
    def states(self) -> tuple[str, ...]:
        return ("mean", "variance")

    def step(self, u: _Update) -> tuple[Value, States]:
        b, g = u.b, self._decay_then_clip(u)
        mean = u.average("mean", g, self.beta1)
        variance = u.average("variance", b.mul(g, g), self.beta2)
        rate = b.div(b.mul(u.rate, b.sqrt(u.missing(self.beta2))), u.missing(self.beta1))
        change = b.div(b.mul(mean, rate), b.add(b.sqrt(variance), self.epsilon))
        return b.sub(u.weight, change), {"mean": mean, "variance": variance}


@dataclass
class AdamW(Adam):
    """Adam with weight decay apart from the gradient (I. Loshchilov, F. Hutter, ICLR 2019; MXNet 2).

    g = clip(gradient); m, v as in Adam; w = w - lr * (m / (1 - beta1 ** t) / (sqrt(v / (1 - beta2 ** t)) + epsilon)
    + decay * w).
    """

    wd: float = 0.01

    def step(self, u: _Update) -> tuple[Value, States]:
        b, g = u.b, self._clip(u.b, u.gradient)
        mean = u.average("mean", g, self.beta1)
        variance = u.average("variance", b.mul(g, g), self.beta2)
        # Scalars first: one multiplication an element for each correction.
        root = b.mul(b.sqrt(variance), b.rsqrt(u.missing(self.beta2)))
        change = b.div(b.mul(mean, b.div(1.0, u.missing(self.beta1))), b.add(root, self.epsilon))
        moved = b.sub(u.weight, b.mul(u.rate, u.decayed(change)))
        return moved, {"mean": mean, "variance": variance}


@dataclass
class AdaGrad(Optimizer):
    """AdaGrad (J. Duchi, E. Hazan, Y. Singer, JMLR 2011).

    h = h + g * g; w = w - lr * (g / sqrt(h + eps) + decay * w).
    """

    eps: float = 1e-7

    @property
    def states(self) -> tuple[str, ...]:
        return ("history",)

    def step(self, u: _Update) -> tuple[Value, States]:
        b, g = u.b, self._clip(u.b, u.gradient)
        history = b.add(u.states["history"], b.mul(g, g))
        scaled = u.decayed(b.div(g, b.sqrt(b.add(history, self.eps))))
        return b.sub(u.weight, b.mul(u.rate, scaled)), {"history": history}


@dataclass
class RMSProp(Optimizer):
    """RMSProp (T. Tieleman, G. Hinton, 2012); centered: A. Graves, arXiv 1308.0850, equations 38-45.

    g = clip(gradient + decay * w); n = average of g * g; w = w - lr * g / sqrt(n + epsilon). centered: a = average
    of g; d = gamma2 * d - lr * g / sqrt(n - a * a + epsilon); w = w + d. clip_weights bounds the new weights.
    """

    learning_rate: float = 0.001
    gamma1: float = 0.9
    gamma2: float = 0.9
    epsilon: float = 1e-8
    centered: bool = False
    clip_weights: float | None = None

    @property
    def states(self) -> tuple[str, ...]:
        return ("square", "mean", "delta") if self.centered else ("square",)

    def step(self, u: _Update) -> tuple[Value, States]:
        b, g = u.b, self._decay_then_clip(u)
        new: States = {"square": u.average("square", b.mul(g, g), self.gamma1)}
        spread = new["square"]
        if self.centered:
            new["mean"] = u.average("mean", g, self.gamma1)
            spread = b.sub(spread, b.mul(new["mean"], new["mean"]))
        change = b.mul(u.rate, b.div(g, b.sqrt(b.add(spread, self.epsilon))))
        if self.centered:
            new["delta"] = b.sub(b.mul(u.states["delta"], self.gamma2), change)
            weight = b.add(u.weight, new["delta"])
        else:
            weight = b.sub(u.weight, change)
        if self.clip_weights is not None:
            weight = b.minimum(b.maximum(weight, -self.clip_weights), self.clip_weights)
        return weight, new


@dataclass
class AdaDelta(Optimizer):
    """AdaDelta (M. Zeiler, arXiv 1212.5701); the learning rate is not used.

    n = average of g * g; d = sqrt(s + epsilon) / sqrt(n + epsilon) * g; s = average of d * d; w = w - d - decay * w.
    """

    rho: float = 0.9
    epsilon: float = 1e-5

    @property
    def states(self) -> tuple[str, ...]:
        return ("square", "delta")

    def step(self, u: _Update) -> tuple[Value, States]:
        b, g = u.b, self._clip(u.b, u.gradient)
        square = u.average("square", b.mul(g, g), self.rho)
        scale = b.div(b.sqrt(b.add(u.states["delta"], self.epsilon)), b.sqrt(b.add(square, self.epsilon)))
        change = b.mul(scale, g)
        delta = u.average("delta", b.mul(change, change), self.rho)
        return b.sub(u.weight, u.decayed(change)), {"square": square, "delta": delta}


@dataclass
class Ftrl(Optimizer):
    """Follow the regularized leader (H. McMahan and others, KDD 2013).

    z = z + g - (sqrt(n + g * g) - sqrt(n)) / lr * w; n = n + g * g;
    w = (sign(z) * lamda1 - z) / ((beta + sqrt(n)) / lr + decay) where |z| > lamda1, else 0.
    """

    learning_rate: float = 0.1
    lamda1: float = 0.01
    beta: float = 1.0

    @property
    def states(self) -> tuple[str, ...]:
        return ("z", "n")

    def step(self, u: _Update) -> tuple[Value, States]:
        b, g = u.b, self._clip(u.b, u.gradient)
        n = b.add(u.states["n"], b.mul(g, g))
        sigma = b.div(b.sub(b.sqrt(n), b.sqrt(u.states["n"])), u.rate)
        z = b.sub(b.add(u.states["z"], g), b.mul(sigma, u.weight))
        scale = b.div(b.add(b.sqrt(n), self.beta), u.rate)
        if u.decay:
            scale = b.add(scale, u.decay)
        weight = b.div(b.sub(b.mul(b.sign(z), self.lamda1), z), scale)
        return b.where(b.gt(b.abs(z), self.lamda1), weight, 0.0), {"z": z, "n": n}


@dataclass
class Adamax(Optimizer):
    """Adamax (D. Kingma, J. Ba, ICLR 2015, section 7.1).

    g = clip(gradient + decay * w); m = average of g; u = max(beta2 * u, |g| + 1e-8);
    w = w - lr / (1 - beta1 ** t) * m / u for update number t.
    """

    counts_updates = True
    learning_rate: float = 0.002
    beta1: float = 0.9
    beta2: float = 0.999

    @property
    def states(self) -> tuple[str, ...]:
        return ("mean", "bound")

    def step(self, u: _Update) -> tuple[Value, States]:
        b, g = u.b, self._decay_then_clip(u)
        mean = u.average("mean", g, self.beta1)
        bound = b.maximum(b.mul(u.states["bound"], self.beta2), b.add(b.abs(g), 1e-8))
        change = b.div(b.mul(mean, b.div(u.rate, u.missing(self.beta1))), bound)
        return b.sub(u.weight, change), {"mean": mean, "bound": bound}


@dataclass
class Signum(Optimizer):
    """Sign of the momentum (J. Bernstein and others, ICML 2018).

    m = momentum * m - (1 - momentum) * (g + decay * w); w = (1 - lr * wd_lh) * w + lr * sign(m). Without momentum:
    w = (1 - lr * decay) * w - lr * sign(g).
    """

    momentum: float = 0.9
    wd_lh: float = 0.0

    @property
    def states(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def step(self, u: _Update) -> tuple[Value, States]:
        b = u.b
        if not self.momentum:
            return b.sub(self._shrunk(u, u.decay), b.mul(u.rate, b.sign(self._clip(b, u.gradient)))), {}
        g = b.mul(self._clip_then_decay(u), 1.0 - self.momentum)
        momentum = b.sub(b.mul(u.states["momentum"], self.momentum), g)
        return b.add(self._shrunk(u, self.wd_lh), b.mul(u.rate, b.sign(momentum))), {"momentum": momentum}

    @staticmethod
    def _shrunk(u: _Update, factor: float) -> Value:
        """The weight times 1 - lr * factor."""
        if not factor:
            return u.weight
        return u.b.mul(u.weight, u.b.sub(1.0, u.b.mul(u.rate, factor)))


_OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.__name__.lower(): kind
    for kind in (SGD, NAG, Adam, AdamW, AdaGrad, RMSProp, AdaDelta, Ftrl, Adamax, Signum)
}


def create(name: str, **arguments: Any) -> Optimizer:
    """The optimizer of that name, in any case; G101 for an unknown name, G102 for an unknown argument."""
    kind = _OPTIMIZERS.get(name.lower())
    if kind is None:
        known = tuple(_OPTIMIZERS)
        raise fail(
            "G101",
            f"there is no optimizer {name!r}",
            help=closest(name.lower(), known) or f"use {', '.join(known)}",
        )
    known = tuple(kind.__dataclass_fields__)
    for argument in arguments:
        if argument not in known:
            help = closest(argument, known) or f"it has {', '.join(known)}"
            raise fail("G102", f"there is no argument {argument!r}", operator=kind.__name__, help=help)
    return kind(**arguments)
