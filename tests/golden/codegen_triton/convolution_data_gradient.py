# conv: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph conv(%a: f32[32,64,14,14], %b: f32[64,64,3,3], %s: f32[64], %y: f32[32,64,28,28]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


# kernel conv(
#     in a: f32[32,64,14,14],
#     in b: f32[64,64,3,3],
#     in s: f32[64],
#     out y: f32[32,64,28,28],
# ) anchor convolution_data_gradient(a, b) {dilate=(1,1), groups=1, pad=(1,1), shape=(32,64,28,28), stride=(2,2)} -> f32[32,64,28,28] in f32 {
#   nest(i0: 32, i1: 64, i2: 28, i3: 28) {
#     product: f32 = anchor
#     s: f32 = load s[i1]
#     mul: f32 = mul(product, s)
#     store y[i0, i1, i2, i3] = mul
#   }
# }
@triton.jit
def conv(
    a_ptr,
    b_ptr,
    s_ptr,
    y_ptr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    program = tl.program_id(0)
    # convolution_data_gradient
    row_blocks = tl.cdiv(25088, BLOCK_M)
    column_blocks = tl.cdiv(64, BLOCK_N)
    m = program // column_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    n = program % column_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    in_x = m % 28
    in_y = m // 28 % 28
    image = m // 784
    accumulator = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for start in range(0, 576, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        tap_x = k % 3
        tap_y = k // 3 % 3
        filter = k // 9
        reach_y = in_y[:, None] - tap_y[None, :] + 1
        out_y = reach_y // 2
        reach_x = in_x[:, None] - tap_x[None, :] + 1
        out_x = reach_x // 2
        a = tl.load(
            a_ptr + image[:, None] * 12544 + filter[None, :] * 196 + out_y * 14 + out_x,
            mask=(out_y * 2 == reach_y) & (out_y >= 0) & (out_y < 14) & (out_x * 2 == reach_x) & (out_x >= 0) & (out_x < 14),
            other=0.0,
        )
        b = tl.load(b_ptr + filter[:, None] * 576 + n[None, :] * 9 + tap_y[:, None] * 3 + tap_x[:, None])
        accumulator = tl.dot(a, b, accumulator, input_precision="ieee")
    s = tl.load(s_ptr + n[None, :])
    mul = accumulator * s
    tl.store(
        y_ptr + image[:, None] * 50176 + n[None, :] * 784 + in_y[:, None] * 28 + in_x[:, None],
        mul,
    )


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    conv[(392,)](
        buffers[0],
        buffers[1],
        buffers[2],
        buffers[3],
        BLOCK_M=64,
        BLOCK_N=64,
        BLOCK_K=16,
        num_warps=8,
    )


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("a", torch.float32, 401408),
        ("b", torch.float32, 36864),
        ("s", torch.float32, 64),
        ("y", torch.float32, 1605632),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
