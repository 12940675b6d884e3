"""Options: how to compile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphc.passes.limits import CHUNK_BYTES, FusionOptions
from graphc.passes.plan import check_strategy


@dataclass(frozen=True)
class Options:
    """How to compile: `level` 0 runs only the passes that lowering needs; `fusion` as in passes.fusion.

    memory: how intermediates share memory, a strategy of passes/offsets.py; G101 for one that there is not.
    chunk_bytes: at level 2, tensors of more than twice that are not stored whole where their rows can be worked on
        part by part (passes/chunk); 0 for never.
    constants: what follows from parameters alone is computed once, when they change, and held between calls.
    memory_budget: the most bytes that parameters, states, outputs and the arena may take together ("2GB"), or a
        fraction of the arena of the plain plan (0.25); kernels of the forward pass then run again in the backward pass
        rather than keep their results. G608 for what is no budget. budget_sizes: of the named dimensions, for which
        the budget holds.
    recompute: without a budget, kernels of a training step that only memory bounds (no contraction) run again in the
        backward pass where that lowers a large peak; the most that they may add to the step's estimated time, as a
        share of it, 0 for never. Results keep their bits.
    choices: the text of a file of choices (codegen/cpp/choices.py), pinned over what the cost models choose.
    layout: how images lie in memory inside a program for the CPU (passes/layout): "auto" chooses for each region of
        convolutions, "keep" leaves [N,C,...], "channels_last" moves all of them to [N,...,C]. Level 2 only.
    """

    level: int = 2
    fusion: FusionOptions = field(default_factory=FusionOptions)
    verify: bool | str = "auto"
    memory: str = "optimal"
    chunk_bytes: int = CHUNK_BYTES
    constants: bool = True
    memory_budget: str | int | float | None = None
    budget_sizes: Mapping[str, int] = field(default_factory=dict)
    recompute: float = 0.02
    choices: str = ""
    layout: str = "auto"

    def __post_init__(self) -> None:
        # What checks a choice is imported for it: a warm start with defaults needs none of it.
        check_strategy(self.memory)
        if self.layout != "auto":
            from graphc.passes.layout import check_layout

            check_layout(self.layout)
        if self.memory_budget is not None:
            from graphc.passes.recompute import Budget

            Budget.of(self.memory_budget)
