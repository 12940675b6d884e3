# conv: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph conv(%a: f32[64,8,28,28], %b: f32[64,16,28,28], %s: f32[8], %y: f32[16,8,5,5]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


# kernel conv_parts(
#     in a: f32[64,8,28,28],
#     in b: f32[64,16,28,28],
#     out conv_parts: f32[10,16,8,5,5],
# ) {splits=10} anchor convolution_weight_gradient(a, b) {dilate=(1,1), groups=1, pad=(2,2), shape=(16,8,5,5), stride=(1,1)} -> f32[16,8,5,5] in f32 {
#   nest(@split: 10, i0: 16, i1: 8, i2: 5, i3: 5) {
#     part: f32 = anchor
#     store conv_parts[@split, i0, i1, i2, i3] = part
#   }
# }
@triton.jit
def conv_parts(
    a_ptr,
    b_ptr,
    conv_parts_ptr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    program = tl.program_id(0)
    # convolution_weight_gradient
    row_blocks = tl.cdiv(16, BLOCK_M)
    column_blocks = tl.cdiv(200, BLOCK_N)
    slice = program // (row_blocks * column_blocks)
    program = program % (row_blocks * column_blocks)
    m = program // column_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    n = program % column_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    tap_x = n % 5
    tap_y = n // 5 % 5
    channel = n // 25
    n_inside = n < 200
    length = tl.cdiv(50176, 10 * BLOCK_K) * BLOCK_K
    first = slice * length
    last = tl.minimum(first + length, 50176)
    accumulator = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for start in range(first, last, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        out_x = k % 28
        out_y = k // 28 % 28
        image = k // 784
        a = tl.load(
            b_ptr + image[None, :] * 12544 + m[:, None] * 784 + out_y[None, :] * 28 + out_x[None, :],
        )
        in_y = out_y[:, None] + tap_y[None, :] - 2
        in_x = out_x[:, None] + tap_x[None, :] - 2
        b = tl.load(
            a_ptr + image[:, None] * 6272 + channel[None, :] * 784 + in_y * 28 + in_x,
            mask=n_inside[None, :] & (in_y >= 0) & (in_y < 28) & (in_x >= 0) & (in_x < 28),
            other=0.0,
        )
        accumulator = tl.dot(a, b, accumulator, input_precision="ieee")
    tl.store(
        conv_parts_ptr + n[None, :] + slice * 3200 + m[:, None] * 200,
        accumulator,
        mask=n_inside[None, :],
    )


# kernel conv(
#     in s: f32[8],
#     out y: f32[16,8,5,5],
#     in conv_parts: f32[10,16,8,5,5],
# ) {
#   nest(i0: 16, i1: 8, i2: 5, i3: 5, @split: 10 reduce) {
#     product.part: f32 = load conv_parts[@split, i0, i1, i2, i3]
#     product: f32 = reduce sum product.part
#     s: f32 = load s[i1]
#     mul: f32 = mul(product, s)
#     store y[i0, i1, i2, i3] = mul
#   }
# }
@triton.jit
def conv(
    s_ptr,
    y_ptr,
    conv_parts_ptr,
    BLOCK_ROW: tl.constexpr,
):
    program = tl.program_id(0)
    # i < 16, j < 8, k < 25, r < 10 (reduced)
    row = program * BLOCK_ROW + tl.arange(0, BLOCK_ROW)
    row_inside = row < 3200
    j = row // 25 % 8
    s = tl.load(s_ptr + j, mask=row_inside, eviction_policy="evict_last")
    product_partial = tl.full([BLOCK_ROW], 0.0, tl.float32)
    for r in tl.static_range(10):
        product_part = tl.load(conv_parts_ptr + row + r * 3200, mask=row_inside)
        product_partial = product_partial + product_part
    product = product_partial
    mul = product * s
    tl.store(y_ptr + row, mul, mask=row_inside)


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    conv_parts[(130,)](buffers[0], buffers[1], buffers[4], BLOCK_M=16, BLOCK_N=16, BLOCK_K=16, num_warps=1)
    conv[(13,)](buffers[2], buffers[3], buffers[4], BLOCK_ROW=256, num_warps=4)


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("a", torch.float32, 401408),
        ("b", torch.float32, 802816),
        ("s", torch.float32, 8),
        ("y", torch.float32, 3200),
        ("conv_parts.4", torch.float32, 32000),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
