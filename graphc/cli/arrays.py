"""Arrays for a model from the command line: inputs from files or random, parameters from a file or initialized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.options import Request
from graphc.diagnostics import closest, fail
from graphc.ir.graph import InputKind

if TYPE_CHECKING:
    from graphc.driver.executable import Executable

Tensors = dict[str, Any]
"""torch tensors by name."""


def read_inputs(items: tuple[str, ...]) -> Tensors:
    """Arrays by input name from the files of --input; usage errors for missing files, G324 for damaged ones."""
    result: Tensors = {}
    for item in items:
        name, equals, file = item.rpartition("=")
        path = Path(file)
        if not path.is_file():
            near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise click.UsageError(
                f"--input {item}: there is no file {path}; {closest(path.name, near)}".rstrip("; ")
            )
        if bool(equals) != (path.suffix == ".npy"):
            raise click.UsageError(f"--input {item}: write name=file.npy, file.npz or file.safetensors")
        arrays = read_arrays(path)
        result |= {name: arrays[path.stem]} if equals else arrays
    return result


def read_arrays(path: Path) -> Tensors:
    """The tensors of a .npy (named by the file), .npz or .safetensors file; error G324 when it cannot be read."""
    from zipfile import BadZipFile

    import numpy
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix not in (".npy", ".npz"):
            raise ValueError("its name ends neither in .npy nor in .npz nor in .safetensors")
        with open(path, "rb") as file:
            loaded = numpy.load(file, allow_pickle=False)
            arrays = {path.stem: loaded} if path.suffix == ".npy" else dict(loaded)
        return {name: torch.from_numpy(numpy.ascontiguousarray(array)) for name, array in arrays.items()}
    except (OSError, ValueError, TypeError, EOFError, BadZipFile, SafetensorError) as error:
        raise fail("G324", f"{path} cannot be read: {error}") from None


def set_parameters(executable: Executable, params: Path | None, seed: int) -> None:
    """Xavier for matrices and filters, small numbers for the rest, then what the file holds; error G324 or G601."""
    from graphc.driver import initializer, random

    random.seed(seed)
    executable.seed(seed)
    held = {item.name: item for item in executable.optimized.inputs if item.kind is InputKind.PARAMETER}
    wide = [name for name, item in held.items() if item.value.type.rank >= 2]
    executable.initialize(initializer.Uniform(0.07))
    executable.initialize(initializer.Xavier(), only=wide)
    if params is None:
        return
    if not params.is_file():
        raise click.UsageError(f"--params: there is no file {params}")
    executable.set_states(read_arrays(params))


def complete_inputs(executable: Executable, given: Tensors, request: Request) -> Tensors:
    """The given inputs and random ones for the rest; a usage error names an input that the model lacks."""
    import torch

    from graphc.driver.compile import synthetic_inputs
    from graphc.ir.sizes import bind_sizes

    items = {item.name: item for item in executable.data_inputs}
    for name in given:
        if name not in items:
            raise click.UsageError(
                f"the model has no input {name!r}; {closest(name, list(items)) or ', '.join(items)}"
            )
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    bound = bind_sizes([items[name].value for name in given], shapes) if given else {}
    sized = replace(request, sizes={**bound, **request.sizes})
    tensors = synthetic_inputs(executable, sized.sizes_for(executable.optimized), request.seed)
    generator = torch.Generator().manual_seed(request.seed)
    rate = request.learning_rate()
    for name, tensor in tensors.items():
        if name.endswith("_label"):
            # A normal value is no class; 0 and 1 are classes of any loss.
            tensors[name] = torch.randint(0, 2, tensor.shape, generator=generator).to(tensor)
        elif name == "learning_rate" and rate is not None:
            tensors[name] = torch.full_like(tensor, rate)
    return tensors | {name: tensor.to(tensors[name].device) for name, tensor in given.items()}
