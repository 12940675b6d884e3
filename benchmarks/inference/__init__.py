"""Inference of whole networks, batch 1 and 16."""
