# dense: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph dense(
#     %a: f16[4096,4096],
#     %b: f16[4096,4096],
#     %bias: f16[4096],
#     %y: f16[4096,4096],
#     %z: f16[4096,4096],
# ) -> (%z) {
# }

import torch
import triton
import triton.language as tl


# kernel dense(
#     in a: f16[4096,4096],
#     in b: f16[4096,4096],
#     in bias: f16[4096],
#     out y: f16[4096,4096],
#     out z: f16[4096,4096],
# ) anchor dot(a, b) {transpose_a=false, transpose_b=true} -> f16[4096,4096] in f32 {
#   nest(i: 4096, j: 4096) {
#     product: f32 = anchor
#     bias: f16 = load bias[j]
#     cast: f32 = cast(bias)
#     add: f32 = add(product, cast)
#     constant: f32 = constant 0.0
#     maximum: f32 = maximum(add, constant)
#     cast.1: f16 = cast(maximum)
#     store y[i, j] = cast.1
#     position: f32 = index i
#     mul: f32 = mul(add, position)
#     cast.2: f16 = cast(mul)
#     store z[i, j] = cast.2
#   }
# }
@triton.jit
def dense(
    a_ptr,
    b_ptr,
    bias_ptr,
    y_ptr,
    z_ptr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    program = tl.program_id(0)
    # dot
    row_blocks = tl.cdiv(4096, BLOCK_M)
    column_blocks = tl.cdiv(4096, BLOCK_N)
    # Programs that run together walk 8 rows of tiles, so that their operands meet in the cache.
    band = program // (8 * column_blocks)
    height = tl.minimum(row_blocks - band * 8, 8)
    within = program % (8 * column_blocks)
    m = (band * 8 + within % height) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = within // height * BLOCK_N + tl.arange(0, BLOCK_N)
    accumulator = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for start in range(0, 4096, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        a = tl.load(a_ptr + m[:, None] * 4096 + k[None, :])
        b = tl.load(b_ptr + n[None, :] * 4096 + k[:, None])
        accumulator = tl.dot(a, b, accumulator, input_precision="ieee")
    bias = tl.load(bias_ptr + n[None, :])
    cast = bias.to(tl.float32)
    add = accumulator + cast
    maximum = tl.maximum(add, 0.0, propagate_nan=tl.PropagateNan.ALL)
    cast_1 = maximum.to(tl.float16)
    tl.store(y_ptr + m[:, None] * 4096 + n[None, :], cast_1)
    position = tl.cast(m[:, None], tl.float32)
    mul = add * position
    cast_2 = mul.to(tl.float16)
    tl.store(z_ptr + m[:, None] * 4096 + n[None, :], cast_2)


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    dense[(512,)](
        buffers[0],
        buffers[1],
        buffers[2],
        buffers[3],
        buffers[4],
        BLOCK_M=128,
        BLOCK_N=256,
        BLOCK_K=64,
        num_warps=8,
    )


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("a", torch.float16, 16777216),
        ("b", torch.float16, 16777216),
        ("bias", torch.float16, 4096),
        ("y", torch.float16, 16777216),
        ("z", torch.float16, 16777216),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
