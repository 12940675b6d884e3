"""Parameters between a torch module and graphc: the module's path with `_` for `.` is graphc's name of the layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

_SCALED = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}


def pieces(module: nn.Module) -> dict[str, list[torch.Tensor]]:
    """The module's own tensors under graphc's names, several where graphc keeps them end to end in one vector."""
    found: dict[str, list[torch.Tensor]] = {}
    for path, layer in module.named_modules():
        prefix = path.replace(".", "_")
        if isinstance(layer, nn.RNNBase):
            # As in MXNet: the weights of all layers, then the biases; in each layer those of the input come first.
            names = sorted(dict(layer.named_parameters()), key=lambda name: not name.startswith("weight"))
            found[f"{prefix}_parameters"] = [getattr(layer, name) for name in names]
            continue
        scaled = isinstance(layer, nn.BatchNorm2d | nn.LayerNorm)
        for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            if name != "num_batches_tracked":
                found[f"{prefix}_{_SCALED[name] if scaled else name}"] = [tensor]
    return found


def to_graphc(module: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and states, shared with the module where they lie in one piece."""
    return {
        name: parts[0].detach() if len(parts) == 1 else torch.cat([part.detach().flatten() for part in parts])
        for name, parts in pieces(module).items()
    }


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    """The gradients of all parameters that have one."""
    found = {}
    for name, parts in pieces(module).items():
        held = [part.grad for part in parts if part.grad is not None]
        if held:
            found[name] = held[0] if len(held) == 1 else torch.cat([part.flatten() for part in held])
    return found


def to_torch(module: nn.Module, values: Mapping[str, object]) -> None:
    """Copy values under graphc's names into the module; KeyError names one that is missing."""
    with torch.no_grad():
        for name, parts in pieces(module).items():
            value = torch.as_tensor(values[name])
            sizes = [part.numel() for part in parts]
            for part, given in zip(parts, value.flatten().split(sizes), strict=True):
                part.copy_(given.view(part.shape))


def fill(module: nn.Module, value: Callable[[str, tuple[int, ...]], object]) -> nn.Module:
    """Give every parameter and state the value of its name and shape; returns the module."""
    shapes = {
        name: tuple(parts[0].shape) if len(parts) == 1 else (sum(part.numel() for part in parts),)
        for name, parts in pieces(module).items()
    }
    to_torch(module, {name: value(name, shape) for name, shape in shapes.items()})
    return module
