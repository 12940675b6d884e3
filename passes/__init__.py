"""Passes: pure functions from graph to graph, and from graph to kernels.

A pass knows no device and no template text. Imported as `graphc.passes`.
"""
