# gelu: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE
#
# graph gelu(%x: f32[8192,1024], %bias: f32[1024], %r: f32[8192,1024], %y: f32[8192,1024]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


@triton.jit
def expm1(x):
    """exp(x) - 1 without cancellation: near 0 the error of u = exp(x) cancels in (u - 1) / log(u) (Kahan)."""
    u = tl.exp(x)
    lost = u == 1
    scaled = (u - 1) * (x / tl.log(tl.where(lost, 2.0, u)))
    return tl.where(lost, x, tl.where(tl.abs(x) > 1, u - 1, scaled))


@triton.jit
def tanh(x):
    """Hyperbolic tangent: 1 - 2 / (exp(2 |x|) + 1); near 0 a polynomial (f32) or expm1 (f64)."""
    a = tl.abs(x)
    if x.dtype == tl.float64:
        e = expm1(-2 * tl.minimum(a, 1.0, propagate_nan=tl.PropagateNan.ALL))
        small = -e / (e + 2)
    else:
        z = a * a
        p = z * -0.00654254198478783073 + 0.0212727482572221233
        p = p * z - 0.0539033476853350883
        p = p * z + 0.133330822530423675
        p = p * z - 0.333333317625505921
        small = a + a * z * p
    result = tl.where(a < 0.56, small, 1 - 2 / (tl.exp(2 * a) + 1))
    return tl.where(x < 0, -result, result)


# kernel gelu(
#     in x: f32[8192,1024],
#     in bias: f32[1024],
#     in r: f32[8192,1024],
#     out y: f32[8192,1024],
# ) {
#   nest(i: 8192, j: 1024) {
#     x: f32 = load x[i, j]  // model.py:3 LeakyReLU gelu
#     bias: f32 = load bias[j]  // model.py:3 LeakyReLU gelu
#     add: f32 = add(x, bias)  // model.py:3 LeakyReLU gelu
#     mul: f32 = mul(add, add)  // model.py:3 LeakyReLU gelu
#     mul.1: f32 = mul(mul, add)  // model.py:3 LeakyReLU gelu
#     constant: f32 = constant 0.044715
#     mul.2: f32 = mul(mul.1, constant)  // model.py:3 LeakyReLU gelu
#     add.1: f32 = add(add, mul.2)  // model.py:3 LeakyReLU gelu
#     constant.1: f32 = constant 0.7978845608
#     mul.3: f32 = mul(add.1, constant.1)  // model.py:3 LeakyReLU gelu
#     tanh: f32 = tanh(mul.3)  // model.py:3 LeakyReLU gelu
#     constant.2: f32 = constant 0.5
#     mul.4: f32 = mul(add, constant.2)  // model.py:3 LeakyReLU gelu
#     constant.3: f32 = constant 1.0
#     add.2: f32 = add(tanh, constant.3)  // model.py:3 LeakyReLU gelu
#     mul.5: f32 = mul(mul.4, add.2)  // model.py:3 LeakyReLU gelu
#     r: f32 = load r[i, j]  // model.py:3 LeakyReLU gelu
#     add.3: f32 = add(mul.5, r)  // model.py:3 LeakyReLU gelu
#     store y[i, j] = add.3  // model.py:3 LeakyReLU gelu
#   }
# }
@triton.jit
def gelu(
    x_ptr,
    bias_ptr,
    r_ptr,
    y_ptr,
    BLOCK_INDEX: tl.constexpr,
):
    program = tl.program_id(0)
    # i < 8192, j < 1024
    index = program * BLOCK_INDEX + tl.arange(0, BLOCK_INDEX)
    j = index % 1024
    # model.py:3 LeakyReLU gelu
    x = tl.load(x_ptr + index)
    bias = tl.load(bias_ptr + j, eviction_policy="evict_last")
    add = x + bias
    mul = add * add
    mul_1 = mul * add
    mul_2 = mul_1 * 0.044715
    add_1 = add + mul_2
    mul_3 = add_1 * 0.7978845608
    tanh_2 = tanh(mul_3)
    mul_4 = add * 0.5
    add_2 = tanh_2 + 1.0
    mul_5 = mul_4 * add_2
    r = tl.load(r_ptr + index)
    add_3 = mul_5 + r
    tl.store(y_ptr + index, add_3)


def run(buffers):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    gelu[(8192,)](buffers[0], buffers[1], buffers[2], buffers[3], BLOCK_INDEX=1024, num_warps=4)


def sizes():
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 8388608),
        ("bias", torch.float32, 1024),
        ("r", torch.float32, 8388608),
        ("y", torch.float32, 8388608),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or []
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
