"""Run regions of a program part by part: see `chunk.py`."""

from graphc.passes.chunk.chunk import CHUNK_BYTES, chunk

__all__ = ["CHUNK_BYTES", "chunk"]
