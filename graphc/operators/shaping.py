"""Operators that rearrange elements and compute nothing: Reshape, Flatten, Concat, slices and their like."""
