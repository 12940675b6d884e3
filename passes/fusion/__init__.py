"""Fusion: a Graph becomes a Program of fused kernels over numbered buffers."""

from graphc.passes.fusion.fuse import fuse, unfused
from graphc.passes.fusion.options import FusionOptions

__all__ = ["FusionOptions", "fuse", "unfused"]
