"""Measures the rows of a suite: every peer in processes of its own, all in the same alternating rounds."""
