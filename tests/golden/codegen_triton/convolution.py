# conv: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE N
#
# graph conv(%a: f32[N,64,56,56], %b: f32[64,64,3,3], %s: f32[64], %y: f32[N,64,56,56]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


# kernel conv(
#     in a: f32[N,64,56,56],
#     in b: f32[64,64,3,3],
#     in s: f32[64],
#     out y: f32[N,64,56,56],
# ) anchor convolution(a, b) {dilate=(1,1), groups=1, pad=(1,1), stride=(1,1)} -> f32[N,64,56,56] in f32 {
#   nest(i0: N, i1: 64, i2: 56, i3: 56) {
#     product: f32 = anchor
#     s: f32 = load s[i1]
#     mul: f32 = mul(product, s)
#     store y[i0, i1, i2, i3] = mul
#   }
# }
@triton.jit(do_not_specialize=["N"])
def conv(
    a_ptr,
    b_ptr,
    s_ptr,
    y_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    # convolution
    row_blocks = tl.cdiv(3136 * N, BLOCK_M)
    column_blocks = tl.cdiv(64, BLOCK_N)
    m = program // column_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    n = program % column_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    out_x = m % 56
    out_y = m // 56 % 56
    image = m // 3136
    accumulator = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for start in range(0, 576, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K).to(INDEX)
        tap_x = k % 3
        tap_y = k // 3 % 3
        channel = k // 9
        in_y = out_y[:, None] + tap_y[None, :] - 1
        in_x = out_x[:, None] + tap_x[None, :] - 1
        a = tl.load(
            a_ptr + image[:, None] * 200704 + channel[None, :] * 3136 + in_y * 56 + in_x,
            mask=(in_y >= 0) & (in_y < 56) & (in_x >= 0) & (in_x < 56),
            other=0.0,
        )
        b = tl.load(b_ptr + k[:, None] + n[None, :] * 576)
        accumulator = tl.dot(a, b, accumulator, input_precision="ieee")
    s = tl.load(s_ptr + n[None, :])
    mul = accumulator * s
    tl.store(
        y_ptr + image[:, None] * 200704 + n[None, :] * 3136 + out_y[:, None] * 56 + out_x[:, None],
        mul,
    )


def index_type(*sizes):
    """Indices take 64 bits only where a buffer has 2**31 elements or more."""
    return tl.int64 if max(sizes) >= 2**31 else tl.int32


def run(buffers, N):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    conv[(triton.cdiv(3136 * N, 64),)](
        buffers[0],
        buffers[1],
        buffers[2],
        buffers[3],
        N,
        INDEX=index_type(200704 * N),
        BLOCK_M=64,
        BLOCK_N=64,
        BLOCK_K=16,
        num_warps=8,
    )


def sizes(N):
    """(name, element type, number of elements) of every buffer."""
    return [
        ("a", torch.float32, 200704 * N),
        ("b", torch.float32, 36864),
        ("s", torch.float32, 64),
        ("y", torch.float32, 200704 * N),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE [SIZE ...]."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or [64]
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
