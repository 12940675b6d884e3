"""The seed of everything random: initial values, and the counter-based bits of dropout."""

from __future__ import annotations

import threading

import torch

_lock = threading.Lock()
_generator = torch.Generator().manual_seed(0)


def seed(seed_state: int, ctx: object = None) -> None:
    """Make all that follows repeat: initializers, and the random state of executables made from now on.

    `ctx` is accepted for MXNet scripts; one seed serves all devices, which draw the same bits.
    """
    with _lock:
        _generator.manual_seed(int(seed_state))


def generator() -> torch.Generator:
    """The torch generator that initializers draw from."""
    return _generator


def next_seed() -> int:
    """A fresh 62-bit seed for an executable's random state."""
    with _lock:
        return int(torch.randint(0, 1 << 62, (), generator=_generator))
