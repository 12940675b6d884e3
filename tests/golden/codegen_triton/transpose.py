# transpose_scale: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph transpose_scale(%x: f32[4096,4096], %r: f32[4096,4096], %y: f32[4096,4096]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


# kernel transpose_scale(
#     in x: f32[4096,4096],
#     in r: f32[4096,4096],
#     out y: f32[4096,4096],
# ) {
#   nest(i: 4096, j: 4096) {
#     x: f32 = load x[j, i]
#     constant: f32 = constant 0.125
#     mul: f32 = mul(x, constant)
#     r: f32 = load r[i, j]
#     add: f32 = add(mul, r)
#     store y[i, j] = add
#   }
# }
@triton.jit
def transpose_scale(
    x_ptr,
    r_ptr,
    y_ptr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    program = tl.program_id(0)
    # i < 4096, j < 4096
    i = program // tl.cdiv(4096, BLOCK_J) * BLOCK_I + tl.arange(0, BLOCK_I)[:, None]
    j = program % tl.cdiv(4096, BLOCK_J) * BLOCK_J + tl.arange(0, BLOCK_J)[None, :]
    x = tl.load(x_ptr + j * 4096 + i)
    mul = x * 0.125
    r = tl.load(r_ptr + i * 4096 + j)
    add = mul + r
    tl.store(y_ptr + i * 4096 + j, add)


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    transpose_scale[(4096,)](buffers[0], buffers[1], buffers[2], BLOCK_I=64, BLOCK_J=64, num_warps=8)


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 16777216),
        ("r", torch.float32, 16777216),
        ("y", torch.float32, 16777216),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
