"""The CPU that code is generated for: `graphc/cpu_target.py`, quick to import for warm starts."""

from graphc.cpu_target import CpuTarget, available_cores, detect

__all__ = ["CpuTarget", "available_cores", "detect"]
