"""Fused kernels: pointwise chains, softmax, norms, reductions, optimizer updates and matrix products."""
