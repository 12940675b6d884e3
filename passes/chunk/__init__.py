"""Run regions of a program part by part: see `chunk.py`."""

from graphc.passes.chunk.chunk import chunk

__all__ = ["chunk"]
