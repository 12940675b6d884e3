"""Launches as Triton's own launcher sees them: every argument bound, specialised and compiled, without a GPU."""

from typing import Any

import pytest
import torch

from graphc.codegen.triton import generate
from graphc.runtime.gpu import load
from graphc.types import evaluate
from support.native_programs import joined
from support.triton_suites import SUITES


class Hopper:
    """A driver that knows a device but has none."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, test_gpu.py launches for real")
@pytest.mark.parametrize("suite", ["symbolic_sizes", "products"])
def test_every_launch_binds_and_compiles(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    launched: list[tuple[int, ...]] = []

    def dry_launch(self: Any, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **constants: Any) -> Any:
            launched.append(grid)
            return self.warmup(*arguments, grid=grid, **constants)

        return launch

    cases, all_sizes = SUITES[suite]()
    generated = generate(joined([case.kernel for case in cases]))
    sizes = dict.fromkeys(generated.symbols, 7) if all_sizes != [{}] else {}
    tensors = [torch.zeros(evaluate(b.type.size, sizes), dtype=b.type.dtype.torch) for b in generated.buffers]
    monkeypatch.setattr(JITFunction, "__getitem__", dry_launch)
    monkeypatch.setattr(driver, "_active", Hopper())
    load(generated).run(tensors, list(sizes.values()))
    assert len(launched) == len(generated.launches)
    assert all(programs >= 0 for (programs,) in launched)
