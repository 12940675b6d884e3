# max_pool: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph max_pool(%x: f32[64,28,28], %y: f32[64,14,14], %at: u8[64,14,14]) -> (%at) {
# }

import torch
import triton
import triton.language as tl


@triton.jit
def first_greatest(x, i, y, j):
    """Of two values with their positions the greater one: NaN before all, then the lower position."""
    same = (x == y) | ((x != x) & (y != y))
    first = (x > y) | ((x != x) & (y == y)) | (same & (i < j))
    return tl.where(first, x, y), tl.where(first, i, j)


# kernel max_pool(
#     in x: f32[64,28,28],
#     out y: f32[64,14,14],
#     out at: u8[64,14,14],
# ) {
#   nest(n: 64, p: 14, q: 14, k: 3 reduce, m: 3 reduce) {
#     x: f32 = load x[n, 2*p + k + -1, 2*q + m + -1] if 0 <= 2*p + k + -1 < 28 if 0 <= 2*q + m + -1 < 28 else -inf
#     max: f32 = reduce max x
#     store y[n, p, q] = max
#     argmax: i64 = reduce argmax x
#     cast: u8 = cast(argmax)
#     store at[n, p, q] = cast
#   }
# }
@triton.jit
def max_pool(
    x_ptr,
    y_ptr,
    at_ptr,
    BLOCK_ROW: tl.constexpr,
):
    program = tl.program_id(0)
    # i < 64, j < 14, k < 14, r < 3 (reduced), s < 3 (reduced)
    row = program * BLOCK_ROW + tl.arange(0, BLOCK_ROW)
    k = row % 14
    j = row // 14 % 14
    i = row // 196
    max_partial = tl.full([BLOCK_ROW], float("-inf"), tl.float32)
    argmax_partial = tl.full([BLOCK_ROW], float("-inf"), tl.float32)
    argmax_position = tl.full([BLOCK_ROW], 2147483647, tl.int32)
    for column in tl.static_range(9):
        s = column % 3
        r = column // 3
        x = tl.load(
            x_ptr + i * 784 + j * 56 + r * 28 + k * 2 + s - 29,
            mask=(j * 2 + r - 1 >= 0) & (k * 2 + s - 1 >= 0),
            other=float("-inf"),
        )
        max_partial = tl.maximum(max_partial, x, propagate_nan=tl.PropagateNan.ALL)
        argmax_partial, argmax_position = first_greatest(argmax_partial, argmax_position, x, column)
    max_ = max_partial
    argmax = argmax_position.to(tl.int64)
    tl.store(y_ptr + row, max_)
    cast = argmax.to(tl.uint8)
    tl.store(at_ptr + row, cast)


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    max_pool[(49,)](buffers[0], buffers[1], buffers[2], BLOCK_ROW=256, num_warps=4)


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 50176),
        ("y", torch.float32, 12544),
        ("at", torch.uint8, 12544),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
