"""Learning-rate schedules with MXNet's names: the rate as a function of the number of updates so far.

Each call computes from its argument alone, so a resumed run continues where it was. During the first `warmup_steps`
updates the rate rises from `warmup_begin_lr` to `base_lr` ("linear") or stays at it ("constant").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from graphc.diagnostics import fail


@dataclass
class LRScheduler:
    """A schedule; subclasses say how the rate falls after the warm-up."""

    _: KW_ONLY
    base_lr: float = 0.01
    warmup_steps: int = 0
    warmup_begin_lr: float = 0.0
    warmup_mode: str = "linear"

    def __post_init__(self) -> None:
        self._require(self.warmup_steps >= 0, "warmup_steps must not be negative")
        self._require(self.warmup_begin_lr <= self.base_lr, "warmup_begin_lr must not exceed base_lr")
        self._require(self.warmup_mode in ("linear", "constant"), "warmup_mode is 'linear' or 'constant'")

    def _require(self, condition: bool, rule: str) -> None:
        if not condition:
            raise fail("G104", rule, operator=type(self).__name__)

    def __call__(self, num_update: int) -> float:
        """The rate for an update when `num_update` updates, this one included, have been made."""
        if num_update >= self.warmup_steps:
            return self.rate(num_update)
        if self.warmup_mode == "constant":
            return self.warmup_begin_lr
        return self.warmup_begin_lr + (self.base_lr - self.warmup_begin_lr) * num_update / self.warmup_steps

    def rate(self, num_update: int) -> float:
        """The rate after the warm-up."""
        raise NotImplementedError


@dataclass
class FactorScheduler(LRScheduler):
    """base_lr * factor ** k after k whole periods of `step` updates, but not below stop_factor_lr."""

    step: int
    factor: float = 1.0
    stop_factor_lr: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.step >= 1, "step must be at least 1")
        self._require(self.factor <= 1.0, "factor must not exceed 1")

    def rate(self, num_update: int) -> float:
        periods = max(num_update - 1, 0) // self.step
        return max(self.base_lr * self.factor**periods, self.stop_factor_lr) if periods else self.base_lr


@dataclass
class MultiFactorScheduler(LRScheduler):
    """base_lr * factor ** k when num_update has passed k of the listed steps."""

    step: Sequence[int]
    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        increasing = all(a < b for a, b in zip(self.step, self.step[1:], strict=False))
        self._require(
            len(self.step) > 0 and self.step[0] >= 1 and increasing, "step must list increasing numbers >= 1"
        )
        self._require(self.factor <= 1.0, "factor must not exceed 1")

    def rate(self, num_update: int) -> float:
        passed = sum(num_update > step for step in self.step)
        return self.base_lr * self.factor**passed


@dataclass
class _Decay(LRScheduler):
    """From base_lr after the warm-up to final_lr at max_update, and final_lr from then on."""

    max_update: int
    final_lr: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.max_update >= 1, "max_update must be at least 1")
        self._require(self.max_update > self.warmup_steps, "max_update must exceed warmup_steps")

    def rate(self, num_update: int) -> float:
        done = min((num_update - self.warmup_steps) / (self.max_update - self.warmup_steps), 1.0)
        return self.final_lr + (self.base_lr - self.final_lr) * self.share(done)

    def share(self, done: float) -> float:
        """The part of the fall that is still to come, when `done` of the updates are made."""
        raise NotImplementedError


@dataclass
class PolyScheduler(_Decay):
    """Falls by the polynomial (1 - done) ** pwr."""

    pwr: float = 2.0

    def share(self, done: float) -> float:
        return math.pow(1.0 - done, self.pwr)


@dataclass
class CosineScheduler(_Decay):
    """Falls by half a period of a cosine (I. Loshchilov, F. Hutter, SGDR, ICLR 2017)."""

    def share(self, done: float) -> float:
        return (1.0 + math.cos(math.pi * done)) / 2.0
