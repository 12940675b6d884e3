# softmax: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE N
#
# graph softmax(%x: f32[N,50000], %y: f32[N,50000]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


@triton.jit
def greater(x, y):
    """The greater; NaN when either is."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


# kernel softmax(
#     in x: f32[N,50000],
#     out y: f32[N,50000],
# ) {
#   nest(i: N, j: 50000 reduce) {
#     x: f32 = load x[i, j]  // model.py:7 softmax softmax0
#     max: f32 = reduce max x  // model.py:7 softmax softmax0
#     sub: f32 = sub(x, max)  // model.py:7 softmax softmax0
#     e: f32 = exp(sub)  // model.py:7 softmax softmax0
#     sum: f32 = reduce sum e  // model.py:7 softmax softmax0
#     div: f32 = div(e, sum)  // model.py:7 softmax softmax0
#     store y[i, j] = div  // model.py:7 softmax softmax0
#   }
# }
@triton.jit(do_not_specialize=["N"])
def softmax(
    x_ptr,
    y_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    # i < N, r < 50000 (reduced)
    i = program
    max_partial = tl.full([BLOCK_R], float("-inf"), tl.float32)
    sum_partial = tl.full([BLOCK_R], 0.0, tl.float32)
    for r_start in range(0, 50000, BLOCK_R):
        r = r_start + tl.arange(0, BLOCK_R).to(INDEX)
        r_inside = r < 50000
        # model.py:7 softmax softmax0
        x = tl.load(x_ptr + i * 50000 + r, mask=r_inside, eviction_policy="evict_last")
        max_partial_value = tl.where(r_inside, x, float("-inf"))
        max_partial_new = tl.maximum(max_partial, max_partial_value, propagate_nan=tl.PropagateNan.ALL)
        # Where all is -inf so far, nothing is to be shifted.
        max_partial_shift = tl.where(max_partial_new == float("-inf"), 0.0, max_partial_new)
        sum_partial = sum_partial * tl.exp(max_partial - max_partial_shift)
        sum_partial = sum_partial + tl.exp(max_partial_value - max_partial_shift)
        max_partial = max_partial_new
    max_ = tl.reduce(max_partial, 0, greater)
    sum = tl.sum(sum_partial * tl.exp(max_partial - max_), axis=0)
    for r_start in range(0, 50000, BLOCK_R):
        r = r_start + tl.arange(0, BLOCK_R).to(INDEX)
        r_inside = r < 50000
        # model.py:7 softmax softmax0
        x = tl.load(x_ptr + i * 50000 + r, mask=r_inside, eviction_policy="evict_first")
        sub = x - max_
        e = tl.exp(sub)
        div = e / sum
        tl.store(y_ptr + i * 50000 + r, div, mask=r_inside)


def index_type(*sizes):
    """Indices take 64 bits only where a buffer has 2**31 elements or more."""
    return tl.int64 if max(sizes) >= 2**31 else tl.int32


def run(buffers, N):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    softmax[(N,)](buffers[0], buffers[1], N, INDEX=index_type(50000 * N), BLOCK_R=4096, num_warps=16)


def sizes(N):
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 50000 * N),
        ("y", torch.float32, 50000 * N),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE [SIZE ...]."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or [64]
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
