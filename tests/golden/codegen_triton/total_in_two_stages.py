# total: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph total(%x: f32[1000,4096], %y: f32[]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


# kernel total_parts(
#     in x: f32[1000,4096],
#     out total_sum_parts: f32[512],
# ) {
#   nest(part: 512, r0: 1000 reduce, r1: 8 reduce) {
#     x: f32 = load x[r0, 8*part + r1]
#     mul: f32 = mul(x, x)
#     sum: f32 = reduce sum mul
#     store total_sum_parts[part] = sum
#   }
# }
@triton.jit
def total_parts(
    x_ptr,
    total_sum_parts_ptr,
    BLOCK_COLUMN: tl.constexpr,
):
    program = tl.program_id(0)
    # i < 512, r < 1000 (reduced), s < 8 (reduced)
    i = program
    column = tl.arange(0, BLOCK_COLUMN)
    column_inside = column < 8000
    s = column % 8
    r = column // 8
    x = tl.load(x_ptr + r * 4096 + i * 8 + s, mask=column_inside)
    mul = x * x
    sum = tl.sum(tl.where(column_inside, mul, 0.0), axis=0)
    tl.store(total_sum_parts_ptr + i, sum)


# kernel total_combine(
#     out y: f32[],
#     in total_sum_parts: f32[512],
# ) {
#   nest(part: 512 reduce) {
#     sum.part: f32 = load total_sum_parts[part]
#     sum: f32 = reduce sum sum.part
#     position: f32 = index 4096000
#     div: f32 = div(sum, position)
#     store y[] = div
#   }
# }
@triton.jit
def total_combine(
    y_ptr,
    total_sum_parts_ptr,
    BLOCK_R: tl.constexpr,
):
    program = tl.program_id(0)
    # r < 512 (reduced)
    r = tl.arange(0, BLOCK_R)
    sum_part = tl.load(total_sum_parts_ptr + r)
    sum = tl.sum(sum_part, axis=0)
    position = tl.cast(4096000, tl.float32)
    div = sum / position
    tl.store(y_ptr, div)


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    total_parts[(512,)](buffers[0], buffers[2], BLOCK_COLUMN=8192, num_warps=16)
    total_combine[(1,)](buffers[1], buffers[2], BLOCK_R=512, num_warps=1)


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 4096000),
        ("y", torch.float32, 1),
        ("total_sum_parts.2", torch.float32, 512),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
