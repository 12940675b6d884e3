# softmax: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph softmax(%x: f32[4096,1000], %y: f32[4096,1000]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


@triton.jit
def greater(x, y):
    """The greater; NaN when either is."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


# kernel softmax(
#     in x: f32[4096,1000],
#     out y: f32[4096,1000],
# ) {
#   nest(i: 4096, j: 1000 reduce) {
#     x: f32 = load x[i, j]  // model.py:7 softmax softmax0
#     max: f32 = reduce max x  // model.py:7 softmax softmax0
#     sub: f32 = sub(x, max)  // model.py:7 softmax softmax0
#     e: f32 = exp(sub)  // model.py:7 softmax softmax0
#     sum: f32 = reduce sum e  // model.py:7 softmax softmax0
#     div: f32 = div(e, sum)  // model.py:7 softmax softmax0
#     store y[i, j] = div  // model.py:7 softmax softmax0
#   }
# }
@triton.jit
def softmax(
    x_ptr,
    y_ptr,
    BLOCK_R: tl.constexpr,
):
    program = tl.program_id(0)
    # i < 4096, r < 1000 (reduced)
    i = program
    r = tl.arange(0, BLOCK_R)
    r_inside = r < 1000
    # model.py:7 softmax softmax0
    x = tl.load(x_ptr + i * 1000 + r, mask=r_inside)
    max_ = tl.reduce(tl.where(r_inside, x, float("-inf")), 0, greater)
    sub = x - max_
    e = tl.exp(sub)
    sum = tl.sum(tl.where(r_inside, e, 0.0), axis=0)
    div = e / sum
    tl.store(y_ptr + i * 1000 + r, div, mask=r_inside)


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    softmax[(4096,)](buffers[0], buffers[1], BLOCK_R=1024, num_warps=4)


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 4096000),
        ("y", torch.float32, 4096000),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
