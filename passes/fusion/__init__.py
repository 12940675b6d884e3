"""Fusion: a Graph becomes a Program of fused kernels over numbered buffers.

partition.py    every node joins the loop nest of a reader or opens its own, from the results back to the inputs
  admission.py    may it join: limits, legality, profit, each refusal with its reason
  space.py        the growing nest: axes, stores, which elements a point needs; windows.py for sliding windows
  index.py        reshape of affine indices, exact division of dimensions
  merge.py        two nests that read one value become one
  reach.py        no cycles between kernels: descendant bitsets
  cost.py         what is cheap, and which values belong to a contraction's epilogue or to a reduction's rows
lower.py        nest to statements of the Kernel IR, operands first
storage.py      values to buffers: updates in place, outputs, copies
ends.py         epilogues that had better end early in a training step, so that the rest can run again
horizontal.py   independent small kernels become nests of one
order.py        launch order that frees memory early
bind.py         memory shared in place (inplace.py), axes merged (simplify.py), epilogues fitted (anchors.py), names
"""

from graphc.passes.fusion.fuse import fuse, fuse_lean, unfused
from graphc.passes.limits import FusionOptions

__all__ = ["FusionOptions", "fuse", "fuse_lean", "unfused"]
