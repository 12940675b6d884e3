"""Generated C++ on this machine: built or found in the cache, loaded, and called without Python's lock."""

from graphc.runtime.cpu.native import NativeProgram, find, load

__all__ = ["NativeProgram", "find", "load"]
