"""The runtime: devices, arena, toolchains, cache, launch and profiler.

It runs what was compiled and knows neither passes nor operators. Imported as `graphc.runtime`.
"""
