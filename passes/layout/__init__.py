"""Whether images lie as [N,C,...] or as [N,...,C], chosen for whole regions of a graph.

`moves.py` says how each kind of primitive runs on [N,...,C], `regions.py` what hangs together and where it ends,
`cost.py` what a region gains and what the transposes at its borders cost; `layout.py` is the pass.
"""

from graphc.passes.layout.layout import LAYOUTS, ChooseLayout, check_layout

__all__ = ["LAYOUTS", "ChooseLayout", "check_layout"]
