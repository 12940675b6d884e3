# column_statistics: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph column_statistics(
#     %x: f32[4096,4096],
#     %s: f32[4096],
#     %m: f32[4096],
#     %hi: f32[4096],
#     %arg: i64[4096],
# ) -> (%arg) {
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


@triton.jit
def greater(x, y):
    """The greater; NaN when either is."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


# kernel column_statistics(
#     in x: f32[4096,4096],
#     out s: f32[4096],
#     out m: f32[4096],
#     out hi: f32[4096],
#     out arg: i64[4096],
# ) {
#   nest(j: 4096, i: 4096 reduce) {
#     x: f32 = load x[i, j]
#     sum: f32 = reduce sum x
#     store s[j] = sum
#     position: f32 = index 4096
#     div: f32 = div(sum, position)
#     store m[j] = div
#     max: f32 = reduce max x
#     store hi[j] = max
#     argmax: i64 = reduce argmax x
#     store arg[j] = argmax
#   }
# }
@triton.jit
def column_statistics(
    x_ptr,
    s_ptr,
    m_ptr,
    hi_ptr,
    arg_ptr,
    BLOCK_I: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    program = tl.program_id(0)
    # i < 4096, r < 4096 (reduced)
    i = program * BLOCK_I + tl.arange(0, BLOCK_I)[:, None]
    position = tl.cast(4096, tl.float32)
    sum_partial = tl.full([BLOCK_I, BLOCK_R], 0.0, tl.float32)
    max_partial = tl.full([BLOCK_I, BLOCK_R], float("-inf"), tl.float32)
    argmax_partial = tl.full([BLOCK_I, BLOCK_R], float("-inf"), tl.float32)
    argmax_position = tl.full([BLOCK_I, BLOCK_R], 2147483647, tl.int32)
    for r_start in range(0, 4096, BLOCK_R):
        r = r_start + tl.arange(0, BLOCK_R)[None, :]
        x = tl.load(x_ptr + r * 4096 + i)
        sum_partial = sum_partial + x
        max_partial = tl.maximum(max_partial, x, propagate_nan=tl.PropagateNan.ALL)
        argmax_partial, argmax_position = first_greatest(argmax_partial, argmax_position, x, r)
    sum = tl.sum(sum_partial, axis=1)[:, None]
    max_ = tl.reduce(max_partial, 1, greater)[:, None]
    argmax_value, argmax = tl.reduce((argmax_partial, argmax_position), 1, first_greatest)
    argmax = argmax[:, None].to(tl.int64)
    tl.store(s_ptr + i, sum)
    div = sum / position
    tl.store(m_ptr + i, div)
    tl.store(hi_ptr + i, max_)
    tl.store(arg_ptr + i, argmax)


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    column_statistics[(128,)](
        buffers[0],
        buffers[1],
        buffers[2],
        buffers[3],
        buffers[4],
        BLOCK_I=32,
        BLOCK_R=128,
        num_warps=8,
    )


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 16777216),
        ("s", torch.float32, 4096),
        ("m", torch.float32, 4096),
        ("hi", torch.float32, 4096),
        ("arg", torch.int64, 4096),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
