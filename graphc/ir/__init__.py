"""The two intermediate representations: Graph (tensors) and Kernel (loops over scalars)."""
