"""What a user may change about passes, and the sizes they assume where a dimension is symbolic; quick to import."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.types import Dim, dim_symbols, evaluate

CHUNK_BYTES = 128 << 20
"""Tensors of more than twice that are not stored whole where their rows can be worked on part by part."""


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """Limits of fusion; sizes in elements.

    `enabled=False` gives every node its own kernel, the baseline that reports compare with.
    """

    enabled: bool = True
    max_row_elements: int = 65536
    """Longest row whose reduction and its consumers over the whole row share a kernel."""
    max_serial_elements: int = 16384
    """Most elements of a kernel that has fewer parallel points than `min_parallel`."""
    min_parallel: int = 8
    """Fewest rows that are shared out among processors; a GPU wants more."""
    max_nodes: int = 256
    """Most nodes of one kernel."""
    max_nests: int = 64
    """Most independent loop nests of one kernel."""
    merge: bool = True
    """Join kernels that read one value, so that it is read once."""
    conservative: bool = False
    """Join nothing that may keep larger operands alive for longer; `fuse` turns it on where the peak would rise."""
    thrifty_peak: int = 64 << 20
    """Where more bytes are live at once, `conservative` is tried too, and taken if it needs at most 3/4 of them."""
    horizontal: bool = True
    joint_slack: int = 65536
    """Bytes by which sharing a launch may raise the peak of live memory, which stays below the unfused graph's."""
    max_joint_reduction: int = 65536
    """Most elements that a reduction may read and still share a launch with independent kernels."""
    in_place: bool = True
    assumed_size: int = 256
    """Stands for a symbolic dimension when profit is estimated."""

    def elements(self, dims: Iterable[Dim]) -> int:
        """The product of dims, symbolic ones at their assumed size."""
        result = 1
        for dim in dims:
            result *= self.estimate(dim)
        return result

    def estimate(self, dim: Dim) -> int:
        if isinstance(dim, int):
            return dim
        return max(0, evaluate(dim, dict.fromkeys(dim_symbols([dim]), self.assumed_size)))
